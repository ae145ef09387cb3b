//! REQUEST: cases 30 to 47.

use std::net::Ipv4Addr;

use fvm_netd::MacAddr;
use fvm_netd::dhcp::Silence;

use super::wire::*;
use super::{binding, cases, reply_to, reply_with, silence_at, silence_to};

const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(10, 1, 2, 3);

fn selecting(address: Ipv4Addr) -> Ask {
    Ask::new(REQUEST).naming(S).asking(address)
}

fn rebooting(address: Ipv4Addr) -> Ask {
    Ask::new(REQUEST).asking(address)
}

fn assert_acks_a(reply: &Reply) {
    assert_eq!(reply.kind(), ACK);
    assert_eq!(reply.decoded.yiaddr(), A);
    assert_eq!(reply.seconds(51), Some(3600));
    assert_eq!(reply.codes(), [53, 54, 51, 1, 3, 6, 58, 59]);
}

fn assert_unicast_to_a(reply: &Reply) {
    assert_eq!(
        (reply.eth_dst, reply.ip_dst, reply.ports),
        (GUEST, A, (67, 68))
    );
}

fn assert_naks(reply: &Reply) {
    assert_eq!(reply.kind(), NAK);
    assert_eq!(
        (reply.eth_dst, reply.ip_dst, reply.ports),
        (MacAddr::BROADCAST, ALL, (67, 68))
    );
    let decoded = &reply.decoded;
    assert_eq!(
        [decoded.ciaddr(), decoded.yiaddr(), decoded.siaddr()],
        [ANY; 3]
    );
    let codes = reply.codes();
    assert!(codes.starts_with(&[53, 54, 56]), "{codes:?}");
    assert!(
        codes.iter().all(|code| [53, 54, 56, 61, 82].contains(code)),
        "{codes:?}"
    );
}

cases! {
    30 case_30_selecting_the_offer {
        let reply = reply_to(&selecting(A));
        assert_acks_a(&reply);
        assert_unicast_to_a(&reply);
        assert_eq!(reply.decoded.ciaddr(), ANY);
        let reply = reply_to(&Ask { flags: 0x8000, ..selecting(A) });
        assert_eq!((reply.eth_dst, reply.ip_dst), (MacAddr::BROADCAST, ALL));
    }
    31 case_31_selecting_another_address {
        let reply = reply_to(&selecting(B));
        assert_naks(&reply);
        assert_eq!(reply.value(61), None);
        let reply = reply_to(&selecting(B).option(61, &[1, 2, 3]).wanting(&[1, 3, 12]));
        assert_naks(&reply);
        assert_eq!(reply.value(61), Some(vec![1, 2, 3]));
    }
    32 case_32_selecting_another_server {
        let ask = Ask::new(REQUEST).naming(ELSEWHERE).asking(A);
        assert_eq!(silence_to(&ask), Silence::OtherServer { server: ELSEWHERE });
    }
    33 case_33_selecting_without_an_address {
        assert_eq!(silence_to(&Ask::new(REQUEST).naming(S)), Silence::NoAddressAsked);
        assert_eq!(silence_to(&Ask::new(REQUEST)), Silence::NoAddressAsked);
    }
    34 case_34_rebooting_with_the_address {
        let reply = reply_to(&rebooting(A));
        assert_acks_a(&reply);
        assert_unicast_to_a(&reply);
    }
    35 case_35_rebooting_with_another_hosts_address {
        assert_naks(&reply_to(&rebooting(B)));
    }
    36 case_36_rebooting_on_another_network {
        assert_naks(&reply_to(&rebooting(ELSEWHERE)));
    }
    37 case_37_port_unknown {
        for ask in [selecting(A), rebooting(A), Ask::renew(A), Ask::rebind(B)] {
            assert_eq!(silence_at(&ask.frame(), None), Silence::Unbound);
        }
    }
    38 case_38_renewing {
        for flags in [0, 0x8000] {
            let reply = reply_to(&Ask { flags, ..Ask::renew(A) });
            assert_acks_a(&reply);
            assert_unicast_to_a(&reply);
            assert_eq!(reply.decoded.ciaddr(), A);
        }
    }
    39 case_39_renewing_another_address {
        assert_naks(&reply_to(&Ask::renew(B)));
        assert_naks(&reply_to(&Ask { ip_dst: S, ..Ask::renew(ELSEWHERE) }));
    }
    40 case_40_rebinding {
        let reply = reply_to(&Ask::rebind(A));
        assert_acks_a(&reply);
        assert_unicast_to_a(&reply);
    }
    41 case_41_rebinding_another_address {
        assert_naks(&reply_to(&Ask::rebind(B)));
        assert_naks(&reply_to(&Ask::rebind(ELSEWHERE)));
    }
    42 case_42_two_different_addresses {
        assert_naks(&reply_to(&Ask { ciaddr: A, ..rebooting(B) }));
        assert_naks(&reply_to(&Ask { ciaddr: B, ..rebooting(A) }));
        assert_naks(&reply_to(&Ask { ciaddr: B, ..selecting(A) }));
        assert_acks_a(&reply_to(&Ask { ciaddr: A, ..rebooting(A) }));
    }
    43 case_43_address_moved_during_the_lease {
        assert_acks_a(&reply_to(&Ask::renew(A)));
        let mut moved = binding();
        moved.address = B;
        assert_naks(&reply_with(&moved, &Ask::renew(A)));
        assert_eq!(reply_with(&moved, &Ask::new(DISCOVER)).decoded.yiaddr(), B);
        let reply = reply_with(&moved, &selecting(B));
        assert_eq!((reply.kind(), reply.decoded.yiaddr()), (ACK, B));
    }
    45 case_45_clock_jump {
        // There is no clock to jump: the answer depends on nothing but the frame and the binding.
        let first = reply_to(&Ask::renew(A));
        assert_eq!(first.message, reply_to(&Ask::renew(A)).message);
    }
}

#[test]
fn a_renewal_addressed_to_another_server_is_left_to_it() {
    let ask = Ask {
        ip_dst: ELSEWHERE,
        ..Ask::renew(A)
    };
    assert_eq!(
        silence_to(&ask),
        Silence::OtherDestination {
            destination: ELSEWHERE
        }
    );
}

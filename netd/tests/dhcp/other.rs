//! The other messages: cases 48 to 55.

use fvm_netd::dhcp::{MessageType, Silence};

use super::wire::*;
use super::{binding, cases, reply_to, reply_with, silence_to, silence_with};

cases! {
    48 case_48_decline {
        let binding = binding();
        let decline = Ask::new(DECLINE).naming(S).asking(A);
        assert_eq!(silence_with(&binding, &decline), Silence::Declined { address: A });
        assert_eq!(reply_with(&binding, &Ask::new(DISCOVER)).decoded.yiaddr(), A);
    }
    49 case_49_release {
        let binding = binding();
        let release = Ask { ip_src: A, ip_dst: S, ciaddr: A, ..Ask::new(RELEASE).naming(S) };
        assert_eq!(silence_with(&binding, &release), Silence::Released { address: A });
        assert_eq!(reply_with(&binding, &Ask::renew(A)).kind(), ACK);
    }
    50 case_50_forged_release {
        let binding = binding();
        let release = Ask { ip_src: B, ip_dst: S, ciaddr: B, ..Ask::new(RELEASE).naming(S) };
        silence_with(&binding, &release.with_mac(OTHER));
        assert_eq!(reply_with(&binding, &Ask::rebind(A)).kind(), ACK);
    }
    51 case_51_inform {
        let inform = |ask: Ask| {
            let reply = reply_to(&ask.wanting(&[1, 3, 6, 12, 51, 58, 59]));
            assert_eq!(reply.kind(), ACK);
            assert_eq!(reply.codes(), [53, 54, 1, 3, 6, 12]);
            assert_eq!(reply.decoded.yiaddr(), ANY);
            assert_eq!((reply.eth_dst, reply.ip_dst, reply.ports), (GUEST, A, (67, 68)));
            reply.decoded.ciaddr()
        };
        let ask = Ask { ip_src: A, ..Ask::new(INFORM) };
        assert_eq!(inform(Ask { ciaddr: A, ..ask.clone() }), A);
        assert_eq!(inform(Ask { ciaddr: A, flags: 0x8000, ..ask.clone() }), A);
        assert_eq!(inform(ask), ANY, "the address stands in the packet alone");
    }
    52 case_52_inform_of_another_address {
        let ask = Ask { ip_src: B, ciaddr: B, ..Ask::new(INFORM) };
        assert_eq!(silence_to(&ask), Silence::OtherInform { address: B });
        assert_eq!(silence_to(&Ask::new(INFORM)), Silence::OtherInform { address: ANY });
    }
    53 case_53_leasequery {
        for number in [0, 2, 5, 6, 9, 10, 11, 13, 255] {
            let message = MessageType::from_number(number);
            assert_eq!(silence_to(&Ask::new(number)), Silence::NotAnswered { message }, "{number}");
        }
    }
    54 case_54_bootp {
        let ask = Ask { options: Vec::new(), ..Ask::new(0) };
        assert_eq!(silence_to(&ask), Silence::Bootp);
    }
    55 case_55_a_server_among_the_guests {
        assert_eq!(silence_to(&Ask { op: 2, ..Ask::new(OFFER) }), Silence::NotARequest);
        let ports = |source_port, destination_port| Silence::Ports { source_port, destination_port };
        assert_eq!(silence_to(&Ask { ports: (67, 68), ..Ask::new(OFFER) }), ports(67, 68));
        assert_eq!(silence_to(&Ask { ports: (67, 67), ..Ask::new(DISCOVER) }), ports(67, 67));
    }
}

//! DISCOVER: cases 1 to 29.

use std::net::Ipv4Addr;

use dhcproto::v4::{DhcpOption, OptionCode};
use fvm_netd::MacAddr;
use fvm_netd::dhcp::{Boot, BootFile, LeaseTimes, Silence, StaticRoute};

use super::wire::*;
use super::{binding, cases, reply_to, reply_with, silence_at, silence_to, silence_with};

fn discover() -> Ask {
    Ask::new(DISCOVER)
}

/// What a plain OFFER holds, in order.
const PLAIN: [u8; 8] = [53, 54, 51, 1, 3, 6, 58, 59];

fn assert_offers_a(reply: &Reply) {
    assert_eq!(reply.kind(), OFFER);
    assert_eq!(reply.decoded.yiaddr(), A);
    assert_eq!(reply.decoded.ciaddr(), ANY);
}

fn assert_unicast_to_a(reply: &Reply) {
    assert_eq!(
        (reply.eth_dst, reply.ip_dst, reply.ports),
        (GUEST, A, (67, 68))
    );
}

fn assert_broadcast(reply: &Reply) {
    assert_eq!(
        (reply.eth_dst, reply.ip_dst, reply.ports),
        (MacAddr::BROADCAST, ALL, (67, 68))
    );
}

fn boot() -> Boot {
    let file = |architecture, file: &str| BootFile {
        architecture,
        file: file.to_owned(),
    };
    Boot {
        next_server: Some(Ipv4Addr::new(192, 168, 22, 5)),
        files: vec![file(0, "undionly.kpxe"), file(7, "ipxe.efi")],
        default_file: Some("default.0".to_owned()),
        ipxe_script: Some("http://192.168.22.5/boot.ipxe".to_owned()),
        http_url: Some("http://192.168.22.5/boot.efi".to_owned()),
    }
}

fn pxe(architecture: u16) -> Ask {
    discover()
        .option(
            60,
            format!("PXEClient:Arch:{architecture:05}:UNDI:002001").as_bytes(),
        )
        .option(93, &architecture.to_be_bytes())
        .option(97, &[0; 17])
        .wanting(&[1, 3, 6, 66, 67])
}

fn file_field(reply: &Reply) -> String {
    let field = reply.decoded.fname().unwrap_or_default();
    String::from_utf8(field.to_vec())
        .unwrap()
        .trim_end_matches('\0')
        .to_owned()
}

cases! {
    1 case_01_unicast_offer {
        let reply = reply_to(&discover());
        assert_offers_a(&reply);
        assert_unicast_to_a(&reply);
        assert_eq!(reply.codes(), PLAIN);
        assert_eq!(reply.seconds(51), Some(3600));
        assert_eq!(reply.seconds(58), Some(1800));
        assert_eq!(reply.seconds(59), Some(3150));
        assert_eq!(reply.value(1), Some(vec![255, 255, 255, 0]));
        assert_eq!(reply.value(3), Some(S.octets().to_vec()));
        assert_eq!(reply.value(6), Some(vec![9, 9, 9, 9, 1, 1, 1, 1]));
        assert_eq!(reply.decoded.siaddr(), ANY);
    }
    2 case_02_broadcast_offer {
        let reply = reply_to(&Ask { flags: 0x8000, ..discover() });
        assert_offers_a(&reply);
        assert_broadcast(&reply);
    }
    3 case_03_another_address_asked_for {
        for address in [B, S, ANY, ALL, Ipv4Addr::new(10, 0, 0, 7)] {
            let reply = reply_to(&discover().asking(address));
            assert_offers_a(&reply);
            assert_unicast_to_a(&reply);
        }
    }
    4 case_04_ciaddr_set {
        let reply = reply_to(&Ask { ciaddr: B, ..discover() });
        assert_offers_a(&reply);
        assert_unicast_to_a(&reply);
    }
    5 case_05_without_client_id {
        let reply = reply_to(&discover());
        assert_offers_a(&reply);
        assert_eq!(reply.value(61), None);
    }
    6 case_06_client_id_of_the_mac {
        let id = [&[1], &GUEST.0[..]].concat();
        assert_offers_a(&reply_to(&discover().option(61, &id)));
    }
    7 case_07_duid_right_after_the_mac {
        let binding = binding();
        let by_mac = [&[1], &GUEST.0[..]].concat();
        let by_duid = [&[255, 0, 0, 0, 1][..], &[0, 2, 0, 0, 0xab, 0x11, 1, 2, 3, 4, 5, 6, 7, 8]].concat();
        for id in [&by_mac, &by_duid, &by_mac] {
            assert_offers_a(&reply_with(&binding, &discover().option(61, id)));
        }
    }
    8 case_08_mac_changed {
        let reply = reply_to(&discover().with_mac(OTHER));
        assert_offers_a(&reply);
        assert_eq!((reply.eth_dst, reply.ip_dst), (OTHER, A));
    }
    9 case_09_frame_not_from_the_client {
        let ask = Ask { eth_src: OTHER, ..discover() };
        let reply = reply_to(&ask);
        assert_offers_a(&reply);
        assert_unicast_to_a(&reply);
        let mut strict = binding();
        strict.strict_client = true;
        assert_eq!(
            silence_with(&strict, &ask),
            Silence::ForeignClient { source_mac: OTHER, client: GUEST }
        );
        assert_offers_a(&reply_with(&strict, &discover()));
    }
    10 case_10_lease_time_asked_for {
        let granted = |seconds: u32| {
            let reply = reply_to(&discover().option(51, &seconds.to_be_bytes()));
            assert_offers_a(&reply);
            let times = [51, 58, 59].map(|code| reply.seconds(code).unwrap());
            assert!(times[1] <= times[2] && times[2] <= times[0], "{times:?}");
            times
        };
        assert_eq!(granted(u32::MAX), [3600, 1800, 3150], "for ever");
        assert_eq!(granted(7200), [3600, 1800, 3150]);
        assert_eq!(granted(600), [600, 300, 525]);
        assert_eq!(granted(1), [120, 60, 105]);
        assert_eq!(granted(0), [120, 60, 105]);
        let mut short = binding();
        short.lease = LeaseTimes::of_lease(8).unwrap();
        let reply = reply_with(&short, &discover().option(51, &1_u32.to_be_bytes()));
        assert_eq!([51, 58, 59].map(|code| reply.seconds(code).unwrap()), [8, 4, 7]);
    }
    11 case_11_the_same_transaction_again {
        let ask = discover().wanting(&[1, 3, 12, 15]);
        assert_eq!(reply_to(&ask).message, reply_to(&ask).message);
    }
    12 case_12_rapid_commit {
        let ask = discover().option(80, &[]);
        let reply = reply_to(&ask);
        assert_eq!(reply.kind(), ACK);
        assert_eq!(reply.value(80), Some(Vec::new()));
        assert_eq!(reply.decoded.yiaddr(), A);
        assert_unicast_to_a(&reply);
        assert_eq!(reply.seconds(51), Some(3600));
        let mut without = binding();
        without.rapid_commit = false;
        let reply = reply_with(&without, &ask);
        assert_offers_a(&reply);
        assert_eq!(reply.value(80), None);
    }
    13 case_13_auto_configuration_has_no_effect {
        for wish in [0, 1] {
            assert_eq!(reply_to(&discover().option(116, &[wish])).message, reply_to(&discover()).message);
        }
    }
    14 case_14_classless_routes {
        let mut routed = binding();
        routed.routes = vec![
            StaticRoute::new(Ipv4Addr::new(10, 77, 3, 9), 16, Ipv4Addr::new(192, 168, 22, 9)).unwrap(),
            StaticRoute::new(Ipv4Addr::new(172, 16, 5, 4), 32, Ipv4Addr::new(192, 168, 22, 9)).unwrap(),
        ];
        let reply = reply_with(&routed, &discover().wanting(&[121, 3]));
        let hop = [192, 168, 22, 9];
        let wanted = [&[16, 10, 77][..], &hop, &[32, 172, 16, 5, 4], &hop, &[0], &S.octets()].concat();
        assert_eq!(reply.value(121), Some(wanted));
        assert_eq!(reply.value(3), Some(S.octets().to_vec()));
        let plain = reply_to(&discover().wanting(&[121]));
        assert_eq!(plain.value(121), Some([&[0][..], &S.octets()].concat()));
        let mut isolated = binding();
        isolated.gateway = None;
        let reply = reply_with(&isolated, &discover().wanting(&[121, 3]));
        assert_eq!((reply.value(121), reply.value(3)), (None, None));
    }
    15 case_15_ipv6_only_preferred {
        let ask = discover().wanting(&[1, 108]);
        assert_eq!(reply_to(&ask).value(108), None);
        let mut mostly_ipv6 = binding();
        mostly_ipv6.ipv6_only_wait_s = Some(1800);
        assert_eq!(reply_with(&mostly_ipv6, &ask).seconds(108), Some(1800));
        assert_eq!(reply_with(&mostly_ipv6, &discover()).value(108), None, "not asked for");
    }
    16 case_16_search_domains {
        let mut searching = binding();
        searching.search_domains = vec!["fvm.internal".parse().unwrap(), "lab".parse().unwrap()];
        let ask = discover().wanting(&[119]).option(57, &1500_u16.to_be_bytes());
        let reply = reply_with(&searching, &ask);
        assert_eq!(reply.value(119), Some(b"\x03fvm\x08internal\x00\x03lab\x00".to_vec()));
        // Long ones go in parts.
        searching.search_domains = (0..9)
            .map(|n| format!("a-rather-long-domain-name-number-{n}.fvm.internal").parse().unwrap())
            .collect();
        let reply = reply_with(&searching, &ask);
        let parts: Vec<usize> = reply
            .raw_options()
            .iter()
            .filter(|(code, _)| *code == 119)
            .map(|(_, value)| value.len())
            .collect();
        assert_eq!(parts, [255, 9 * 49 - 255]);
        match reply.decoded_option(OptionCode::DomainSearch) {
            Some(DhcpOption::DomainSearch(names)) => {
                let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
                assert_eq!(names.len(), 9);
                assert_eq!(names[8].trim_end_matches('.'), "a-rather-long-domain-name-number-8.fvm.internal");
            }
            other => panic!("{other:?}"),
        }
    }
    17 case_17_time_zones {
        let ask = discover().wanting(&[100, 101]);
        let reply = reply_to(&ask);
        assert_eq!((reply.value(100), reply.value(101)), (None, None));
        let mut zoned = binding();
        zoned.posix_timezone = Some("CET-1CEST".to_owned());
        zoned.tzdb_timezone = Some("Europe/Berlin".to_owned());
        let reply = reply_with(&zoned, &ask);
        assert_eq!(reply.value(100), Some(b"CET-1CEST".to_vec()));
        assert_eq!(reply.value(101), Some(b"Europe/Berlin".to_vec()));
    }
    18 case_18_mtu {
        let mut jumbo = binding();
        jumbo.mtu = Some(9000);
        let reply = reply_with(&jumbo, &discover().wanting(&[26]));
        assert_eq!(reply.value(26), Some(9000_u16.to_be_bytes().to_vec()));
        assert_eq!(reply_with(&jumbo, &discover()).value(26), None, "not asked for");
    }
    19 case_19_message_size_576 {
        let reply = reply_with(&talkative(), &greedy().option(57, &576_u16.to_be_bytes()));
        assert!(reply.message.len() <= 548, "{}", reply.message.len());
        for code in [53, 54, 51, 1, 3] {
            assert!(reply.value(code).is_some(), "option {code} was left out");
        }
        assert_eq!(reply.value(119), None, "what is too long is left out whole");
        assert_eq!(reply.value(12), Some(b"vm42".to_vec()), "what comes after it is not");
        // A client identifier as long as can be does not push out what is needed.
        let reply = reply_with(
            &talkative(),
            &greedy().option(61, &[7; 255]).option(61, &[8; 100]).option(57, &576_u16.to_be_bytes()),
        );
        assert!(reply.message.len() <= 548);
        for code in [53, 54, 51, 1, 3] {
            assert!(reply.value(code).is_some(), "option {code} was left out");
        }
    }
    20 case_20_message_size_not_said_or_too_small {
        let unsaid = reply_with(&talkative(), &greedy());
        for size in [0_u16, 300, 575] {
            let reply = reply_with(&talkative(), &greedy().option(57, &size.to_be_bytes()));
            assert_eq!(reply.message, unsaid.message, "{size}");
        }
        assert!(unsaid.message.len() <= 548);
        let large = reply_with(&talkative(), &greedy().option(57, &1400_u16.to_be_bytes()));
        assert!(large.message.len() > 548 && large.message.len() <= 1372);
        assert!(large.value(119).is_some());
        // More than the network carries is not sent either.
        let mut endless = talkative();
        endless.search_domains =
            (0..90).map(|n| format!("domain-{n}.fvm.internal").parse().unwrap()).collect();
        let reply = reply_with(&endless, &greedy().option(57, &u16::MAX.to_be_bytes()));
        assert!(reply.message.len() <= 1472, "{}", reply.message.len());
    }
    21 case_21_short_request {
        for pad_to in [0, 244, 280] {
            let ask = Ask { pad_to, ..discover() };
            assert_eq!(ask.message().len(), pad_to.max(244));
            assert_offers_a(&reply_to(&ask));
        }
    }
    22 case_22_client_id_echoed {
        for id in [&[1, 2][..], &[255; 19], &[0; 255]] {
            assert_eq!(reply_to(&discover().option(61, id)).value(61).as_deref(), Some(id));
        }
        assert_eq!(reply_to(&discover()).value(61), None);
    }
    23 case_23_relayed_from_a_guest {
        assert_eq!(silence_to(&Ask { giaddr: B, ..discover() }), Silence::Relayed);
        assert_eq!(silence_to(&discover().option(82, &[1, 1, 7])), Silence::Relayed);
    }
    24 case_24_relay_allowed {
        let mut relayed = binding();
        relayed.relay = true;
        let ask = Ask { giaddr: B, ports: (67, 67), eth_src: OTHER, ..discover() };
        let info = [&[1, 4][..], b"port"].concat();
        let reply = reply_with(&relayed, &ask.option(82, &info).wanting(&[12, 15]));
        assert_offers_a(&reply);
        assert_eq!((reply.eth_dst, reply.ip_dst, reply.ports), (OTHER, B, (67, 67)));
        assert_eq!(reply.raw_options().last(), Some(&(82, info)));
    }
    25 case_25_pxe_by_architecture {
        let mut booting = binding();
        booting.boot = Some(boot());
        for (architecture, file) in [(0, "undionly.kpxe"), (7, "ipxe.efi"), (11, "default.0")] {
            let reply = reply_with(&booting, &pxe(architecture));
            assert_offers_a(&reply);
            assert_eq!(file_field(&reply), file);
            assert_eq!(reply.value(67), Some(file.as_bytes().to_vec()));
            assert_eq!(reply.decoded.siaddr(), Ipv4Addr::new(192, 168, 22, 5));
            assert_eq!(reply.value(66), Some(b"192.168.22.5".to_vec()));
            assert_eq!(reply.value(97), Some(vec![0; 17]));
        }
        let reply = reply_to(&pxe(0));
        assert_offers_a(&reply);
        assert_eq!((file_field(&reply).as_str(), reply.value(67)), ("", None), "no boot file is set");
        let reply = reply_with(&booting, &discover());
        assert_eq!((file_field(&reply).as_str(), reply.decoded.siaddr()), ("", ANY), "no network boot");
    }
    26 case_26_ipxe_gets_the_script {
        let mut booting = binding();
        booting.boot = Some(boot());
        let script = "http://192.168.22.5/boot.ipxe";
        for ask in [
            pxe(7).option(77, b"iPXE"),
            pxe(7).option(77, b"\x04iPXE"),
            pxe(7).option(175, &[0xb1, 1, 1]),
        ] {
            let reply = reply_with(&booting, &ask);
            assert_offers_a(&reply);
            assert_eq!(file_field(&reply), script);
        }
        assert_eq!(file_field(&reply_with(&booting, &pxe(7).option(77, b"other"))), "ipxe.efi");
    }
    27 case_27_http_boot {
        let mut booting = binding();
        booting.boot = Some(boot());
        let ask = discover().option(60, b"HTTPClient:Arch:00016:UNDI:003001").option(93, &[0, 16]);
        let reply = reply_with(&booting, &ask.wanting(&[1, 67]));
        assert_offers_a(&reply);
        assert_eq!(reply.value(60), Some(b"HTTPClient".to_vec()));
        assert_eq!(reply.value(67), Some(b"http://192.168.22.5/boot.efi".to_vec()));
        assert_eq!((file_field(&reply).as_str(), reply.decoded.siaddr()), ("", ANY));
    }
    28 case_28_port_unknown {
        assert_eq!(silence_at(&discover().frame(), None), Silence::Unbound);
    }
    29 case_29_two_cards_two_addresses {
        let mut second = binding();
        second.address = B;
        let ask = discover();
        assert_eq!(reply_to(&ask).decoded.yiaddr(), A);
        assert_eq!(reply_with(&second, &ask).decoded.yiaddr(), B);
    }
}

/// A binding that has more to say than fits.
fn talkative() -> fvm_netd::dhcp::Binding {
    let mut binding = binding();
    binding.search_domains = (0..12)
        .map(|n| {
            format!("a-rather-long-domain-{n}.fvm.internal")
                .parse()
                .unwrap()
        })
        .collect();
    binding.ntp_servers = vec![Ipv4Addr::new(192, 168, 22, 3); 4];
    binding
}

/// A client that wants all of it.
fn greedy() -> Ask {
    discover().wanting(&[119, 12, 15, 26, 28, 42, 121])
}

#[test]
fn options_come_in_the_order_asked_and_once() {
    let reply = reply_to(&discover().wanting(&[28, 15, 12, 15, 26, 1, 28, 200]));
    assert_eq!(reply.codes(), [&PLAIN[..], &[28, 15, 12, 26]].concat());
}

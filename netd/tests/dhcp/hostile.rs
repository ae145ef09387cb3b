//! What no client sends: cases 56 to 66, and every way to cut or change a good frame.

use fvm_netd::MacAddr;
use fvm_netd::dhcp::{DnsName, FrameNotes, Outcome, Silence};

use super::wire::*;
use super::{binding, cases, hear, reply_to, silence_at, silence_to};

fn discover() -> Ask {
    Ask::new(DISCOVER)
}

fn malformed(code: u8) -> Silence {
    Silence::MalformedOption { code }
}

/// A DISCOVER whose options are these bytes and nothing else.
fn options(bytes: &[u8]) -> Ask {
    Ask {
        options: bytes.to_vec(),
        end: false,
        pad_to: 0,
        ..discover()
    }
}

/// The same frame with bytes changed and the IPv4 header checksum made right again.
fn changed(frame: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut frame = frame.to_vec();
    change(&mut frame);
    frame[24..26].fill(0);
    let sum = internet_sum(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame
}

cases! {
    56 case_56_short_or_without_cookie {
        let message = discover().message();
        for len in [0, 1, 4, 44, 239] {
            let frame = udp_frame(GUEST, MacAddr::BROADCAST, ANY, ALL, (68, 67), &message[..len]);
            assert_eq!(silence_at(&frame, Some(&binding())), Silence::TooShort, "{len}");
        }
        let frame = udp_frame(GUEST, MacAddr::BROADCAST, ANY, ALL, (68, 67), &message[..240]);
        assert_eq!(silence_at(&frame, Some(&binding())), Silence::Bootp);
        for cookie in [[0; 4], [99, 130, 83, 98]] {
            assert_eq!(silence_to(&Ask { cookie, ..discover() }), Silence::Cookie);
        }
    }
    57 case_57_hardware_address {
        for length in [0, 5, 7, 16, 17, 255] {
            assert_eq!(silence_to(&Ask { hlen: length, ..discover() }), Silence::Hardware { kind: 1, length });
        }
        for kind in [0, 6, 32, 255] {
            assert_eq!(silence_to(&Ask { htype: kind, ..discover() }), Silence::Hardware { kind, length: 6 });
        }
        for address in [MacAddr([0; 6]), MacAddr::BROADCAST, MacAddr([1, 0, 0x5e, 0, 0, 1])] {
            assert_eq!(silence_to(&Ask { chaddr: address, ..discover() }), Silence::NotAStation { address });
        }
    }
    58 case_58_option_lengths {
        assert_eq!(silence_to(&options(&[53, 1, 1, 12, 200, b'x'])), malformed(12));
        assert_eq!(silence_to(&options(&[53, 1, 1, 12])), malformed(12), "no length");
        assert_eq!(silence_to(&options(&[53, 1])), malformed(53), "no value");
        assert_eq!(silence_to(&options(&[53, 0])), malformed(53));
        assert_eq!(silence_to(&options(&[53, 2, 1, 1])), malformed(53));
        assert_eq!(silence_to(&options(&[53, 1, 1, 53, 1, 3])), malformed(53));
        for (code, value) in [(50, &[1, 2, 3][..]), (51, &[0; 5]), (54, &[]), (57, &[2]), (57, &[0; 4])] {
            assert_eq!(silence_to(&discover().option(code, value)), malformed(code));
        }
        assert_eq!(silence_to(&discover().asking(A).asking(A)), malformed(50), "joined, it is too long");
        assert_eq!(reply_to(&options(&[53, 1, 1])).kind(), OFFER, "full to the last byte without END");
        assert_eq!(reply_to(&options(&[0, 0, 53, 1, 1, 255, 12, 200])).kind(), OFFER, "rubbish behind END");
    }
    59 case_59_overload {
        let with = |overload: u8, file: &[u8], sname: &[u8]| Ask {
            options: vec![52, 1, overload],
            file: file.to_vec(),
            sname: sname.to_vec(),
            ..discover()
        };
        assert_eq!(reply_to(&with(1, &[53, 1, 1, 255], &[])).kind(), OFFER);
        assert_eq!(reply_to(&with(2, &[], &[53, 1, 1, 255])).kind(), OFFER);
        let both = reply_to(&with(3, &[53, 1, 3, 255], &[50, 4, 192, 168, 22, 42, 255]));
        assert_eq!(both.kind(), ACK);
        // Options go on from one field to the next: first the options, then file, then sname.
        let split = Ask {
            options: vec![53, 1, 1, 52, 1, 3, 61, 1, 7],
            file: vec![61, 1, 8, 255],
            sname: vec![61, 1, 9, 255],
            ..discover()
        };
        assert_eq!(reply_to(&split).value(61), Some(vec![7, 8, 9]));
        // One that is nested opens no further field.
        assert_eq!(silence_to(&with(1, &[52, 1, 2, 255], &[53, 1, 1, 255])), Silence::Bootp);
        assert_eq!(silence_to(&with(2, &[53, 1, 1, 255], &[255])), Silence::Bootp, "file is not used");
        assert_eq!(silence_to(&with(1, &[53, 200, 1], &[])), malformed(53));
        for overload in [0, 4, 255] {
            assert_eq!(silence_to(&with(overload, &[53, 1, 1, 255], &[])), malformed(52));
        }
        assert_eq!(silence_to(&Ask { options: vec![53, 1, 1, 52, 0], ..discover() }), malformed(52));
    }
    60 case_60_client_id_of_any_length {
        assert_eq!(reply_to(&discover().option(61, &[])).value(61), Some(Vec::new()));
        let longest = [0xa5; 255];
        assert_eq!(reply_to(&discover().option(61, &longest)).value(61), Some(longest.to_vec()));
        let split = discover().option(61, &[1; 200]).option(12, b"x").option(61, &[2; 80]);
        let joined = [[1; 200].to_vec(), vec![2; 80]].concat();
        let reply = reply_to(&split.option(57, &1500_u16.to_be_bytes()));
        assert_eq!(reply.value(61), Some(joined));
        assert_eq!(reply.kind(), OFFER);
    }
    61 case_61_names_and_routes_that_loop {
        // A request's search list and routes mean nothing to a server; they are carried unread.
        let ask = discover().option(119, &[0xc0, 0x00]).option(121, &[33, 1, 2, 3, 4, 5]);
        assert_eq!(reply_to(&ask).message, reply_to(&discover()).message);
    }
    62 case_62_packets_that_lie {
        let good = discover().frame();
        let binding = binding();
        let cause = |frame: &[u8]| silence_at(frame, Some(&binding));
        let at = |offset: usize, bytes: &[u8]| {
            changed(&good, |frame| frame[offset..offset + bytes.len()].copy_from_slice(bytes))
        };
        assert_eq!(cause(&at(20, &[0x20, 0])), Silence::Fragment, "more fragments");
        assert_eq!(cause(&at(20, &[0, 1])), Silence::Fragment, "an offset");
        assert_eq!(cause(&at(14, &[0x46])), Silence::HeaderLength);
        assert_eq!(cause(&at(14, &[0x44])), Silence::HeaderLength);
        assert_eq!(cause(&at(14, &[0x65])), Silence::NotUdp, "not version 4");
        assert_eq!(cause(&at(23, &[6])), Silence::NotUdp, "TCP");
        let mut vlan = good.clone();
        vlan.splice(12..12, [0x81, 0, 0, 5]);
        assert_eq!(cause(&vlan), Silence::VlanTagged);
        let notes = FrameNotes { vlan_tagged: true, ..FrameNotes::default() };
        let heard = hear(&good, notes, Some(&binding));
        assert_eq!(heard.exchange.outcome, Outcome::Silent { cause: Silence::VlanTagged });
        let notes = FrameNotes { truncated: true, ..FrameNotes::default() };
        let heard = hear(&good, notes, Some(&binding));
        assert_eq!(heard.exchange.outcome, Outcome::Silent { cause: Silence::TooLong });
        let total = u16::try_from(good.len() - 14).unwrap();
        for length in [0, 19, 20, 27, total + 1, u16::MAX] {
            assert_eq!(cause(&at(16, &length.to_be_bytes())), Silence::Length, "IPv4 length {length}");
        }
        for length in [0, 7, 8, total - 21, total - 19, u16::MAX] {
            assert_eq!(cause(&at(38, &length.to_be_bytes())), Silence::Length, "UDP length {length}");
        }
        let mut padded = good.clone();
        padded.extend([0xee; 17]);
        assert_eq!(hear(&padded, FrameNotes::default(), Some(&binding)).reply.unwrap().kind(), OFFER);
        let mut broken = good.clone();
        broken[24] ^= 1;
        assert_eq!(cause(&broken), Silence::HeaderChecksum);
    }
    63 case_63_checksums {
        let good = discover().frame();
        let binding = binding();
        let with = |sum: [u8; 2], checksum_partial| {
            let mut frame = good.clone();
            frame[40..42].copy_from_slice(&sum);
            let notes = FrameNotes { checksum_partial, ..FrameNotes::default() };
            hear(&frame, notes, Some(&binding)).exchange.outcome
        };
        let answered = |outcome| matches!(outcome, Outcome::Answered { .. });
        let refused = Outcome::Silent { cause: Silence::UdpChecksum };
        let right = [good[40], good[41]];
        assert!(answered(with(right, false)));
        assert!(answered(with([0, 0], false)), "none");
        assert_eq!(with([right[0] ^ 1, right[1]], false), refused);
        assert!(answered(with([right[0] ^ 1, right[1]], true)), "partial, as a guest's kernel leaves it");
        assert_eq!(with([0xff, 0xff], false), refused);
    }
    64 case_64_host_names {
        for (sent, shown) in [
            (&b"web-1"[..], Some("web-1")),
            (b"web\0", Some("web")),
            (b"a\0b", Some("a?b")),
            (b"../etc/passwd", Some("..?etc?passwd")),
            (b"\xff\xfe\x1b[31m", Some("????31m")),
            (b"", None),
            (b"\0\0", None),
        ] {
            let ask = discover().option(12, sent).wanting(&[12]);
            let heard = hear(&ask.frame(), FrameNotes::default(), Some(&binding()));
            assert_eq!(heard.exchange.host_name.as_deref(), shown, "{sent:?}");
            assert_eq!(heard.reply.unwrap().value(12), Some(b"vm42".to_vec()), "the VM's own name wins");
        }
        let heard = hear(&discover().option(12, &[b'x'; 200]).frame(), FrameNotes::default(), Some(&binding()));
        assert_eq!(heard.exchange.host_name, Some("x".repeat(63)));
        for bad in ["", "-a", "a-", "a_b", "a..b", "ä", "a b", &"x".repeat(64), &"x.".repeat(128)] {
            assert!(bad.parse::<DnsName>().is_err(), "{bad:?}");
        }
    }
}

/// A small generator, so that a failure can be repeated (xorshift64*).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }
}

fn samples() -> Vec<Vec<u8>> {
    [
        discover()
            .option(61, &[255; 19])
            .wanting(&[1, 3, 6, 12, 15, 26, 28, 42, 119, 121]),
        Ask {
            options: vec![53, 1, 3, 52, 1, 3],
            file: vec![50, 4, 192, 168, 22, 42, 255],
            ..discover()
        },
        Ask::renew(A).option(57, &[5, 0]).option(12, b"guest"),
        Ask {
            ip_src: A,
            ciaddr: A,
            ..Ask::new(INFORM)
        }
        .option(60, b"PXEClient")
        .option(93, &[0, 7]),
    ]
    .iter()
    .map(Ask::frame)
    .collect()
}

#[test]
fn a_frame_cut_anywhere_is_no_trouble() {
    for frame in samples() {
        for len in 0..frame.len() {
            hear(&frame[..len], FrameNotes::default(), Some(&binding()));
            // With lengths that are true for what is left, so that the message's own parser sees it.
            if let Some(message) = frame.get(42..len) {
                let cut = udp_frame(GUEST, MacAddr::BROADCAST, ANY, ALL, (68, 67), message);
                hear(&cut, FrameNotes::default(), Some(&binding()));
            }
        }
    }
}

#[test]
fn changed_bytes_are_no_trouble() {
    let mut chance = Chance(0x5eed);
    let samples = samples();
    let unchecked = FrameNotes {
        checksum_partial: true,
        ..FrameNotes::default()
    };
    for _ in 0..50_000 {
        let mut frame = samples[chance.below(samples.len())].clone();
        for _ in 0..=chance.below(8) {
            // Mostly in the options, where most of the structure is.
            let from = if chance.below(4) == 0 { 34 } else { 42 + 240 };
            let at = from + chance.below(frame.len() - from);
            frame[at] = chance.next().to_be_bytes()[0];
        }
        // Length and port of the datagram stay true, or nothing behind them is read.
        let original = &samples[0];
        frame[36..38].copy_from_slice(&original[36..38]);
        let length = u16::try_from(frame.len() - 34).unwrap();
        frame[38..40].copy_from_slice(&length.to_be_bytes());
        hear(&frame, unchecked, Some(&binding()));
    }
}

#[test]
fn random_options_are_no_trouble() {
    let mut chance = Chance(0xf00d);
    for _ in 0..50_000 {
        let mut ask = discover();
        for _ in 0..chance.below(12) {
            let code = [
                12, 50, 51, 52, 53, 54, 55, 57, 60, 61, 77, 80, 82, 93, 97, 175,
            ][chance.below(16)];
            let value: Vec<u8> = (0..chance.below(40))
                .map(|_| chance.next().to_be_bytes()[3])
                .collect();
            ask = ask.option(code, &value);
        }
        let spoil = chance.below(ask.options.len());
        if chance.below(3) == 0 {
            ask.options[spoil] = chance.next().to_be_bytes()[1];
        }
        hear(&ask.frame(), FrameNotes::default(), Some(&binding()));
    }
}

//! One number, made and deleted over and over, each time as another machine.
//!
//! `FVM_CYCLES` sets how often; a few of them are enough to fail on anything that remembers.

use fvm_netd::MacAddr;
use fvm_netd::net;

use crate::lab::{Lab, Netd, bind};
use crate::wire::{ACK, Ask, DISCOVER, OFFER, REQUEST};

const CYCLES: u32 = 60;

/// A client identifier of one of the kinds that real clients send.
fn client_id(cycle: u32, mac: MacAddr) -> Option<Vec<u8>> {
    match cycle % 4 {
        0 => None,
        1 => Some([&[1], &mac.0[..]].concat()),
        2 => Some([&[255, 0, 0, 0, 1, 0, 2][..], &cycle.to_be_bytes()].concat()),
        // Cloned machines have the same one.
        _ => Some(b"\xff\0\0\0\x01the same machine".to_vec()),
    }
}

#[test]
fn a_number_made_again_has_its_address_at_the_first_try() {
    let Some(lab) = Lab::new("a_number_made_again_has_its_address_at_the_first_try", &[]) else {
        return;
    };
    let cycles = std::env::var("FVM_CYCLES").map_or(CYCLES, |text| text.parse().unwrap());
    let netd = Netd::start(&lab);
    let mut client = netd.client();
    let gateway = lab.network.gateway;
    for cycle in 0..cycles {
        let guest = lab.closed_tap_guest(42);
        bind(&mut client, guest.name(), &lab.binding(42));
        let [a, b, c, d] = cycle.to_be_bytes();
        let mac = MacAddr([0x02, 0xcc, a, b, c, d]);
        let ask = |message| {
            let ask = Ask {
                xid: cycle,
                ..Ask::new(message).with_mac(mac)
            };
            match client_id(cycle, mac) {
                Some(id) => ask.option(61, &id),
                None => ask,
            }
        };
        // Every third one remembers the address of another, and asks for that first.
        let discover = ask(DISCOVER);
        let discover = if cycle % 3 == 0 {
            discover.asking(lab.address(99))
        } else {
            discover
        };
        guest.send(&discover.frame());
        let offer = guest.reply();
        assert_eq!(
            (offer.kind(), offer.decoded.yiaddr()),
            (OFFER, lab.address(42)),
            "cycle {cycle}"
        );
        guest.send(&ask(REQUEST).naming(gateway).asking(lab.address(42)).frame());
        let ack = guest.reply();
        assert_eq!(
            (ack.kind(), ack.decoded.yiaddr()),
            (ACK, lab.address(42)),
            "cycle {cycle}"
        );
        let log = client.port_log(guest.name()).unwrap().unwrap();
        assert_eq!(
            (log.frames, log.answered),
            (2, 2),
            "cycle {cycle}: nothing of the last one's"
        );
        assert!(client.unbind(guest.name()).unwrap());
        guest.end();
    }
    assert_eq!(client.ports().unwrap(), []);
    assert_eq!(net::list_taps().unwrap(), []);
}

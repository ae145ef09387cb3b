//! What a guest may not send: dropped, counted, and of no harm to its neighbours.

use std::net::Ipv4Addr;

use fvm_netd::MacAddr;
use fvm_netd::net;

use crate::lab::{Lab, TapGuest};
use crate::wire::{ANY, arp_request, internet_sum, udp_frame};

fn dropped(counter: &str) -> u64 {
    let counters = net::drop_counters().unwrap();
    counters
        .iter()
        .find(|found| found.name == counter)
        .unwrap()
        .packets
}

/// A good frame from one guest to all.
fn marker(lab: &Lab, vm: u32, number: u16) -> Vec<u8> {
    let all = lab.subnet().broadcast();
    let text = format!("marker {number}");
    udp_frame(
        lab.mac(vm),
        MacAddr::BROADCAST,
        lab.address(vm),
        all,
        (number, 9999),
        text.as_bytes(),
    )
}

/// Sends a frame that must be dropped, then a good one; the neighbour must see the good one first.
fn assert_dropped(lab: &Lab, from: &TapGuest, neighbour: &TapGuest, what: &str, frame: &[u8]) {
    let marker = marker(lab, 42, 1);
    from.send(frame);
    from.send(&marker);
    let seen = neighbour.receive(|seen| seen == frame || seen == marker);
    assert_eq!(seen.as_deref(), Some(&marker[..]), "{what} got through");
}

fn icmp(lab: &Lab, kind: u8) -> Vec<u8> {
    let mut frame = udp_frame(
        lab.mac(42),
        MacAddr::BROADCAST,
        lab.address(42),
        lab.subnet().broadcast(),
        (0, 0),
        &[0; 20],
    );
    frame[23] = 1;
    frame[24..26].fill(0);
    let sum = internet_sum(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame[34..].fill(0);
    frame[34] = kind;
    let sum = internet_sum(&frame[34..]);
    frame[36..38].copy_from_slice(&sum.to_be_bytes());
    frame
}

#[test]
fn what_a_guest_must_not_send_is_dropped_and_counted() {
    let name = "what_a_guest_must_not_send_is_dropped_and_counted";
    let Some(lab) = Lab::new(name, &[]) else {
        return;
    };
    let (guest, neighbour) = (lab.tap_guest(42), lab.tap_guest(43));
    let (mac, address) = (lab.mac(42), lab.address(42));
    let (his_mac, his_address) = (lab.mac(43), lab.address(43));
    let all = lab.subnet().broadcast();
    let to_all = MacAddr::BROADCAST;
    let gateway = lab.network.gateway;
    let udp = |mac, address, ports| udp_frame(mac, to_all, address, all, ports, b"x");
    let mut foreign_arp = arp_request(mac, address, his_address);
    foreign_arp[22..28].copy_from_slice(&his_mac.0);
    let mut ipv6 = udp(mac, address, (1, 2));
    ipv6[12..14].copy_from_slice(&[0x86, 0xdd]);
    let mut vlan = udp(mac, address, (1, 2));
    vlan.splice(12..12, [0x81, 0, 0, 7]);

    for (what, counter, frame) in [
        (
            "another's Ethernet address",
            "spoofed_mac",
            udp(his_mac, address, (1, 2)),
        ),
        (
            "the bridge's Ethernet address",
            "spoofed_mac",
            udp(lab.network.mac, address, (1, 2)),
        ),
        (
            "another's address",
            "spoofed_ip",
            udp(mac, his_address, (1, 2)),
        ),
        (
            "the gateway's address",
            "spoofed_ip",
            udp(mac, gateway, (1, 2)),
        ),
        (
            "an address from outside",
            "spoofed_ip",
            udp(mac, Ipv4Addr::new(8, 8, 8, 8), (1, 2)),
        ),
        ("no address", "spoofed_ip", udp(mac, ANY, (1, 2))),
        (
            "ARP for another's address",
            "spoofed_arp",
            arp_request(mac, his_address, gateway),
        ),
        (
            "ARP for the gateway's address",
            "spoofed_arp",
            arp_request(mac, gateway, his_address),
        ),
        (
            "ARP with another's Ethernet address",
            "spoofed_arp",
            foreign_arp,
        ),
        (
            "a DHCP server's reply",
            "dhcp_servers",
            udp(mac, address, (67, 68)),
        ),
        ("an ICMP redirect", "router_messages", icmp(&lab, 5)),
        (
            "an ICMP router advertisement",
            "router_messages",
            icmp(&lab, 9),
        ),
        ("IPv6", "other_protocols", ipv6),
        ("a VLAN tag", "other_protocols", vlan),
    ] {
        let before = dropped(counter);
        assert_dropped(&lab, &guest, &neighbour, what, &frame);
        assert_eq!(dropped(counter), before + 1, "{what} is not counted");
    }

    // What is its own goes through: data, ARP, a probe before the address is its own, a ping.
    for frame in [
        udp(mac, address, (1, 2)),
        arp_request(mac, address, his_address),
        arp_request(mac, ANY, address),
        icmp(&lab, 8),
    ] {
        guest.send(&frame);
        assert!(neighbour.receive(|seen| seen == frame).is_some());
    }
}

#[test]
fn a_port_that_is_not_admitted_sends_nothing() {
    let Some(lab) = Lab::new("a_port_that_is_not_admitted_sends_nothing", &[]) else {
        return;
    };
    let (guest, neighbour) = (lab.closed_tap_guest(42), lab.tap_guest(43));
    let first = marker(&lab, 42, 1);
    let arp = arp_request(lab.mac(42), lab.address(42), lab.address(43));
    guest.send(&first);
    guest.send(&arp);
    assert_eq!(dropped("spoofed_mac"), 2);
    net::admit(&[lab.admission(42)]).unwrap();
    let second = marker(&lab, 42, 2);
    guest.send(&second);
    let seen = neighbour.receive(|frame| [&first, &arp, &second].iter().any(|sent| frame == *sent));
    assert_eq!(seen, Some(second));
    net::expel(&[guest.name()]).unwrap();
    guest.send(&marker(&lab, 42, 3));
    assert_eq!(dropped("spoofed_mac"), 3);
}

#[test]
fn a_trusted_port_may_send_from_any_address() {
    let Some(lab) = Lab::new("a_trusted_port_may_send_from_any_address", &[]) else {
        return;
    };
    let (guest, neighbour) = (lab.tap_guest(42), lab.tap_guest(43));
    let trusted = net::Admission {
        trusted: true,
        ..lab.admission(42)
    };
    net::admit(std::slice::from_ref(&trusted)).unwrap();
    let inner = MacAddr([0x02, 0xaa, 0, 0, 0, 1]);
    let address = Ipv4Addr::new(192, 168, 22, 200);
    let frame = udp_frame(
        inner,
        MacAddr::BROADCAST,
        address,
        lab.subnet().broadcast(),
        (1, 2),
        b"nested",
    );
    guest.send(&frame);
    assert!(neighbour.receive(|seen| seen == frame).is_some());
    net::admit(&[lab.admission(42)]).unwrap();
    assert_dropped(&lab, &guest, &neighbour, "what was trusted before", &frame);
}

#[test]
fn on_a_bridge_of_the_hosts_own_a_guest_keeps_its_ethernet_address() {
    let name = "on_a_bridge_of_the_hosts_own_a_guest_keeps_its_ethernet_address";
    let Some(lab) = Lab::new(name, &[]) else {
        return;
    };
    let (guest, neighbour) = (lab.tap_guest(42), lab.tap_guest(43));
    let foreign = net::Admission {
        address: None,
        ..lab.admission(42)
    };
    net::admit(std::slice::from_ref(&foreign)).unwrap();
    assert!(net::admitted().unwrap().contains(&foreign));
    let all = lab.subnet().broadcast();
    let from = |mac, address, ports| udp_frame(mac, MacAddr::BROADCAST, address, all, ports, b"x");
    let (mac, elsewhere) = (lab.mac(42), Ipv4Addr::new(10, 9, 8, 7));
    // From ::2 to ::1, with nothing in it (59; RFC 8200, section 4.7).
    let mut ipv6 = [&[0xff; 6][..], &mac.0, &[0x86, 0xdd]].concat();
    ipv6.extend([0x60, 0, 0, 0, 0, 0, 59, 64]);
    ipv6.extend(2u128.to_be_bytes());
    ipv6.extend(1u128.to_be_bytes());
    for (what, frame) in [
        ("any address", from(mac, elsewhere, (1, 2))),
        ("a DHCP request", from(mac, ANY, (68, 67))),
        ("ARP", arp_request(mac, elsewhere, ANY)),
        ("IPv6", ipv6),
    ] {
        guest.send(&frame);
        let seen = neighbour.receive(|seen| seen == frame);
        assert!(seen.is_some(), "{what} was dropped");
    }
    let mut foreign_arp = arp_request(mac, elsewhere, ANY);
    foreign_arp[22..28].copy_from_slice(&lab.mac(43).0);
    for (counter, frame) in [
        ("spoofed_mac", from(lab.mac(43), elsewhere, (1, 2))),
        ("spoofed_arp", foreign_arp),
        ("dhcp_servers", from(mac, elsewhere, (67, 68))),
        ("router_messages", icmp(&lab, 9)),
    ] {
        assert_dropped(&lab, &guest, &neighbour, counter, &frame);
        assert_eq!(dropped(counter), 1, "{counter}");
    }
    net::expel(&[guest.name()]).unwrap();
    assert!(!net::admitted().unwrap().contains(&foreign));
}

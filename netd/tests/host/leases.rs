//! The real `fvm-netd` behind real taps: what the pure cases cannot show.

use std::os::fd::AsFd;

use fvm_netd::control::PortBinding;
use fvm_netd::dhcp::{MessageType, Outcome, Silence};
use fvm_netd::names::Nic;
use fvm_netd::net::{self, TapOptions};

use crate::lab::{Lab, Netd, TapGuest, bind, is_dhcp_reply, wait_for, wait_for_log};
use crate::wire::{ACK, Ask, DISCOVER, NAK, OFFER, REQUEST, Reply};

/// A request of this VM's guest.
fn ask(lab: &Lab, vm: u32, message: u8) -> Ask {
    Ask::new(message).with_mac(lab.mac(vm))
}

fn rebind(lab: &Lab, vm: u32) -> Ask {
    Ask::rebind(lab.address(vm)).with_mac(lab.mac(vm))
}

/// Sends a request and reads the reply to it.
fn exchange(guest: &TapGuest, ask: &Ask) -> Reply {
    guest.send(&ask.frame());
    guest.reply()
}

/// DISCOVER to ACK.
fn obtain(lab: &Lab, guest: &TapGuest, vm: u32) {
    let offer = exchange(guest, &ask(lab, vm, DISCOVER));
    assert_eq!(
        (offer.kind(), offer.decoded.yiaddr()),
        (OFFER, lab.address(vm))
    );
    let request = ask(lab, vm, REQUEST)
        .naming(lab.network.gateway)
        .asking(lab.address(vm));
    let ack = exchange(guest, &request);
    assert_eq!((ack.kind(), ack.decoded.yiaddr()), (ACK, lab.address(vm)));
    assert_eq!((ack.eth_dst, ack.ip_dst), (lab.mac(vm), lab.address(vm)));
    assert_eq!(
        (ack.eth_src, ack.ip_src),
        (lab.network.mac, lab.network.gateway)
    );
}

#[test]
fn an_address_by_a_process_without_rights() {
    let Some(lab) = Lab::new("an_address_by_a_process_without_rights", &[]) else {
        return;
    };
    let netd = Netd::start(&lab);
    let guest = lab.tap_guest(42);
    bind(&mut netd.client(), guest.name(), &lab.binding(42));
    obtain(&lab, &guest, 42);

    let status = std::fs::read_to_string(format!("/proc/{}/status", netd.pid())).unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace()
            .skip(1)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(field("Uid:"), ["65534"; 4]);
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        assert_eq!(field(set), ["0000000000000000"], "{set}");
    }
    assert_eq!(field("Seccomp:"), ["2"], "a filter of system calls");
    assert_eq!(field("NoNewPrivs:"), ["1"]);
}

#[test]
fn partial_checksums_of_a_guests_kernel_are_accepted() {
    let Some(lab) = Lab::new("partial_checksums_of_a_guests_kernel_are_accepted", &[]) else {
        return;
    };
    let netd = Netd::start(&lab);
    let mut client = netd.client();
    let guest = lab.tap_guest(42);
    bind(&mut client, guest.name(), &lab.binding(42));
    let renewal = Ask::renew(lab.address(42)).with_mac(lab.mac(42));
    guest.send_partial(&renewal.frame());
    assert_eq!(guest.reply().kind(), ACK);
    // The same bytes without the note are a broken datagram.
    let mut broken = renewal.frame();
    broken[40..42].copy_from_slice(&[0x12, 0x34]);
    guest.send(&broken);
    let log = wait_for_log(&mut client, guest.name(), "the broken one", |log| {
        log.frames == 2
    });
    let refused = Outcome::Silent {
        cause: Silence::UdpChecksum,
    };
    assert_eq!(log.exchanges[1].exchange.outcome, refused);
}

#[test]
fn a_vlan_tag_is_seen_where_the_kernel_hides_it() {
    let Some(lab) = Lab::new("a_vlan_tag_is_seen_where_the_kernel_hides_it", &[]) else {
        return;
    };
    let netd = Netd::start(&lab);
    let mut client = netd.client();
    let guest = lab.tap_guest(42);
    bind(&mut client, guest.name(), &lab.binding(42));
    let mut tagged = ask(&lab, 42, DISCOVER).frame();
    tagged.splice(12..12, [0x81, 0, 0, 7]);
    guest.send(&tagged);
    let log = wait_for_log(&mut client, guest.name(), "the tagged frame", |log| {
        log.frames == 1
    });
    let refused = Outcome::Silent {
        cause: Silence::VlanTagged,
    };
    assert_eq!(log.exchanges[0].exchange.outcome, refused);
}

#[test]
fn each_port_has_its_own_address_and_hears_its_own_replies() {
    let name = "each_port_has_its_own_address_and_hears_its_own_replies";
    let Some(lab) = Lab::new(name, &[]) else {
        return;
    };
    let netd = Netd::start(&lab);
    let mut client = netd.client();
    let guests: Vec<TapGuest> = (40..50).map(|vm| lab.tap_guest(vm)).collect();
    for (guest, vm) in guests.iter().zip(40..) {
        bind(&mut client, guest.name(), &lab.binding(vm));
    }
    // All ask as the same client would: same hardware address, same transaction, reply by broadcast.
    let same = Ask {
        flags: 0x8000,
        ..ask(&lab, 42, DISCOVER).option(61, b"\xffclone")
    };
    for guest in &guests {
        guest.send(&same.frame());
    }
    for (guest, vm) in guests.iter().zip(40..) {
        assert_eq!(guest.reply().decoded.yiaddr(), lab.address(vm));
        let more = guest.receive_within(std::time::Duration::from_millis(20), is_dhcp_reply);
        assert_eq!(more, None, "another's reply");
    }
}

#[test]
fn case_44_netd_restarted() {
    let Some(lab) = Lab::new("case_44_netd_restarted", &[]) else {
        return;
    };
    let guest = lab.tap_guest(42);
    let netd = Netd::start(&lab);
    let mut client = netd.client();
    bind(&mut client, guest.name(), &lab.binding(42));
    obtain(&lab, &guest, 42);
    assert!(!client.is_disconnected());
    netd.kill();
    wait_for("the end of the connection", || {
        client.is_disconnected().then_some(())
    });
    assert!(client.unbind(guest.name()).unwrap_err().is_disconnected());

    let netd = Netd::start(&lab);
    let mut client = netd.client();
    assert_eq!(client.hello().ports, 0);
    let (binding, socket) = (lab.binding(42), net::dhcp_socket(guest.name()).unwrap());
    let port = PortBinding {
        port: guest.name(),
        binding: &binding,
        socket: socket.as_fd(),
    };
    assert_eq!(client.resync([port]).unwrap(), [""; 0]);
    let ack = exchange(&guest, &rebind(&lab, 42));
    assert_eq!((ack.kind(), ack.decoded.yiaddr()), (ACK, lab.address(42)));
}

#[test]
fn case_46_vm_created_again_while_its_old_tap_lives() {
    let Some(lab) = Lab::new("case_46_vm_created_again_while_its_old_tap_lives", &[]) else {
        return;
    };
    let netd = Netd::start(&lab);
    let mut client = netd.client();
    let old = lab.tap_guest(42);
    bind(&mut client, old.name(), &lab.binding(42));
    obtain(&lab, &old, 42);
    // Deleted: the port is given up although something still holds the tap.
    assert!(client.unbind("fvm42").unwrap());
    net::expel(&["fvm42"]).unwrap();
    old.send(&rebind(&lab, 42).frame());
    let nic = Nic::new(42, 0).unwrap();
    assert!(
        net::create_tap(nic, "fvm0", TapOptions::default()).is_err(),
        "the number is taken"
    );
    assert!(net::remove_tap(nic).unwrap());
    let new = lab.tap_guest(42);
    bind(&mut client, new.name(), &lab.binding(42));
    obtain(&lab, &new, 42);
    let log = client.port_log("fvm42").unwrap().unwrap();
    assert_eq!(log.frames, 2, "nothing of the old port's");
}

#[test]
fn case_47_down_past_rebinding() {
    let Some(lab) = Lab::new("case_47_down_past_rebinding", &[]) else {
        return;
    };
    let guest = lab.tap_guest(42);
    let netd = Netd::start(&lab);
    bind(&mut netd.client(), guest.name(), &lab.short_binding(42, 8));
    obtain(&lab, &guest, 42);
    netd.kill();
    // Nobody hears these.
    guest.send(&Ask::renew(lab.address(42)).with_mac(lab.mac(42)).frame());
    guest.send(&rebind(&lab, 42).frame());
    let netd = Netd::start(&lab);
    bind(&mut netd.client(), guest.name(), &lab.short_binding(42, 8));
    let again = Ask {
        xid: 0x47,
        ..rebind(&lab, 42)
    };
    let ack = exchange(&guest, &again);
    assert_eq!((ack.kind(), ack.decoded.xid()), (ACK, 0x47));
}

#[test]
fn case_65_a_flood_on_one_port() {
    let Some(lab) = Lab::new("case_65_a_flood_on_one_port", &[]) else {
        return;
    };
    let netd = Netd::start(&lab);
    let mut client = netd.client();
    let (hostile, quiet) = (lab.tap_guest(42), lab.tap_guest(43));
    bind(&mut client, hostile.name(), &lab.binding(42));
    bind(&mut client, quiet.name(), &lab.binding(43));
    let flood = ask(&lab, 42, DISCOVER).frame();
    for _ in 0..5 {
        for _ in 0..2000 {
            hostile.send(&flood);
        }
        obtain(&lab, &quiet, 43);
    }
    let hostile_log = client.port_log(hostile.name()).unwrap().unwrap();
    assert!(
        hostile_log.frames < 2000,
        "{} of 10000 frames were read",
        hostile_log.frames
    );
    assert!(
        hostile_log.rate_limited > 5000,
        "{} were dropped unread",
        hostile_log.rate_limited
    );
    let quiet_log = client.port_log(quiet.name()).unwrap().unwrap();
    assert_eq!(
        (quiet_log.frames, quiet_log.answered, quiet_log.rate_limited),
        (10, 10, 0)
    );
    // The flood over, the guest is heard again.
    let mark = Ask {
        xid: 0x65,
        ..ask(&lab, 42, DISCOVER)
    };
    wait_for("an answer on the flooded port", || {
        hostile.send(&mark.frame());
        let limit = std::time::Duration::from_millis(200);
        let ours = |frame: &[u8]| is_dhcp_reply(frame) && frame[46..50] == [0, 0, 0, 0x65];
        hostile.receive_within(limit, ours)
    });
}

#[test]
fn case_66_tap_removed_during_a_reply() {
    let Some(lab) = Lab::new("case_66_tap_removed_during_a_reply", &[]) else {
        return;
    };
    let mut netd = Netd::start(&lab);
    let mut client = netd.client();
    let other = lab.tap_guest(43);
    bind(&mut client, other.name(), &lab.binding(43));
    for round in 0..30 {
        let guest = lab.tap_guest(42);
        bind(&mut client, guest.name(), &lab.binding(42));
        let frame = ask(&lab, 42, DISCOVER).frame();
        for _ in 0..20 {
            guest.send(&frame);
        }
        guest.end();
        assert!(netd.is_running(), "round {round}");
    }
    let log = client.port_log("fvm42").unwrap().unwrap();
    assert_eq!(log.port.ifindex, None, "the link is gone, and that shows");
    obtain(&lab, &other, 43);
    let stray = other.receive_within(std::time::Duration::from_millis(20), is_dhcp_reply);
    assert_eq!(stray, None, "a reply to another port");
    let guest = lab.tap_guest(42);
    bind(&mut client, guest.name(), &lab.binding(42));
    obtain(&lab, &guest, 42);
}

#[test]
fn an_address_that_moves_is_told_at_the_next_renewal() {
    let Some(lab) = Lab::new("an_address_that_moves_is_told_at_the_next_renewal", &[]) else {
        return;
    };
    let netd = Netd::start(&lab);
    let mut client = netd.client();
    let guest = lab.tap_guest(42);
    bind(&mut client, guest.name(), &lab.binding(42));
    obtain(&lab, &guest, 42);
    let moved = fvm_netd::dhcp::Binding {
        address: lab.address(77),
        ..lab.binding(42)
    };
    bind(&mut client, guest.name(), &moved);
    let renewal = Ask::renew(lab.address(42)).with_mac(lab.mac(42));
    assert_eq!(exchange(&guest, &renewal).kind(), NAK);
    assert_eq!(
        exchange(&guest, &ask(&lab, 42, DISCOVER)).decoded.yiaddr(),
        lab.address(77)
    );
}

#[test]
fn the_log_gives_a_cause() {
    let Some(lab) = Lab::new("the_log_gives_a_cause", &[]) else {
        return;
    };
    let netd = Netd::start(&lab);
    let mut client = netd.client();
    let guest = lab.tap_guest(42);
    bind(&mut client, guest.name(), &lab.binding(42));
    let log = client.port_log(guest.name()).unwrap().unwrap();
    assert_eq!(
        (log.frames, log.lease, log.exchanges.len()),
        (0, None, 0),
        "the guest was never heard"
    );

    let stale = ask(&lab, 42, REQUEST)
        .asking(lab.address(99))
        .option(12, b"web\0");
    assert_eq!(exchange(&guest, &stale).kind(), NAK);
    obtain(&lab, &guest, 42);
    guest.send(&ask(&lab, 42, REQUEST).frame());
    let log = wait_for_log(&mut client, guest.name(), "four exchanges", |log| {
        log.frames == 4
    });
    assert_eq!(
        (log.answered, log.port.vm, log.port.address),
        (3, 42, lab.address(42))
    );
    assert_eq!(log.port.ifindex, Some(guest.tap.ifindex));
    let [nak, offer, ack, silent] = &log.exchanges[..] else {
        panic!("{:?}", log.exchanges)
    };
    assert_eq!(nak.exchange.asked, Some(lab.address(99)));
    assert_eq!(nak.exchange.host_name.as_deref(), Some("web"));
    let answered = |message, address, lease_s| Outcome::Answered {
        message,
        address,
        lease_s,
    };
    assert_eq!(nak.exchange.outcome, answered(MessageType::Nak, None, None));
    let address = Some(lab.address(42));
    assert_eq!(
        offer.exchange.outcome,
        answered(MessageType::Offer, address, Some(3600))
    );
    assert_eq!(
        ack.exchange.outcome,
        answered(MessageType::Ack, address, Some(3600))
    );
    let cause = Silence::NoAddressAsked;
    assert_eq!(silent.exchange.outcome, Outcome::Silent { cause });
    let lease = log.lease.unwrap();
    assert_eq!(lease.address, lab.address(42));
    assert_eq!(lease.granted_unix_ms, ack.at_unix_ms);
    assert_eq!(lease.renew_unix_ms - lease.granted_unix_ms, 1_800_000);
    assert_eq!(lease.expires_unix_ms - lease.granted_unix_ms, 3_600_000);

    for _ in 0..30 {
        exchange(&guest, &rebind(&lab, 42));
    }
    let log = client.port_log(guest.name()).unwrap().unwrap();
    assert_eq!(
        (log.frames, log.exchanges.len()),
        (34, 16),
        "the last ones are kept"
    );
    assert_eq!(client.port_log("fvm43").unwrap(), None);
}

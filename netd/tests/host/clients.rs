//! Real DHCP clients, each in a namespace behind a port of the bridge, against the real `fvm-netd`.
//!
//! The port is a veth's end in the place of a tap; to the bridge, the rules and the packet socket it
//! is a port like any other.

use std::net::TcpStream;
use std::os::fd::AsFd;
use std::time::Duration;

use fvm_netd::control::{Client, PortLog};
use fvm_netd::dhcp::{Binding, LeaseTimes, MessageType, Outcome};
use fvm_netd::net;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::lab::{Lab, Namespace, Netd, bind, ip, wait_for, wait_for_log, wait_until_gone};
use crate::real_client::Kind::{self, Dhclient, Dhcpcd, NetworkManager, Networkd, Udhcpc};
use crate::real_client::{PROGRAMS, RealClient, has_kept_a_lease};

fn replies(log: &PortLog) -> Vec<MessageType> {
    let outcomes = log.exchanges.iter().map(|logged| &logged.exchange.outcome);
    outcomes
        .filter_map(|outcome| match outcome {
            Outcome::Answered { message, .. } => Some(*message),
            Outcome::Silent { .. } => None,
        })
        .collect()
}

/// Waits until the guest has this address and no other, and the host reaches it there.
fn wait_for_address(client: &mut Client, lab: &Lab, guest: &Namespace, vm: u32) -> PortLog {
    let wanted = lab.address(vm);
    wait_for(&format!("address {wanted}"), || {
        (guest.addresses() == [wanted]).then_some(())
    });
    // Nobody listens, so a guest that is there refuses.
    let port_one = (wanted, 1).into();
    let error = TcpStream::connect_timeout(&port_one, Duration::from_secs(10)).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    client.port_log("fvm42").unwrap().unwrap()
}

fn times(lease_s: u32, renew_s: u32, rebind_s: u32) -> LeaseTimes {
    LeaseTimes::new(lease_s, renew_s, rebind_s).unwrap()
}

#[test]
fn each_client_in_turn_gets_the_same_address_at_the_first_try() {
    let name = "each_client_in_turn_gets_the_same_address_at_the_first_try";
    let Some(lab) = Lab::new(name, &PROGRAMS) else {
        return;
    };
    let netd = Netd::start(&lab);
    let mut client = netd.client();
    for kind in [
        Udhcpc,
        Dhclient,
        Networkd,
        Dhcpcd,
        NetworkManager,
        Udhcpc,
        Dhcpcd,
        Dhclient,
        Udhcpc,
    ] {
        let guest = lab.namespace_guest(42);
        bind(&mut client, "fvm42", &lab.binding(42));
        let running = RealClient::start(kind, &lab, &guest);
        let log = wait_for_address(&mut client, &lab, &guest, 42);
        assert!(
            !replies(&log).contains(&MessageType::Nak),
            "{kind:?}: {log:?}"
        );
        let first = &log.exchanges[0].exchange;
        assert!(
            matches!(first.outcome, Outcome::Answered { .. }),
            "{kind:?}: {first:?}"
        );
        assert_eq!(log.lease.unwrap().address, lab.address(42), "{kind:?}");
        drop(running);
        client.unbind("fvm42").unwrap();
        net::expel(&["fvm42"]).unwrap();
        ip(&["link", "delete", "fvm42"]);
        wait_until_gone("fvm42");
    }
}

#[test]
fn clients_of_different_identifiers_share_a_card() {
    let Some(lab) = Lab::new("clients_of_different_identifiers_share_a_card", &PROGRAMS) else {
        return;
    };
    let netd = Netd::start(&lab);
    let mut client = netd.client();
    let guest = lab.namespace_guest(42);
    bind(&mut client, "fvm42", &lab.binding(42));
    // As firmware, installer and system do, one after the other and none with a RELEASE.
    for kind in [Udhcpc, Networkd, Dhcpcd, NetworkManager, Dhclient, Networkd] {
        let running = RealClient::start(kind, &lab, &guest);
        let log = wait_for_address(&mut client, &lab, &guest, 42);
        assert!(
            !replies(&log).contains(&MessageType::Nak),
            "{kind:?}: {log:?}"
        );
        drop(running);
        guest.run(|| ip(&["address", "flush", "dev", "eth0"]));
    }
}

fn renews(kind: Kind) {
    let Some(lab) = Lab::new(&format!("{kind:?} renews"), &PROGRAMS) else {
        return;
    };
    let netd = Netd::start(&lab);
    let mut client = netd.client();
    let guest = lab.namespace_guest(42);
    // busybox takes no lease shorter than 16 seconds and renews it at its half.
    bind(
        &mut client,
        "fvm42",
        &Binding {
            lease: times(16, 3, 12),
            ..lab.binding(42)
        },
    );
    let _running = RealClient::start(kind, &lab, &guest);
    let before = wait_for_address(&mut client, &lab, &guest, 42);
    let seen = before.exchanges.len();
    let log = wait_for_log(&mut client, "fvm42", "a renewal", |log| {
        log.exchanges.len() > seen
    });
    let renewal = &log.exchanges[seen].exchange;
    assert_eq!(renewal.message, Some(MessageType::Request), "{renewal:?}");
    assert_eq!(renewal.asked, Some(lab.address(42)));
    assert!(matches!(
        renewal.outcome,
        Outcome::Answered {
            message: MessageType::Ack,
            lease_s: Some(16),
            ..
        }
    ));
    assert!(log.lease.unwrap().granted_unix_ms > before.lease.unwrap().granted_unix_ms);
    assert_eq!(guest.addresses(), [lab.address(42)]);
}

#[test]
fn udhcpc_renews() {
    renews(Udhcpc);
}

#[test]
fn dhclient_renews() {
    renews(Dhclient);
}

#[test]
fn dhcpcd_renews() {
    renews(Dhcpcd);
}

#[test]
fn networkd_renews() {
    renews(Networkd);
}

#[test]
fn networkmanager_renews() {
    renews(NetworkManager);
}

#[test]
fn a_client_rebinds_after_netd_was_down() {
    let Some(lab) = Lab::new("a_client_rebinds_after_netd_was_down", &PROGRAMS) else {
        return;
    };
    let guest = lab.namespace_guest(42);
    let binding = Binding {
        lease: times(60, 2, 4),
        ..lab.binding(42)
    };
    let netd = Netd::start(&lab);
    let mut client = netd.client();
    bind(&mut client, "fvm42", &binding);
    let _running = RealClient::start(Dhclient, &lab, &guest);
    wait_for_address(&mut client, &lab, &guest, 42);
    netd.kill();
    // The renewals go unheard until the client asks everyone.
    let ear = net::dhcp_socket("fvm42").unwrap();
    wait_for("a REQUEST by broadcast", || {
        let mut fds = [PollFd::new(ear.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::from(100_u16)).unwrap();
        let mut frame = [0; 2000];
        let len = nix::unistd::read(&ear, &mut frame).ok()?;
        (len > 42 && frame[30..34] == [255; 4] && frame[54..58] != [0; 4]).then_some(())
    });
    let netd = Netd::start(&lab);
    let mut client = netd.client();
    bind(&mut client, "fvm42", &binding);
    let log = wait_for_log(&mut client, "fvm42", "an ACK", |log| log.lease.is_some());
    assert_eq!(log.exchanges[0].exchange.asked, Some(lab.address(42)));
    assert_eq!(replies(&log)[0], MessageType::Ack);
    assert_eq!(guest.addresses(), [lab.address(42)]);
}

fn reboots_with_a_stale_lease(kind: Kind) {
    let name = format!("{kind:?} reboots with a stale lease");
    let Some(lab) = Lab::new(&name, &PROGRAMS) else {
        return;
    };
    let netd = Netd::start(&lab);
    let mut client = netd.client();
    let guest = lab.namespace_guest(42);
    // The disk was another VM's: its client remembers that one's address.
    net::admit(&[net::Admission {
        address: Some(lab.address(77)),
        ..lab.admission(42)
    }])
    .unwrap();
    let other = Binding {
        vm: 77,
        address: lab.address(77),
        ..lab.binding(42)
    };
    bind(&mut client, "fvm42", &other);
    let running = RealClient::start(kind, &lab, &guest);
    wait_for_address(&mut client, &lab, &guest, 77);
    wait_for("the lease on the client's disk", || {
        has_kept_a_lease(kind, &lab).then_some(())
    });
    drop(running);
    guest.run(|| ip(&["address", "flush", "dev", "eth0"]));
    client.unbind("fvm42").unwrap();

    net::admit(&[lab.admission(42)]).unwrap();
    bind(&mut client, "fvm42", &lab.binding(42));
    let _running = RealClient::start(kind, &lab, &guest);
    let log = wait_for_address(&mut client, &lab, &guest, 42);
    let first = &log.exchanges[0].exchange;
    assert_eq!(
        (first.message, first.asked),
        (Some(MessageType::Request), Some(lab.address(77)))
    );
    assert_eq!(replies(&log)[0], MessageType::Nak, "{log:?}");
}

#[test]
fn dhclient_reboots_with_a_stale_lease() {
    reboots_with_a_stale_lease(Dhclient);
}

#[test]
fn dhcpcd_reboots_with_a_stale_lease() {
    reboots_with_a_stale_lease(Dhcpcd);
}

#[test]
fn networkmanager_reboots_with_a_stale_lease() {
    reboots_with_a_stale_lease(NetworkManager);
}

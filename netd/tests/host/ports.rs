//! Taps and their admission.

use fvm_netd::names::Nic;
use fvm_netd::net::{self, Admission, Error, TapOptions};

use crate::lab::{Lab, ip, ip_json, link_names, ruleset, wait_until_gone};
use crate::wire::{A, Ask, DISCOVER, arp_request};

fn nic(vm: u32) -> Nic {
    Nic::new(vm, 0).unwrap()
}

#[test]
fn a_tap_lives_as_long_as_its_descriptors() {
    let Some(_lab) = Lab::new("a_tap_lives_as_long_as_its_descriptors", &[]) else {
        return;
    };
    let options = TapOptions {
        queues: 1,
        vnet_hdr: true,
        mtu: Some(1400),
        isolated: true,
    };
    let tap = net::create_tap(nic(42), "fvm0", options).unwrap();
    let link = &ip_json(&["link", "show", "dev", "fvm42"])[0];
    assert_eq!(link["ifindex"], tap.ifindex);
    assert_eq!(link["master"], "fvm0");
    assert_eq!(link["mtu"], 1400);
    assert_eq!(link["linkinfo"]["info_kind"], "tun");
    assert_eq!(link["linkinfo"]["info_slave_data"]["isolated"], true);
    assert_eq!(link["linkinfo"]["info_data"]["persist"], false);
    assert_eq!(link["linkinfo"]["info_data"]["vnet_hdr"], true);
    assert!(link["flags"].as_array().unwrap().contains(&"UP".into()));
    let addresses = &ip_json(&["address", "show", "dev", "fvm42"])[0]["addr_info"];
    assert_eq!(
        addresses.as_array().unwrap().len(),
        0,
        "the host has no address there"
    );

    let copy = tap.fds[0].try_clone().unwrap();
    drop(tap);
    assert_eq!(
        net::list_taps().unwrap(),
        [nic(42)],
        "a copy keeps it, as QEMU's does"
    );
    drop(copy);
    wait_until_gone("fvm42");
    assert_eq!(net::list_taps().unwrap(), []);
    assert_eq!(link_names(), ["fvm0"]);
}

#[test]
fn a_tap_in_use_follows_the_mtu_of_its_network() {
    let Some(lab) = Lab::new("a_tap_in_use_follows_the_mtu_of_its_network", &[]) else {
        return;
    };
    let guest = lab.tap_guest(42);
    for mtu in [9000, 9000, 1400] {
        net::set_tap_mtu(nic(42), mtu).unwrap();
        let link = &ip_json(&["link", "show", "dev", guest.name()])[0];
        assert_eq!(
            (&link["mtu"], &link["master"]),
            (&mtu.into(), &"fvm0".into())
        );
    }
    let error = net::set_tap_mtu(nic(43), 1400).unwrap_err();
    assert!(matches!(error, Error::NoLink { .. }), "{error:?}");
}

#[test]
fn a_number_in_use_is_refused_and_not_disturbed() {
    let Some(lab) = Lab::new("a_number_in_use_is_refused_and_not_disturbed", &[]) else {
        return;
    };
    let guest = lab.tap_guest(42);
    let error = net::create_tap(nic(42), "fvm0", TapOptions::default()).unwrap_err();
    assert!(matches!(error, Error::Tun { .. }), "{error:?}");
    assert_eq!(
        guest.tap.ifindex,
        ip_json(&["link", "show", "dev", "fvm42"])[0]["ifindex"]
    );
    ip(&["link", "add", "fvm43", "type", "bridge"]);
    assert!(net::create_tap(nic(43), "fvm0", TapOptions::default()).is_err());
    assert!(matches!(
        net::remove_tap(nic(43)),
        Err(Error::WrongKind { .. })
    ));
    let error = net::create_tap(nic(44), "fvm7", TapOptions::default()).unwrap_err();
    assert!(matches!(error, Error::NoLink { .. }), "{error:?}");
    assert_eq!(link_names(), ["fvm0", "fvm42", "fvm43"]);
}

#[test]
fn a_tap_with_several_queues() {
    let Some(_lab) = Lab::new("a_tap_with_several_queues", &[]) else {
        return;
    };
    let options = TapOptions {
        queues: 4,
        ..TapOptions::default()
    };
    let tap = net::create_tap(nic(42), "fvm0", options).unwrap();
    assert_eq!(tap.fds.len(), 4);
    let data = &ip_json(&["link", "show", "dev", "fvm42"])[0]["linkinfo"]["info_data"];
    assert_eq!(
        (&data["multi_queue"], &data["numqueues"]),
        (&true.into(), &4.into()),
        "{data}"
    );
}

#[test]
fn a_tap_is_removed_by_its_card() {
    let Some(lab) = Lab::new("a_tap_is_removed_by_its_card", &[]) else {
        return;
    };
    let _held = lab.tap_guest(42);
    let _other = lab.tap_guest(43);
    assert!(net::remove_tap(nic(42)).unwrap());
    assert!(!net::remove_tap(nic(42)).unwrap());
    assert_eq!(net::list_taps().unwrap(), [nic(43)]);
}

#[test]
fn many_ports_are_admitted_and_expelled_at_once() {
    let Some(lab) = Lab::new("many_ports_are_admitted_and_expelled_at_once", &[]) else {
        return;
    };
    let empty = ruleset();
    let mut all: Vec<Admission> = (20..=220).map(|vm| lab.admission(vm)).collect();
    all.sort_by(|one, other| one.port.cmp(&other.port));
    net::admit(&all).unwrap();
    assert_eq!(net::admitted().unwrap(), all);
    net::admit(&all).unwrap();
    assert_eq!(net::admitted().unwrap(), all);

    // Another address and another trust for one, by the same call.
    let changed = Admission {
        address: Some(lab.address(222)),
        trusted: true,
        ..lab.admission(42)
    };
    net::admit(std::slice::from_ref(&changed)).unwrap();
    let now = net::admitted().unwrap();
    assert_eq!(now.len(), all.len());
    assert!(now.contains(&changed));
    net::admit(&[lab.admission(42)]).unwrap();
    assert_eq!(net::admitted().unwrap(), all);

    let names: Vec<&str> = all
        .iter()
        .map(|admission| admission.port.as_str())
        .collect();
    net::expel(&names[1..]).unwrap();
    assert_eq!(net::admitted().unwrap(), all[..1]);
    net::expel(&names).unwrap();
    net::expel(&names).unwrap();
    assert_eq!(ruleset(), empty);
    net::admit(&[]).unwrap();
    net::expel(&[]).unwrap();
}

#[test]
fn without_tables_nobody_is_admitted() {
    let Some(lab) = Lab::bare("without_tables_nobody_is_admitted", &[]) else {
        return;
    };
    assert_eq!(net::admitted().unwrap(), []);
    assert_eq!(net::drop_counters().unwrap(), []);
    net::expel(&["fvm42"]).unwrap();
    let error = net::admit(&[lab.admission(42)]).unwrap_err();
    assert_eq!(error.to_string(), "cannot admit ports");
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("No such file or directory"), "{cause}");
}

#[test]
fn a_dhcp_socket_hears_requests_of_its_port_alone() {
    let Some(lab) = Lab::new("a_dhcp_socket_hears_requests_of_its_port_alone", &[]) else {
        return;
    };
    let (one, other) = (lab.tap_guest(42), lab.tap_guest(43));
    let socket = net::dhcp_socket(one.name()).unwrap();
    let request = Ask::new(DISCOVER).with_mac(lab.mac(42)).frame();
    other.send(&request);
    one.send(&crate::wire::udp_frame(
        lab.mac(42),
        lab.network.mac,
        A,
        A,
        (68, 53),
        b"not DHCP",
    ));
    one.send(&request);
    let mut buffer = [0; 2000];
    let len = nix::sys::socket::recv(
        std::os::fd::AsRawFd::as_raw_fd(&socket),
        &mut buffer,
        nix::sys::socket::MsgFlags::empty(),
    )
    .unwrap();
    assert_eq!(&buffer[..len], &request);
    let again = nix::sys::socket::recv(
        std::os::fd::AsRawFd::as_raw_fd(&socket),
        &mut buffer,
        nix::sys::socket::MsgFlags::empty(),
    );
    assert_eq!(
        again,
        Err(nix::errno::Errno::EAGAIN),
        "nothing else was queued"
    );
    // The request does not reach the other guests: the bridge need not flood it. What comes after it
    // does, so it is not merely late.
    let marker = arp_request(lab.mac(42), A, lab.address(43));
    one.send(&marker);
    let first = other.receive(|frame| frame == request || frame == marker);
    assert_eq!(first, Some(marker));
    assert!(matches!(
        net::dhcp_socket("fvm99"),
        Err(Error::NoLink { .. })
    ));
}

//! The way out, through the host, to a network outside it.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use crate::lab::{Lab, Namespace, SOON, ip};

const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
const HOST: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

/// A network outside the host, with a route back to the guests' subnet.
fn outside(lab: &Lab) -> Namespace {
    let outside = Namespace::new();
    ip(&[
        "link",
        "add",
        "uplink",
        "type",
        "veth",
        "peer",
        "name",
        "eth0",
        "netns",
        &outside.path(),
    ]);
    ip(&["address", "add", &format!("{HOST}/24"), "dev", "uplink"]);
    ip(&["link", "set", "uplink", "up"]);
    let subnet = lab.subnet().to_string();
    outside.run(|| {
        ip(&["address", "add", &format!("{OUTSIDE}/24"), "dev", "eth0"]);
        ip(&["link", "set", "eth0", "up"]);
        ip(&["route", "add", &subnet, "via", &HOST.to_string()]);
    });
    outside
}

/// A guest with its address set by hand, since this is not about DHCP.
fn guest(lab: &Lab, vm: u32) -> Namespace {
    let guest = lab.namespace_guest(vm);
    let address = format!("{}/{}", lab.address(vm), lab.subnet().prefix());
    let gateway = lab.network.gateway.to_string();
    guest.run(|| {
        ip(&["address", "add", &address, "dev", "eth0"]);
        ip(&["route", "add", "default", "via", &gateway]);
    });
    guest
}

/// Who the server sees when a client connects and exchanges a byte each way.
fn seen_by(server: &Namespace, at: SocketAddr, client: &Namespace) -> IpAddr {
    let listener = server.run(|| TcpListener::bind(at).unwrap());
    let mut there = client.run(|| TcpStream::connect_timeout(&at, SOON).unwrap());
    let (mut here, peer) = listener.accept().unwrap();
    for stream in [&here, &there] {
        stream.set_read_timeout(Some(SOON)).unwrap();
    }
    let mut byte = [0];
    there.write_all(b"q").unwrap();
    here.read_exact(&mut byte).unwrap();
    here.write_all(b"a").unwrap();
    there.read_exact(&mut byte).unwrap();
    peer.ip()
}

#[test]
fn guests_reach_the_outside_behind_the_hosts_address() {
    let Some(lab) = Lab::new("guests_reach_the_outside_behind_the_hosts_address", &[]) else {
        return;
    };
    let (outside, one, two) = (outside(&lab), guest(&lab, 42), guest(&lab, 43));
    let at = |address: Ipv4Addr| SocketAddr::from((address, 7000));
    assert_eq!(
        seen_by(&outside, at(OUTSIDE), &one),
        HOST,
        "translated on the way out"
    );
    assert_eq!(
        seen_by(&two, at(lab.address(43)), &one),
        lab.address(42),
        "not between guests"
    );
    let host = Namespace::current();
    assert_eq!(
        seen_by(&host, at(lab.network.gateway), &one),
        lab.address(42),
        "nor to the host"
    );
    assert_eq!(
        seen_by(&one, at(lab.address(42)), &host),
        lab.network.gateway,
        "which reaches them"
    );
}

#[test]
fn nobody_outside_opens_a_connection_to_a_guest() {
    let Some(lab) = Lab::new("nobody_outside_opens_a_connection_to_a_guest", &[]) else {
        return;
    };
    let (outside, guest) = (outside(&lab), guest(&lab, 42));
    let at = SocketAddr::from((lab.address(42), 7000));
    let listener = guest.run(|| TcpListener::bind(at).unwrap());
    let limit = std::time::Duration::from_millis(500);
    assert!(
        outside
            .run(|| TcpStream::connect_timeout(&at, limit))
            .is_err()
    );
    // The way exists: without translation, which is what closes it, the same connection is made.
    let routed = fvm_netd::net::Network {
        nat: false,
        ..lab.network.clone()
    };
    fvm_netd::net::ensure_network(&routed).unwrap();
    outside
        .run(|| TcpStream::connect_timeout(&at, SOON))
        .unwrap();
    assert_eq!(listener.accept().unwrap().1.ip(), OUTSIDE);
}

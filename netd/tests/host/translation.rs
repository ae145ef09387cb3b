//! The way out, through the host, to a network outside it.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};

use fvm_netd::net::{Forward, Mode, Protocol, RemoveOptions, ensure_forwards, remove_network};

use crate::lab::{Lab, Namespace, SOON, ip};
use crate::outside::{HOST, OUTSIDE, guest, outside};

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
        mode: Mode::Route,
        ..lab.network.clone()
    };
    fvm_netd::net::ensure_network(&routed).unwrap();
    outside
        .run(|| TcpStream::connect_timeout(&at, SOON))
        .unwrap();
    assert_eq!(listener.accept().unwrap().1.ip(), OUTSIDE);

    // Nor does a guest get out of a network that is isolated; the host it does reach.
    let isolated = fvm_netd::net::Network {
        mode: Mode::Isolated,
        ..routed
    };
    fvm_netd::net::ensure_network(&isolated).unwrap();
    let [there, here] =
        [OUTSIDE, lab.network.gateway].map(|address| SocketAddr::from((address, 7001)));
    let _outside = outside.run(|| TcpListener::bind(there).unwrap());
    let _host = TcpListener::bind(here).unwrap();
    let connect = |at| guest.run(|| TcpStream::connect_timeout(&at, limit));
    assert!(connect(there).is_err());
    connect(here).unwrap();
    assert!(
        outside
            .run(|| TcpStream::connect_timeout(&at, limit))
            .is_err()
    );
}

/// What a server says to whom it is asked by, over UDP.
fn datagram_seen_by(
    server: &Namespace,
    at: SocketAddr,
    client: &Namespace,
    asked: SocketAddr,
) -> IpAddr {
    let socket = server.run(|| UdpSocket::bind(at).unwrap());
    let there = client.run(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    for socket in [&socket, &there] {
        socket.set_read_timeout(Some(SOON)).unwrap();
    }
    there.connect(asked).unwrap();
    there.send(b"q").unwrap();
    let mut byte = [0];
    let (_, from) = socket.recv_from(&mut byte).unwrap();
    socket.send_to(b"a", from).unwrap();
    assert_eq!(there.recv(&mut byte).unwrap(), 1);
    from.ip()
}

#[test]
fn a_port_of_the_host_leads_to_a_guest() {
    let Some(lab) = Lab::new("a_port_of_the_host_leads_to_a_guest", &[]) else {
        return;
    };
    let (outside, guest, other) = (outside(&lab), guest(&lab, 42), guest(&lab, 43));
    let host = Namespace::current();
    ip(&["link", "set", "lo", "up"]);
    let inner = SocketAddr::from((lab.address(42), 7000));
    let listener = guest.run(|| TcpListener::bind(inner).unwrap());
    let forward = |protocol| Forward {
        protocol,
        host_port: 2242,
        address: lab.address(42),
        port: 7000,
    };
    let try_from = |from: &Namespace, address: Ipv4Addr| {
        from.run(|| TcpStream::connect_timeout(&SocketAddr::from((address, 2242)), SOON))
    };
    assert!(
        try_from(&outside, HOST).is_err(),
        "not before it is asked for"
    );

    let mut network = lab.network.clone();
    network.forwards = vec![forward(Protocol::Tcp)];
    assert!(!ensure_forwards(&network).unwrap().is_empty());
    assert!(
        ensure_forwards(&network).unwrap().is_empty(),
        "the second time"
    );
    try_from(&outside, HOST).unwrap();
    assert_eq!(
        listener.accept().unwrap().1.ip(),
        OUTSIDE,
        "the guest sees who it is"
    );
    try_from(&host, HOST).unwrap();
    listener.accept().unwrap();
    for (from, address) in [
        (&host, Ipv4Addr::LOCALHOST),
        (&other, lab.network.gateway),
        (&outside, OUTSIDE),
    ] {
        assert!(try_from(from, address).is_err(), "{address}");
    }

    network.forwards = vec![forward(Protocol::Udp)];
    ensure_forwards(&network).unwrap();
    assert!(try_from(&outside, HOST).is_err(), "no more");
    let asked = SocketAddr::from((HOST, 2242));
    assert_eq!(datagram_seen_by(&guest, inner, &outside, asked), OUTSIDE);
    let report = remove_network(&network.bridge, RemoveOptions::default());
    assert!(report.failures.is_empty(), "{report:?}");
}

//! DNS through real sockets: guests ask the gateway, `fvm-netd` asks others.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use fvm_netd::dns::DnsConfig;
use fvm_netd::net::DnsSockets;
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::lab::{Lab, Namespace, Netd, SOON, bind, ip, wait_for, wait_for_log};
use crate::outside::{guest, outside};

/// A server elsewhere: on the host's loopback, with an answer of many records to every question.
struct Elsewhere {
    address: SocketAddrV4,
    asked: Arc<AtomicUsize>,
}

impl Elsewhere {
    fn start() -> Self {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let SocketAddr::V4(address) = udp.local_addr().unwrap() else {
            panic!("no IPv4");
        };
        let tcp = TcpListener::bind(address).unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let counts = [asked.clone(), asked.clone()];
        let [by_udp, by_tcp] = counts;
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((len, from)) = udp.recv_from(&mut buffer) {
                by_udp.fetch_add(1, Ordering::SeqCst);
                let answer = answer_to(&buffer[..len]);
                let bytes = answer.to_vec().unwrap();
                let sent = if bytes.len() > 512 {
                    answer.truncate().to_vec().unwrap()
                } else {
                    bytes
                };
                udp.send_to(&sent, from).unwrap();
            }
        });
        std::thread::spawn(move || {
            for stream in tcp.incoming() {
                let mut stream = stream.unwrap();
                by_tcp.fetch_add(1, Ordering::SeqCst);
                let query = read_message(&mut stream);
                write_message(&mut stream, &answer_to(&query).to_vec().unwrap());
            }
        });
        Elsewhere { address, asked }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// `long.…` has a long answer; `refused.…` none.
fn answer_to(query: &[u8]) -> Message {
    let query = Message::from_vec(query).unwrap();
    let question = query.queries[0].clone();
    let mut answer = Message::response(query.metadata.id, OpCode::Query);
    answer.add_query(question.clone());
    let name = question.name().to_ascii();
    if name.starts_with("refused.") {
        answer.metadata.response_code = ResponseCode::Refused;
        return answer;
    }
    let count = if name.starts_with("long.") { 200 } else { 1 };
    for number in 0..count {
        let text = TXT::new(vec![format!("record {number}")]);
        answer.add_answer(Record::from_rdata(
            question.name().clone(),
            60,
            RData::TXT(text),
        ));
    }
    answer
}

fn read_message(stream: &mut TcpStream) -> Vec<u8> {
    let mut len = [0; 2];
    stream.read_exact(&mut len).unwrap();
    let mut bytes = vec![0; usize::from(u16::from_be_bytes(len))];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

fn write_message(stream: &mut TcpStream, bytes: &[u8]) {
    let len = u16::try_from(bytes.len()).unwrap();
    stream
        .write_all(&[&len.to_be_bytes(), bytes].concat())
        .unwrap();
}

fn query(name: &str) -> Vec<u8> {
    let mut message = Message::new(rand_id(name), MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(
        Name::from_ascii(name).unwrap(),
        RecordType::TXT,
    ));
    message.to_vec().unwrap()
}

/// A number that differs from question to question.
fn rand_id(name: &str) -> u16 {
    name.bytes().fold(1, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(byte.into())
    })
}

fn by_udp(guest: &Namespace, server: Ipv4Addr, name: &str) -> Message {
    let bytes = query(name);
    let answer = guest.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect((server, 53)).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        socket.send(&bytes).unwrap();
        let mut buffer = [0; 4096];
        let len = socket.recv(&mut buffer).unwrap();
        buffer[..len].to_vec()
    });
    assert_eq!(answer[..2], bytes[..2], "its number");
    Message::from_vec(&answer).unwrap()
}

fn by_tcp(guest: &Namespace, server: Ipv4Addr, names: &[&str]) -> Vec<Message> {
    guest.run(|| {
        let mut stream = TcpStream::connect((server, 53)).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        // All at once; the answers come in order.
        for name in names {
            write_message(&mut stream, &query(name));
        }
        let answers = names.iter().map(|name| {
            let answer = read_message(&mut stream);
            assert_eq!(answer[..2], query(name)[..2], "its number");
            Message::from_vec(&answer).unwrap()
        });
        answers.collect()
    })
}

/// A network with DNS and one guest, whose address is set by hand.
fn served(test: &str, upstreams: Vec<SocketAddrV4>) -> Option<(Lab, Netd, Namespace)> {
    let lab = Lab::new(test, &["busybox"])?;
    ip(&["link", "set", "lo", "up"]);
    let guest = guest(&lab, 42);
    let netd = Netd::start(&lab);
    let mut client = netd.client();
    let mut binding = lab.binding(42);
    binding.dns_names = ["fvm-debian-42", "vm42"]
        .map(|name| name.parse().unwrap())
        .into();
    bind(&mut client, "fvm42", &binding);
    serve(&lab, &netd, upstreams);
    Some((lab, netd, guest))
}

fn serve(lab: &Lab, netd: &Netd, upstreams: Vec<SocketAddrV4>) {
    let config = DnsConfig {
        domain: "fvm.internal".parse().unwrap(),
        subnet: lab.subnet(),
        gateway: lab.network.gateway,
        upstreams,
    };
    let sockets = DnsSockets::open(lab.network.gateway).unwrap();
    netd.client().serve_dns(&config, &sockets).unwrap();
}

/// What another program makes of it.
fn nslookup(guest: &Namespace, server: Ipv4Addr, name: &str) -> String {
    let output = guest.run(|| {
        Command::new("busybox")
            .args(["nslookup", name, &server.to_string()])
            .output()
            .unwrap()
    });
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn guests_find_each_other_by_name() {
    let Some((lab, netd, guest)) = served("guests_find_each_other_by_name", Vec::new()) else {
        return;
    };
    let gateway = lab.network.gateway;
    for name in ["vm42.fvm.internal", "fvm-debian-42.fvm.internal"] {
        let found = nslookup(&guest, gateway, name);
        assert!(found.contains("192.168.22.42"), "{found}");
    }
    let back = nslookup(&guest, gateway, "192.168.22.42");
    assert!(back.contains("fvm-debian-42.fvm.internal"), "{back}");
    let log = wait_for_log(&mut netd.client(), "fvm42", "the questions", |log| {
        log.queries.len() >= 3
    });
    assert!(
        log.queries.iter().any(|query| {
            query.asked == "A vm42.fvm.internal." && query.told == "192.168.22.42"
        }),
        "{:?}",
        log.queries
    );
    // A host with nobody to ask says so at once.
    let elsewhere = by_udp(&guest, gateway, "example.org.");
    assert_eq!(elsewhere.metadata.response_code, ResponseCode::ServFail);
    // With its port goes the name.
    netd.client().unbind("fvm42").unwrap();
    let gone = by_udp(&guest, gateway, "vm42.fvm.internal.");
    assert_eq!(gone.metadata.response_code, ResponseCode::NXDomain);
}

#[test]
fn other_names_are_asked_for_elsewhere_and_remembered() {
    let elsewhere = Elsewhere::start;
    let Some((lab, mut netd, guest)) = served("other_names_are_asked_for_elsewhere", Vec::new())
    else {
        return;
    };
    let elsewhere = elsewhere();
    serve(&lab, &netd, vec![elsewhere.address]);
    let gateway = lab.network.gateway;
    let answer = by_udp(&guest, gateway, "Example.ORG.");
    assert_eq!(answer.answers.len(), 1, "{answer:?}");
    assert_eq!(answer.queries[0].name().to_ascii(), "Example.ORG.");
    let again = by_udp(&guest, gateway, "example.org.");
    assert_eq!(
        (again.answers.len(), elsewhere.asked()),
        (1, 1),
        "from the cache"
    );

    // Too long for UDP: the client is told, and asks by TCP; so does fvm-netd.
    let short = by_udp(&guest, gateway, "long.example.");
    assert!(
        short.metadata.truncation && short.answers.is_empty(),
        "{short:?}"
    );
    let names = [
        "long.example.",
        "vm42.fvm.internal.",
        "long.other.",
        "example.org.",
    ];
    let counts: Vec<usize> = by_tcp(&guest, gateway, &names)
        .iter()
        .map(|answer| answer.answers.len())
        .collect();
    assert_eq!(counts, [200, 0, 200, 1]);
    // Each socket asks again and again.
    let many: Vec<String> = (0..20).map(|number| format!("long.n{number}.")).collect();
    for name in &many {
        assert_eq!(
            by_tcp(&guest, gateway, &[name])[0].answers.len(),
            200,
            "{name}"
        );
    }
    let refused = by_udp(&guest, gateway, "refused.example.");
    assert_eq!(refused.metadata.response_code, ResponseCode::Refused);
    assert!(netd.is_running(), "it lives within its sandbox");
}

#[test]
fn a_server_that_is_silent_gives_way_to_the_next() {
    let Some((lab, netd, guest)) = served("a_server_that_is_silent_gives_way", Vec::new()) else {
        return;
    };
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let closed_to_tcp = match silent.local_addr().unwrap() {
        SocketAddr::V4(address) => address,
        SocketAddr::V6(_) => panic!("no IPv4"),
    };
    let elsewhere = Elsewhere::start();
    serve(&lab, &netd, vec![closed_to_tcp, elsewhere.address]);
    let gateway = lab.network.gateway;
    assert_eq!(by_udp(&guest, gateway, "one.example.").answers.len(), 1);
    assert_eq!(
        by_tcp(&guest, gateway, &["two.example."])[0].answers.len(),
        1
    );
    let mut first = [0; 512];
    assert!(silent.recv(&mut first).unwrap() > 12, "it was asked first");
}

#[test]
fn nobody_outside_is_answered() {
    let Some((lab, netd, guest)) = served("nobody_outside_is_answered", Vec::new()) else {
        return;
    };
    let outside = outside(&lab);
    let gateway = SocketAddr::from((lab.network.gateway, 53));
    let limit = std::time::Duration::from_millis(500);
    assert!(
        outside
            .run(|| TcpStream::connect_timeout(&gateway, limit))
            .is_err()
    );
    // Nor elsewhere than at the gateway's address, which the host itself may ask.
    let host = Namespace::current();
    assert!(host.run(|| TcpStream::connect("127.0.0.1:53")).is_err());
    for asker in [&host, &guest] {
        let answer = &by_tcp(asker, lab.network.gateway, &["host.fvm.internal."])[0];
        assert!(answer.metadata.authoritative);
    }
    // No more, once that is said.
    netd.client().serve_only_at([]).unwrap();
    wait_for("the port to be closed", || {
        guest
            .run(|| TcpStream::connect_timeout(&gateway, limit))
            .err()
    });
}

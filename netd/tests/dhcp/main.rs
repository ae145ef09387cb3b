//! What the server answers, case by case, at packet level.
//!
//! The numbers are those of the table in `docs/dhcp.md`. Replies are judged by an independent decoder
//! and by the plain bytes; causes of silence by their type.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]

#[path = "../wire/mod.rs"]
mod wire;

mod deliberate;
mod discover;
mod hostile;
mod other;
mod request;

use fvm_netd::Subnet;
use fvm_netd::dhcp::{Binding, Exchange, FrameNotes, Outcome, Silence, respond};

use wire::{A, Ask, BRIDGE, GUEST, Reply, S};

/// The binding of VM 42.
fn binding() -> Binding {
    let subnet: Subnet = "192.168.22.0/24".parse().unwrap();
    let mut binding = Binding::new(42, GUEST, A, subnet, S, BRIDGE);
    binding.dns_servers = vec!["9.9.9.9".parse().unwrap(), "1.1.1.1".parse().unwrap()];
    binding.host_name = Some("vm42".parse().unwrap());
    binding.domain_name = Some("fvm.internal".parse().unwrap());
    binding.mtu = Some(1500);
    binding
}

/// Everything the server did with a frame.
struct Heard {
    exchange: Exchange,
    reply: Option<Reply>,
}

fn hear(frame: &[u8], notes: FrameNotes, binding: Option<&Binding>) -> Heard {
    let mut bytes = vec![0xee; 7];
    let exchange = respond(frame, notes, binding, &mut bytes);
    let answered = matches!(exchange.outcome, Outcome::Answered { .. });
    assert_eq!(
        answered,
        !bytes.is_empty(),
        "a reply if and only if it says so"
    );
    let reply = answered.then(|| Reply::parse(&bytes));
    Heard { exchange, reply }
}

/// The reply to a message on VM 42's port.
fn reply_to(ask: &Ask) -> Reply {
    reply_with(&binding(), ask)
}

fn reply_with(binding: &Binding, ask: &Ask) -> Reply {
    let heard = hear(&ask.frame(), FrameNotes::default(), Some(binding));
    let reply = heard
        .reply
        .unwrap_or_else(|| panic!("silence: {:?}", heard.exchange.outcome));
    assert_eq!(reply.eth_src, binding.server_mac);
    assert_eq!(reply.ip_src, binding.server);
    assert_eq!(reply.ports.0, 67);
    assert_eq!(
        reply.value(54),
        Some(binding.server.octets().to_vec()),
        "server identifier"
    );
    assert_eq!(reply.decoded.xid(), ask.xid);
    assert_eq!(u16::from(reply.decoded.flags()), ask.flags);
    assert_eq!(reply.decoded.giaddr(), ask.giaddr);
    assert_eq!(reply.decoded.chaddr(), ask.chaddr.0);
    assert_eq!(reply.decoded.hops(), 0);
    assert_eq!(reply.decoded.secs(), 0);
    reply
}

/// The cause of silence.
fn silence_to(ask: &Ask) -> Silence {
    silence_with(&binding(), ask)
}

fn silence_with(binding: &Binding, ask: &Ask) -> Silence {
    silence_at(&ask.frame(), Some(binding))
}

fn silence_at(frame: &[u8], binding: Option<&Binding>) -> Silence {
    let heard = hear(frame, FrameNotes::default(), binding);
    match heard.exchange.outcome {
        Outcome::Silent { cause } => cause,
        Outcome::Answered { .. } => panic!("answered: {:?}", heard.reply),
    }
}

/// Tests with their case numbers, each a test of its own.
macro_rules! cases {
    ($($number:literal $name:ident $body:block)*) => {
        $(#[test] fn $name() $body)*
        pub(crate) const CASES: &[(u8, &str)] = &[$(($number, stringify!($name))),*];
    };
}
pub(crate) use cases;

/// Cases that are about sockets and processes, and tested through them (`tests/host`).
const THROUGH_SOCKETS: [u8; 5] = [44, 46, 47, 65, 66];

#[test]
fn every_case_is_tested_once() {
    let mut numbers: Vec<u8> = [
        discover::CASES,
        request::CASES,
        other::CASES,
        hostile::CASES,
    ]
    .into_iter()
    .flatten()
    .map(|(number, name)| {
        assert!(
            name.starts_with(&format!("case_{number:02}_")),
            "{name} is not case {number}"
        );
        *number
    })
    .chain(THROUGH_SOCKETS)
    .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=66).collect::<Vec<u8>>());
}

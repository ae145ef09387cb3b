//! The rules themselves, as values: what the two tables hold, with no word on how they get there.
//!
//! `bridge fvm` sees every frame a guest sends, before the bridge learns from it: what is not from
//! the guest's own addresses, or speaks as a server or router, is counted and dropped. `inet fvm`
//! does address translation and keeps connections from outside away from guests behind it.

use std::collections::HashSet;

use nftables::expr::{
    CT, Expression, Fib, FibFlag, FibResult, Meta, MetaKey, NamedExpression, Payload, PayloadField,
    Prefix,
};
use nftables::schema::SetType;
use nftables::stmt::{
    Accept, Counter, Drop, JumpTarget, Match, NAT, NATFamily, Operator, Statement,
};
use nftables::types::{NfChainType, NfHook};

use super::{Forward, Mode, Network};
use crate::dns::DNS_PORT;
use crate::names::LINK_PREFIX;
use crate::seed::SEED_PORT;

/// Set of `port . Ethernet address`: what a port may send from.
pub(super) const SET_MAC: &str = "mac";
/// Set of `port . IPv4 address`.
pub(super) const SET_IP: &str = "ip";
/// Set of ports on bridges that are not fvm's, where others give IP addresses.
pub(super) const SET_FOREIGN: &str = "foreign";
/// Set of ports that may send what they like, for labs within a guest.
pub(super) const SET_TRUSTED: &str = "trusted";

/// The sets of the bridge table and their key types.
pub(super) const SETS: [(&str, &[SetType]); 4] = [
    (SET_MAC, &[SetType::Ifname, SetType::EtherAddr]),
    (SET_IP, &[SetType::Ifname, SetType::Ipv4Addr]),
    (SET_FOREIGN, &[SetType::Ifname]),
    (SET_TRUSTED, &[SetType::Ifname]),
];

const SPOOFED_MAC: &str = "spoofed_mac";
const SPOOFED_IP: &str = "spoofed_ip";
const SPOOFED_ARP: &str = "spoofed_arp";
const OTHER_PROTOCOLS: &str = "other_protocols";
const DHCP_SERVERS: &str = "dhcp_servers";
const ROUTER_MESSAGES: &str = "router_messages";

/// The counters of dropped frames in the bridge table, and what each counts.
pub(super) const COUNTERS: [(&str, &str); 6] = [
    (
        SPOOFED_MAC,
        "frames from an Ethernet address that is not the port's",
    ),
    (
        SPOOFED_IP,
        "packets from an IPv4 address that is not the port's",
    ),
    (SPOOFED_ARP, "ARP messages that claim another's address"),
    (OTHER_PROTOCOLS, "frames that are neither IPv4 nor ARP"),
    (DHCP_SERVERS, "packets sent as a DHCP server"),
    (ROUTER_MESSAGES, "ICMP redirects and router advertisements"),
];

/// UDP ports of DHCP (RFC 2131, section 4.1; RFC 8415, section 7.2).
const DHCP_SERVER_PORT: u32 = 67;
const DHCPV6_SERVER_PORT: u32 = 547;

/// Where a base chain hooks in.
pub(super) struct Hook {
    pub(super) kind: NfChainType,
    pub(super) hook: NfHook,
    pub(super) priority: i32,
}

/// A chain as it ought to be.
pub(super) struct ChainPlan {
    pub(super) name: String,
    /// `None` for a chain that is only jumped to.
    pub(super) hook: Option<Hook>,
    pub(super) rules: Vec<Vec<Statement<'static>>>,
}

/// `NF_BR_PRI_FILTER_BRIDGED` (`linux/netfilter_bridge.h`).
const BRIDGE_FILTER: i32 = -200;
/// `NF_IP_PRI_FILTER`, `NF_IP_PRI_NAT_SRC` and `NF_IP_PRI_NAT_DST` (`linux/netfilter_ipv4.h`).
const INET_FILTER: i32 = 0;
const INET_SRCNAT: i32 = 100;
const INET_DSTNAT: i32 = -100;

/// The chains of the bridge table, those jumped to first. The same for all networks.
pub(super) fn bridge_chains() -> Vec<ChainPlan> {
    let from_guest = "from_guest";
    let to_foreign = "to_foreign";
    let mut rules = vec![
        vec![
            is(iifname(), &set(SET_FOREIGN)),
            Statement::Jump(JumpTarget {
                target: to_foreign.into(),
            }),
        ],
        // `fvm-netd` has its copy from the tap; the others on the bridge need not see it.
        vec![
            is(payload("ip", "protocol"), "udp"),
            is_number("udp", "dport", DHCP_SERVER_PORT),
            drop(),
        ],
        vec![is(iifname(), &set(SET_TRUSTED)), accept()],
    ];
    rules.extend(spoofed_mac());
    rules.extend([
        // A probe (RFC 5227) has no sender address and claims none.
        vec![
            is(ether_type(), "arp"),
            is(payload("arp", "saddr ip"), "0.0.0.0"),
            accept(),
        ],
        vec![
            is(ether_type(), "arp"),
            is_not(with_port(payload("arp", "saddr ip")), &set(SET_IP)),
            count(SPOOFED_ARP),
            drop(),
        ],
        vec![is(ether_type(), "arp"), accept()],
        vec![is_not(ether_type(), "ip"), count(OTHER_PROTOCOLS), drop()],
        vec![
            is_not(with_port(payload("ip", "saddr")), &set(SET_IP)),
            count(SPOOFED_IP),
            drop(),
        ],
    ]);
    rules.extend(impostors());
    vec![
        ChainPlan {
            name: to_foreign.to_owned(),
            hook: None,
            rules: foreign_rules(),
        },
        ChainPlan {
            name: from_guest.to_owned(),
            hook: None,
            rules,
        },
        ChainPlan {
            name: "prerouting".to_owned(),
            hook: Some(Hook {
                kind: NfChainType::Filter,
                hook: NfHook::Prerouting,
                priority: BRIDGE_FILTER,
            }),
            rules: vec![vec![
                is(iifname(), &format!("{LINK_PREFIX}*")),
                Statement::Jump(JumpTarget {
                    target: from_guest.into(),
                }),
            ]],
        },
    ]
}

/// What a guest on a bridge that is not fvm's may send: anything from its own Ethernet address but what servers and
/// routers send.
fn foreign_rules() -> Vec<Vec<Statement<'static>>> {
    let mut rules = Vec::from(spoofed_mac());
    rules.extend(impostors());
    rules.extend([
        vec![
            is_number("udp", "sport", DHCPV6_SERVER_PORT),
            count(DHCP_SERVERS),
            drop(),
        ],
        router_message("icmpv6", "nd-router-advert"),
        router_message("icmpv6", "nd-redirect"),
        vec![accept()],
    ]);
    rules
}

/// Drops what is not from the port's own Ethernet address.
fn spoofed_mac() -> [Vec<Statement<'static>>; 2] {
    [
        vec![
            is_not(with_port(payload("ether", "saddr")), &set(SET_MAC)),
            count(SPOOFED_MAC),
            drop(),
        ],
        vec![
            is(ether_type(), "arp"),
            is_not(with_port(payload("arp", "saddr ether")), &set(SET_MAC)),
            count(SPOOFED_ARP),
            drop(),
        ],
    ]
}

/// Drops what a DHCP server or a router would send.
fn impostors() -> [Vec<Statement<'static>>; 3] {
    [
        vec![
            is_number("udp", "sport", DHCP_SERVER_PORT),
            count(DHCP_SERVERS),
            drop(),
        ],
        router_message("icmp", "redirect"),
        router_message("icmp", "router-advertisement"),
    ]
}

fn router_message(protocol: &'static str, kind: &str) -> Vec<Statement<'static>> {
    vec![
        is(payload(protocol, "type"), kind),
        count(ROUTER_MESSAGES),
        drop(),
    ]
}

/// The chains that one network has in the inet table.
pub(super) fn network_chains(network: &Network) -> Vec<ChainPlan> {
    let bridge = network.bridge.as_str();
    let out = || is(meta(MetaKey::Oifname), bridge);
    let mut forward = Vec::new();
    let mut postrouting = Vec::new();
    if network.mode == Mode::Isolated {
        forward.push(vec![is(iifname(), bridge), drop()]);
        forward.push(vec![out(), drop()]);
    }
    if network.mode == Mode::Nat {
        let subnet = || {
            Expression::Named(NamedExpression::Prefix(Prefix {
                addr: Box::new(text(&network.subnet.base().to_string())),
                len: u32::from(network.subnet.prefix()),
            }))
        };
        // Behind translation a guest is reached from outside only by answers and port forwards.
        forward.push(vec![is(iifname(), bridge), accept()]);
        for (key, value) in [
            ("state", "established"),
            ("state", "related"),
            ("status", "dnat"),
        ] {
            forward.push(vec![out(), has(ct(key), text(value)), accept()]);
        }
        forward.push(vec![out(), drop()]);
        postrouting.push(vec![
            compare(payload("ip", "saddr"), Operator::EQ, subnet()),
            compare(payload("ip", "daddr"), Operator::NEQ, subnet()),
            is_not(meta(MetaKey::Oifname), bridge),
            Statement::Masquerade(None),
        ]);
    }
    // What is served there is for guests and the host: a kernel takes packets for its addresses from any side.
    let gateway = network.gateway.to_string();
    let served = [("udp", DNS_PORT), ("tcp", DNS_PORT), ("tcp", SEED_PORT)];
    let input = served.map(|(protocol, port)| {
        vec![
            is(payload("ip", "daddr"), &gateway),
            is_number(protocol, "dport", u32::from(port)),
            is_not(iifname(), bridge),
            is_not(iifname(), "lo"),
            drop(),
        ]
    });
    let chain = |name: &str, kind, hook, priority, rules| ChainPlan {
        name: chain_name(name, bridge),
        hook: Some(Hook {
            kind,
            hook,
            priority,
        }),
        rules,
    };
    // From outside, and from the host itself to its own addresses. Guests reach each other without it. A packet
    // for the loopback cannot leave it.
    let forwards = |from: fn(&str) -> Statement<'static>| {
        let rule = move |forward: &Forward| {
            let protocol = forward.protocol.as_str();
            vec![
                from(bridge),
                is_number(protocol, "dport", u32::from(forward.host_port)),
                compare(
                    Expression::Named(NamedExpression::Fib(Fib {
                        result: FibResult::Type,
                        flags: HashSet::from([FibFlag::Daddr]),
                    })),
                    Operator::EQ,
                    text("local"),
                ),
                compare(payload("ip", "daddr"), Operator::NEQ, loopback()),
                Statement::DNAT(Some(NAT {
                    addr: Some(text(&forward.address.to_string())),
                    family: Some(NATFamily::IP),
                    port: Some(Expression::Number(u32::from(forward.port))),
                    flags: None,
                })),
            ]
        };
        network.forwards.iter().map(rule).collect::<Vec<_>>()
    };
    vec![
        chain(
            "prerouting",
            NfChainType::NAT,
            NfHook::Prerouting,
            INET_DSTNAT,
            forwards(|bridge| is_not(iifname(), bridge)),
        ),
        chain(
            "output",
            NfChainType::NAT,
            NfHook::Output,
            INET_DSTNAT,
            forwards(|_| is(meta(MetaKey::Nfproto), "ipv4")),
        ),
        chain(
            "input",
            NfChainType::Filter,
            NfHook::Input,
            INET_FILTER,
            input.into(),
        ),
        chain(
            "forward",
            NfChainType::Filter,
            NfHook::Forward,
            INET_FILTER,
            forward,
        ),
        chain(
            "postrouting",
            NfChainType::NAT,
            NfHook::Postrouting,
            INET_SRCNAT,
            postrouting,
        ),
    ]
}

/// The names of the chains that [`network_chains`] gives for a bridge.
pub(super) fn network_chain_names(bridge: &str) -> [String; 5] {
    [
        chain_name("prerouting", bridge),
        chain_name("output", bridge),
        chain_name("input", bridge),
        chain_name("forward", bridge),
        chain_name("postrouting", bridge),
    ]
}

fn chain_name(what: &str, bridge: &str) -> String {
    format!("{what}-{bridge}")
}

/// Everything that never leaves the host (RFC 1122, section 3.2.1.3).
fn loopback() -> Expression<'static> {
    Expression::Named(NamedExpression::Prefix(Prefix {
        addr: Box::new(text("127.0.0.0")),
        len: 8,
    }))
}

/// A text as an expression.
pub(super) fn text(text: &str) -> Expression<'static> {
    Expression::String(text.to_owned().into())
}

/// Several values as one key.
pub(super) fn concat<const N: usize>(parts: [Expression<'static>; N]) -> Expression<'static> {
    Expression::Named(NamedExpression::Concat(parts.into()))
}

fn ether_type() -> Expression<'static> {
    payload("ether", "type")
}

/// A key of the sets that have the port in it.
fn with_port(what: Expression<'static>) -> Expression<'static> {
    concat([iifname(), what])
}

fn set(name: &str) -> String {
    format!("@{name}")
}

fn meta(key: MetaKey) -> Expression<'static> {
    Expression::Named(NamedExpression::Meta(Meta { key }))
}

fn iifname() -> Expression<'static> {
    meta(MetaKey::Iifname)
}

fn ct(key: &'static str) -> Expression<'static> {
    Expression::Named(NamedExpression::CT(CT {
        key: key.into(),
        family: None,
        dir: None,
    }))
}

fn payload(protocol: &'static str, field: &'static str) -> Expression<'static> {
    Expression::Named(NamedExpression::Payload(Payload::PayloadField(
        PayloadField {
            protocol: protocol.into(),
            field: field.into(),
        },
    )))
}

fn compare(
    left: Expression<'static>,
    op: Operator,
    right: Expression<'static>,
) -> Statement<'static> {
    Statement::Match(Match { left, right, op })
}

fn is(left: Expression<'static>, right: &str) -> Statement<'static> {
    compare(left, Operator::EQ, text(right))
}

fn is_not(left: Expression<'static>, right: &str) -> Statement<'static> {
    compare(left, Operator::NEQ, text(right))
}

fn has(left: Expression<'static>, right: Expression<'static>) -> Statement<'static> {
    compare(left, Operator::IN, right)
}

fn is_number(protocol: &'static str, field: &'static str, value: u32) -> Statement<'static> {
    compare(
        payload(protocol, field),
        Operator::EQ,
        Expression::Number(value),
    )
}

fn count(counter: &'static str) -> Statement<'static> {
    Statement::Counter(Counter::Named(counter.into()))
}

fn accept() -> Statement<'static> {
    Statement::Accept(Some(Accept {}))
}

fn drop() -> Statement<'static> {
    Statement::Drop(Some(Drop {}))
}

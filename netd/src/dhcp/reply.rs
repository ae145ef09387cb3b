//! A reply written: the fixed fields, then options in the order of their need.
//!
//! A client says how much it takes (option 57); what it cannot do without comes first, what it asked
//! for comes in its own order, and what does not fit is left out.

use std::net::Ipv4Addr;

use super::binding::Binding;
use super::frame::PACKET_HEADERS_LEN;
use super::options::code;
use super::request::{COOKIE, Request};
use super::{DnsName, LeaseTimes, MessageType, boot};

/// The shortest message: that of BOOTP (RFC 951), which some clients and relays insist on.
pub const MESSAGE_MIN: usize = 300;
/// The packet every client takes, in bytes (RFC 2131, section 2).
pub const PACKET_MIN_MAX: u16 = 576;
/// The largest packet to send if the network's MTU is not known.
const PACKET_DEFAULT_MAX: u16 = 1500;

const OP_REPLY: u8 = 2;
const HARDWARE_ETHERNET: u8 = 1;
const HARDWARE_LENGTH: u8 = 6;
/// The longest value of one option; longer ones are split (RFC 3396).
const OPTION_MAX: usize = 255;

/// A reply to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    /// OFFER, ACK or NAK.
    pub message: MessageType,
    /// What it says.
    pub grant: Grant,
    /// Whether it answers a DISCOVER with an ACK (RFC 4039).
    pub rapid: bool,
}

/// What a reply gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    /// The address for a time.
    Lease(LeaseTimes),
    /// Configuration without an address.
    Configuration,
    /// Nothing, for this reason.
    Refusal(&'static str),
}

/// Appends the message to `out`.
pub fn write(request: &Request<'_>, binding: &Binding, reply: &Reply, out: &mut Vec<u8>) {
    let start = out.len();
    let boot = match reply.grant {
        Grant::Refusal(_) => None,
        _ => boot::choose(request, binding),
    };
    write_fixed(request, binding, reply, boot.as_ref(), out);
    let relay = request
        .option(code::RELAY_INFORMATION)
        .filter(|_| binding.relay);
    // Room is kept for the relay agent's option, which comes last (RFC 3046), and for END.
    let reserved = relay.map_or(0, option_len) + 1;
    let limit = start + message_limit(request, binding);
    let mut options = Options {
        out,
        limit: limit.saturating_sub(reserved),
    };

    options.add(code::MESSAGE_TYPE, &[reply.message.number()]);
    options.add(code::SERVER_ID, &binding.server.octets());
    match reply.grant {
        Grant::Refusal(why) => {
            options.add(code::MESSAGE, why.as_bytes());
            options.echo(request, code::CLIENT_ID);
        }
        Grant::Lease(lease) => {
            options.add(code::LEASE_TIME, &lease.lease_s().to_be_bytes());
            add_needed(&mut options, request, binding, Some(lease));
        }
        Grant::Configuration => add_needed(&mut options, request, binding, None),
    }
    if reply.rapid {
        options.add(code::RAPID_COMMIT, &[]);
    }
    if let Some(boot) = &boot {
        boot.add_options(&mut options, request);
    }
    if !matches!(reply.grant, Grant::Refusal(_)) {
        add_asked(&mut options, request, binding);
    }
    let Options { out, .. } = options;
    if let Some(value) = relay {
        Options {
            out: &mut *out,
            limit: limit.saturating_sub(1),
        }
        .add(code::RELAY_INFORMATION, value);
    }
    out.push(code::END);
    if out.len() < start + MESSAGE_MIN {
        out.resize(start + MESSAGE_MIN, code::PAD);
    }
}

/// How long the message may be: what the client takes and the network carries, whichever is less.
fn message_limit(request: &Request<'_>, binding: &Binding) -> usize {
    let takes = request.max_message_size().unwrap_or(0).max(PACKET_MIN_MAX);
    let carries = binding
        .mtu
        .unwrap_or(PACKET_DEFAULT_MAX)
        .max(PACKET_MIN_MAX);
    usize::from(takes.min(carries)) - PACKET_HEADERS_LEN
}

/// RFC 2131, section 4.3.1, table 3.
fn write_fixed(
    request: &Request<'_>,
    binding: &Binding,
    reply: &Reply,
    boot: Option<&boot::Choice<'_>>,
    out: &mut Vec<u8>,
) {
    let is_lease = matches!(reply.grant, Grant::Lease(_));
    let yiaddr = if is_lease {
        binding.address
    } else {
        Ipv4Addr::UNSPECIFIED
    };
    // In an OFFER the field has no meaning; an ACK confirms it.
    let ciaddr = match reply.message {
        MessageType::Ack if !reply.rapid => request.ciaddr,
        _ => Ipv4Addr::UNSPECIFIED,
    };
    let siaddr = boot
        .and_then(boot::Choice::next_server)
        .unwrap_or(Ipv4Addr::UNSPECIFIED);
    out.extend([OP_REPLY, HARDWARE_ETHERNET, HARDWARE_LENGTH, 0]);
    out.extend(request.xid.to_be_bytes());
    out.extend([0, 0]);
    out.extend(request.flags.to_be_bytes());
    for address in [ciaddr, yiaddr, siaddr, request.giaddr] {
        out.extend(address.octets());
    }
    out.extend(request.client.0);
    out.extend([0; 10]);
    out.extend([0; 64]);
    let file = out.len();
    out.extend(
        boot.and_then(boot::Choice::file_field)
            .unwrap_or_default()
            .iter()
            .take(127),
    );
    out.resize(file + 128, 0);
    out.extend(COOKIE);
}

/// What a client is told whether it asks or not.
fn add_needed(
    options: &mut Options<'_>,
    request: &Request<'_>,
    binding: &Binding,
    lease: Option<LeaseTimes>,
) {
    options.add(code::SUBNET_MASK, &binding.subnet.netmask().octets());
    if let Some(gateway) = binding.gateway {
        options.add(code::ROUTER, &gateway.octets());
    }
    options.echo(request, code::CLIENT_ID);
    options.add_addresses(code::DNS_SERVERS, &binding.dns_servers);
    if let Some(lease) = lease {
        options.add(code::RENEWAL_TIME, &lease.renew_s().to_be_bytes());
        options.add(code::REBINDING_TIME, &lease.rebind_s().to_be_bytes());
    }
}

/// What a client is told if it asks (RFC 2131, section 4.3.1), in the order it asks.
fn add_asked(options: &mut Options<'_>, request: &Request<'_>, binding: &Binding) {
    let mut done = [false; 256];
    for &code in request.parameter_list() {
        let seen = done
            .get_mut(usize::from(code))
            .map(|done| std::mem::replace(done, true));
        if seen == Some(true) {
            continue;
        }
        match code {
            code::HOST_NAME => options.add_name(code, binding.host_name.as_ref()),
            code::DOMAIN_NAME => options.add_name(code, binding.domain_name.as_ref()),
            code::INTERFACE_MTU => {
                if let Some(mtu) = binding.mtu {
                    options.add(code, &mtu.to_be_bytes());
                }
            }
            code::BROADCAST_ADDRESS => options.add(code, &binding.subnet.broadcast().octets()),
            code::NTP_SERVERS => options.add_addresses(code, &binding.ntp_servers),
            code::POSIX_TIMEZONE => options.add_text(code, binding.posix_timezone.as_deref()),
            code::TZDB_TIMEZONE => options.add_text(code, binding.tzdb_timezone.as_deref()),
            code::IPV6_ONLY => {
                if let Some(wait_s) = binding.ipv6_only_wait_s {
                    options.add(code, &wait_s.to_be_bytes());
                }
            }
            code::DOMAIN_SEARCH => options.add_search(code, &binding.search_domains),
            code::CLASSLESS_ROUTES => options.add_routes(code, binding),
            _ => {}
        }
    }
}

/// What an option takes, in bytes, with the code and length of each of its parts.
fn option_len(value: &[u8]) -> usize {
    value.len() + 2 * value.len().div_ceil(OPTION_MAX).max(1)
}

/// The options of a reply being written, up to a limit.
pub(super) struct Options<'o> {
    out: &'o mut Vec<u8>,
    limit: usize,
}

impl Options<'_> {
    /// Adds an option, in parts if it is long, or leaves it out if it does not fit whole.
    pub(super) fn add(&mut self, code: u8, value: &[u8]) {
        if self.out.len() + option_len(value) > self.limit {
            return;
        }
        if value.is_empty() {
            self.out.extend([code, 0]);
        }
        for part in value.chunks(OPTION_MAX) {
            self.out.extend([code, part.len() as u8]);
            self.out.extend(part);
        }
    }

    /// Sends back an option as it came (RFC 6842 for the client identifier), if it came.
    pub(super) fn echo(&mut self, request: &Request<'_>, code: u8) {
        if let Some(value) = request.option(code) {
            self.add(code, value);
        }
    }

    fn add_addresses(&mut self, code: u8, addresses: &[Ipv4Addr]) {
        if !addresses.is_empty() {
            let bytes: Vec<u8> = addresses.iter().flat_map(Ipv4Addr::octets).collect();
            self.add(code, &bytes);
        }
    }

    fn add_text(&mut self, code: u8, text: Option<&str>) {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            self.add(code, text.as_bytes());
        }
    }

    fn add_name(&mut self, code: u8, name: Option<&DnsName>) {
        self.add_text(code, name.map(DnsName::as_str));
    }

    /// RFC 3397, without compression, which no client needs.
    fn add_search(&mut self, code: u8, domains: &[DnsName]) {
        let mut bytes = Vec::new();
        for domain in domains {
            for label in domain.labels() {
                bytes.push(label.len() as u8);
                bytes.extend(label.as_bytes());
            }
            bytes.push(0);
        }
        if !bytes.is_empty() {
            self.add(code, &bytes);
        }
    }

    /// RFC 3442. A client that asks for this ignores option 3, so the default route is in it too.
    fn add_routes(&mut self, code: u8, binding: &Binding) {
        let mut bytes = Vec::new();
        let mut route = |destination: Ipv4Addr, prefix: u8, router: Ipv4Addr| {
            bytes.push(prefix);
            bytes.extend(
                destination
                    .octets()
                    .iter()
                    .take(usize::from(prefix).div_ceil(8)),
            );
            bytes.extend(router.octets());
        };
        for static_route in &binding.routes {
            route(
                static_route.destination(),
                static_route.prefix(),
                static_route.router(),
            );
        }
        if let Some(gateway) = binding.gateway {
            route(Ipv4Addr::UNSPECIFIED, 0, gateway);
        }
        if !bytes.is_empty() {
            self.add(code, &bytes);
        }
    }
}

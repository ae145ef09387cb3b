//! DNS for guests: what is known here, what was heard before, and what is asked elsewhere.
//!
//! Owns questions, the zone of the VMs' names and the cache: bytes in, bytes out. Sockets are
//! [`crate::daemon`]'s. Questions for names outside the zone are passed on as they came, but for their
//! number, and so are the answers: what this code does not understand it does not change.

mod cache;
mod question;
mod zone;

use std::net::{Ipv4Addr, SocketAddrV4};

use serde::{Deserialize, Serialize};

pub(crate) use cache::Cache;
pub(crate) use question::{Question, Unanswerable, is_answer, outcome, short_answer};
pub(crate) use zone::Zone;

use crate::Subnet;
use crate::dhcp::DnsName;

/// Response codes (RFC 1035, section 4.1.1).
pub(crate) mod code {
    pub(crate) const SERVER_FAILURE: u8 = 2;
    pub(crate) const FORMAT_ERROR: u8 = 1;
    pub(crate) const NOT_IMPLEMENTED: u8 = 4;
    pub(crate) const REFUSED: u8 = 5;
}

/// The port of DNS (RFC 1035, section 4.2).
pub const DNS_PORT: u16 = 53;

/// What is served on one network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsConfig {
    /// The domain of the VMs' names. The names themselves are those of the ports' bindings.
    pub domain: DnsName,
    /// The guests' subnet, whose addresses have their names here too. Nobody else is answered.
    pub subnet: Subnet,
    /// The host's address in it, where the questions come in.
    pub gateway: Ipv4Addr,
    /// Who is asked about other names, in this order; if nobody, such questions fail.
    pub upstreams: Vec<SocketAddrV4>,
}

#[cfg(test)]
mod tests;

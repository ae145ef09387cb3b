//! What was said on the ports of VMs, and what their guests were granted.

use super::{DhcpExchange, REPORT_VERSION, VmName, VmNumber, VmState};
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// The lease of a VM's address, as far as its guest has heard of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseTimes {
    /// When it was granted or renewed last: milliseconds since 1970-01-01 UTC.
    pub granted_at_ms: u64,
    /// When the guest is to renew it.
    pub renew_at_ms: u64,
    /// When it ends if the guest does not.
    pub expires_at_ms: u64,
}

/// What is known of the address of one card of a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseReport {
    /// Its number.
    pub vm: VmNumber,
    /// Its name.
    pub name: VmName,
    /// Where it is in its life.
    pub state: VmState,
    /// The network of the card; of a VM with several cards, there is a report for each.
    pub network: String,
    /// Its port: the tap on the host, while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// Its MAC address.
    pub mac: String,
    /// Its address, whether a lease runs or not. Without one it gets none by DHCP: it is not the VM's first card on the
    /// network, or others give addresses there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Ipv4Addr>,
    /// What its guest asked last since the VM was started, and what it was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<DhcpExchange>,
    /// The lease that was granted since the VM was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<LeaseTimes>,
    /// How many requests came in.
    pub requests: u64,
    /// How many of them were answered.
    pub answered: u64,
    /// How many frames were dropped unread because the guest sent too many.
    pub dropped: u64,
}

/// The leases of all VMs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseList {
    /// `REPORT_VERSION`.
    pub version: u32,
    /// By number.
    pub leases: Vec<LeaseReport>,
}

impl LeaseList {
    /// A list of this version.
    pub fn new(leases: Vec<LeaseReport>) -> Self {
        Self {
            version: REPORT_VERSION,
            leases,
        }
    }
}

/// Which protocol a message was of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetProtocol {
    /// DHCP
    Dhcp,
    /// DNS
    Dns,
}

/// One request of a guest and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetMessage {
    /// Its number on the port since that is served, from 1 on.
    pub number: u64,
    /// When: milliseconds since 1970-01-01 UTC.
    pub at_ms: u64,
    /// The protocol.
    pub protocol: NetProtocol,
    /// What came in, such as `REQUEST 192.168.22.9`.
    pub asked: String,
    /// What went out, such as `NAK`, or why nothing did.
    pub answered: String,
}

/// The last messages on a VM's port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceReport {
    /// `REPORT_VERSION`.
    pub version: u32,
    /// The VM.
    pub vm: VmNumber,
    /// Where it is in its life.
    pub state: VmState,
    /// Whether its port is served: only while it runs.
    pub served: bool,
    /// The messages, oldest first.
    pub messages: Vec<NetMessage>,
}

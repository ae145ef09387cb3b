//! A network as a whole: made, checked and taken away, saying what changed.

use std::fmt;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::{Error, bridge, check_conflicts, firewall, sysctl};
use crate::dns::DNS_PORT;
use crate::seed::SEED_PORT;
use crate::{MacAddr, Subnet, names};

/// A network of guests on one bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// The bridge's name.
    pub bridge: String,
    /// The bridge's own Ethernet address ([`MacAddr::of_bridge`]); it stays when ports come and go.
    pub mac: MacAddr,
    /// The guests' subnet.
    pub subnet: Subnet,
    /// The host's address in the subnet.
    pub gateway: Ipv4Addr,
    /// The largest packet, in bytes.
    pub mtu: u32,
    /// What lies beyond the bridge.
    pub mode: Mode,
    /// Ports of the host that lead to guests.
    #[serde(default)]
    pub forwards: Vec<Forward>,
}

/// Where guests get to beyond their bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Out, behind the host's address; nobody gets in but by port forwards.
    Nat,
    /// Out and in, by their own addresses: whoever is outside knows the way.
    Route,
    /// To each other and to the host, no further.
    Isolated,
}

/// A port of the host that leads to a port of a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    /// The protocol.
    pub protocol: Protocol,
    /// The host's port, at each of its addresses but those of its loopback and of this network.
    pub host_port: u16,
    /// The guest's address.
    pub address: Ipv4Addr,
    /// The guest's port.
    pub port: u16,
}

/// A protocol with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
}

impl Protocol {
    /// Its name in lower case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }
}

/// Something that was changed on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
#[expect(missing_docs, reason = "fields are the objects that the variants name")]
pub enum Change {
    /// A bridge was made.
    BridgeCreated { bridge: String },
    /// A bridge was put up, or its address or MTU set.
    BridgeConfigured { bridge: String },
    /// A bridge was deleted.
    BridgeRemoved { bridge: String },
    /// The gateway's address was added.
    AddressAdded {
        address: Ipv4Addr,
        prefix: u8,
        bridge: String,
    },
    /// An address that is not the gateway's was taken off the bridge.
    AddressRemoved {
        address: Ipv4Addr,
        prefix: u8,
        bridge: String,
    },
    /// IPv4 forwarding was off and is on now. The caller keeps this, for [`RemoveOptions`].
    IpForwardEnabled,
    /// IPv4 forwarding was turned off again.
    IpForwardDisabled,
    /// An nftables table was made.
    FirewallInstalled { table: String },
    /// Chains of an nftables table were replaced.
    FirewallUpdated { table: String },
    /// An nftables table was deleted.
    FirewallRemoved { table: String },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::BridgeCreated { bridge } => write!(f, "bridge {bridge} made"),
            Change::BridgeConfigured { bridge } => write!(f, "bridge {bridge} configured"),
            Change::BridgeRemoved { bridge } => write!(f, "bridge {bridge} removed"),
            Change::AddressAdded {
                address,
                prefix,
                bridge,
            } => {
                write!(f, "address {address}/{prefix} added to {bridge}")
            }
            Change::AddressRemoved {
                address,
                prefix,
                bridge,
            } => {
                write!(f, "address {address}/{prefix} removed from {bridge}")
            }
            Change::IpForwardEnabled => {
                write!(f, "IPv4 forwarding turned on (net.ipv4.ip_forward)")
            }
            Change::IpForwardDisabled => {
                write!(f, "IPv4 forwarding turned off (net.ipv4.ip_forward)")
            }
            Change::FirewallInstalled { table } => write!(f, "nftables table {table} made"),
            Change::FirewallUpdated { table } => {
                write!(f, "nftables table {table} brought up to date")
            }
            Change::FirewallRemoved { table } => write!(f, "nftables table {table} removed"),
        }
    }
}

/// Something about the host that may keep guests from their network, and that fvm does not change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "warning", rename_all = "snake_case")]
pub enum Warning {
    /// `br_netfilter` is loaded and active: frames between guests also pass the host's IP rules.
    BridgeCallsIptables,
    /// Another's forwarding chain drops what it does not accept; its drop wins over our accept.
    ForwardPolicyDrop {
        /// The chain, as `family table chain`.
        chain: String,
    },
    /// The same for what comes to the host itself.
    InputPolicyDrop {
        /// The chain, as `family table chain`.
        chain: String,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::BridgeCallsIptables => f.write_str(
                "net.bridge.bridge-nf-call-iptables is 1: the host's IP rules also see frames \
                 between guests and may drop them",
            ),
            Warning::ForwardPolicyDrop { chain } => write!(
                f,
                "the nftables chain {chain} drops forwarded packets by default and may keep guests \
                 from the outside"
            ),
            Warning::InputPolicyDrop { chain } => write!(
                f,
                "the nftables chain {chain} drops what comes to the host by default: unless it accepts UDP and TCP \
                 port {DNS_PORT} and TCP port {SEED_PORT} from guests, they reach neither DNS (network.dns names other \
                 servers) nor what cloud-init asks for"
            ),
        }
    }
}

/// What [`ensure_network`] did and saw.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnsureReport {
    /// What was changed; empty if all was as it ought to be.
    pub changes: Vec<Change>,
    /// What may be in the way.
    pub warnings: Vec<Warning>,
}

/// How much [`remove_network`] undoes.
#[derive(Debug, Clone, Copy, Default)]
pub struct RemoveOptions {
    /// Turn IPv4 forwarding off: set if [`Change::IpForwardEnabled`] was reported when the network was made.
    pub disable_ip_forward: bool,
}

/// What [`remove_network`] did, and what it could not do.
#[derive(Debug, Default)]
pub struct RemoveReport {
    /// What was changed.
    pub changes: Vec<Change>,
    /// Every failure; the steps after one are tried all the same.
    pub failures: Vec<Error>,
}

impl Network {
    fn validate(&self) -> Result<(), Error> {
        // nft reads a trailing `*` as a wildcard, so names are held to what needs no quoting.
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if !names::is_link_name(&self.bridge)
            || !self.bridge.bytes().all(plain)
            || !self.bridge.starts_with(|c: char| c.is_ascii_alphabetic())
        {
            return Err(Error::LinkName {
                name: self.bridge.clone(),
            });
        }
        if !self.subnet.is_host(self.gateway) {
            return Err(Error::Gateway {
                gateway: self.gateway,
                subnet: self.subnet,
            });
        }
        Ok(())
    }
}

/// Makes the network's bridge, gateway address, forwarding and rules what they ought to be.
///
/// Can be called at any time and changes only what differs. Everything is checked first; nothing is
/// changed if the network conflicts with something on the host. The rules come before the bridge,
/// so that no port is ever without them.
pub fn ensure_network(network: &Network) -> Result<EnsureReport, Error> {
    network.validate()?;
    check_conflicts(network)?;
    let mut changes = firewall::ensure(network)?;
    changes.extend(bridge::ensure(network)?);
    if network.mode != Mode::Isolated && !sysctl::ip_forward()? {
        sysctl::set_ip_forward(true)?;
        changes.push(Change::IpForwardEnabled);
    }
    let mut warnings = warnings()?;
    if network.mode == Mode::Isolated {
        warnings.retain(|warning| !matches!(warning, Warning::ForwardPolicyDrop { .. }));
    }
    Ok(EnsureReport { changes, warnings })
}

/// What on the host may keep guests from the outside; only root can read rules.
pub fn warnings() -> Result<Vec<Warning>, Error> {
    let mut warnings = Vec::new();
    if sysctl::bridge_calls_iptables()? {
        warnings.push(Warning::BridgeCallsIptables);
    }
    warnings.extend(firewall::foreign_drops()?);
    Ok(warnings)
}

/// Makes the network's port forwards, and with them all of its rules, what they ought to be.
pub fn ensure_forwards(network: &Network) -> Result<Vec<Change>, Error> {
    network.validate()?;
    firewall::ensure(network)
}

/// Takes away what [`ensure_network`] made on this bridge; what is not there is no failure.
pub fn remove_network(bridge: &str, options: RemoveOptions) -> RemoveReport {
    let mut report = RemoveReport::default();
    let mut note = |result: Result<Vec<Change>, Error>| match result {
        Ok(changes) => report.changes.extend(changes),
        Err(error) => report.failures.push(error),
    };
    note(bridge::remove(bridge).map(|change| change.into_iter().collect()));
    note(firewall::remove(bridge));
    if options.disable_ip_forward {
        note(sysctl::ip_forward().and_then(|on| match on {
            true => sysctl::set_ip_forward(false).map(|()| vec![Change::IpForwardDisabled]),
            false => Ok(Vec::new()),
        }));
    }
    report
}

//! What a port is bound to: everything the server may tell the guest behind it.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{MacAddr, Subnet};

/// One port's address and configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// The VM's number.
    pub vm: u32,
    /// The card's Ethernet address as the VM was given it. A guest that uses another is answered all
    /// the same: the port counts.
    pub mac: MacAddr,
    /// The guest's address.
    pub address: Ipv4Addr,
    /// The subnet it is in.
    pub subnet: Subnet,
    /// The server identifier: the host's address on the bridge.
    pub server: Ipv4Addr,
    /// The Ethernet address replies come from: that of the bridge.
    pub server_mac: MacAddr,
    /// The router; none on an isolated network.
    pub gateway: Option<Ipv4Addr>,
    /// DNS servers.
    #[serde(default)]
    pub dns_servers: Vec<Ipv4Addr>,
    /// The guest's host name, without the domain.
    #[serde(default)]
    pub host_name: Option<DnsName>,
    /// The domain.
    #[serde(default)]
    pub domain_name: Option<DnsName>,
    /// The domains to search.
    #[serde(default)]
    pub search_domains: Vec<DnsName>,
    /// Time servers.
    #[serde(default)]
    pub ntp_servers: Vec<Ipv4Addr>,
    /// Routes beside the default route.
    #[serde(default)]
    pub routes: Vec<StaticRoute>,
    /// How long leases last.
    pub lease: LeaseTimes,
    /// The bridge's MTU in bytes.
    #[serde(default)]
    pub mtu: Option<u16>,
    /// Time zone as a POSIX TZ string (RFC 4833).
    #[serde(default)]
    pub posix_timezone: Option<String>,
    /// Time zone as a name of the TZ database (RFC 4833).
    #[serde(default)]
    pub tzdb_timezone: Option<String>,
    /// On networks that are meant for IPv6 alone: how many seconds a client that can do without IPv4
    /// shall go without it (RFC 8925).
    #[serde(default)]
    pub ipv6_only_wait_s: Option<u32>,
    /// What network boot gets.
    #[serde(default)]
    pub boot: Option<Boot>,
    /// Answer a DISCOVER that allows it with an ACK at once (RFC 4039).
    #[serde(default)]
    pub rapid_commit: bool,
    /// Do not answer a frame whose source is not the client it speaks for.
    #[serde(default)]
    pub strict_client: bool,
    /// Answer messages that a relay agent behind the port passes on.
    #[serde(default)]
    pub relay: bool,
}

/// A binding that contradicts itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BindingError {
    /// An address is not one of the subnet's hosts.
    #[error("VM {vm}: {address} is not a host address of {subnet}")]
    Address {
        /// The VM.
        vm: u32,
        /// The address.
        address: Ipv4Addr,
        /// The subnet.
        subnet: Subnet,
    },
    /// The guest would have the server's address.
    #[error("VM {vm}: {address} is the server's own address")]
    ServersAddress {
        /// The VM.
        vm: u32,
        /// The address.
        address: Ipv4Addr,
    },
    /// A name is not one that DNS and host names can hold.
    #[error("{0:?} is not a DNS name: letters, digits and hyphens, labels of 1 to 63")]
    Name(String),
    /// Lease times are out of order.
    #[error(
        "lease of {lease_s} s, renewal at {renew_s} s, rebinding at {rebind_s} s: must be 0 < renewal <= rebinding <= lease"
    )]
    Lease {
        /// The lease, in seconds.
        lease_s: u32,
        /// T1, in seconds.
        renew_s: u32,
        /// T2, in seconds.
        rebind_s: u32,
    },
    /// A route's prefix is longer than an address.
    #[error("route {destination}/{prefix}: the prefix must be at most 32")]
    Route {
        /// The destination.
        destination: Ipv4Addr,
        /// The prefix.
        prefix: u8,
    },
}

impl Binding {
    /// A binding with what every guest needs; the rest is off and can be set.
    pub fn new(
        vm: u32,
        mac: MacAddr,
        address: Ipv4Addr,
        subnet: Subnet,
        server: Ipv4Addr,
        server_mac: MacAddr,
    ) -> Self {
        Binding {
            vm,
            mac,
            address,
            subnet,
            server,
            server_mac,
            gateway: Some(server),
            dns_servers: Vec::new(),
            host_name: None,
            domain_name: None,
            search_domains: Vec::new(),
            ntp_servers: Vec::new(),
            routes: Vec::new(),
            lease: LeaseTimes::default(),
            mtu: None,
            posix_timezone: None,
            tzdb_timezone: None,
            ipv6_only_wait_s: None,
            boot: None,
            rapid_commit: true,
            strict_client: false,
            relay: false,
        }
    }

    /// Checks that the parts fit together.
    pub fn validate(&self) -> Result<(), BindingError> {
        let Binding {
            vm,
            address,
            subnet,
            ..
        } = *self;
        for address in [Some(address), Some(self.server), self.gateway]
            .into_iter()
            .flatten()
        {
            if !subnet.is_host(address) {
                return Err(BindingError::Address {
                    vm,
                    address,
                    subnet,
                });
            }
        }
        if address == self.server || Some(address) == self.gateway {
            return Err(BindingError::ServersAddress { vm, address });
        }
        Ok(())
    }
}

/// How long a lease lasts and when the client is to renew it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "LeaseTimesForm", into = "LeaseTimesForm")]
pub struct LeaseTimes {
    lease_s: u32,
    renew_s: u32,
    rebind_s: u32,
}

#[derive(Serialize, Deserialize)]
struct LeaseTimesForm {
    lease_s: u32,
    renew_s: u32,
    rebind_s: u32,
}

/// The lease a client gets that asks for one too short to be of use, unless the network's is shorter.
const SHORTEST_ASKED_S: u32 = 120;

impl LeaseTimes {
    /// A lease of so many seconds, with T1 at a half and T2 at seven eighths (RFC 2131, 4.4.5).
    pub fn of_lease(lease_s: u32) -> Result<Self, BindingError> {
        let eighth = u64::from(lease_s) * 7 / 8;
        LeaseTimes::new(
            lease_s,
            lease_s / 2,
            u32::try_from(eighth).unwrap_or(lease_s),
        )
    }

    /// Lease, T1 and T2 in seconds.
    pub fn new(lease_s: u32, renew_s: u32, rebind_s: u32) -> Result<Self, BindingError> {
        // All ones would mean "for ever" (RFC 2132, 9.2).
        if renew_s == 0 || renew_s > rebind_s || rebind_s > lease_s || lease_s == u32::MAX {
            return Err(BindingError::Lease {
                lease_s,
                renew_s,
                rebind_s,
            });
        }
        Ok(LeaseTimes {
            lease_s,
            renew_s,
            rebind_s,
        })
    }

    /// The lease, in seconds.
    pub const fn lease_s(self) -> u32 {
        self.lease_s
    }

    /// T1, in seconds: when the client asks this server for more time.
    pub const fn renew_s(self) -> u32 {
        self.renew_s
    }

    /// T2, in seconds: when it asks any server.
    pub const fn rebind_s(self) -> u32 {
        self.rebind_s
    }

    /// The times for a client that asks for a lease of so many seconds: never longer than ours, and
    /// not shorter than is of use.
    pub fn asked(self, lease_s: u32) -> Self {
        let granted = lease_s.max(SHORTEST_ASKED_S).min(self.lease_s);
        let part = |time: u32| {
            let scaled = u64::from(time) * u64::from(granted) / u64::from(self.lease_s);
            u32::try_from(scaled).unwrap_or(granted).max(1)
        };
        LeaseTimes {
            lease_s: granted,
            renew_s: part(self.renew_s),
            rebind_s: part(self.rebind_s),
        }
    }
}

impl Default for LeaseTimes {
    /// One hour, renewed every half.
    fn default() -> Self {
        LeaseTimes {
            lease_s: 3600,
            renew_s: 1800,
            rebind_s: 3150,
        }
    }
}

impl TryFrom<LeaseTimesForm> for LeaseTimes {
    type Error = BindingError;

    fn try_from(form: LeaseTimesForm) -> Result<Self, BindingError> {
        LeaseTimes::new(form.lease_s, form.renew_s, form.rebind_s)
    }
}

impl From<LeaseTimes> for LeaseTimesForm {
    fn from(times: LeaseTimes) -> Self {
        LeaseTimesForm {
            lease_s: times.lease_s,
            renew_s: times.renew_s,
            rebind_s: times.rebind_s,
        }
    }
}

/// A name of one or more labels, as host names and domains are (RFC 1035 section 2.3.1, RFC 1123 section 2.1).
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DnsName(String);

impl DnsName {
    /// The name as text, without a final dot.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its labels, in order.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.0.split('.')
    }
}

impl FromStr for DnsName {
    type Err = BindingError;

    fn from_str(text: &str) -> Result<Self, BindingError> {
        let name = text.strip_suffix('.').unwrap_or(text);
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        // 255 bytes on the wire, of which two are not in the text (RFC 1035, 3.1).
        if name.len() > 253 || !name.split('.').all(label) {
            return Err(BindingError::Name(text.to_owned()));
        }
        Ok(DnsName(name.to_owned()))
    }
}

impl TryFrom<String> for DnsName {
    type Error = BindingError;

    fn try_from(text: String) -> Result<Self, BindingError> {
        text.parse()
    }
}

impl From<DnsName> for String {
    fn from(name: DnsName) -> String {
        name.0
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A route for the guest beside the default route (RFC 3442).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "StaticRouteForm", into = "StaticRouteForm")]
pub struct StaticRoute {
    destination: Ipv4Addr,
    prefix: u8,
    router: Ipv4Addr,
}

#[derive(Serialize, Deserialize)]
struct StaticRouteForm {
    destination: Ipv4Addr,
    prefix: u8,
    router: Ipv4Addr,
}

impl StaticRoute {
    /// A route to `destination/prefix` by `router`; bits beyond the prefix are cleared.
    pub fn new(destination: Ipv4Addr, prefix: u8, router: Ipv4Addr) -> Result<Self, BindingError> {
        if prefix > 32 {
            return Err(BindingError::Route {
                destination,
                prefix,
            });
        }
        let bits = destination.to_bits() & crate::subnet::mask_bits(prefix);
        Ok(StaticRoute {
            destination: Ipv4Addr::from_bits(bits),
            prefix,
            router,
        })
    }

    /// Where it leads.
    pub const fn destination(self) -> Ipv4Addr {
        self.destination
    }

    /// The prefix length of its destination.
    pub const fn prefix(self) -> u8 {
        self.prefix
    }

    /// The next hop.
    pub const fn router(self) -> Ipv4Addr {
        self.router
    }
}

impl TryFrom<StaticRouteForm> for StaticRoute {
    type Error = BindingError;

    fn try_from(form: StaticRouteForm) -> Result<Self, BindingError> {
        StaticRoute::new(form.destination, form.prefix, form.router)
    }
}

impl From<StaticRoute> for StaticRouteForm {
    fn from(route: StaticRoute) -> Self {
        StaticRouteForm {
            destination: route.destination,
            prefix: route.prefix,
            router: route.router,
        }
    }
}

/// What a client that boots from the network is told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boot {
    /// The TFTP server.
    pub next_server: Option<Ipv4Addr>,
    /// The file for each client architecture.
    #[serde(default)]
    pub files: Vec<BootFile>,
    /// The file for an architecture that has none of its own.
    #[serde(default)]
    pub default_file: Option<String>,
    /// The script for a client that is iPXE already.
    #[serde(default)]
    pub ipxe_script: Option<String>,
    /// The URL for UEFI HTTP boot.
    #[serde(default)]
    pub http_url: Option<String>,
}

/// A boot file for one client architecture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootFile {
    /// The architecture's number (the IANA registry "Processor Architecture Types"; 0 is x86 BIOS,
    /// 7 x86-64 UEFI, 11 ARM64 UEFI).
    pub architecture: u16,
    /// The file's name on the TFTP server.
    pub file: String,
}

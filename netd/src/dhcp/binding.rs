//! What a port is bound to: everything the server may tell the guest behind it.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::lease::LeaseTimes;
use super::name::DnsName;
use crate::seed::Seed;
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
    /// The guest's names in the domain that DNS is served for, each one label; its address is called by the
    /// first.
    #[serde(default)]
    pub dns_names: Vec<DnsName>,
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
    /// What cloud-init gets, by HTTP.
    #[serde(default)]
    pub seed: Option<Seed>,
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
            dns_names: Vec::new(),
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
            seed: None,
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

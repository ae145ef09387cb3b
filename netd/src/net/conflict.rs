//! What on the host stands in the way of a network.

use std::fmt;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::link::Links;
use super::{Error, Network};

/// Something on the host that is not ours and that a network would clash with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Conflict {
    /// A link has the bridge's name and is not a bridge.
    Link {
        /// The link.
        name: String,
    },
    /// An address of the host lies in the subnet.
    Address {
        /// The address.
        address: Ipv4Addr,
        /// Its prefix length.
        prefix: u8,
        /// The link it is on.
        link: String,
    },
    /// A route of the host covers a part of the subnet.
    Route {
        /// The route's destination.
        destination: Ipv4Addr,
        /// Its prefix length.
        prefix: u8,
        /// The link it leaves by, if it names one.
        link: Option<String>,
    },
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Conflict::Link { name } => write!(f, "link {name}, which is not a bridge"),
            Conflict::Address {
                address,
                prefix,
                link,
            } => {
                write!(f, "address {address}/{prefix} on {link}")
            }
            Conflict::Route {
                destination,
                prefix,
                link: Some(link),
            } => {
                write!(f, "route {destination}/{prefix} by {link}")
            }
            Conflict::Route {
                destination,
                prefix,
                link: None,
            } => {
                write!(f, "route {destination}/{prefix}")
            }
        }
    }
}

/// A route this short is a default route, or a half of one as VPNs set; a subnet lies within it by
/// intention, and wins over it.
const DEFAULT_ROUTE_PREFIX_MAX: u8 = 1;

/// Refuses a network that overlaps with a link, an address or a route of the host, naming them all.
///
/// What is on the network's own bridge is no conflict. Nothing is changed.
pub fn check_conflicts(network: &Network) -> Result<(), Error> {
    let mut links = Links::open()?;
    let names = links.names()?;
    let bridge = links.find(&network.bridge)?;
    let ours = bridge.as_ref().map(|link| link.index);
    let name_of = |index: u32| {
        names
            .get(&index)
            .cloned()
            .unwrap_or_else(|| format!("link {index}"))
    };
    let mut conflicts = Vec::new();
    if let Some(link) = &bridge
        && !link.is_bridge
    {
        conflicts.push(Conflict::Link {
            name: link.name.clone(),
        });
    }
    for address in links.addresses()? {
        if Some(address.link) != ours && network.subnet.overlaps(address.address, address.prefix) {
            conflicts.push(Conflict::Address {
                address: address.address,
                prefix: address.prefix,
                link: name_of(address.link),
            });
        }
    }
    for route in links.routes()? {
        let foreign = route.link.is_none() || route.link != ours;
        if foreign
            && route.prefix > DEFAULT_ROUTE_PREFIX_MAX
            && network.subnet.overlaps(route.destination, route.prefix)
        {
            conflicts.push(Conflict::Route {
                destination: route.destination,
                prefix: route.prefix,
                link: route.link.map(name_of),
            });
        }
    }
    if conflicts.is_empty() {
        return Ok(());
    }
    Err(Error::Conflicts {
        subnet: network.subnet,
        bridge: network.bridge.clone(),
        conflicts,
    })
}

//! What can go wrong with links and rules.

use std::io;

use super::Conflict;

/// A piece of plumbing failed: what was being done, to what; the cause is the source.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused a netlink request.
    #[error("cannot {action} {object}")]
    Link {
        /// What was being done, as a verb phrase.
        action: &'static str,
        /// The link or address it was done to.
        object: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A link that ought to exist does not.
    #[error("there is no link {name}")]
    NoLink {
        /// Its name.
        name: String,
    },
    /// A text cannot be a link's name.
    #[error("{name:?} cannot name a link: at most 15 bytes, no spaces, `/` or `:`")]
    LinkName {
        /// The text.
        name: String,
    },
    /// A link with our name is of another kind.
    #[error("{name} exists and is not a {expected}")]
    WrongKind {
        /// The link.
        name: String,
        /// What it ought to be.
        expected: &'static str,
    },
    /// The network's gateway is not a host address of its subnet.
    #[error("the gateway {gateway} is not a host address of {subnet}")]
    Gateway {
        /// The gateway.
        gateway: std::net::Ipv4Addr,
        /// The subnet.
        subnet: crate::Subnet,
    },
    /// The subnet or the bridge's name is used by something else on the host.
    #[error("network {subnet} on {bridge} conflicts with {}", list(.conflicts))]
    Conflicts {
        /// The subnet that was to be used.
        subnet: crate::Subnet,
        /// The bridge that was to be made.
        bridge: String,
        /// Everything in the way.
        conflicts: Vec<Conflict>,
    },
    /// A socket to serve guests by could not be opened.
    #[error("cannot {action} {address}")]
    Socket {
        /// What was being done, as a verb phrase.
        action: &'static str,
        /// At which address.
        address: std::net::Ipv4Addr,
        /// The kernel's answer.
        source: io::Error,
    },
    /// `/dev/net/tun` failed.
    #[error("cannot {action} {name}")]
    Tun {
        /// What was being done.
        action: &'static str,
        /// The tap.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// The packet socket of a port could not be made.
    #[error("cannot {action} for {port}")]
    PacketSocket {
        /// What was being done.
        action: &'static str,
        /// The port.
        port: String,
        /// Why.
        source: io::Error,
    },
    /// A kernel setting could not be read or written.
    #[error("cannot {action} {path}")]
    Setting {
        /// Read or write.
        action: &'static str,
        /// The file under `/proc/sys`.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// `nft` failed.
    #[error("cannot {action}")]
    Firewall {
        /// What was being done.
        action: &'static str,
        /// What `nft` said.
        source: NftFailure,
    },
}

fn list(conflicts: &[Conflict]) -> String {
    conflicts
        .iter()
        .map(Conflict::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

/// What `nft` said when it failed.
#[derive(Debug, thiserror::Error)]
pub enum NftFailure {
    /// It could not be run.
    #[error("cannot run nft")]
    Run(#[source] io::Error),
    /// It refused.
    #[error("nft: {0}")]
    Refused(String),
    /// What was to be said to it, or what it said, is not of the form of libnftables-json(5).
    #[error("nft and fvm do not understand each other")]
    Listing(#[source] serde_json::Error),
}

//! Plumbing for the privileged daemon: bridge, taps, addresses, firewall.
//!
//! Everything is read back from the kernel rather than remembered, everything can be done twice, and
//! nothing that is not fvm's by name is changed. Links and addresses go over netlink, rules through
//! `nft -j`.

mod admission;
mod bridge;
mod conflict;
mod error;
mod firewall;
mod link;
mod netlink;
mod network;
mod nft;
mod resolver;
mod rules;
mod service_socket;
mod socket;
mod sysctl;
mod tap;

pub use admission::{Admission, DropCounter, admit, admitted, drop_counters, expel};
pub use bridge::{is_bridge, list_bridges};
pub use conflict::{Conflict, check_conflicts};
pub use error::{Error, NftFailure};
pub use network::{
    Change, EnsureReport, Forward, Mode, Network, Protocol, RemoveOptions, RemoveReport, Warning,
    ensure_forwards, ensure_network, remove_network, warnings,
};
pub use resolver::{ResolverError, forwarders, host_resolvers};
pub use service_socket::{DnsSockets, seed_socket};
pub use socket::dhcp_socket;
pub use tap::{Tap, TapOptions, create_tap, list_taps, remove_tap, set_tap_mtu};

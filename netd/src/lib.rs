//! The network half of fvm: links and firewall for the privileged daemon, and an exact DHCP server
//! and a DNS server that run without any privilege.
//!
//! Two processes use this crate. `fvmd`, as root, uses [`net`] to make the bridge, the taps and the
//! nftables rules, and [`control`] to hand each tap's packet socket to `fvm-netd`. `fvm-netd`, as a
//! user of its own, runs [`daemon`]: it reads what guests send and answers it with [`dhcp`] and [`dns`].
//!
//! Everything here blocks; nothing needs an asynchronous runtime, and every function can be called
//! from any thread.

pub mod control;
pub mod daemon;
pub mod dhcp;
pub mod dns;
pub mod mac;
pub mod names;
pub mod net;
pub mod seed;
pub mod subnet;
mod sys;

pub use mac::{HostId, MacAddr};
pub use subnet::Subnet;

//! Domain XML to QEMU, supervision, the store, the operations and the HTTP API of fvm.
//!
//! `api` is what the CLI shares with the daemon and is all that exists without the `daemon` feature.

pub mod api;

#[cfg(feature = "daemon")]
pub mod config;
#[cfg(feature = "daemon")]
pub mod daemon;
#[cfg(feature = "daemon")]
pub mod domain;
#[cfg(feature = "daemon")]
pub mod fault;
#[cfg(feature = "daemon")]
pub mod kvm;
#[cfg(feature = "daemon")]
pub mod manager;
#[cfg(feature = "daemon")]
pub mod paths;
#[cfg(feature = "daemon")]
pub mod qemu;
#[cfg(feature = "daemon")]
pub mod server;
#[cfg(feature = "daemon")]
pub mod store;

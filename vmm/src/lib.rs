//! Domain XML to QEMU, supervision, the store, the operations and the HTTP API of fvm.
//!
//! `api` is what the CLI shares with the daemon and is all that exists without the `daemon` feature.

pub mod api;

#[cfg(feature = "daemon")]
pub mod domain;
#[cfg(feature = "daemon")]
pub mod kvm;
#[cfg(feature = "daemon")]
pub mod qemu;

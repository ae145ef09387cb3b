//! Bridge, taps, rules and the real `fvm-netd` on a real kernel, each test in network namespaces of its
//! own, which end with it.
//!
//! Needs root, `/dev/net/tun`, `nft` and `ip`; real DHCP clients where a test names one. Without them a
//! test says `SKIPPED` and passes, unless `FVM_TEST_HOST=1` or `CI=true` is set: then it fails.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]

#[path = "../wire/mod.rs"]
mod wire;

mod activation;
mod clients;
mod control;
mod cycles;
mod dns;
mod firmware;
mod isolation;
mod lab;
mod leases;
mod network;
mod outside;
mod ports;
mod real_client;
mod seeds;
mod translation;

//! Lab hosts, test guests, and what end-to-end tests need of them.
//!
//! A lab host is a Debian server of one's own, emulated by QEMU on any machine: real device-mapper, real KVM, real
//! network, and nothing of it reaches the machine underneath. [`LabHost::fresh`] brings one up in seconds, once the
//! parts are made; [`lab_host`] does so for a test, which is skipped aloud where that cannot be had.

mod cache;
mod clients;
mod command;
mod debian;
mod demo;
mod guests;
mod host;
mod image;
mod kvm_amd;
mod left_behind;
mod machine;
mod needs;
mod package;
mod paths;
mod progress;
mod qmp;
mod slots;
mod ssh;
mod state;
mod tools;
mod uml;

pub use crate::demo::{clean, demo};
pub use crate::host::{LabHost, Needs};
pub use crate::left_behind::NOTHING;
pub use crate::machine::{Disk, Hardware};
pub use crate::needs::lab_host;
pub use crate::package::{Build, test_program};
pub use crate::progress::say;
pub use crate::uml::Programs;

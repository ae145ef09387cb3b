//! A domain to a running QEMU.
//!
//! Pure: PCI addresses ([`pci`]) and the argument vector ([`arguments`]) follow from the model and
//! an [`Assignment`]. With system calls: the process ([`spawn`], [`adopt`]), its control socket
//! ([`qmp`]), what is set by it before the guest runs ([`tune`]), the guest's agent ([`agent`]), what a QEMU binary can do ([`probe`]) and where the firmware is ([`firmware`]).
//! Nothing here knows the store or the manager.

pub mod agent;
pub mod args;
mod assignment;
mod describe;
mod fds;
pub mod firmware;
pub mod pci;
pub mod probe;
mod process;
pub mod qmp;
mod spawn;
pub mod swtpm;
pub(crate) mod sys;
pub mod tune;
mod version;

pub use args::{Argument, ArgumentError, CommandLine, arguments, command_line};
pub use assignment::{Accel, Assignment, DiskBacking, FirmwareBacking, NicBacking, SocketBacking};
pub use describe::{Chosen, completed_xml};
pub use fds::{FdSet, FdTable, suit};
pub(crate) use process::poll_readable;
pub use process::{AdoptError, ExitCause, Running, adopt};
pub use spawn::{Identity, SpawnError, SpawnSpec, spawn};

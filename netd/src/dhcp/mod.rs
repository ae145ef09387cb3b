//! The DHCPv4 server as a pure function: bytes of a frame and the port's binding in, bytes of the
//! reply or the cause of silence out.
//!
//! No file here makes a system call or looks at a clock. The way of a frame: [`frame`] (Ethernet,
//! IPv4, UDP) -> [`request`] (the message and its options, every length checked) -> [`server`] (what
//! to say) -> [`reply`] (the message written) -> [`frame`] again.
//!
//! ```text
//!             no binding, not for us, malformed ──> silence, with its cause
//! frame ──>   DISCOVER ──> OFFER (or ACK, by rapid commit)
//!             REQUEST ──> ACK if it asks for the port's address, NAK if for another
//!             INFORM  ──> ACK without a lease
//!             RELEASE, DECLINE ──> silence; the address stays the port's
//! ```
//!
//! There is no lease table: the binding is the lease, so nothing can be pending, expire or run out.

pub mod binding;
mod boot;
pub mod frame;
mod lease;
mod name;
mod options;
pub mod reply;
pub mod request;
pub mod server;
mod silence;

pub use binding::{Binding, BindingError, Boot, BootFile, StaticRoute};
pub use lease::LeaseTimes;
pub use name::DnsName;
pub use options::MessageType;
pub use server::{Exchange, Outcome, respond};
pub use silence::Silence;

pub use crate::sys::FrameNotes;

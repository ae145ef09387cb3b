//! How `fvmd` and `fvm-netd` talk: JSON messages over a sequenced-packet Unix socket, packet sockets
//! passed beside them.
//!
//! `fvm-netd` keeps what it was told for as long as it runs, whoever is connected; `fvmd` tells it all
//! again after either was restarted ([`Client::resync`]). Each request is answered once it is in
//! effect, with the number it came with.

mod client;
pub mod protocol;
pub(crate) mod transport;

pub use client::{Client, ClientError, PortBinding};
pub use protocol::{
    ErrorKind, Hello, LeaseState, LoggedExchange, LoggedQuery, PROTOCOL_VERSION, PortLog, PortState,
};

//! The messages on the control socket. Each is one packet of JSON.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::dhcp::{Binding, Exchange};
use crate::dns::DnsConfig;

/// The version of this protocol. A client and a server of different versions do not talk.
pub const PROTOCOL_VERSION: u32 = 4;

/// Where `fvm-netd` listens.
pub const SOCKET_PATH: &str = "/run/fvm/netd.sock";

/// The longest message in bytes: well below what a Unix socket's buffer holds (`net.core.wmem_default`).
pub(crate) const MESSAGE_MAX: usize = 128 * 1024;

/// How many ports one page of [`Request::List`] holds.
pub(crate) const PAGE_PORTS: usize = 256;

/// A request with its number.
#[derive(Debug, Serialize, Deserialize)]
pub struct Call {
    /// Chosen by the client; the answer has the same.
    pub id: u64,
    /// What is asked.
    #[serde(flatten)]
    pub request: Request,
}

/// What `fvmd` asks of `fvm-netd`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum Request {
    /// Who are you, and what do you hold?
    Hello {
        /// The client's protocol version.
        version: u32,
    },
    /// Serve this port with this binding. The packet socket comes with the message; one that was
    /// held for the port is replaced.
    Bind {
        /// The port: the tap's name.
        port: String,
        /// What the guest behind it is told.
        binding: Box<Binding>,
    },
    /// Serve this port no more. Not an error if it was not served.
    Unbind {
        /// The port.
        port: String,
    },
    /// From here to [`Request::ResyncEnd`] on this connection, all ports are named by `Bind`.
    ResyncBegin,
    /// Drop the ports that were not named since [`Request::ResyncBegin`].
    ResyncEnd,
    /// The ports held, in the order of their names, from the first one after `after`.
    List {
        /// The last name of the page before.
        after: Option<String>,
    },
    /// Serve DNS at the configuration's gateway from now on by the sockets that come with the message, in place of those
    /// before.
    ServeDns {
        /// What is served.
        config: Box<DnsConfig>,
    },
    /// Serve cloud-init's data at this gateway from now on by the listening socket that comes with the message, in place
    /// of the one before. The data are parts of the ports' bindings.
    ServeSeeds {
        /// The host's address in the network.
        gateway: Ipv4Addr,
    },
    /// Serve DNS and cloud-init's data at no other gateways than these. Not an error if they were not served there.
    ServeOnlyAt {
        /// The host's addresses in its networks.
        gateways: Vec<Ipv4Addr>,
    },
    /// What was said on this port.
    PortLog {
        /// The port.
        port: String,
    },
}

/// An answer with the number of its request.
#[derive(Debug, Serialize, Deserialize)]
pub struct Return {
    /// That of the request.
    pub id: u64,
    /// The answer.
    #[serde(flatten)]
    pub answer: Answer,
}

/// What `fvm-netd` answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// To `Hello`.
    Hello(Hello),
    /// Done: to `Bind`, `ResyncBegin`, and those that serve and end.
    Done,
    /// To `Unbind` and `ResyncEnd`: the ports that are served no more.
    Dropped {
        /// Their names.
        ports: Vec<String>,
    },
    /// To `List`.
    Ports {
        /// One page of them.
        ports: Vec<PortState>,
        /// Whether there are more after these.
        more: bool,
    },
    /// To `PortLog`.
    PortLog(Box<PortLog>),
    /// The request could not be done, and changed nothing.
    Error {
        /// What kind of failure.
        kind: ErrorKind,
        /// In words.
        message: String,
    },
}

/// What kind of failure it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The message is no request, or its parts contradict each other.
    BadRequest,
    /// Another protocol version.
    Version,
    /// The port is not served.
    NoSuchPort,
    /// A descriptor is missing, or not a socket of the kind that is needed.
    BadSocket,
    /// The kernel refused.
    System,
}

/// Who `fvm-netd` is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Its protocol version.
    pub version: u32,
    /// Its program version.
    pub program: String,
    /// How many ports it holds.
    pub ports: usize,
}

/// A port that is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortState {
    /// Its name.
    pub port: String,
    /// The VM behind it.
    pub vm: u32,
    /// The guest's address.
    pub address: Ipv4Addr,
    /// The link the packet socket is bound to; `None` if the link is gone.
    pub ifindex: Option<u32>,
}

/// What was said on a port, for people and for the cause that a wait ends with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortLog {
    /// The port.
    pub port: PortState,
    /// The last exchanges, oldest first.
    pub exchanges: Vec<LoggedExchange>,
    /// The last questions to DNS, oldest first.
    #[serde(default)]
    pub queries: Vec<LoggedQuery>,
    /// The lease of the last ACK since the port was bound.
    pub lease: Option<LeaseState>,
    /// Frames seen.
    pub frames: u64,
    /// Of these, how many were answered.
    pub answered: u64,
    /// Of these, how many were dropped unread because the guest sent too many.
    pub rate_limited: u64,
}

/// An exchange and when it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedExchange {
    /// Its number among all that was said on the port since it is served, from 1 on.
    #[serde(default)]
    pub number: u64,
    /// Milliseconds since 1970, by the host's clock.
    pub at_unix_ms: u64,
    /// What it was.
    #[serde(flatten)]
    pub exchange: Exchange,
}

/// A question to DNS and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedQuery {
    /// Its number among all that was said on the port since it is served, from 1 on.
    pub number: u64,
    /// Milliseconds since 1970, by the host's clock.
    pub at_unix_ms: u64,
    /// Type and name, as the guest wrote it.
    pub asked: String,
    /// What it was told.
    pub told: String,
}

/// What the guest was granted, as far as it has heard of it. For show: the address is the guest's
/// whether a lease runs or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseState {
    /// The address.
    pub address: Ipv4Addr,
    /// When it was granted, in milliseconds since 1970.
    pub granted_unix_ms: u64,
    /// When the guest is to renew it, in milliseconds since 1970.
    pub renew_unix_ms: u64,
    /// When it ends, in milliseconds since 1970.
    pub expires_unix_ms: u64,
}

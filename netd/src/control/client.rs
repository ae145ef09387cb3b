//! The client's side of the control socket, for `fvmd`.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use super::protocol::{
    Answer, Call, ErrorKind, Hello, PROTOCOL_VERSION, PortLog, PortState, Request, Return,
};
use super::transport;
use crate::dhcp::{Binding, BindingError};
use crate::dns::DnsConfig;
use crate::net::DnsSockets;

/// A connection to `fvm-netd`. Every call waits for its answer, at most as long as the client was made for.
#[derive(Debug)]
pub struct Client {
    socket: OwnedFd,
    timeout: Duration,
    next_id: u64,
    hello: Hello,
}

/// A port to be served, with the packet socket to serve it by.
#[derive(Debug, Clone, Copy)]
pub struct PortBinding<'a> {
    /// The tap's name.
    pub port: &'a str,
    /// What the guest is told.
    pub binding: &'a Binding,
    /// The socket of [`crate::net::dhcp_socket`].
    pub socket: BorrowedFd<'a>,
}

/// A call to `fvm-netd` failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is nobody at the socket.
    #[error("cannot connect to fvm-netd at {path}")]
    Connect {
        /// The socket.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The connection is gone: `fvm-netd` was restarted. Connect again and resync.
    #[error("the connection to fvm-netd is gone")]
    Disconnected {
        /// Why, if the kernel says so.
        source: Option<io::Error>,
    },
    /// No answer came in time. The connection is of no more use: connect again and resync.
    #[error("fvm-netd did not answer within {timeout_ms} ms")]
    Timeout {
        /// The time waited.
        timeout_ms: u128,
    },
    /// `fvm-netd` speaks another version.
    #[error(
        "fvm-netd speaks version {theirs} of the control protocol and fvmd version {PROTOCOL_VERSION}: restart both"
    )]
    Version {
        /// Its version.
        theirs: u32,
    },
    /// The binding contradicts itself.
    #[error("the binding of {port} is not usable")]
    Binding {
        /// The port.
        port: String,
        /// Why.
        source: BindingError,
    },
    /// `fvm-netd` refused.
    #[error("fvm-netd: {message}")]
    Refused {
        /// What kind of failure.
        kind: ErrorKind,
        /// In its words.
        message: String,
    },
    /// The answer makes no sense.
    #[error("fvm-netd answered {what} with something else")]
    Protocol {
        /// What was asked.
        what: &'static str,
        /// Why, if it could not be read at all.
        source: Option<serde_json::Error>,
    },
}

impl ClientError {
    /// Whether the connection must be made anew.
    pub fn is_disconnected(&self) -> bool {
        matches!(
            self,
            ClientError::Disconnected { .. } | ClientError::Timeout { .. }
        )
    }
}

impl Client {
    /// Connects and says hello. `timeout` holds for this and for every later call.
    pub fn connect(path: &Path, timeout: Duration) -> Result<Self, ClientError> {
        let failed = |errno: Errno| ClientError::Connect {
            path: path.display().to_string(),
            source: errno.into(),
        };
        let socket = socket(
            AddressFamily::Unix,
            SockType::SeqPacket,
            SockFlag::SOCK_CLOEXEC,
            None,
        )
        .map_err(failed)?;
        // Holds for connecting to a full queue and for sending to a full buffer.
        let limit = TimeVal::microseconds(i64::try_from(timeout.as_micros()).unwrap_or(i64::MAX));
        setsockopt(&socket, sockopt::SendTimeout, &limit).map_err(failed)?;
        let address = UnixAddr::new(path).map_err(failed)?;
        connect(socket.as_raw_fd(), &address).map_err(failed)?;
        let hello = Hello {
            version: 0,
            program: String::new(),
            ports: 0,
        };
        let mut client = Client {
            socket,
            timeout,
            next_id: 1,
            hello,
        };
        client.hello = client.say_hello()?;
        Ok(client)
    }

    fn say_hello(&mut self) -> Result<Hello, ClientError> {
        match self.call(
            Request::Hello {
                version: PROTOCOL_VERSION,
            },
            &[],
        )? {
            Answer::Hello(hello) if hello.version == PROTOCOL_VERSION => Ok(hello),
            Answer::Hello(hello) => Err(ClientError::Version {
                theirs: hello.version,
            }),
            _ => Err(unexpected("hello")),
        }
    }

    /// What `fvm-netd` said of itself when the connection was made.
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Whether `fvm-netd` has closed the connection, as when it was restarted. Does not wait.
    pub fn is_disconnected(&self) -> bool {
        let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::empty())];
        match poll(&mut fds, PollTimeout::ZERO) {
            Ok(0) => false,
            Ok(_) => fds.iter().any(|fd| {
                fd.revents()
                    .is_none_or(|events| events.intersects(PollFlags::POLLHUP | PollFlags::POLLERR))
            }),
            Err(_) => true,
        }
    }

    /// Serves a port from now on: a DISCOVER that comes after this returns is answered. What
    /// was served on the port before is replaced.
    pub fn bind(&mut self, port: PortBinding<'_>) -> Result<(), ClientError> {
        port.binding
            .validate()
            .map_err(|source| ClientError::Binding {
                port: port.port.to_owned(),
                source,
            })?;
        let request = Request::Bind {
            port: port.port.to_owned(),
            binding: Box::new(port.binding.clone()),
        };
        match self.call(request, &[port.socket])? {
            Answer::Done => Ok(()),
            _ => Err(unexpected("bind")),
        }
    }

    /// Serves a port no more; says whether it was served.
    pub fn unbind(&mut self, port: &str) -> Result<bool, ClientError> {
        match self.call(
            Request::Unbind {
                port: port.to_owned(),
            },
            &[],
        )? {
            Answer::Dropped { ports } => Ok(!ports.is_empty()),
            _ => Err(unexpected("unbind")),
        }
    }

    /// Makes `fvm-netd` serve exactly these ports, and returns those it dropped. Ports that stay are
    /// served throughout.
    pub fn resync<'a>(
        &mut self,
        ports: impl IntoIterator<Item = PortBinding<'a>>,
    ) -> Result<Vec<String>, ClientError> {
        match self.call(Request::ResyncBegin, &[])? {
            Answer::Done => {}
            _ => return Err(unexpected("resync")),
        }
        for port in ports {
            self.bind(port)?;
        }
        match self.call(Request::ResyncEnd, &[])? {
            Answer::Dropped { ports } => Ok(ports),
            _ => Err(unexpected("resync")),
        }
    }

    /// Every port served, by name.
    pub fn ports(&mut self) -> Result<Vec<PortState>, ClientError> {
        let mut all: Vec<PortState> = Vec::new();
        loop {
            let after = all.last().map(|state| state.port.clone());
            match self.call(Request::List { after }, &[])? {
                Answer::Ports { ports, more } => {
                    let done = !more || ports.is_empty();
                    all.extend(ports);
                    if done {
                        return Ok(all);
                    }
                }
                _ => return Err(unexpected("list")),
            }
        }
    }

    /// What was said on a port; `None` if it is not served.
    pub fn port_log(&mut self, port: &str) -> Result<Option<PortLog>, ClientError> {
        match self.call(
            Request::PortLog {
                port: port.to_owned(),
            },
            &[],
        ) {
            Ok(Answer::PortLog(log)) => Ok(Some(*log)),
            Ok(_) => Err(unexpected("port log")),
            Err(ClientError::Refused {
                kind: ErrorKind::NoSuchPort,
                ..
            }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Serves DNS by these sockets from now on: a question that comes after this returns is answered.
    pub fn serve_dns(
        &mut self,
        config: &DnsConfig,
        sockets: &DnsSockets,
    ) -> Result<(), ClientError> {
        let request = Request::ServeDns {
            config: Box::new(config.clone()),
        };
        match self.call(request, &sockets.descriptors())? {
            Answer::Done => Ok(()),
            _ => Err(unexpected("serve DNS")),
        }
    }

    /// Serves cloud-init's data at this gateway by this listening socket from now on.
    pub fn serve_seeds(
        &mut self,
        gateway: Ipv4Addr,
        socket: BorrowedFd<'_>,
    ) -> Result<(), ClientError> {
        match self.call(Request::ServeSeeds { gateway }, &[socket])? {
            Answer::Done => Ok(()),
            _ => Err(unexpected("serve seeds")),
        }
    }

    /// Serves DNS and cloud-init's data at no other gateways than these any more.
    pub fn serve_only_at(
        &mut self,
        gateways: impl IntoIterator<Item = Ipv4Addr>,
    ) -> Result<(), ClientError> {
        let gateways = gateways.into_iter().collect();
        match self.call(Request::ServeOnlyAt { gateways }, &[])? {
            Answer::Done => Ok(()),
            _ => Err(unexpected("serve only at")),
        }
    }

    fn call(&mut self, request: Request, fds: &[BorrowedFd<'_>]) -> Result<Answer, ClientError> {
        let id = self.next_id;
        self.next_id += 1;
        let bytes =
            serde_json::to_vec(&Call { id, request }).map_err(|source| ClientError::Protocol {
                what: "a request",
                source: Some(source),
            })?;
        transport::send(&self.socket, &bytes, fds, MsgFlags::empty()).map_err(|e| self.lost(e))?;
        let deadline = Instant::now() + self.timeout;
        loop {
            let answer = self.receive(deadline)?;
            // An answer to an earlier call, which was given up, is not ours.
            if answer.id == id {
                return match answer.answer {
                    Answer::Error { kind, message } => Err(ClientError::Refused { kind, message }),
                    answer => Ok(answer),
                };
            }
        }
    }

    fn receive(&self, deadline: Instant) -> Result<Return, ClientError> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let wait = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, wait) {
                Ok(0) => {
                    return Err(ClientError::Timeout {
                        timeout_ms: self.timeout.as_millis(),
                    });
                }
                Ok(_) => break,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(self.lost(errno.into())),
            }
        }
        let packet = transport::receive(&self.socket, MsgFlags::MSG_DONTWAIT)
            .map_err(|error| self.lost(error))?
            .ok_or(ClientError::Disconnected { source: None })?;
        serde_json::from_slice(&packet.bytes).map_err(|source| ClientError::Protocol {
            what: "a request",
            source: Some(source),
        })
    }

    fn lost(&self, error: io::Error) -> ClientError {
        match error.kind() {
            io::ErrorKind::WouldBlock => ClientError::Timeout {
                timeout_ms: self.timeout.as_millis(),
            },
            _ => ClientError::Disconnected {
                source: Some(error),
            },
        }
    }
}

fn unexpected(what: &'static str) -> ClientError {
    ClientError::Protocol { what, source: None }
}

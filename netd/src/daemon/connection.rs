//! One connection of `fvmd`: its messages, one after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::epoll::Epoll;
use nix::sys::socket::MsgFlags;

use super::dns::Dns;
use super::ports::Ports;
use super::transport;
use super::web::Web;
use crate::control::protocol::{
    Answer, Call, ErrorKind, Hello, PAGE_PORTS, PROTOCOL_VERSION, Request, Return,
};
use crate::dhcp::Binding;
use crate::{names, sys};

#[derive(Debug)]
pub(super) struct Connection {
    socket: OwnedFd,
    /// While a resync is under way: the ports named so far. If the connection ends before the
    /// resync does, nothing is dropped.
    resync: Option<BTreeSet<String>>,
}

/// What messages change.
pub(super) struct Served<'d> {
    pub(super) epoll: &'d Epoll,
    pub(super) ports: &'d mut Ports,
    /// By gateway, as the next.
    pub(super) dns: &'d mut BTreeMap<Ipv4Addr, Dns>,
    pub(super) web: &'d mut BTreeMap<Ipv4Addr, Web>,
}

impl Connection {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Connection {
            socket,
            resync: None,
        }
    }

    pub(super) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Answers one message; `false` if the connection is to be closed. `token` is for what the
    /// message has served.
    pub(super) fn serve(&mut self, served: &mut Served<'_>, token: u64) -> bool {
        let packet = match transport::receive(&self.socket, MsgFlags::MSG_DONTWAIT) {
            Ok(Some(packet)) => packet,
            Ok(None) => return false,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
            Err(error) => {
                tracing::warn!(%error, "a control connection failed");
                return false;
            }
        };
        let fds = packet.fds;
        let (id, answer) = match serde_json::from_slice::<Call>(&packet.bytes) {
            Ok(Call { id, request }) => {
                // What came without being asked for is closed before the answer, not some time after.
                let answer = self.answer(request, fds, served, token);
                (
                    id,
                    answer.unwrap_or_else(|(kind, message)| Answer::Error { kind, message }),
                )
            }
            Err(error) => {
                let message = format!("not a request: {error}");
                (
                    0,
                    Answer::Error {
                        kind: ErrorKind::BadRequest,
                        message,
                    },
                )
            }
        };
        self.send(&Return { id, answer })
    }

    fn send(&self, answer: &Return) -> bool {
        let sent = serde_json::to_vec(answer)
            .map_err(io::Error::other)
            .and_then(|bytes| {
                // A client that does not read its answers is not waited for.
                transport::send(&self.socket, &bytes, &[], MsgFlags::MSG_DONTWAIT)
            });
        if let Err(error) = &sent {
            tracing::warn!(%error, "cannot answer on a control connection; it is closed");
        }
        sent.is_ok()
    }

    fn answer(
        &mut self,
        request: Request,
        fds: Vec<OwnedFd>,
        served: &mut Served<'_>,
        token: u64,
    ) -> Result<Answer, (ErrorKind, String)> {
        let Served {
            epoll,
            ports,
            dns,
            web,
        } = served;
        match request {
            Request::Hello {
                version: PROTOCOL_VERSION,
            } => Ok(Answer::Hello(Hello {
                version: PROTOCOL_VERSION,
                program: env!("CARGO_PKG_VERSION").to_owned(),
                ports: ports.len(),
            })),
            Request::Hello { version } => Err((
                ErrorKind::Version,
                format!("speaks version {PROTOCOL_VERSION} of the control protocol, not {version}"),
            )),
            Request::Bind { port, binding } => {
                let socket = check_bind(&port, &binding, fds)?;
                ports
                    .bind(epoll, token, &port, *binding, socket)
                    .map_err(|errno| {
                        (
                            ErrorKind::System,
                            format!("cannot wait on {port}: {}", errno.desc()),
                        )
                    })?;
                tracing::debug!(port, "serving");
                if let Some(named) = &mut self.resync {
                    named.insert(port);
                }
                Ok(Answer::Done)
            }
            Request::Unbind { port } => {
                if let Some(named) = &mut self.resync {
                    named.remove(&port);
                }
                let dropped = ports.unbind(epoll, &port);
                Ok(Answer::Dropped {
                    ports: dropped.then_some(port).into_iter().collect(),
                })
            }
            Request::ResyncBegin => {
                self.resync = Some(BTreeSet::new());
                Ok(Answer::Done)
            }
            Request::ResyncEnd => match self.resync.take() {
                Some(named) => Ok(Answer::Dropped {
                    ports: ports.keep_only(epoll, &named),
                }),
                None => Err((ErrorKind::BadRequest, "no resync was begun".to_owned())),
            },
            Request::ServeDns { config } => {
                let gateway = config.gateway;
                // Made first: if it cannot be, the one before goes on.
                let new = Dns::new(epoll, token, *config, fds)
                    .map_err(|message| (ErrorKind::BadSocket, message))?;
                if let Some(old) = dns.insert(gateway, new) {
                    old.end(epoll, ports);
                }
                Ok(Answer::Done)
            }
            Request::ServeSeeds { gateway } => {
                let new = Web::new(epoll, token, fds)
                    .map_err(|message| (ErrorKind::BadSocket, message))?;
                if let Some(old) = web.insert(gateway, new) {
                    old.end(epoll);
                }
                Ok(Answer::Done)
            }
            Request::ServeOnlyAt { gateways } => {
                let served: BTreeSet<Ipv4Addr> = dns.keys().chain(web.keys()).copied().collect();
                for gateway in served.iter().filter(|at| !gateways.contains(at)) {
                    if let Some(old) = dns.remove(gateway) {
                        old.end(epoll, ports);
                    }
                    if let Some(old) = web.remove(gateway) {
                        old.end(epoll);
                    }
                }
                Ok(Answer::Done)
            }
            Request::List { after } => {
                let (ports, more) = ports.page(after.as_deref(), PAGE_PORTS);
                Ok(Answer::Ports { ports, more })
            }
            Request::PortLog { port } => match ports.log(&port) {
                Some(log) => Ok(Answer::PortLog(Box::new(log))),
                None => Err((ErrorKind::NoSuchPort, format!("port {port} is not served"))),
            },
        }
    }
}

fn check_bind(
    port: &str,
    binding: &Binding,
    mut fds: Vec<OwnedFd>,
) -> Result<OwnedFd, (ErrorKind, String)> {
    if !names::is_link_name(port) {
        return Err((
            ErrorKind::BadRequest,
            format!("{port:?} cannot name a port"),
        ));
    }
    binding
        .validate()
        .map_err(|error| (ErrorKind::BadRequest, error.to_string()))?;
    let bad = |what: &str| (ErrorKind::BadSocket, format!("port {port}: {what}"));
    let socket = fds.pop().filter(|_| fds.is_empty());
    let socket = socket.ok_or_else(|| bad("not exactly one descriptor came with the message"))?;
    match sys::packet_ifindex(socket.as_fd()) {
        Some(_) => Ok(socket),
        None => Err(bad(
            "the descriptor is no packet socket that is bound to a link",
        )),
    }
}

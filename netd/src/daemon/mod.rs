//! `fvm-netd` itself: one thread that waits for guests' frames and for `fvmd`'s messages.
//!
//! It opens nothing after its start; everything it reads from or writes to was handed to it. What it
//! was told to serve it serves until told otherwise, whether `fvmd` is there or not.

mod accept;
mod bucket;
mod connection;
mod dns;
mod listener;
mod port;
mod ports;
mod sandbox;
mod web;

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{SockFlag, accept4, getsockopt, sockopt};
use nix::unistd::geteuid;

use crate::control::transport;
use connection::{Connection, Served};
use dns::Dns;
use ports::Ports;
use web::Web;

pub use bucket::RateLimit;
pub use listener::{activated_listener, listen_at};
pub use sandbox::{SandboxError, lock_down, raise_descriptor_limit};

/// `fvm-netd` cannot go on.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action}")]
pub struct DaemonError {
    action: &'static str,
    source: io::Error,
}

fn failed(action: &'static str) -> impl FnOnce(Errno) -> DaemonError {
    move |errno| DaemonError {
        action,
        source: errno.into(),
    }
}

const LISTENER: u64 = 0;
/// How many connections at a time: `fvmd`'s, its next one while the last is not yet closed, and
/// some for people who look.
const CONNECTIONS_MAX: usize = 8;
const EVENTS_AT_ONCE: usize = 64;

/// Serves for ever on a listening sequenced-packet socket.
///
/// Only root and this process's own user may connect, whatever the permissions of the socket are.
#[derive(Debug)]
pub struct Daemon {
    epoll: Epoll,
    listener: OwnedFd,
    connections: BTreeMap<u64, Connection>,
    ports: Ports,
    /// By gateway, as the next.
    dns: BTreeMap<Ipv4Addr, Dns>,
    web: BTreeMap<Ipv4Addr, Web>,
    next_token: u64,
}

impl Daemon {
    /// Takes over the listening socket.
    pub fn new(listener: OwnedFd, limit: RateLimit) -> Result<Self, DaemonError> {
        let epoll =
            Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(failed("make an epoll set"))?;
        let event = EpollEvent::new(EpollFlags::EPOLLIN, LISTENER);
        epoll
            .add(&listener, event)
            .map_err(failed("wait on the control socket"))?;
        Ok(Daemon {
            epoll,
            listener,
            connections: BTreeMap::new(),
            ports: Ports::new(limit),
            dns: BTreeMap::new(),
            web: BTreeMap::new(),
            next_token: LISTENER + 1,
        })
    }

    /// Serves until something fails that leaves nothing to serve with.
    pub fn run(mut self) -> Result<std::convert::Infallible, DaemonError> {
        let mut events = [EpollEvent::empty(); EVENTS_AT_ONCE];
        loop {
            let dns = self.dns.values().filter_map(Dns::next_due);
            let web = self.web.values().filter_map(Web::next_due);
            let due = dns.chain(web).chain(self.ports.next_resume());
            let wait = match due.min() {
                None => EpollTimeout::NONE,
                Some(at) => timeout_until(at),
            };
            let ready = match self.epoll.wait(&mut events, wait) {
                Ok(ready) => ready,
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(failed("wait for events")(errno)),
            };
            for event in events.iter().take(ready) {
                self.handle(event.data());
            }
            let now = Instant::now();
            self.ports.resume_due(&self.epoll, now);
            for dns in self.dns.values_mut() {
                dns.go_on(&self.epoll, &mut self.ports, now);
            }
            for web in self.web.values_mut() {
                web.go_on(&self.epoll, now);
            }
        }
    }

    fn handle(&mut self, token: u64) {
        if token == LISTENER {
            self.accept();
        } else if token & dns::TOKEN != 0 {
            if let Some(dns) = self.dns.values_mut().find(|dns| dns.has(token)) {
                dns.handle(&self.epoll, &mut self.ports, token);
            }
        } else if token & web::TOKEN != 0 {
            if let Some(web) = self.web.values_mut().find(|web| web.has(token)) {
                web.handle(&self.epoll, &self.ports, token);
            }
        } else if self.connections.contains_key(&token) {
            self.serve_connection(token);
        } else {
            self.ports.serve(&self.epoll, token);
        }
    }

    fn accept(&mut self) {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = match accept4(self.listener.as_raw_fd(), flags) {
            Ok(fd) => crate::sys::adopt_accepted(fd),
            Err(errno) => {
                tracing::warn!(error = %errno, "cannot accept a control connection");
                return;
            }
        };
        if self.connections.len() >= CONNECTIONS_MAX {
            tracing::warn!("too many control connections; the new one is closed");
            return;
        }
        match getsockopt(&fd, sockopt::PeerCredentials) {
            Ok(peer) if peer.uid() == 0 || peer.uid() == geteuid().as_raw() => {}
            Ok(peer) => {
                tracing::warn!(uid = peer.uid(), "a user without the right to it connected");
                return;
            }
            Err(errno) => {
                tracing::warn!(error = %errno, "cannot tell who connected");
                return;
            }
        }
        let token = self.take_token();
        match self
            .epoll
            .add(&fd, EpollEvent::new(EpollFlags::EPOLLIN, token))
        {
            Ok(()) => {
                self.connections.insert(token, Connection::new(fd));
            }
            Err(errno) => tracing::warn!(error = %errno, "cannot wait on a control connection"),
        }
    }

    fn serve_connection(&mut self, token: u64) {
        let Some(mut connection) = self.connections.remove(&token) else {
            return;
        };
        let next_token = self.take_token();
        let mut served = Served {
            epoll: &self.epoll,
            ports: &mut self.ports,
            dns: &mut self.dns,
            web: &mut self.web,
        };
        if connection.serve(&mut served, next_token) {
            self.connections.insert(token, connection);
        } else if let Err(errno) = self.epoll.delete(connection.socket()) {
            tracing::warn!(error = %errno, "cannot stop waiting on a control connection");
        }
    }

    fn take_token(&mut self) -> u64 {
        let token = self.next_token;
        self.next_token += 1;
        token
    }
}

/// The wait until then, rounded up, so that it is then when it ends.
fn timeout_until(at: Instant) -> EpollTimeout {
    let left = at.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
    EpollTimeout::try_from(left).unwrap_or(EpollTimeout::MAX)
}

//! cloud-init's questions, on the listening socket that `fvmd` has handed over: one request for each connection.
//!
//! Who asks is known by the address, which a guest's port does not let it choose.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use nix::sys::socket::{getsockopt, sockopt};

use super::accept::accept;
use super::ports::Ports;
use crate::seed;

/// Tokens with this bit, and not that of DNS, are of this.
pub(super) const TOKEN: u64 = 1 << 62;
/// How long a connection may take from its beginning to its end.
const LIMIT: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Web {
    listener: TcpListener,
    clients: HashMap<u64, Client>,
    /// The listener's token; its clients' follow. Others of the same bit are of a listener before.
    base: u64,
    next_client: u64,
}

#[derive(Debug)]
struct Client {
    stream: TcpStream,
    address: Ipv4Addr,
    input: Vec<u8>,
    /// The answer, once there is one.
    output: Option<Vec<u8>>,
    due: Instant,
}

impl Web {
    /// Serves by this socket from now on; `generation` was never used before.
    pub(super) fn new(
        epoll: &Epoll,
        generation: u64,
        mut fds: Vec<OwnedFd>,
    ) -> Result<Self, String> {
        let listener = fds.pop().filter(|_| fds.is_empty());
        let listener = listener
            .filter(|fd| getsockopt(fd, sockopt::AcceptConn) == Ok(true))
            .ok_or("not exactly one listening socket came with the message")?;
        let base = TOKEN | (generation & 0x3fff_ffff) << 32;
        epoll
            .add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, base))
            .map_err(|errno| format!("cannot wait on a listening socket: {}", errno.desc()))?;
        Ok(Web {
            listener: listener.into(),
            clients: HashMap::new(),
            base,
            next_client: 1,
        })
    }

    pub(super) fn end(self, epoll: &Epoll) {
        // Closing does not take it out while another process has a copy.
        let _ = epoll.delete(&self.listener);
        for client in self.clients.values() {
            let _ = epoll.delete(&client.stream);
        }
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.clients.values().map(|client| client.due).min()
    }

    /// Ends connections that take too long.
    pub(super) fn go_on(&mut self, epoll: &Epoll, now: Instant) {
        self.clients.retain(|_, client| {
            let goes_on = client.due > now;
            if !goes_on {
                let _ = epoll.delete(&client.stream);
            }
            goes_on
        });
    }

    /// Whether the token is of this one's sockets.
    pub(super) fn has(&self, token: u64) -> bool {
        token >> 32 == self.base >> 32
    }

    /// Does what an event asks for.
    pub(super) fn handle(&mut self, epoll: &Epoll, ports: &Ports, token: u64) {
        match token.checked_sub(self.base) {
            Some(0) => self.accept(epoll),
            Some(id) => {
                let Some(client) = self.clients.get_mut(&id) else {
                    return;
                };
                if !client.go_on(epoll, token, ports) {
                    let _ = epoll.delete(&client.stream);
                    self.clients.remove(&id);
                }
            }
            None => {}
        }
    }

    fn accept(&mut self, epoll: &Epoll) {
        let others = self.clients.values().map(|client| client.address);
        let Some((stream, address)) = accept(&self.listener, others) else {
            return;
        };
        let id = self.next_client;
        self.next_client = 1.max((id + 1) & 0xffff_ffff);
        let readable = EpollEvent::new(EpollFlags::EPOLLIN, self.base + id);
        if epoll.add(&stream, readable).is_ok() {
            let client = Client {
                stream,
                address,
                input: Vec::new(),
                output: None,
                due: Instant::now() + LIMIT,
            };
            self.clients.insert(id, client);
        }
    }
}

impl Client {
    /// Reads and writes what can be; `false` if that was all, or the connection is over.
    fn go_on(&mut self, epoll: &Epoll, token: u64, ports: &Ports) -> bool {
        let mut piece = [0; 4096];
        let output = loop {
            if let Some(output) = &mut self.output {
                break output;
            }
            match self.stream.read(&mut piece) {
                Ok(0) => return false,
                Ok(len) => self
                    .input
                    .extend_from_slice(piece.get(..len).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
            self.output = seed::answer(&self.input, ports.seed(self.address));
        };
        while !output.is_empty() {
            match self.stream.write(output) {
                Ok(0) => return false,
                Ok(len) => drop(output.drain(..len)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let mut event = EpollEvent::new(EpollFlags::EPOLLOUT, token);
                    return epoll.modify(&self.stream, &mut event).is_ok();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        false
    }
}

//! A client's connection: each message after two bytes with its length (RFC 1035, section 4.2.2).

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};

use super::{Asker, CLIENTS, Dns};
use crate::daemon::{accept::accept, ports::Ports};

/// How long a connection may say nothing (RFC 7766, section 6.2.3 leaves it to the server).
const IDLE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Client {
    stream: TcpStream,
    address: Ipv4Addr,
    input: Vec<u8>,
    output: Vec<u8>,
    /// A question of it waits for its answer; the next is read after that.
    busy: bool,
    due: Instant,
}

impl Client {
    pub(super) fn new(stream: TcpStream, address: Ipv4Addr, now: Instant) -> Self {
        Client {
            stream,
            address,
            input: Vec::new(),
            output: Vec::new(),
            busy: false,
            due: now + IDLE,
        }
    }

    pub(super) fn address(&self) -> Ipv4Addr {
        self.address
    }

    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// Reads and writes what can be; `false` if the connection is over.
    pub(super) fn go_on(&mut self, now: Instant) -> bool {
        // Nothing is waited for then but that it goes away.
        let gone = self.busy && self.output.is_empty();
        if gone || !self.flush() {
            return false;
        }
        let mut piece = [0; 4096];
        // One question at most is read ahead of the one that waits.
        while !self.busy && self.whole_message().is_none() {
            match self.stream.read(&mut piece) {
                Ok(0) => return false,
                Ok(len) => {
                    self.input
                        .extend_from_slice(piece.get(..len).unwrap_or_default());
                    self.due = now + IDLE;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        true
    }

    fn whole_message(&self) -> Option<usize> {
        let length = self
            .input
            .first_chunk()
            .map(|len| u16::from_be_bytes(*len))?;
        let end = 2 + usize::from(length);
        (self.input.len() >= end).then_some(end)
    }

    /// The next question, unless one waits.
    pub(super) fn next_query(&mut self) -> Option<Vec<u8>> {
        if self.busy {
            return None;
        }
        let end = self.whole_message()?;
        let rest = self.input.split_off(end);
        let mut query = std::mem::replace(&mut self.input, rest);
        query.drain(..2);
        self.busy = true;
        Some(query)
    }

    /// Sends an answer; `false` if the connection is over.
    pub(super) fn answer(&mut self, epoll: &Epoll, token: u64, answer: &[u8]) -> bool {
        self.busy = false;
        let Ok(length) = u16::try_from(answer.len()) else {
            return false;
        };
        self.output.extend_from_slice(&length.to_be_bytes());
        self.output.extend_from_slice(answer);
        self.flush() && self.wait(epoll, token)
    }

    fn flush(&mut self) -> bool {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(0) => return false,
                Ok(len) => drop(self.output.drain(..len)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        true
    }

    /// Has epoll tell of what can go on now. What was read and not looked at yet wakes nobody, so a whole
    /// message is waited for as if there were room to write, which there is.
    pub(super) fn wait(&self, epoll: &Epoll, token: u64) -> bool {
        let mut flags = EpollFlags::empty();
        if !self.busy {
            flags |= EpollFlags::EPOLLIN;
        }
        if !self.output.is_empty() || (!self.busy && self.whole_message().is_some()) {
            flags |= EpollFlags::EPOLLOUT;
        }
        let mut event = EpollEvent::new(flags, token);
        epoll.modify(&self.stream, &mut event).is_ok()
    }

    pub(super) fn forget(&self, epoll: &Epoll) {
        let _ = epoll.delete(&self.stream);
    }
}

impl Dns {
    pub(super) fn accept(&mut self, epoll: &Epoll) {
        let others = self.clients.values().map(Client::address);
        let accepted = accept(&self.listener, others);
        let Some((stream, from)) = accepted.filter(|(_, from)| self.config.subnet.contains(*from))
        else {
            return;
        };
        let token = self.next_client;
        self.next_client = CLIENTS.max((token + 1) & 0xffff_ffff);
        let readable = EpollEvent::new(EpollFlags::EPOLLIN, self.base + token);
        if epoll.add(&stream, readable).is_ok() {
            let client = Client::new(stream, from, Instant::now());
            self.clients.insert(token, client);
        }
    }

    pub(super) fn serve_client(&mut self, epoll: &Epoll, ports: &mut Ports, token: u64) {
        let base = self.base;
        let Some(client) = self.clients.get_mut(&token) else {
            return;
        };
        let address = client.address();
        if !client.go_on(Instant::now()) {
            return self.drop_client(epoll, token);
        }
        while let Some(query) = self.clients.get_mut(&token).and_then(Client::next_query) {
            let asker = Asker::Tcp {
                client: token,
                address,
            };
            self.question(Some(epoll), ports, asker, &query);
        }
        if let Some(client) = self.clients.get_mut(&token)
            && !client.wait(epoll, base + token)
        {
            self.drop_client(epoll, token);
        }
    }

    pub(super) fn drop_client(&mut self, epoll: &Epoll, token: u64) {
        if let Some(client) = self.clients.remove(&token) {
            client.forget(epoll);
        }
    }
}

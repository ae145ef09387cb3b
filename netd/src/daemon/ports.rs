//! All ports: by name for `fvmd`, by token for epoll.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::ops::Bound;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};

use super::bucket::RateLimit;
use super::port::{Buffers, Port, Turn};
use crate::control::{PortLog, PortState};
use crate::dhcp::{Binding, DnsName};
use crate::seed::Seed;

#[derive(Debug)]
pub(super) struct Ports {
    limit: RateLimit,
    tokens: BTreeMap<String, u64>,
    ports: HashMap<u64, Port>,
    /// Ports by the addresses of the guests behind them.
    addresses: HashMap<Ipv4Addr, u64>,
    /// Another number whenever a port comes, goes or is bound anew.
    state: u64,
    /// Ports that are not read for a while, by when they are read again.
    paused: BTreeSet<(Instant, u64)>,
    buffers: Buffers,
}

impl Ports {
    pub(super) fn new(limit: RateLimit) -> Self {
        Ports {
            limit,
            tokens: BTreeMap::new(),
            ports: HashMap::new(),
            addresses: HashMap::new(),
            state: 0,
            paused: BTreeSet::new(),
            buffers: Buffers::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Serves a port by this socket from now on. `token` is a fresh one, for this socket alone.
    pub(super) fn bind(
        &mut self,
        epoll: &Epoll,
        token: u64,
        name: &str,
        binding: Binding,
        socket: OwnedFd,
    ) -> Result<(), Errno> {
        epoll.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, token))?;
        let port = match self
            .tokens
            .get(name)
            .copied()
            .and_then(|old| self.take(epoll, old))
        {
            Some(mut port) => {
                port.rebind(socket, binding, &mut self.buffers);
                port
            }
            None => Port::new(name.to_owned(), socket, binding, self.limit),
        };
        self.tokens.insert(name.to_owned(), token);
        self.addresses.insert(port.address(), token);
        self.state += 1;
        self.ports.insert(token, port);
        Ok(())
    }

    /// Serves a port no more; says whether it was served.
    pub(super) fn unbind(&mut self, epoll: &Epoll, name: &str) -> bool {
        match self.tokens.remove(name) {
            Some(token) => self.take(epoll, token).is_some(),
            None => false,
        }
    }

    /// Takes a port's socket out of the epoll set: closing does not do it while another process has
    /// a copy.
    fn take(&mut self, epoll: &Epoll, token: u64) -> Option<Port> {
        let port = self.ports.remove(&token)?;
        self.addresses.retain(|_, of| *of != token);
        self.state += 1;
        self.paused.retain(|(_, paused)| *paused != token);
        if let Err(errno) = epoll.delete(port.socket()) {
            tracing::warn!(error = %errno, "cannot stop waiting on a port");
        }
        Some(port)
    }

    /// Drops every port but these; returns the names of those dropped.
    pub(super) fn keep_only(&mut self, epoll: &Epoll, keep: &BTreeSet<String>) -> Vec<String> {
        let stale: Vec<String> = self
            .tokens
            .keys()
            .filter(|name| !keep.contains(*name))
            .cloned()
            .collect();
        for name in &stale {
            self.unbind(epoll, name);
        }
        stale
    }

    /// Answers what came in by the port of this token; a token of a port that is gone is ignored.
    pub(super) fn serve(&mut self, epoll: &Epoll, token: u64) {
        let Some(port) = self.ports.get_mut(&token) else {
            return;
        };
        if let Turn::PauseUntil(at) = port.serve(&mut self.buffers) {
            set_listening(epoll, port, token, false);
            self.paused.insert((at, token));
        }
    }

    /// When the next pause ends.
    pub(super) fn next_resume(&self) -> Option<Instant> {
        self.paused.first().map(|(at, _)| *at)
    }

    /// Reads again the ports whose pause is over.
    pub(super) fn resume_due(&mut self, epoll: &Epoll, now: Instant) {
        while let Some(&(at, token)) = self.paused.first()
            && at <= now
        {
            self.paused.pop_first();
            if let Some(port) = self.ports.get(&token) {
                set_listening(epoll, port, token, true);
            }
        }
    }

    /// One page of the ports after this name, and whether there are more.
    pub(super) fn page(&self, after: Option<&str>, size: usize) -> (Vec<PortState>, bool) {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = self.tokens.range::<str, _>((from, Bound::Unbounded));
        let states = rest
            .by_ref()
            .take(size)
            .filter_map(|(_, token)| self.ports.get(token))
            .map(Port::state)
            .collect();
        (states, rest.next().is_some())
    }

    /// What changes whenever [`Self::names`] may.
    pub(super) fn state(&self) -> u64 {
        self.state
    }

    /// The names of all guests with their addresses.
    pub(super) fn names(&self) -> impl Iterator<Item = (&DnsName, Ipv4Addr)> {
        // In the order of the ports, so that of two equal names the same one always wins.
        let ports = self
            .tokens
            .values()
            .filter_map(|token| self.ports.get(token));
        ports.flat_map(|port| port.names().iter().map(|name| (name, port.address())))
    }

    /// Notes a question to DNS with the port it came from, if it came from one.
    pub(super) fn log_query(&mut self, address: Ipv4Addr, asked: &str, told: &str) {
        let token = self.addresses.get(&address);
        if let Some(port) = token.and_then(|token| self.ports.get_mut(token)) {
            port.log_query(asked, told);
        }
    }

    /// The data for the guest that has this address.
    pub(super) fn seed(&self, address: Ipv4Addr) -> Option<&Seed> {
        let token = self.addresses.get(&address)?;
        self.ports.get(token).and_then(Port::seed)
    }

    pub(super) fn log(&mut self, name: &str) -> Option<PortLog> {
        let token = self.tokens.get(name)?;
        self.ports.get_mut(token).map(Port::log)
    }
}

fn set_listening(epoll: &Epoll, port: &Port, token: u64, on: bool) {
    let flags = if on {
        EpollFlags::EPOLLIN
    } else {
        EpollFlags::empty()
    };
    let mut event = EpollEvent::new(flags, token);
    if let Err(errno) = epoll.modify(port.socket().as_fd(), &mut event) {
        tracing::warn!(error = %errno, "cannot change what a port waits for");
    }
}

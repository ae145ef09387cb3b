//! All ports: by name for `fvmd`, by token for epoll.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};

use super::bucket::RateLimit;
use super::port::{Buffers, Port, Turn};
use crate::control::{PortLog, PortState};
use crate::dhcp::Binding;

#[derive(Debug)]
pub(super) struct Ports {
    limit: RateLimit,
    tokens: BTreeMap<String, u64>,
    ports: HashMap<u64, Port>,
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

//! A question asked by TCP, on a socket that is used again and again: this process can make no others.

use std::io::{self, Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use nix::sys::socket::{SockaddrIn, connect};

use super::asked::{Asked, random};
use super::{Dns, SERVER_WAIT, STREAMS};
use crate::daemon::ports::Ports;
use crate::dns::is_answer;
use crate::sys;

#[derive(Debug)]
pub(super) struct Stream {
    socket: TcpStream,
    work: Option<Work>,
}

#[derive(Debug)]
struct Work {
    asked: Asked,
    output: Vec<u8>,
    input: Vec<u8>,
    due: Instant,
}

/// How far a question has come.
#[derive(Debug)]
pub(super) enum Step {
    Waits,
    Failed,
    Answer(Vec<u8>),
}

impl Stream {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Stream {
            socket: socket.into(),
            work: None,
        }
    }

    pub(super) fn is_free(&self) -> bool {
        self.work.is_none()
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.work.as_ref().map(|work| work.due)
    }

    /// Begins to ask a server; gives the question back if that cannot be done.
    pub(super) fn begin(
        &mut self,
        epoll: &Epoll,
        token: u64,
        mut asked: Asked,
        server: SocketAddrV4,
        now: Instant,
    ) -> Result<(), Box<Asked>> {
        let Some(random) = random() else {
            return Err(Box::new(asked));
        };
        asked.set_id(random as u16);
        let length = u16::try_from(asked.query.len()).unwrap_or(u16::MAX);
        let output = [&length.to_be_bytes()[..], &asked.query].concat();
        match connect(self.socket.as_raw_fd(), &SockaddrIn::from(server)) {
            Ok(()) | Err(Errno::EINPROGRESS) => {}
            Err(_) => {
                let _ = sys::disconnect(self.socket.as_fd());
                return Err(Box::new(asked));
            }
        }
        let event = EpollEvent::new(EpollFlags::EPOLLOUT, token);
        if epoll.add(&self.socket, event).is_err() {
            let _ = sys::disconnect(self.socket.as_fd());
            return Err(Box::new(asked));
        }
        self.work = Some(Work {
            asked,
            output,
            input: Vec::new(),
            due: now + SERVER_WAIT,
        });
        Ok(())
    }

    /// Writes and reads what can be.
    pub(super) fn go_on(&mut self, epoll: &Epoll, token: u64) -> Step {
        let Some(work) = &mut self.work else {
            return Step::Waits;
        };
        match work.go_on(&mut self.socket) {
            Ok(Some(answer)) => Step::Answer(answer),
            Ok(None) => Step::Failed,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let flags = match work.output.is_empty() {
                    true => EpollFlags::EPOLLIN,
                    false => EpollFlags::EPOLLOUT,
                };
                let mut event = EpollEvent::new(flags, token);
                match epoll.modify(&self.socket, &mut event) {
                    Ok(()) => Step::Waits,
                    Err(_) => Step::Failed,
                }
            }
            Err(_) => Step::Failed,
        }
    }

    /// Ends the connection, so that the socket can be used again; returns what was asked by it.
    pub(super) fn end(&mut self, epoll: &Epoll) -> Option<Asked> {
        let work = self.work.take()?;
        let _ = epoll.delete(&self.socket);
        if let Err(error) = sys::disconnect(self.socket.as_fd()) {
            tracing::warn!(%error, "cannot end a connection to a DNS server");
        }
        Some(work.asked)
    }
}

impl Dns {
    pub(super) fn go_on_with(&mut self, epoll: &Epoll, ports: &mut Ports, index: u64) {
        let Ok(index) = usize::try_from(index) else {
            return;
        };
        let base = self.base;
        let Some(stream) = self.streams.get_mut(index) else {
            return;
        };
        match stream.go_on(epoll, base + STREAMS + index as u64) {
            Step::Waits => {}
            Step::Failed => self.stream_failed(epoll, ports, index),
            Step::Answer(answer) => {
                if let Some(asked) = stream.end(epoll) {
                    self.heard(Some(epoll), ports, asked, answer);
                }
            }
        }
    }

    pub(super) fn stream_failed(&mut self, epoll: &Epoll, ports: &mut Ports, index: usize) {
        let stream = self.streams.get_mut(index);
        if let Some(asked) = stream.and_then(|stream| stream.end(epoll)) {
            self.ask_next(epoll, ports, asked);
        }
    }
}

impl Work {
    /// The answer; nothing if the server has ended the connection or said something else.
    fn go_on(&mut self, socket: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
        while !self.output.is_empty() {
            match socket.write(&self.output) {
                Ok(len) => drop(self.output.drain(..len)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let mut piece = [0; 4096];
        loop {
            let length = self.input.first_chunk().map(|len| u16::from_be_bytes(*len));
            if let Some(length) = length
                && let Some(answer) = self.input.get(2..2 + usize::from(length))
            {
                let fits = is_answer(answer, &self.asked.query, self.asked.question.end);
                return Ok(fits.then(|| answer.to_vec()));
            }
            match socket.read(&mut piece) {
                Ok(0) => return Ok(None),
                Ok(len) => self
                    .input
                    .extend_from_slice(piece.get(..len).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

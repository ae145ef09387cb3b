//! Questions that wait for servers elsewhere, asked by UDP.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::time::Instant;

use super::{Asker, SERVER_WAIT};
use crate::dns::{Question, is_answer};

/// How often a question is asked, of all servers together.
const TRIES_MAX: usize = 3;

/// A question on its way.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) asker: Asker,
    pub(super) question: Question,
    /// As it is sent: the client's own bytes with our number.
    pub(super) query: Vec<u8>,
    tries: usize,
}

impl Asked {
    pub(super) fn new(asker: Asker, question: Question, query: Vec<u8>) -> Self {
        Asked {
            asker,
            question,
            query,
            tries: 0,
        }
    }

    /// Who is to be asked next, if it was not asked often enough.
    pub(super) fn next_server(&mut self, servers: &[SocketAddrV4]) -> Option<SocketAddrV4> {
        if !self.has_next_server(servers) {
            return None;
        }
        let server = servers.get(self.tries % servers.len());
        self.tries += 1;
        server.copied()
    }

    pub(super) fn has_next_server(&self, servers: &[SocketAddrV4]) -> bool {
        !servers.is_empty() && self.tries < TRIES_MAX
    }

    pub(super) fn set_id(&mut self, id: u16) {
        if let Some(bytes) = self.query.get_mut(..2) {
            bytes.copy_from_slice(&id.to_be_bytes());
        }
    }

    /// Gives an answer made of the query the client's number.
    pub(super) fn restore_id(&self, answer: &mut [u8]) {
        if let Some(bytes) = answer.get_mut(..2) {
            bytes.copy_from_slice(&self.question.id.to_be_bytes());
        }
    }
}

#[derive(Debug)]
struct Waiting {
    asked: Asked,
    server: SocketAddrV4,
    due: Instant,
}

/// The sockets that ask, and what was asked by them and is not answered yet.
#[derive(Debug)]
pub(super) struct Asking {
    sockets: Vec<UdpSocket>,
    waiting: HashMap<(usize, u16), Waiting>,
}

/// Numbers that nobody can guess: for queries and the sockets they leave by (RFC 5452, section 9.2).
pub(super) fn random() -> Option<u32> {
    getrandom::u32().ok()
}

impl Asking {
    pub(super) fn new(sockets: Vec<UdpSocket>) -> Self {
        Asking {
            sockets,
            waiting: HashMap::new(),
        }
    }

    pub(super) fn sockets(&self) -> &[UdpSocket] {
        &self.sockets
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn waiting_of(&self, address: Ipv4Addr) -> usize {
        let of = |waiting: &&Waiting| waiting.asked.asker.address() == address;
        self.waiting.values().filter(of).count()
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.waiting.values().map(|waiting| waiting.due).min()
    }

    /// What was not answered in time.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<Asked> {
        let late = self.waiting.extract_if(|_, waiting| waiting.due <= now);
        late.map(|(_, waiting)| waiting.asked).collect()
    }

    /// Asks a server; gives the question back if that cannot be done.
    pub(super) fn send(
        &mut self,
        mut asked: Asked,
        server: SocketAddrV4,
        now: Instant,
    ) -> Result<(), Box<Asked>> {
        let (Some(random), count @ 1..) = (random(), self.sockets.len()) else {
            return Err(Box::new(asked));
        };
        let [high, low] = [random >> 16, random & 0xffff];
        let index = high as usize % count;
        let (Ok(id), Some(socket)) = (u16::try_from(low), self.sockets.get(index)) else {
            return Err(Box::new(asked));
        };
        if self.waiting.contains_key(&(index, id)) {
            return Err(Box::new(asked));
        }
        asked.set_id(id);
        if socket.send_to(&asked.query, server).is_err() {
            return Err(Box::new(asked));
        }
        let waiting = Waiting {
            asked,
            server,
            due: now + SERVER_WAIT,
        };
        self.waiting.insert((index, id), waiting);
        Ok(())
    }

    /// Reads one datagram: what it answers and its length, if it answers anything.
    pub(super) fn receive(
        &mut self,
        index: usize,
        buffer: &mut [u8],
    ) -> io::Result<Option<(Asked, usize)>> {
        let Some(socket) = self.sockets.get(index) else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        let (len, from) = socket.recv_from(buffer)?;
        let answer = buffer.get(..len).unwrap_or_default();
        let Some(id) = answer.first_chunk().map(|id| u16::from_be_bytes(*id)) else {
            return Ok(None);
        };
        let fits = self.waiting.get(&(index, id)).is_some_and(|waiting| {
            SocketAddr::V4(waiting.server) == from
                && is_answer(answer, &waiting.asked.query, waiting.asked.question.end)
        });
        let waiting = fits.then(|| self.waiting.remove(&(index, id))).flatten();
        Ok(waiting.map(|waiting| (waiting.asked, len)))
    }
}

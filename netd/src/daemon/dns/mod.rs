//! DNS on the sockets that `fvmd` has handed over: clients, and servers that are asked elsewhere.
//!
//! ```text
//! client --UDP--> [ zone | cache ] --no--> UDP to a server, the next one after a while
//! client --TCP--> [ zone | cache ] --no--> TCP to a server
//! ```
//!
//! Nobody waits for anybody: what is under way is kept with the time until which it is waited for.

mod asked;
mod client;
mod sockets;
mod stream;

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};

use super::bucket::{Bucket, RateLimit};
use super::ports::Ports;
use crate::dns::{Cache, DnsConfig, Question, Unanswerable, Zone, code, outcome, short_answer};
use asked::{Asked, Asking};
use client::Client;
use sockets::Sockets;
use stream::Stream;

/// Tokens with this bit are of DNS.
pub(super) const TOKEN: u64 = 1 << 63;
/// How many datagrams are read before others have their turn.
const TURN: usize = 32;
/// How many questions of one client may wait for servers elsewhere.
const WAITING_EACH: usize = 64;
/// The same for all clients together.
const WAITING_MAX: usize = 1024;
/// How many questions of a client are read: far more than a busy guest has, far less than a flood.
const LIMIT: RateLimit = RateLimit {
    per_second: 1000,
    burst: 2000,
};
/// Clients whose rate is remembered.
const BUCKETS_MAX: usize = 4096;

/// Where an answer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asker {
    Udp(SocketAddrV4),
    Tcp { client: u64, address: Ipv4Addr },
}

impl Asker {
    fn address(self) -> Ipv4Addr {
        match self {
            Asker::Udp(address) => *address.ip(),
            Asker::Tcp { address, .. } => address,
        }
    }

    fn is_udp(self) -> bool {
        matches!(self, Asker::Udp(_))
    }
}

/// DNS on one network.
#[derive(Debug)]
pub(super) struct Dns {
    config: DnsConfig,
    zone: Zone,
    /// The state of the ports that the zone's names are of.
    names_of: Option<u64>,
    cache: Cache,
    udp: UdpSocket,
    listener: TcpListener,
    asking: Asking,
    streams: Vec<Stream>,
    clients: HashMap<u64, Client>,
    buckets: HashMap<Ipv4Addr, Bucket>,
    /// The first of the tokens: others of the same bit are of an earlier configuration.
    base: u64,
    next_client: u64,
    buffer: Box<[u8]>,
}

/// Tokens behind the base: the sockets that hear questions, those that ask, then clients.
const UDP: u64 = 0;
const LISTENER: u64 = 1;
const ASKING: u64 = 0x100;
const STREAMS: u64 = 0x200;
const CLIENTS: u64 = 0x1000;

impl Dns {
    /// Serves by these sockets from now on; `generation` was never used before.
    pub(super) fn new(
        epoll: &Epoll,
        generation: u64,
        config: DnsConfig,
        fds: Vec<OwnedFd>,
    ) -> Result<Self, String> {
        let Sockets {
            udp,
            listener,
            asking,
            streams,
        } = Sockets::sort(fds)?;
        let zone =
            Zone::new(&config).ok_or_else(|| format!("{} is too long a domain", config.domain))?;
        let dns = Dns {
            config,
            zone,
            names_of: None,
            cache: Cache::default(),
            udp: udp.into(),
            listener: listener.into(),
            asking: Asking::new(asking.into_iter().map(UdpSocket::from).collect()),
            streams: streams.into_iter().map(Stream::new).collect(),
            clients: HashMap::new(),
            buckets: HashMap::new(),
            base: TOKEN | (generation & 0x7fff_ffff) << 32,
            next_client: CLIENTS,
            buffer: vec![0; usize::from(u16::MAX)].into(),
        };
        dns.listen(epoll)
            .map_err(|errno| format!("cannot wait on DNS sockets: {}", errno.desc()))?;
        Ok(dns)
    }

    fn listen(&self, epoll: &Epoll) -> Result<(), Errno> {
        let readable = |token| EpollEvent::new(EpollFlags::EPOLLIN, self.base + token);
        epoll.add(&self.udp, readable(UDP))?;
        epoll.add(&self.listener, readable(LISTENER))?;
        for (token, socket) in (ASKING..).zip(self.asking.sockets()) {
            epoll.add(socket, readable(token))?;
        }
        Ok(())
    }

    /// Serves no more; what waits to be read is answered once more as far as that needs nobody else.
    pub(super) fn end(mut self, epoll: &Epoll, ports: &mut Ports) {
        self.serve_udp(ports);
        // Closing does not take them out while another process has copies.
        let sockets = [self.udp.as_fd(), self.listener.as_fd()];
        for socket in sockets
            .into_iter()
            .chain(self.asking.sockets().iter().map(AsFd::as_fd))
        {
            let _ = epoll.delete(socket);
        }
        for stream in &mut self.streams {
            stream.end(epoll);
        }
        for client in self.clients.values() {
            client.forget(epoll);
        }
    }

    /// Whether the token is of this one's sockets.
    pub(super) fn has(&self, token: u64) -> bool {
        token >> 32 == self.base >> 32
    }

    /// Does what an event asks for.
    pub(super) fn handle(&mut self, epoll: &Epoll, ports: &mut Ports, token: u64) {
        let Some(token) = token.checked_sub(self.base) else {
            return;
        };
        match token {
            UDP => self.serve_udp(ports),
            LISTENER => self.accept(epoll),
            ASKING..STREAMS => self.hear(ports, token - ASKING, epoll),
            STREAMS..CLIENTS => self.go_on_with(epoll, ports, token - STREAMS),
            client if client < 1 << 32 => self.serve_client(epoll, ports, client),
            _ => {}
        }
    }

    /// When the next thing is to be done though nothing comes in.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let streams = self.streams.iter().filter_map(Stream::due);
        let clients = self.clients.values().map(Client::due);
        streams.chain(clients).chain(self.asking.next_due()).min()
    }

    /// Gives up, or asks others, where nothing has come in time.
    pub(super) fn go_on(&mut self, epoll: &Epoll, ports: &mut Ports, now: Instant) {
        for asked in self.asking.take_due(now) {
            self.ask_next(epoll, ports, asked);
        }
        for index in 0..self.streams.len() {
            let late = |stream: &Stream| stream.due().is_some_and(|due| due <= now);
            if self.streams.get(index).is_some_and(late) {
                self.stream_failed(epoll, ports, index);
            }
        }
        let late: Vec<u64> = self
            .clients
            .iter()
            .filter(|(_, client)| client.due() <= now)
            .map(|(token, _)| *token)
            .collect();
        for token in late {
            self.drop_client(epoll, token);
        }
    }

    fn serve_udp(&mut self, ports: &mut Ports) {
        for _ in 0..TURN {
            let mut buffer = std::mem::take(&mut self.buffer);
            let received = self.udp.recv_from(&mut buffer);
            if let Ok((len, std::net::SocketAddr::V4(from))) = received {
                let bytes = buffer.get(..len).unwrap_or_default();
                // A question by UDP starts nothing that epoll must know of.
                self.question(None, ports, Asker::Udp(from), bytes);
            }
            self.buffer = buffer;
            match received {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // A client that was answered is gone: that is told once, and the next is read.
                _ => {}
            }
        }
    }

    /// Takes a question; it is answered at once, or waits for others.
    fn question(&mut self, epoll: Option<&Epoll>, ports: &mut Ports, asker: Asker, bytes: &[u8]) {
        let now = Instant::now();
        let address = asker.address();
        // Nobody but guests and the host itself.
        if !self.config.subnet.contains(address) || !self.may_ask(address, now) {
            return self.abandon(epoll, asker);
        }
        let question = match Question::read(bytes) {
            Ok(question) => question,
            Err(Unanswerable::NoQuestion) => return self.abandon(epoll, asker),
            Err(Unanswerable::Refused(answer)) => {
                ports.log_query(address, "malformed or not for us", &outcome(&answer));
                return self.send(epoll, asker, &answer);
            }
        };
        self.follow_names(ports);
        let known = self.zone.answer(&question);
        if let Some(answer) = known.or_else(|| self.cache.get(&question, now)) {
            let encoded = question.encode(&answer, asker.is_udp());
            let answer = encoded
                .unwrap_or_else(|| short_answer(bytes, question.end, code::SERVER_FAILURE, false));
            log(ports, &question, address, &outcome(&answer));
            return self.send(epoll, asker, &answer);
        }
        let asked = Asked::new(asker, question, bytes.to_vec());
        let waiting = self.asking.waiting_of(address);
        if waiting >= WAITING_EACH || self.asking.waiting() >= WAITING_MAX {
            return self.give_up(epoll, ports, &asked, "too many questions wait");
        }
        self.ask(epoll, ports, asked, now);
    }

    /// Has a server elsewhere asked.
    fn ask(&mut self, epoll: Option<&Epoll>, ports: &mut Ports, mut asked: Asked, now: Instant) {
        while let Some(server) = asked.next_server(&self.config.upstreams) {
            let begun = match epoll {
                Some(epoll) if !asked.asker.is_udp() => {
                    let free = self.streams.iter().position(Stream::is_free);
                    let Some(index) = free else {
                        return self.give_up(
                            Some(epoll),
                            ports,
                            &asked,
                            "all connections are busy",
                        );
                    };
                    let token = self.base + STREAMS + index as u64;
                    match self.streams.get_mut(index) {
                        Some(stream) => stream.begin(epoll, token, asked, server, now),
                        None => Err(Box::new(asked)),
                    }
                }
                _ => self.asking.send(asked, server, now),
            };
            match begun {
                Ok(()) => return,
                Err(back) => asked = *back,
            }
        }
        let why = match self.config.upstreams.is_empty() {
            true => "the host has no DNS servers",
            false => "no server has answered",
        };
        self.give_up(epoll, ports, &asked, why);
    }

    fn ask_next(&mut self, epoll: &Epoll, ports: &mut Ports, asked: Asked) {
        self.ask(Some(epoll), ports, asked, Instant::now());
    }

    /// Reads answers of servers.
    fn hear(&mut self, ports: &mut Ports, index: u64, epoll: &Epoll) {
        let Ok(index) = usize::try_from(index) else {
            return;
        };
        for _ in 0..TURN {
            let mut buffer = std::mem::take(&mut self.buffer);
            let heard = self.asking.receive(index, &mut buffer);
            if let Ok(Some((asked, len))) = heard {
                let answer = buffer.get(..len).unwrap_or_default().to_vec();
                self.buffer = buffer;
                self.heard(Some(epoll), ports, asked, answer);
                continue;
            }
            self.buffer = buffer;
            match heard {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // A server's port is closed, or it was no answer to anything.
                _ => {}
            }
        }
    }

    /// Passes an answer on, unless another server may have a better one.
    fn heard(
        &mut self,
        epoll: Option<&Epoll>,
        ports: &mut Ports,
        asked: Asked,
        mut answer: Vec<u8>,
    ) {
        let refused = answer
            .get(3)
            .is_some_and(|flags| [code::SERVER_FAILURE, code::REFUSED].contains(&(flags & 0xf)));
        if refused && asked.has_next_server(&self.config.upstreams) {
            return self.ask(epoll, ports, asked, Instant::now());
        }
        if let Some(id) = answer.get_mut(..2) {
            id.copy_from_slice(&asked.question.id.to_be_bytes());
        }
        self.cache.put(&asked.question, &answer, Instant::now());
        if asked.asker.is_udp() && answer.len() > asked.question.udp_max {
            answer = short_answer(&asked.query, asked.question.end, 0, true);
            asked.restore_id(&mut answer);
        }
        log(
            ports,
            &asked.question,
            asked.asker.address(),
            &outcome(&answer),
        );
        self.send(epoll, asked.asker, &answer);
    }

    fn give_up(&mut self, epoll: Option<&Epoll>, ports: &mut Ports, asked: &Asked, why: &str) {
        let mut answer = short_answer(
            &asked.query,
            asked.question.end,
            code::SERVER_FAILURE,
            false,
        );
        asked.restore_id(&mut answer);
        let told = format!("{}: {why}", outcome(&answer));
        log(ports, &asked.question, asked.asker.address(), &told);
        self.send(epoll, asked.asker, &answer);
    }

    fn may_ask(&mut self, address: Ipv4Addr, now: Instant) -> bool {
        if self.buckets.len() >= BUCKETS_MAX {
            self.buckets.clear();
        }
        let bucket = self
            .buckets
            .entry(address)
            .or_insert_with(|| Bucket::new(LIMIT, now));
        let allowed = bucket.allows(now).is_ok();
        if allowed {
            bucket.spend();
        }
        allowed
    }

    /// Brings the zone's names into step with the ports that are served.
    fn follow_names(&mut self, ports: &Ports) {
        if self.names_of != Some(ports.state()) {
            self.zone.set_names(ports.names());
            self.names_of = Some(ports.state());
        }
    }

    fn send(&mut self, epoll: Option<&Epoll>, asker: Asker, answer: &[u8]) {
        match (asker, epoll) {
            // One that takes no answer has asked for nothing.
            (Asker::Udp(to), _) => drop(self.udp.send_to(answer, to)),
            (Asker::Tcp { client, .. }, Some(epoll)) => {
                let base = self.base;
                let sent = self.clients.get_mut(&client);
                if sent.is_some_and(|found| !found.answer(epoll, base + client, answer)) {
                    self.drop_client(epoll, client);
                }
            }
            (Asker::Tcp { .. }, None) => {}
        }
    }

    /// Ends the connection of somebody who is not answered.
    fn abandon(&mut self, epoll: Option<&Epoll>, asker: Asker) {
        if let (Asker::Tcp { client, .. }, Some(epoll)) = (asker, epoll) {
            self.drop_client(epoll, client);
        }
    }
}

fn log(ports: &mut Ports, question: &Question, address: Ipv4Addr, told: &str) {
    let asked = format!("{} {}", question.kind, question.name.to_ascii());
    ports.log_query(address, &asked, told);
}

/// How long a server is waited for. Clients ask again after some five seconds, when all were asked.
const SERVER_WAIT: Duration = Duration::from_millis(1500);

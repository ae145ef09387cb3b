//! One port: its socket, its binding, and what was said on it.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, send};

use super::bucket::{Bucket, RateLimit};
use crate::control::{LeaseState, LoggedExchange, LoggedQuery, PortLog, PortState};
use crate::dhcp::{Binding, DnsName, Exchange, MessageType, Outcome, Silence, respond};
use crate::seed::Seed;
use crate::sys;

/// How many exchanges are kept.
const LOG_LEN: usize = 16;
/// How many frames of one port are read before others have their turn.
const TURN_FRAMES: usize = 32;
/// A guest that declines its address says so again and again; the host's log needs it only now and then.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// Buffers for one frame each way, shared by all ports.
#[derive(Debug)]
pub(super) struct Buffers {
    received: Box<[u8]>,
    reply: Vec<u8>,
}

impl Buffers {
    pub(super) fn new() -> Self {
        // Longer than any link's frame, so that none is cut.
        Buffers {
            received: vec![0; 64 * 1024 + 64].into(),
            reply: Vec::with_capacity(2048),
        }
    }
}

#[derive(Debug)]
pub(super) struct Port {
    name: String,
    socket: OwnedFd,
    binding: Binding,
    bucket: Bucket,
    log: VecDeque<LoggedExchange>,
    /// Apart from the log of DHCP, which a guest that asks for many names must not push out.
    queries: VecDeque<LoggedQuery>,
    /// How many messages there were, of both kinds.
    messages: u64,
    lease: Option<LeaseState>,
    frames: u64,
    answered: u64,
    rate_limited: u64,
    warned: Option<Instant>,
}

/// How a port's turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing more to read, or others' turn.
    Over,
    /// The guest sends too much: do not read it before then.
    PauseUntil(Instant),
}

impl Port {
    pub(super) fn new(name: String, socket: OwnedFd, binding: Binding, limit: RateLimit) -> Self {
        Port {
            name,
            socket,
            binding,
            bucket: Bucket::new(limit, Instant::now()),
            log: VecDeque::with_capacity(LOG_LEN),
            queries: VecDeque::new(),
            messages: 0,
            lease: None,
            frames: 0,
            answered: 0,
            rate_limited: 0,
            warned: None,
        }
    }

    pub(super) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Goes on with another socket and binding; what was said before stays in the log.
    pub(super) fn rebind(&mut self, socket: OwnedFd, binding: Binding, buffers: &mut Buffers) {
        if binding.address != self.binding.address {
            self.lease = None;
        }
        self.binding = binding;
        // What waits in the old socket came before the new one was there to hear it.
        self.serve(buffers);
        self.count_drops();
        self.socket = socket;
    }

    /// Answers what has come in.
    pub(super) fn serve(&mut self, buffers: &mut Buffers) -> Turn {
        for _ in 0..TURN_FRAMES {
            if let Err(again) = self.bucket.allows(Instant::now()) {
                return Turn::PauseUntil(again);
            }
            match sys::packet_receive(self.socket.as_fd(), &mut buffers.received) {
                Ok((len, notes)) => {
                    self.bucket.spend();
                    let frame = buffers.received.get(..len).unwrap_or_default();
                    let exchange = respond(frame, notes, Some(&self.binding), &mut buffers.reply);
                    self.finish(exchange, &buffers.reply);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Turn::Over,
                // The link went down or away. That clears the error; if it comes up again, so do
                // its frames.
                Err(error) => {
                    tracing::debug!(port = self.name, %error, "the port does not receive");
                    return Turn::Over;
                }
            }
        }
        Turn::Over
    }

    fn finish(&mut self, mut exchange: Exchange, reply: &[u8]) {
        self.frames += 1;
        self.messages += 1;
        if !reply.is_empty() {
            match self.send(reply) {
                Ok(()) => self.answered += 1,
                Err(errno) => {
                    let cause = Silence::SendFailed {
                        error: errno.desc().to_owned(),
                    };
                    exchange.outcome = Outcome::Silent { cause };
                }
            }
        }
        let at_unix_ms = unix_ms();
        match &exchange.outcome {
            Outcome::Answered {
                message: MessageType::Ack,
                lease_s: Some(lease_s),
                ..
            } => {
                self.lease = Some(self.lease_state(at_unix_ms, *lease_s));
            }
            Outcome::Silent {
                cause: Silence::Declined { address },
            } => self.warn_declined(*address),
            _ => {}
        }
        tracing::debug!(port = self.name, ?exchange, "exchange");
        if self.log.len() == LOG_LEN {
            self.log.pop_front();
        }
        self.log.push_back(LoggedExchange {
            number: self.messages,
            at_unix_ms,
            exchange,
        });
    }

    fn send(&self, reply: &[u8]) -> Result<(), Errno> {
        loop {
            match send(self.socket.as_raw_fd(), reply, MsgFlags::MSG_DONTWAIT) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    fn lease_state(&self, now_ms: u64, lease_s: u32) -> LeaseState {
        let times = self.binding.lease.asked(lease_s);
        let after = |seconds: u32| now_ms.saturating_add(u64::from(seconds) * 1000);
        LeaseState {
            address: self.binding.address,
            granted_unix_ms: now_ms,
            renew_unix_ms: after(times.renew_s()),
            expires_unix_ms: after(lease_s),
        }
    }

    fn warn_declined(&mut self, address: std::net::Ipv4Addr) {
        let now = Instant::now();
        if self
            .warned
            .is_none_or(|at| now.saturating_duration_since(at) >= WARN_EVERY)
        {
            self.warned = Some(now);
            tracing::warn!(
                port = self.name,
                vm = self.binding.vm,
                %address,
                "the guest declined its address: something else on its network answers for it"
            );
        }
    }

    /// Adds up what the kernel has dropped because the guest sent more than was read.
    fn count_drops(&mut self) {
        if let Ok(drops) = sys::packet_drops(self.socket.as_fd()) {
            self.rate_limited += u64::from(drops);
        }
    }

    pub(super) fn state(&self) -> PortState {
        PortState {
            port: self.name.clone(),
            vm: self.binding.vm,
            address: self.binding.address,
            ifindex: sys::packet_ifindex(self.socket.as_fd()),
        }
    }

    pub(super) fn address(&self) -> std::net::Ipv4Addr {
        self.binding.address
    }

    pub(super) fn names(&self) -> &[DnsName] {
        &self.binding.dns_names
    }

    pub(super) fn seed(&self) -> Option<&Seed> {
        self.binding.seed.as_ref()
    }

    pub(super) fn log_query(&mut self, asked: &str, told: &str) {
        self.messages += 1;
        if self.queries.len() == LOG_LEN {
            self.queries.pop_front();
        }
        self.queries.push_back(LoggedQuery {
            number: self.messages,
            at_unix_ms: unix_ms(),
            asked: asked.to_owned(),
            told: told.to_owned(),
        });
    }

    pub(super) fn log(&mut self) -> PortLog {
        self.count_drops();
        PortLog {
            port: self.state(),
            exchanges: self.log.iter().cloned().collect(),
            queries: self.queries.iter().cloned().collect(),
            lease: self.lease,
            frames: self.frames,
            answered: self.answered,
            rate_limited: self.rate_limited,
        }
    }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

//! Clients: many of them in one thread, on the guests' ends of taps.

use std::collections::VecDeque;
use std::fmt;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use fvm_netd::MacAddr;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::wire::{ACK, Ask, DISCOVER, OFFER, REQUEST};

/// After this a request is lost.
const PATIENCE: Duration = Duration::from_millis(500);
/// `struct virtio_net_hdr` of `linux/virtio_net.h`, which says that the card would do the checksum: 1, then where the
/// checksummed part begins and where in it the checksum is.
const PARTIAL: [u8; 10] = [1, 0, 0, 0, 0, 0, 34, 0, 6, 0];
const XID_AT: usize = PARTIAL.len() + 42 + 4;
const YIADDR_AT: usize = PARTIAL.len() + 42 + 16;
/// Where the message type is in what every server here sends: the first option.
const TYPE_AT: usize = PARTIAL.len() + 42 + 240 + 2;

/// Who sets the pace.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Load {
    /// The server: as many requests are always under way.
    Closed { outstanding: usize },
    /// The clients, whether answers come or not.
    Offered { per_second: u32 },
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Load::Closed { outstanding } => write!(f, "closed loop, {outstanding} outstanding"),
            Load::Offered { per_second } => write!(f, "{per_second} leases/s asked for"),
        }
    }
}

/// What one turn gave. Times are from DISCOVER to ACK.
#[derive(Debug, Clone)]
pub(crate) struct Round {
    pub(crate) per_second: f64,
    pub(crate) median_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) lost: u64,
}

/// Where a client of a turn stands.
#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Idle,
    Discovering,
    Requesting,
}

struct Client {
    tap: usize,
    address: Ipv4Addr,
    discover: Vec<u8>,
    request: Vec<u8>,
    state: State,
    xid: u32,
    begun: Instant,
}

/// The guests' side of a network.
pub(crate) struct Clients {
    epoll: Epoll,
    taps: Vec<OwnedFd>,
    clients: Vec<Client>,
    idle: VecDeque<usize>,
    next_xid: u32,
}

impl Clients {
    /// For each client its tap, its Ethernet address, and the address it must be given.
    pub(crate) fn new(
        taps: Vec<OwnedFd>,
        who: &[(usize, MacAddr, Ipv4Addr)],
        server: Ipv4Addr,
    ) -> Self {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
        for (index, tap) in taps.iter().enumerate() {
            let flags = nix::fcntl::OFlag::O_NONBLOCK;
            nix::fcntl::fcntl(tap, nix::fcntl::FcntlArg::F_SETFL(flags)).unwrap();
            epoll
                .add(tap, EpollEvent::new(EpollFlags::EPOLLIN, index as u64))
                .unwrap();
        }
        let frame = |ask: Ask| [&PARTIAL[..], &ask.frame()].concat();
        let wanted = [1, 3, 6, 12, 15, 26, 28, 42, 121];
        let clients: Vec<Client> = who
            .iter()
            .map(|&(tap, mac, address)| Client {
                tap,
                address,
                discover: frame(Ask::new(DISCOVER).with_mac(mac).wanting(&wanted)),
                request: frame(
                    Ask::new(REQUEST)
                        .with_mac(mac)
                        .naming(server)
                        .asking(address)
                        .wanting(&wanted),
                ),
                state: State::Idle,
                xid: 0,
                begun: Instant::now(),
            })
            .collect();
        Clients {
            epoll,
            taps,
            idle: (0..clients.len()).collect(),
            clients,
            // The low bits say whose it is.
            next_xid: 1,
        }
    }

    fn send(tap: &OwnedFd, frame: &mut [u8], xid: u32) {
        frame[XID_AT..XID_AT + 4].copy_from_slice(&xid.to_be_bytes());
        nix::unistd::write(tap, frame).unwrap();
    }

    fn begin(&mut self, index: usize) {
        let client = &mut self.clients[index];
        client.xid = self.next_xid << 10 | index as u32;
        self.next_xid = self.next_xid % 0x3f_ffff + 1;
        client.state = State::Discovering;
        client.begun = Instant::now();
        Self::send(&self.taps[client.tap], &mut client.discover, client.xid);
    }

    /// Takes one frame; says how long the lease took if that was its end.
    fn receive(&mut self, frame: &[u8]) -> Option<Duration> {
        // Not DHCP for a client: ARP, router solicitations.
        if frame.len() <= TYPE_AT || frame[PARTIAL.len() + 36..PARTIAL.len() + 38] != [0, 68] {
            return None;
        }
        let xid = u32::from_be_bytes(frame[XID_AT..XID_AT + 4].try_into().unwrap());
        let index = (xid & 0x3ff) as usize;
        let client = self.clients.get_mut(index)?;
        if client.xid != xid {
            return None;
        }
        let given = <[u8; 4]>::try_from(&frame[YIADDR_AT..YIADDR_AT + 4]).unwrap();
        assert_eq!(
            Ipv4Addr::from(given),
            client.address,
            "the address of another"
        );
        match (client.state, frame[TYPE_AT]) {
            (State::Discovering, OFFER) => {
                client.state = State::Requesting;
                Self::send(&self.taps[client.tap], &mut client.request, xid);
                None
            }
            (State::Requesting, ACK) => {
                client.state = State::Idle;
                self.idle.push_back(index);
                Some(client.begun.elapsed())
            }
            (State::Idle, _) => None,
            (state, kind) => panic!("a message of type {kind} to a client that is {state:?}"),
        }
    }

    /// Gives up on what has taken too long.
    fn give_up(&mut self, now: Instant) -> u64 {
        let mut lost = 0;
        for (index, client) in self.clients.iter_mut().enumerate() {
            if client.state != State::Idle && now.duration_since(client.begun) > PATIENCE {
                client.state = State::Idle;
                self.idle.push_back(index);
                lost += 1;
            }
        }
        lost
    }

    /// Asks for leases for so long.
    pub(crate) fn run(&mut self, load: Load, turn: Duration) -> Round {
        let mut events = [EpollEvent::empty(); 64];
        let mut buffer = vec![0; 4096];
        let mut times = Vec::new();
        let (mut begun, mut lost) = (0_u64, 0);
        let start = Instant::now();
        let mut looked = start;
        loop {
            let now = Instant::now();
            let passed = now.duration_since(start);
            let over = passed >= turn;
            let under_way = self.clients.len() - self.idle.len();
            if over && (under_way == 0 || passed >= turn + PATIENCE) {
                lost += self.give_up(now + PATIENCE);
                break;
            }
            let due = match load {
                _ if over => 0,
                Load::Closed { outstanding } => outstanding.saturating_sub(under_way),
                Load::Offered { per_second } => {
                    (passed.as_secs_f64() * f64::from(per_second)) as usize - begun as usize
                }
            };
            for _ in 0..due {
                begun += 1;
                match self.idle.pop_front() {
                    Some(index) => self.begin(index),
                    // All wait for an answer already.
                    None if matches!(load, Load::Offered { .. }) => lost += 1,
                    None => break,
                }
            }
            if now.duration_since(looked) > PATIENCE / 5 {
                looked = now;
                lost += self.give_up(now);
            }
            let wait = match load {
                Load::Closed { .. } => EpollTimeout::from(10_u8),
                Load::Offered { .. } => EpollTimeout::from(1_u8),
            };
            let ready = self.epoll.wait(&mut events, wait).unwrap();
            for event in events.iter().take(ready) {
                while let Ok(len) =
                    nix::unistd::read(self.taps[event.data() as usize].as_fd(), &mut buffer)
                {
                    times.extend(self.receive(&buffer[..len]));
                }
            }
        }
        times.sort_unstable();
        let at = |part: f64| {
            let index = ((times.len() as f64 * part) as usize).min(times.len().saturating_sub(1));
            times
                .get(index)
                .map_or(f64::NAN, |time| time.as_secs_f64() * 1e6)
        };
        Round {
            per_second: times.len() as f64 / start.elapsed().as_secs_f64(),
            median_us: at(0.5),
            p99_us: at(0.99),
            lost,
        }
    }
}

//! The sockets by which `fvm-netd` hears guests' questions, and asks other DNS servers.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, listen, setsockopt, socket,
    sockopt,
};

use super::Error;
use crate::dns::DNS_PORT;
use crate::seed::SEED_PORT;

/// How many sockets ask by UDP: each has a port of its own, which an answer by somebody else must guess.
const ASKING_UDP: usize = 8;
/// How many questions are asked by TCP at a time.
const ASKING_TCP: usize = 8;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 64;

/// Everything that a DNS server needs, ready to be handed on.
#[derive(Debug)]
pub struct DnsSockets {
    /// Hears questions.
    pub udp: OwnedFd,
    /// Takes connections with questions.
    pub tcp: OwnedFd,
    /// Ask other servers; each is bound to a port that the kernel chose.
    pub asking_udp: Vec<OwnedFd>,
    /// The same, not connected yet.
    pub asking_tcp: Vec<OwnedFd>,
}

impl DnsSockets {
    /// Opens them; the first two at the DNS port of this address alone.
    pub fn open(address: Ipv4Addr) -> Result<Self, Error> {
        let udp = SocketAddrV4::new(address, DNS_PORT);
        let udp = open(SockType::Datagram, Some(udp))
            .map_err(|errno| refused("hear DNS questions at", address, errno))?;
        let asking = |kind, bound: bool, count| {
            let any = bound.then_some(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));
            let opened = (0..count)
                .map(|_| open(kind, any))
                .collect::<Result<_, _>>();
            opened.map_err(|errno| {
                refused("open a socket to ask from at", Ipv4Addr::UNSPECIFIED, errno)
            })
        };
        let tcp = SocketAddrV4::new(address, DNS_PORT);
        let tcp = open_listening(tcp, "take DNS connections at")?;
        Ok(DnsSockets {
            udp,
            tcp,
            asking_udp: asking(SockType::Datagram, true, ASKING_UDP)?,
            asking_tcp: asking(SockType::Stream, false, ASKING_TCP)?,
        })
    }

    /// In the order in which they are handed on.
    pub(crate) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        [&self.udp, &self.tcp]
            .into_iter()
            .chain(&self.asking_udp)
            .chain(&self.asking_tcp)
            .map(AsFd::as_fd)
            .collect()
    }
}

/// The socket by which cloud-init in guests asks for its data, at this address alone.
pub fn seed_socket(address: Ipv4Addr) -> Result<OwnedFd, Error> {
    let at = SocketAddrV4::new(address, SEED_PORT);
    open_listening(at, "take requests of cloud-init at")
}

fn open_listening(at: SocketAddrV4, action: &'static str) -> Result<OwnedFd, Error> {
    let backlog = Backlog::new(BACKLOG).unwrap_or(Backlog::MAXCONN);
    let opened = open(SockType::Stream, Some(at));
    opened
        .and_then(|socket| listen(&socket, backlog).map(|()| socket))
        .map_err(|errno| refused(action, *at.ip(), errno))
}

fn refused(action: &'static str, address: Ipv4Addr, errno: Errno) -> Error {
    Error::Socket {
        action,
        address,
        source: errno.into(),
    }
}

fn open(kind: SockType, at: Option<SocketAddrV4>) -> Result<OwnedFd, Errno> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Inet, kind, flags, None)?;
    let Some(at) = at else { return Ok(socket) };
    if at.port() != 0 {
        // Those of an fvmd before this one may still be served until these are handed over.
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
        setsockopt(&socket, sockopt::ReusePort, &true)?;
    }
    bind(socket.as_raw_fd(), &SockaddrIn::from(at))?;
    Ok(socket)
}

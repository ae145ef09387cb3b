//! What came over the control socket, told apart by what it is.

use std::os::fd::OwnedFd;

use nix::sys::socket::{SockType, getsockopt, sockopt};

/// The sockets of DNS by their purposes.
#[derive(Debug)]
pub(super) struct Sockets {
    pub(super) udp: OwnedFd,
    pub(super) listener: OwnedFd,
    pub(super) asking: Vec<OwnedFd>,
    pub(super) streams: Vec<OwnedFd>,
}

/// No more of each kind than tokens are set aside for.
const KIND_MAX: usize = 64;

impl Sockets {
    /// The first hears, the second listens, the others ask.
    pub(super) fn sort(fds: Vec<OwnedFd>) -> Result<Self, String> {
        let (mut hearing, mut listening) = (None, None);
        let (mut asking, mut streams) = (Vec::new(), Vec::new());
        for fd in fds {
            let kind = getsockopt(&fd, sockopt::SockType);
            let listens = getsockopt(&fd, sockopt::AcceptConn) == Ok(true);
            match kind {
                Ok(SockType::Datagram) if hearing.is_none() => hearing = Some(fd),
                Ok(SockType::Datagram) => asking.push(fd),
                Ok(SockType::Stream) if listens => listening = Some(fd),
                Ok(SockType::Stream) => streams.push(fd),
                _ => return Err("a descriptor is no socket of DNS".to_owned()),
            }
        }
        let (Some(udp), Some(listener)) = (hearing, listening) else {
            return Err("no sockets to hear questions by".to_owned());
        };
        if asking.len() > KIND_MAX || streams.len() > KIND_MAX {
            return Err("too many sockets".to_owned());
        }
        Ok(Sockets {
            udp,
            listener,
            asking,
            streams,
        })
    }
}

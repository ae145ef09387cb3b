//! Connections from guests, each guest with a few, all together with not too many.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;

use nix::sys::socket::{SockFlag, accept4};

/// How many connections to one service guests may have, each and together.
const EACH: usize = 8;
const MAX: usize = 128;

/// The next connection and who makes it; it is closed at once if there are too many. `others` is who has those that
/// are there.
pub(super) fn accept(
    listener: &TcpListener,
    others: impl Iterator<Item = Ipv4Addr>,
) -> Option<(TcpStream, Ipv4Addr)> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = accept4(listener.as_raw_fd(), flags).ok()?;
    let stream = TcpStream::from(crate::sys::adopt_accepted(fd));
    let SocketAddr::V4(from) = stream.peer_addr().ok()? else {
        return None;
    };
    let from = *from.ip();
    let (mut all, mut of_it) = (0, 0);
    for other in others {
        all += 1;
        of_it += usize::from(other == from);
    }
    (all < MAX && of_it < EACH).then_some((stream, from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_has_a_few_connections_and_all_have_not_too_many() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = listener.local_addr().expect("bound");
        let accepted = |other: Ipv4Addr, count: usize| {
            let _waiting = TcpStream::connect(at).expect("it listens");
            accept(&listener, std::iter::repeat_n(other, count)).is_some()
        };
        let another = Ipv4Addr::new(192, 0, 2, 1);
        for (other, most) in [(Ipv4Addr::LOCALHOST, EACH), (another, MAX)] {
            assert!(accepted(other, most - 1), "{other}");
            assert!(!accepted(other, most), "{other}");
        }
    }
}

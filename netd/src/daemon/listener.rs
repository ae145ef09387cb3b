//! Where the control socket comes from: the service manager, or a path for tests.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, getsockopt, listen, socket, sockopt,
};

use super::DaemonError;
use crate::sys;

/// The socket that the service manager passed (sd_listen_fds(3)), or `None` if it passed none.
pub fn activated_listener() -> Result<Option<OwnedFd>, DaemonError> {
    let failed = |action| move |source| DaemonError { action, source };
    let mut fds =
        sd_notify::listen_fds().map_err(failed("read what the service manager passed"))?;
    let Some(fd) = fds.next() else {
        return Ok(None);
    };
    let listener = sys::adopt_listener(fd).map_err(failed("take over the control socket"))?;
    // Waiting for a connection that was given up meanwhile must not stop everything else.
    fcntl(&listener, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
        .map_err(super::failed("use the control socket"))?;
    match getsockopt(&listener, sockopt::SockType) {
        Ok(SockType::SeqPacket) => Ok(Some(listener)),
        Ok(_) => Err(DaemonError {
            action: "use the control socket: it is not of type SOCK_SEQPACKET (ListenSequentialPacket=)",
            source: std::io::ErrorKind::InvalidInput.into(),
        }),
        Err(errno) => Err(super::failed("use the control socket")(errno)),
    }
}

/// A new socket at this path; one that was left there is replaced.
pub fn listen_at(path: &Path) -> Result<OwnedFd, DaemonError> {
    if let Err(source) = std::fs::remove_file(path)
        && source.kind() != std::io::ErrorKind::NotFound
    {
        return Err(DaemonError {
            action: "remove the old control socket",
            source,
        });
    }
    let make = || -> nix::Result<OwnedFd> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let listener = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
        bind(listener.as_raw_fd(), &UnixAddr::new(path)?)?;
        listen(&listener, Backlog::new(8)?)?;
        Ok(listener)
    };
    make().map_err(super::failed("listen on the control socket"))
}

//! Waiting until something happens to any device-mapper device.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::error::{Error, Result};
use crate::kernel::dm::Dm;

/// Waits for device-mapper events: a pool below its low-water mark, out of space, or in another mode.
///
/// The low-water event comes once for each time that the pool was resumed, so the status has to be read
/// again after every event and after every change of the pool's size.
#[derive(Debug)]
pub struct EventWatch {
    dm: Dm,
}

impl EventWatch {
    /// Begins to watch: events from now on are seen.
    ///
    /// # Errors
    /// When device-mapper cannot be used.
    pub fn new() -> Result<Self> {
        let dm = Dm::open()?;
        dm.arm_poll()?;
        Ok(Self { dm })
    }

    /// Waits at most so long; true if there was an event since the last call.
    ///
    /// The watch is armed again before this returns: what happens while the caller looks at its pools
    /// wakes the next call.
    ///
    /// # Errors
    /// [`Error::Io`] if waiting fails.
    pub fn wait(&self, timeout: Duration) -> Result<bool> {
        let failed = |source: io::Error| Error::Io {
            action: "wait for events of",
            path: "/dev/mapper/control".into(),
            source,
        };
        let end = Instant::now().checked_add(timeout);
        loop {
            let left = end.map_or(timeout, |end| end.saturating_duration_since(Instant::now()));
            // Rounded up, or the last part of a millisecond would be spent in a busy loop.
            let left = left.saturating_add(Duration::from_micros(999));
            let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut fds = [PollFd::new(self.dm.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, left) {
                Ok(0) if end.is_none_or(|end| Instant::now() < end) => {}
                Ok(0) => return Ok(false),
                Ok(_) => {
                    self.dm.arm_poll()?;
                    return Ok(true);
                }
                Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => return Err(failed(errno.into())),
            }
        }
    }
}

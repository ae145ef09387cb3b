//! A QEMU process that runs: started here or adopted after a restart of fvmd.
//!
//! A process is known by its pid and its start time together, since a pid comes again; once found
//! it is held by a pidfd, which always means that one process.

use super::sys;
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use thiserror::Error;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitCause {
    /// By itself, with this status.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// It was not our child, so its status went to another.
    Unknown,
}

/// Why a process could not be adopted.
#[derive(Debug, Error)]
pub enum AdoptError {
    /// There is no such process any more.
    #[error("the process {pid} is gone")]
    Gone {
        /// The pid.
        pid: u32,
    },
    /// The pid now belongs to another process.
    #[error("the pid {pid} belongs to a process that was started at {found}, not at {expected}")]
    Another {
        /// The pid.
        pid: u32,
        /// The start time that was recorded.
        expected: u64,
        /// That of the process that has the pid now.
        found: u64,
    },
    /// The system did not let us look.
    #[error("cannot look at the process {pid}")]
    Look {
        /// The pid.
        pid: u32,
        /// Why.
        source: io::Error,
    },
}

/// A process that runs, or that has ended and is not forgotten.
#[derive(Debug)]
pub struct Running {
    pid: u32,
    start_time: u64,
    pidfd: OwnedFd,
    ended: Mutex<Option<ExitCause>>,
}

impl Running {
    pub(super) fn hold(pid: libc::pid_t) -> io::Result<Self> {
        let pidfd = sys::pidfd_open(pid)?;
        let pid = u32::try_from(pid).map_err(io::Error::other)?;
        let (start_time, _) = stat(pid)?;
        Ok(Self {
            pid,
            start_time,
            pidfd,
            ended: Mutex::new(None),
        })
    }

    /// The process's id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// When it was started, in the kernel's clock ticks since boot; with the pid, its identity.
    pub fn start_time(&self) -> u64 {
        self.start_time
    }

    /// The descriptor that becomes readable when the process ends.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Ends the process at once.
    pub fn kill(&self) -> io::Result<()> {
        self.signal(libc::SIGKILL)
    }

    /// Asks the process to end.
    pub fn terminate(&self) -> io::Result<()> {
        self.signal(libc::SIGTERM)
    }

    /// Sends a signal; to a process that has ended this is no error.
    fn signal(&self, signal: libc::c_int) -> io::Result<()> {
        match sys::pidfd_send_signal(self.pidfd.as_fd(), signal) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            other => other,
        }
    }

    /// Waits for the end; `None` when the limit passed first.
    pub fn wait(&self, limit: Duration) -> io::Result<Option<ExitCause>> {
        if !poll_readable(&self.pidfd, limit)? {
            return Ok(None);
        }
        self.reap().map(Some)
    }

    /// Whether it has ended, and how.
    pub fn try_wait(&self) -> io::Result<Option<ExitCause>> {
        self.wait(Duration::ZERO)
    }

    /// Takes the status of the ended process, once; later calls repeat it.
    fn reap(&self) -> io::Result<ExitCause> {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cause) = *ended {
            return Ok(cause);
        }
        let cause = match waitid(Id::PIDFd(self.pidfd.as_fd()), WaitPidFlag::WEXITED) {
            Ok(WaitStatus::Exited(_, code)) => ExitCause::Code(code),
            Ok(WaitStatus::Signaled(_, signal, _)) => ExitCause::Signal(signal as i32),
            Ok(_) | Err(Errno::ECHILD) => ExitCause::Unknown,
            Err(error) => return Err(error.into()),
        };
        *ended = Some(cause);
        Ok(cause)
    }
}

/// Takes hold of a process that an earlier fvmd started.
pub fn adopt(pid: u32, start_time: u64) -> Result<Running, AdoptError> {
    let look = |source: io::Error| match source.raw_os_error() {
        Some(libc::ESRCH | libc::ENOENT) => AdoptError::Gone { pid },
        _ => AdoptError::Look { pid, source },
    };
    let number = libc::pid_t::try_from(pid).map_err(|_| AdoptError::Gone { pid })?;
    // The pidfd first: if the start time then fits, no other process can be behind it.
    let pidfd = sys::pidfd_open(number).map_err(look)?;
    let (found, state) = stat(pid).map_err(look)?;
    if found != start_time {
        return Err(AdoptError::Another {
            pid,
            expected: start_time,
            found,
        });
    }
    if matches!(state, 'Z' | 'X') {
        return Err(AdoptError::Gone { pid });
    }
    Ok(Running {
        pid,
        start_time,
        pidfd,
        ended: Mutex::new(None),
    })
}

/// Waits until `fd` is readable, as a pidfd is when its process ends; false when the limit passed.
pub(crate) fn poll_readable(fd: &impl AsFd, limit: Duration) -> io::Result<bool> {
    let end = Instant::now() + limit;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        // Rounded up, so that the last wait does not spin.
        let millis = i32::try_from(left.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
        let timeout = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) if left.is_zero() => return Ok(false),
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
}

/// The start time and the state of a process, from `/proc/<pid>/stat` (proc(5), fields 22 and 3).
fn stat(pid: u32) -> io::Result<(u64, char)> {
    let text = fs::read(format!("/proc/{pid}/stat"))?;
    let text = String::from_utf8_lossy(&text);
    parse_stat(&text).ok_or_else(|| io::Error::other("/proc/<pid>/stat has another form"))
}

fn parse_stat(text: &str) -> Option<(u64, char)> {
    // The name in brackets may itself contain brackets and spaces: the last one counts.
    let (_, rest) = text.rsplit_once(") ")?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let start_time = fields.nth(18)?.parse().ok()?;
    Some((start_time, state))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn the_name_of_a_process_cannot_shift_the_fields() {
        let text = "7 (a) R 9 (b) S 1 7 7 0 -1 4 0 0 0 0 0 0 0 0 20 0 1 0 4711 1 2 3";
        assert_eq!(parse_stat(text), Some((4711, 'S')));
    }

    #[test]
    fn a_process_is_adopted_only_with_its_start_time() {
        let mut child = Command::new("sleep")
            .arg("600")
            .spawn()
            .expect("sleep runs");
        let (start_time, _) = stat(child.id()).expect("it is there");
        assert!(matches!(
            adopt(child.id(), start_time + 1),
            Err(AdoptError::Another { .. })
        ));
        let adopted = adopt(child.id(), start_time).expect("the same process");
        assert_eq!(adopted.try_wait().expect("poll works"), None);
        adopted.kill().expect("ours to kill");
        let limit = Duration::from_secs(60);
        assert_eq!(
            adopted.wait(limit).expect("it ends"),
            Some(ExitCause::Signal(9))
        );
        assert_eq!(
            adopted.wait(limit).expect("told again"),
            Some(ExitCause::Signal(9))
        );
        assert!(matches!(
            adopt(child.id(), start_time),
            Err(AdoptError::Gone { .. })
        ));
        // Its status was taken above, so this only forgets the handle.
        let _ = child.wait();
    }
}

//! The user's terminal in raw mode, and its way back.

use nix::sys::termios::{self, SetArg, Termios};
use std::{
    io::IsTerminal,
    os::fd::{AsFd, OwnedFd},
};

/// Why the terminal cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TerminalError {
    /// Its settings cannot be read or changed.
    #[error("cannot change the settings of the terminal")]
    Settings(#[from] nix::Error),
    /// It cannot be kept open.
    #[error("cannot use the terminal")]
    Keep(#[from] std::io::Error),
    /// Signals cannot be waited for.
    #[error("cannot wait for signals")]
    Signals(#[source] std::io::Error),
}

/// A terminal in raw mode: every key goes to the guest, nothing is echoed here.
///
/// Dropping it restores what was before, also when a panic unwinds.
#[derive(Debug)]
pub(crate) struct RawMode {
    terminal: OwnedFd,
    before: Termios,
}

impl RawMode {
    /// Sets the terminal behind `descriptor` to raw mode; nothing to do if there is none.
    pub(crate) fn enter(descriptor: impl AsFd) -> Result<Option<Self>, TerminalError> {
        let descriptor = descriptor.as_fd();
        if !descriptor.is_terminal() {
            return Ok(None);
        }
        let mode = Self {
            terminal: descriptor.try_clone_to_owned()?,
            before: termios::tcgetattr(descriptor)?,
        };
        mode.resume()?;
        Ok(Some(mode))
    }

    /// Raw mode again, after [`Self::suspend`].
    pub(crate) fn resume(&self) -> Result<(), TerminalError> {
        let mut raw = self.before.clone();
        termios::cfmakeraw(&mut raw);
        Ok(termios::tcsetattr(&self.terminal, SetArg::TCSADRAIN, &raw)?)
    }

    /// The settings that were before, for a while.
    pub(crate) fn suspend(&self) -> Result<(), TerminalError> {
        Ok(termios::tcsetattr(
            &self.terminal,
            SetArg::TCSADRAIN,
            &self.before,
        )?)
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // Nobody is left to tell if the terminal is gone.
        let _ = self.suspend();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::{pty::openpty, sys::termios::LocalFlags};
    use std::panic::{AssertUnwindSafe, catch_unwind};

    fn echoes(terminal: &OwnedFd) -> bool {
        let flags = termios::tcgetattr(terminal).unwrap().local_flags;
        assert_eq!(
            flags.contains(LocalFlags::ECHO),
            flags.contains(LocalFlags::ICANON)
        );
        flags.contains(LocalFlags::ECHO)
    }

    #[test]
    fn raw_mode_ends_with_its_guard() {
        let pty = openpty(None, None).unwrap();
        assert!(echoes(&pty.slave));
        let mode = RawMode::enter(&pty.slave).unwrap().unwrap();
        assert!(!echoes(&pty.slave));
        mode.suspend().unwrap();
        assert!(echoes(&pty.slave));
        mode.resume().unwrap();
        assert!(!echoes(&pty.slave));
        drop(mode);
        assert!(echoes(&pty.slave));
    }

    #[test]
    fn raw_mode_ends_with_a_panic() {
        let pty = openpty(None, None).unwrap();
        let result = catch_unwind(AssertUnwindSafe(|| {
            let _mode = RawMode::enter(&pty.slave).unwrap();
            assert!(!echoes(&pty.slave));
            std::panic::resume_unwind(Box::new("on purpose"));
        }));
        assert!(result.is_err());
        assert!(echoes(&pty.slave));
    }

    #[test]
    fn what_is_no_terminal_is_left_alone() {
        let file = tempfile::tempfile().unwrap();
        assert!(RawMode::enter(&file).unwrap().is_none());
    }
}

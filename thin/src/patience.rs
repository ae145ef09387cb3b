//! Doing something again while a device is busy, for a moment.
//!
//! A device that nobody uses may be held all the same: by udev without its device-mapper rules, by a curious
//! `blkid`, or by a child of this process that has not come to its `exec` yet and has a copy of every open file
//! until then.

use std::time::Duration;

use crate::error::{Error, Result};

/// Two seconds in all: longer than a child on a loaded host takes to its `exec`.
const TRIES: u32 = 40;
const PAUSE: Duration = Duration::from_millis(50);

/// Repeats an action that ends in `EBUSY`; returns its last result.
pub(crate) fn while_busy<T>(mut action: impl FnMut() -> Result<T>) -> Result<T> {
    for _ in 1..TRIES {
        match action() {
            Err(error) if is_busy(&error) => std::thread::sleep(PAUSE),
            other => return other,
        }
    }
    action()
}

/// Whether an error says that somebody else has the device.
pub(crate) fn is_busy(error: &Error) -> bool {
    error.raw_os_error() == Some(libc::EBUSY)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(errno: i32) -> Error {
        Error::io("open", "/dev/x")(std::io::Error::from_raw_os_error(errno))
    }

    #[test]
    fn only_busy_is_waited_for() {
        let mut calls = 0;
        let result = while_busy(|| {
            calls += 1;
            match calls {
                1 | 2 => Err(error(libc::EBUSY)),
                _ => Ok(calls),
            }
        });
        assert_eq!(result.unwrap(), 3);
        let mut calls = 0;
        let result = while_busy(|| -> Result<()> {
            calls += 1;
            Err(error(libc::ENXIO))
        });
        assert_eq!(
            (result.unwrap_err().raw_os_error(), calls),
            (Some(libc::ENXIO), 1)
        );
    }
}

//! Errors of this crate: each names the action, the object and the value.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::units::Bytes;

/// What went wrong with a pool or a volume.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The host has no device-mapper, or this process may not use it.
    #[error("cannot use device-mapper by {path} (is the module dm_mod loaded, and is this root?)")]
    NoDeviceMapper {
        /// The control node.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel lacks a target.
    #[error("the kernel has no device-mapper target {target} (module {module})")]
    NoTarget {
        /// The target.
        target: &'static str,
        /// The module that brings it.
        module: &'static str,
        /// What the kernel said.
        source: Box<Error>,
    },
    /// A device-mapper call failed.
    #[error("device-mapper: cannot {action} {device}")]
    DeviceMapper {
        /// What was to be done.
        action: &'static str,
        /// The device's name.
        device: String,
        /// Why not.
        source: io::Error,
    },
    /// Something with a file or a device node failed.
    #[error("cannot {action} {path}")]
    Io {
        /// What was to be done.
        action: &'static str,
        /// The file or node.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Somebody holds the device open.
    #[error("{device} is in use (open count {open_count})")]
    Busy {
        /// The device's name.
        device: String,
        /// How many times it is open.
        open_count: u32,
    },
    /// A file or device that was to be taken holds something already.
    #[error("{path} holds something already: {holds}")]
    Occupied {
        /// The file or device.
        path: PathBuf,
        /// What was found in it.
        holds: String,
    },
    /// The pool that was to be made is there, complete.
    #[error("{path} holds this very pool, complete")]
    AlreadyFormatted {
        /// The data file or device.
        path: PathBuf,
    },
    /// A file or device is not the pool's.
    #[error("{path} is not the {role} of this pool: {reason}")]
    NotOurs {
        /// The file or device.
        path: PathBuf,
        /// What it should be.
        role: &'static str,
        /// What it is.
        reason: String,
    },
    /// A device with the right name and uuid has a table that this crate did not give it.
    #[error("{device} is active with another table: {found:?}, not {expected:?}")]
    OtherTable {
        /// The device's name.
        device: String,
        /// Its table.
        found: String,
        /// The table that it should have.
        expected: String,
    },
    /// A device with the name wanted belongs to somebody else.
    #[error("the device-mapper name {device} is taken by a device with the uuid {found:?}")]
    NameTaken {
        /// The name.
        device: String,
        /// The other's uuid.
        found: String,
    },
    /// A device that should be active is not.
    #[error("{device} is not active")]
    NotActive {
        /// The device's name.
        device: String,
    },
    /// A size or setting that cannot be.
    #[error("{what} of {value} {rule}")]
    Invalid {
        /// Which.
        what: &'static str,
        /// The value.
        value: Bytes,
        /// The rule that it breaks.
        rule: String,
    },
    /// A backing is too small for what it is to hold.
    #[error("{path} has room for {has}, not for the {needs} needed")]
    TooSmall {
        /// The file or device.
        path: PathBuf,
        /// Room in it.
        has: Bytes,
        /// Room needed.
        needs: Bytes,
    },
    /// A status or table line was not understood.
    #[error("cannot read the {what} of {device}: {text:?}")]
    Unreadable {
        /// Status or table.
        what: &'static str,
        /// The device's name.
        device: String,
        /// What the kernel said.
        text: String,
    },
    /// A pool that refuses to write.
    #[error("pool {pool} is {health}")]
    Unwell {
        /// The pool's device name.
        pool: String,
        /// How it is.
        health: String,
    },
    /// A program of thin-provisioning-tools cannot be run.
    #[error("cannot run {program} (package thin-provisioning-tools)")]
    NoTool {
        /// The program.
        program: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// A program of thin-provisioning-tools failed.
    #[error("{program} failed on {device}: {says}")]
    Tool {
        /// The program.
        program: &'static str,
        /// What it worked on.
        device: PathBuf,
        /// The last of what it said.
        says: String,
    },
    /// Several things failed; the first is the cause, or all are failures of one teardown.
    #[error("{}", Listed(.0))]
    Several(Vec<Error>),
}

/// `Result` of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }

    /// One error of several; `Ok` if there are none.
    pub(crate) fn all(mut errors: Vec<Self>) -> Result<()> {
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => Err(Self::Several(errors)),
        }
    }

    /// This error, followed by what failed when cleaning up after it.
    pub(crate) fn then(self, cleanup: Result<()>) -> Self {
        match cleanup {
            Ok(()) => self,
            Err(Self::Several(mut more)) => {
                more.insert(0, self);
                Self::Several(more)
            }
            Err(more) => Self::Several(vec![self, more]),
        }
    }

    /// The errno beneath, if the kernel gave one.
    pub fn raw_os_error(&self) -> Option<i32> {
        match self {
            Self::NoDeviceMapper { source, .. }
            | Self::DeviceMapper { source, .. }
            | Self::Io { source, .. }
            | Self::NoTool { source, .. } => source.raw_os_error(),
            Self::Several(errors) => errors.first().and_then(Self::raw_os_error),
            _ => None,
        }
    }
}

/// Several errors in one line, each with its causes: `Several` has no single source to keep them.
struct Listed<'a>(&'a [Error]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{error}")?;
            let mut source = std::error::Error::source(error);
            while let Some(cause) = source {
                write!(f, ": {cause}")?;
                source = cause.source();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn busy(device: &str) -> Error {
        Error::Busy {
            device: device.into(),
            open_count: 1,
        }
    }

    #[test]
    fn several_errors_are_all_told_with_their_causes() {
        let first = Error::io("open", "/a")(io::Error::from_raw_os_error(libc::ENOENT));
        let error = first.then(Error::all(vec![busy("b"), busy("c")]));
        let text = error.to_string();
        for part in [
            "cannot open /a: No such file",
            "b is in use",
            "; c is in use",
        ] {
            assert!(text.contains(part), "{text}");
        }
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
    }

    #[test]
    fn none_is_no_error_and_one_is_itself() {
        assert!(Error::all(vec![]).is_ok());
        assert!(matches!(
            Error::all(vec![busy("b")]),
            Err(Error::Busy { .. })
        ));
        assert!(matches!(busy("a").then(Ok(())), Error::Busy { .. }));
    }
}

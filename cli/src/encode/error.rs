//! Why an export failed on this side.

use fvm_vmm::api::stream::StreamError;
use std::io;

/// What is wrong with an export.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EncodeError {
    /// The file that it was to be is there already.
    #[error("{name} is there already")]
    Exists {
        /// The target as the user wrote it.
        name: String,
    },
    /// It is there, and no file.
    #[error("{name} is a {what}, not a file")]
    NotAFile {
        /// The target as the user wrote it.
        name: String,
        /// What it is.
        what: &'static str,
    },
    /// A disk on a terminal.
    #[error("standard output is a terminal, and a disk is nothing to look at")]
    Terminal,
    /// The file cannot be made.
    #[error("cannot make {name}")]
    Make {
        /// The target as the user wrote it.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// It cannot be written.
    #[error("cannot write {name}")]
    Write {
        /// The target as the user wrote it.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// What came is not a whole block stream.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The user, or whoever knows more about it, has ended it.
    #[error("the export was stopped")]
    Cancelled,
}

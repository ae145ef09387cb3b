//! Why an image could not be read.

use super::{
    Format,
    qcow2::{Damage, Unfit},
};
use crate::{
    checksum::{Algorithm, Checksum},
    quantity::Bytes,
};
use std::{io, path::PathBuf};

/// What is wrong with the source of an import.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DecodeError {
    /// It cannot be opened or is of no use.
    #[error("cannot open {name}")]
    Open {
        /// The source as the user wrote it.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// Not something that bytes can be read from.
    #[error("{name} is a {what}, not an image")]
    NotAFile {
        /// The source as the user wrote it.
        name: String,
        /// What it is.
        what: &'static str,
    },
    /// Standard input is a keyboard.
    #[error("standard input is a terminal, not an image")]
    Terminal,
    /// Reading failed, which says nothing of the content.
    #[error("cannot read {name} after {}", Bytes(*at))]
    Read {
        /// The source as the user wrote it.
        name: String,
        /// Bytes read before.
        at: u64,
        /// What the system said.
        source: io::Error,
    },
    /// Nothing in it.
    #[error("{name} is empty")]
    Empty {
        /// The source as the user wrote it.
        name: String,
    },
    /// It changed its size under our hands.
    #[error("{name} became shorter while it was read: it ended after {} of {}", Bytes(*at), Bytes(*size))]
    Shrank {
        /// The source as the user wrote it.
        name: String,
        /// Where it ends now.
        at: u64,
        /// Its size at the beginning.
        size: u64,
    },
    /// Its name promises what its content does not keep.
    #[error(
        "{name} is damaged: its name ends in {extension}, but it does not begin as {format} does"
    )]
    WrongName {
        /// The source as the user wrote it.
        name: String,
        /// The end of its name.
        extension: &'static str,
        /// What such a name stands for.
        format: Format,
    },
    /// A format that cannot be imported.
    #[error("{name} is {format}, which fvm does not import")]
    Unsupported {
        /// The source as the user wrote it.
        name: String,
        /// What it is.
        format: Format,
    },
    /// A compressed file that holds something else than an image.
    #[error("{name} holds {format}, not an image")]
    Inside {
        /// The source as the user wrote it.
        name: String,
        /// What is in it.
        format: Format,
    },
    /// The decoder found an error.
    #[error("{name} is damaged: its {format} data is wrong after {} of content", Bytes(*content))]
    Damaged {
        /// The source as the user wrote it.
        name: String,
        /// The compression.
        format: Format,
        /// Bytes of content that came out before.
        content: u64,
        /// What the decoder said.
        source: io::Error,
    },
    /// It ends before its end.
    #[error("{name} is damaged: its {format} data is cut off after {} of content", Bytes(*content))]
    Truncated {
        /// The source as the user wrote it.
        name: String,
        /// The compression.
        format: Format,
        /// Bytes of content that came out before.
        content: u64,
    },
    /// It goes on after its end.
    #[error(
        "{name} is damaged: its {format} data is followed by something else after {} of content", Bytes(*content)
    )]
    Trailing {
        /// The source as the user wrote it.
        name: String,
        /// The compression.
        format: Format,
        /// Bytes of content that came out before.
        content: u64,
    },
    /// A hostile or absurd file: unpacking it takes more memory than is given.
    #[error("{name} needs more than {} of memory to unpack", Bytes(*limit_bytes))]
    Memory {
        /// The source as the user wrote it.
        name: String,
        /// What is given.
        limit_bytes: u64,
    },
    /// A qcow2 image that cannot be imported, though nothing is wrong with it.
    #[error("cannot import the qcow2 image {name}")]
    Unfit {
        /// The source as the user wrote it.
        name: String,
        /// What keeps it from being imported.
        source: Unfit,
    },
    /// A qcow2 image that contradicts itself.
    #[error("{name} is damaged")]
    Inconsistent {
        /// The source as the user wrote it.
        name: String,
        /// What is wrong.
        source: Damage,
    },
    /// Somebody wrote to it while it was read.
    #[error("{name} changed while it was read: it has ended before {}", Bytes(*at))]
    Changed {
        /// The source as the user wrote it.
        name: String,
        /// Where something should be.
        at: u64,
    },
    /// It is not the file that the checksum was made of.
    #[error("{name} has the {algorithm} checksum {actual}, not {expected}")]
    Checksum {
        /// The source as the user wrote it.
        name: String,
        /// How it is computed.
        algorithm: Algorithm,
        /// What it is.
        actual: Checksum,
        /// What it should be.
        expected: Checksum,
    },
    /// A raw image of which nobody says where it ends.
    #[error(
        "{name} could be cut off without a sign: its server says neither its length nor its end"
    )]
    Endless {
        /// The source as the user wrote it.
        name: String,
    },
    /// What has to be kept until it is imported cannot be kept.
    #[error("cannot keep the qcow2 image in {name} in {}", directory.display())]
    Spool {
        /// The source as the user wrote it.
        name: String,
        /// For temporary files.
        directory: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Keeping more of it would fill the disk.
    #[error("the qcow2 image in {name} is too large for {}: after {}, too little of that is free", directory.display(), Bytes(*at))]
    NoRoom {
        /// The source as the user wrote it.
        name: String,
        /// For temporary files.
        directory: PathBuf,
        /// Bytes kept before.
        at: u64,
    },
    /// Nobody takes the blocks any more; whoever stopped taking them knows why.
    #[error("the upload was stopped")]
    Stopped,
}

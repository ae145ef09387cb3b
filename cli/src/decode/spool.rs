//! A private temporary file, for what must be read out of order and does not come as a file.
//!
//! It has no name, so nobody else can open it and nothing is left of it when this process ends, however it ends.

use super::DecodeError;
use nix::sys::statvfs::fstatvfs;
use std::{
    env,
    fs::File,
    io::{self, Write},
    path::PathBuf,
};

/// How often room is looked for.
const LOOK_BYTES: u64 = 32 << 20;
/// The part of the file system that is left to others: a tenth,
const LEFT_PART: u64 = 10;
/// but no more than this: a large disk that is nearly full has room for a small image.
const LEFT_BYTES: u64 = 1 << 30;

/// A file that grows, as long as there is room.
#[derive(Debug)]
pub(super) struct Spool {
    name: String,
    file: File,
    bytes: u64,
    /// Room is looked for when the file reaches this.
    look_at: u64,
}

/// Where it is: `TMPDIR`, or what is meant for large temporary files.
pub(super) fn directory() -> PathBuf {
    env::var_os("TMPDIR")
        .filter(|value| !value.is_empty())
        .map_or_else(|| "/var/tmp".into(), PathBuf::from)
}

impl Spool {
    /// For the content of the source of this name.
    pub(super) fn new(name: &str) -> Result<Self, DecodeError> {
        match tempfile::tempfile_in(directory()) {
            Ok(file) => Ok(Self {
                name: name.to_owned(),
                file,
                bytes: 0,
                look_at: 0,
            }),
            Err(error) => Err(failed(name, error)),
        }
    }

    pub(super) fn write(&mut self, content: &[u8]) -> Result<(), DecodeError> {
        if self.bytes >= self.look_at {
            self.look_for_room()?;
        }
        self.file
            .write_all(content)
            .map_err(|error| failed(&self.name, error))?;
        self.bytes += content.len() as u64;
        Ok(())
    }

    /// The file and its length.
    pub(super) fn finish(self) -> (File, u64) {
        (self.file, self.bytes)
    }

    /// What unpacks to more than there is room for must not take the room of everybody else.
    fn look_for_room(&mut self) -> Result<(), DecodeError> {
        let room = fstatvfs(&self.file).map_err(|errno| failed(&self.name, errno.into()))?;
        let bytes = |blocks: u64| blocks.saturating_mul(room.fragment_size());
        let left = (bytes(room.blocks()) / LEFT_PART).min(LEFT_BYTES);
        if bytes(room.blocks_available()) < left {
            return Err(DecodeError::NoRoom {
                name: self.name.clone(),
                directory: directory(),
                at: self.bytes,
            });
        }
        self.look_at = self.bytes + LOOK_BYTES;
        Ok(())
    }
}

fn failed(name: &str, source: io::Error) -> DecodeError {
    DecodeError::Spool {
        name: name.to_owned(),
        directory: directory(),
        source,
    }
}

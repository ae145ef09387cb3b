//! Files and block devices as such: opening them safely, allocating, wiping, removing.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::{FallocateFlags, fallocate};

use crate::error::{Error, Result};
use crate::kernel::block;
use crate::patience::{is_busy, while_busy};

static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// Opens a file, made here if it was not there; the flag says so. A link is not followed.
pub(super) fn open_or_make(path: &Path) -> Result<(File, bool)> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW);
    match options.clone().create_new(true).open(path) {
        Ok(file) => Ok((file, true)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let file = options.open(path).map_err(Error::io("open", path))?;
            let found = file.metadata().map_err(Error::io("examine", path))?;
            if found.is_file() {
                Ok((file, false))
            } else {
                Err(Error::Occupied {
                    path: path.to_owned(),
                    holds: "it is not a regular file".into(),
                })
            }
        }
        Err(error) => Err(Error::io("make", path)(error)),
    }
}

/// Opens a block device that nobody else uses: no mount, no swap, no other device on top.
pub(super) fn open_exclusively(path: &Path) -> Result<File> {
    let opened = while_busy(|| {
        OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_EXCL)
            .open(path)
            .map_err(Error::io("open", path))
    });
    let file = opened.map_err(|error| {
        if is_busy(&error) {
            Error::Occupied {
                path: path.to_owned(),
                holds: "it is mounted or otherwise in use".into(),
            }
        } else {
            error
        }
    })?;
    if block::number_of(path)?.is_none() {
        return Err(Error::Occupied {
            path: path.to_owned(),
            holds: "it is not a block device".into(),
        });
    }
    Ok(file)
}

/// Reads so much, or less at the end.
pub(super) fn read_up_to(file: &File, path: &Path, offset: u64, length: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while filled < length {
        match file.read_at(&mut bytes[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::io("read", path)(error)),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// Gives a range of a file its space; written as zeros where the file system cannot do it at once.
pub(super) fn allocate(file: &File, path: &Path, offset: u64, length: u64) -> Result<()> {
    // Both are below CONTENT_MAX, which is a signed number.
    let (from, bytes) = (offset.cast_signed(), length.cast_signed());
    match fallocate(file, FallocateFlags::empty(), from, bytes) {
        Ok(()) => return Ok(()),
        Err(nix::errno::Errno::EOPNOTSUPP) => {}
        Err(errno) => return Err(Error::io("allocate space for", path)(errno.into())),
    }
    write_zeros(file, offset, offset + length).map_err(Error::io("allocate space for", path))
}

/// Writes zeros over so much at the beginning and at the end.
pub(super) fn wipe_ends(file: &File, path: &Path, end_bytes: u64) -> Result<()> {
    let length = block::length(file, path)?.0;
    let tail_at = length.saturating_sub(end_bytes);
    write_zeros(file, 0, length.min(end_bytes))
        .and_then(|()| write_zeros(file, tail_at, length))
        .and_then(|()| file.sync_all())
        .map_err(Error::io("wipe", path))
}

/// Writes zeros from `start` up to `end`.
pub(super) fn write_zeros(file: &File, start: u64, end: u64) -> io::Result<()> {
    let mut at = start;
    while at < end {
        let piece = ZEROS.len().min((end - at) as usize);
        file.write_all_at(&ZEROS[..piece], at)?;
        at += piece as u64;
    }
    Ok(())
}

/// Removes a file, for good.
pub(super) fn remove_file(path: &Path) -> Result<()> {
    std::fs::remove_file(path).map_err(Error::io("remove", path))?;
    sync_directory(path)
}

/// Makes the coming or going of a file durable.
pub(super) fn sync_directory(path: &Path) -> Result<()> {
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    File::open(directory)
        .and_then(|file| file.sync_all())
        .map_err(Error::io("sync", directory))
}

//! The logs of a VM's run: what its guest says on its serial line, and what QEMU says.
//!
//! QEMU appends to both by itself, so nothing is lost while no daemon is there. A log that has grown too long gives
//! its beginning back to the file system: a hole is punched there, which loses nothing of what QEMU is just
//! writing, and every byte stays at the position it had for those who are reading.

use super::{
    Manager,
    error::{Result, file},
    machine::Machine,
};
use crate::api::{ApiError, ErrorKind, VmNumber, console::LogSource};
use nix::fcntl::{FallocateFlags, fallocate};
use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Weak,
};

/// This much of a log's end is kept.
const KEPT_BYTES: u64 = 16 << 20;
/// What a log takes of the disk before its beginning goes.
const LIMIT_BYTES: u64 = KEPT_BYTES + (4 << 20);
/// How `st_blocks` counts (stat(2)).
const BLOCK_BYTES: u64 = 512;

/// A log, and the run that it is the log of.
#[derive(Debug)]
pub struct VmLog {
    /// The file.
    pub path: PathBuf,
    machine: Weak<Machine>,
}

impl Manager {
    /// A log of a VM's last run.
    ///
    /// # Errors
    /// When there is no such VM, or it was never started.
    pub fn log(&self, number: VmNumber, source: LogSource) -> Result<VmLog> {
        let row = self.vm_row(number)?;
        let paths = self.paths.vm(number);
        let path = match source {
            LogSource::Console => paths.console_log(),
            LogSource::Qemu => paths.qemu_log(),
        };
        match path.try_exists() {
            Ok(true) => {}
            Ok(false) => {
                let message = format!("VM {number} has no such log: it was not started yet");
                return Err(ApiError::new(ErrorKind::NotFound, message)
                    .hint(format!("`fvm start {number}` starts it")));
            }
            Err(error) => return Err(file("looking at", &path, &error)),
        }
        self.touch(&row);
        let machine = self.machines.up(number);
        Ok(VmLog {
            path,
            machine: machine
                .as_ref()
                .map(std::sync::Arc::downgrade)
                .unwrap_or_default(),
        })
    }
}

impl VmLog {
    /// True once nothing is added to it any more.
    pub fn has_ended(&self) -> bool {
        self.machine
            .upgrade()
            .is_none_or(|machine| machine.standing().gone)
    }
}

/// Where what is kept of a log of this length begins, at the latest.
pub fn first_kept(length: u64) -> u64 {
    length.saturating_sub(KEPT_BYTES)
}

/// Where the last `count` lines of a log of this length begin.
///
/// # Errors
/// When it cannot be read.
pub fn last_lines(log: &mut (impl Read + Seek), length: u64, count: u64) -> io::Result<u64> {
    let begin = first_kept(length);
    let mut found = 0;
    let mut end = length;
    let mut buffer = vec![0; 64 << 10];
    while end > begin {
        let start = begin.max(end.saturating_sub(buffer.len() as u64));
        let piece = &mut buffer[..usize::try_from(end - start).map_err(io::Error::other)?];
        log.seek(SeekFrom::Start(start))?;
        log.read_exact(piece)?;
        for (index, byte) in piece.iter().enumerate().rev() {
            let after = start + index as u64 + 1;
            // The line feed at the very end ends the last line, and begins none.
            if *byte == b'\n' && after < length {
                found += 1;
                if found == count {
                    return Ok(after);
                }
            }
        }
        end = start;
    }
    Ok(if count == 0 { length } else { begin })
}

/// Gives the beginning of a log back once the log takes too much of the disk, so that no guest can fill it.
pub(super) fn limit(path: &Path, number: VmNumber) {
    let limited = (|| {
        let meta = std::fs::symlink_metadata(path)?;
        if meta.blocks() * BLOCK_BYTES <= LIMIT_BYTES {
            return Ok(());
        }
        let log = OpenOptions::new().write(true).open(path)?;
        punch(&log, first_kept(meta.len()))
    })();
    match limited {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(vm = %number, %error, log = %path.display(), "cannot shorten a log");
        }
        _ => {}
    }
}

fn punch(log: &File, bytes: u64) -> io::Result<()> {
    let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    let bytes = i64::try_from(bytes).map_err(io::Error::other)?;
    match fallocate(log, hole, 0, bytes) {
        // The file system has no holes: it begins anew, and QEMU, which appends, goes on at its start.
        Err(nix::errno::Errno::EOPNOTSUPP) => log.set_len(0),
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Cursor, Write};

    #[test]
    fn a_long_log_keeps_its_end_where_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console.log");
        let mut log = OpenOptions::new()
            .append(true)
            .create(true)
            .open(&path)
            .unwrap();
        let line = b"0123456789abcde\n".repeat(4096);
        for _ in 0..LIMIT_BYTES / line.len() as u64 {
            log.write_all(&line).unwrap();
        }
        limit(&path, 42.into());
        let whole = log.metadata().unwrap();
        assert!(whole.blocks() * BLOCK_BYTES >= LIMIT_BYTES, "cut too early");
        log.write_all(&line).unwrap();
        limit(&path, 42.into());
        let length = LIMIT_BYTES + line.len() as u64;
        let cut = log.metadata().unwrap();
        assert_eq!(cut.len(), length, "positions have changed");
        assert!(
            cut.blocks() * BLOCK_BYTES < LIMIT_BYTES,
            "nothing was given back"
        );
        // What is written goes on at the end, and what is kept is what was there.
        log.write_all(b"last\n").unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let kept = usize::try_from(first_kept(length)).unwrap();
        assert!(bytes[..kept].iter().all(|&byte| byte == 0));
        assert!(bytes[kept..].starts_with(b"0123456789abcde\n"));
        assert!(bytes.ends_with(b"abcde\nlast\n"));
    }

    #[test]
    fn lines_are_counted_from_the_end() {
        let text = b"one\ntwo\n\nfour\nfi";
        let from = |count| {
            let start = last_lines(&mut Cursor::new(text), text.len() as u64, count).unwrap();
            &text[usize::try_from(start).unwrap()..]
        };
        assert_eq!(from(0), b"");
        assert_eq!(from(1), b"fi");
        assert_eq!(from(2), b"four\nfi");
        assert_eq!(from(3), b"\nfour\nfi");
        assert_eq!(from(5), text);
        assert_eq!(from(99), text);
        let ended = b"one\ntwo\n";
        assert_eq!(last_lines(&mut Cursor::new(ended), 8, 1).unwrap(), 4);
        assert_eq!(last_lines(&mut Cursor::new(b""), 0, 3).unwrap(), 0);
        // Over more than one piece.
        let long = [b"x".repeat(200_000), b"\nend\n".to_vec()].concat();
        let length = long.len() as u64;
        assert_eq!(last_lines(&mut Cursor::new(&long), length, 2).unwrap(), 0);
        assert_eq!(
            last_lines(&mut Cursor::new(&long), length, 1).unwrap(),
            200_001
        );
    }
}

//! Reading content: for its digest, or to hand it on.

use std::fs::File;
use std::ops::{ControlFlow, Range};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::error::{Error, Result};
use crate::kernel::block::Access;
use crate::kernel::ioctl;
use crate::units::Bytes;
use crate::volume::Volume;

use super::buffer::AlignedBuffer;
use super::digest::{BLOCK_BYTES, SparseDigest};
use super::window::Written;

/// One read.
const WINDOW_BYTES: usize = 4 << 20;
/// Buffers: one being read into, one being digested, one between.
const BUFFERS: usize = 3;

/// The [`SparseDigest`] of the first `content` bytes of a volume, read from the device with `O_DIRECT`.
///
/// With `written`, only those ranges are read: right for a volume that was fresh before, in which
/// everything else is unmapped and reads as zero.
///
/// # Errors
/// [`Error::Io`] if it cannot be read, [`Error::Invalid`] if the volume is shorter.
pub fn digest_of(volume: &Volume, content: Bytes, written: Option<&Written>) -> Result<[u8; 32]> {
    if content > volume.size() {
        return Err(Error::Invalid {
            what: "a content size",
            value: content,
            rule: format!("is more than the volume's {}", volume.size()),
        });
    }
    let whole = 0..content.0;
    let ranges = written.map_or(std::slice::from_ref(&whole), |written| &written.ranges);
    Source::open(volume, content)?.digest(ranges)
}

/// Reads ranges of a volume with `O_DIRECT`, in ascending order, and hands them on in pieces, each with its offset,
/// until `take` breaks it off; true if it came to the end.
///
/// Pieces begin at multiples of [`BLOCK_BYTES`] and are whole blocks, but for the last one, which may end with the
/// volume; a piece may begin before its range, in the same block. Reading goes on while a piece is taken.
///
/// # Errors
/// [`Error::Io`] if it cannot be read.
pub fn read_ranges(
    volume: &Volume,
    ranges: &[Range<u64>],
    take: &mut dyn FnMut(u64, &[u8]) -> ControlFlow<()>,
) -> Result<bool> {
    Source::open(volume, volume.size())?.each(ranges, take)
}

#[derive(Debug)]
struct Source {
    file: File,
    path: PathBuf,
    /// What a read has to be a multiple of.
    unit: u64,
    content: u64,
}

impl Source {
    fn open(volume: &Volume, content: Bytes) -> Result<Self> {
        let path = volume.path();
        let file = volume.open(Access::ReadOnly)?;
        let unit = ioctl::logical_block_bytes(&file).map_err(Error::io("examine", &path))?;
        Ok(Self {
            file,
            path,
            unit: u64::from(unit).max(1),
            content: content.0,
        })
    }

    fn digest(&self, ranges: &[Range<u64>]) -> Result<[u8; 32]> {
        let mut digest = SparseDigest::default();
        self.each(ranges, &mut |offset, bytes| {
            digest.update_run(offset / BLOCK_BYTES as u64, bytes);
            ControlFlow::Continue(())
        })?;
        Ok(digest.finish(self.content))
    }

    /// Reads in a thread of its own, while what was read is taken in this one.
    fn each(
        &self,
        ranges: &[Range<u64>],
        take: &mut dyn FnMut(u64, &[u8]) -> ControlFlow<()>,
    ) -> Result<bool> {
        let (send, full) = sync_channel::<(u64, usize, AlignedBuffer)>(BUFFERS);
        let (give_back, free) = sync_channel(BUFFERS);
        for _ in 0..BUFFERS {
            // There is room for all of them.
            let _ = give_back.try_send(AlignedBuffer::new(WINDOW_BYTES));
        }
        std::thread::scope(|scope| {
            let reader = scope.spawn(move || self.read(ranges, &send, &free));
            let mut whole = true;
            for (offset, length, buffer) in full {
                if take(offset, &buffer.bytes()[..length]).is_break() {
                    whole = false;
                    break;
                }
                // The reader is gone after its last window.
                let _ = give_back.try_send(buffer);
            }
            // A reader that waits for a buffer, or to hand one over, ends by this.
            drop(give_back);
            let read = reader.join().unwrap_or_else(|_| {
                let error = std::io::Error::other("the reading thread panicked");
                Err(Error::io("read", &self.path)(error))
            });
            read.map(|()| whole)
        })
    }

    fn read(
        &self,
        ranges: &[Range<u64>],
        send: &SyncSender<(u64, usize, AlignedBuffer)>,
        free: &Receiver<AlignedBuffer>,
    ) -> Result<()> {
        let mut done = 0;
        for range in ranges {
            let end = range.end.min(self.content);
            // Ranges begin at chunks, which are whole blocks of the digest, or are made to.
            let mut at = (range.start - range.start % BLOCK_BYTES as u64).max(done);
            while at < end {
                let length = (end - at).min(WINDOW_BYTES as u64);
                let Ok(mut buffer) = free.recv() else {
                    return Ok(());
                };
                // The content may end inside a block of the device; what follows is not content.
                let whole = length.next_multiple_of(self.unit) as usize;
                self.file
                    .read_exact_at(&mut buffer.bytes_mut()[..whole], at)
                    .map_err(Error::io("read", &self.path))?;
                if send.send((at, length as usize, buffer)).is_err() {
                    return Ok(());
                }
                at += length;
                done = at;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(bytes: &[u8]) -> Source {
        let file = tempfile::tempfile().unwrap();
        let padded = bytes.len().next_multiple_of(512) as u64;
        file.set_len(padded).unwrap();
        file.write_all_at(bytes, 0).unwrap();
        Source {
            file,
            path: "test".into(),
            unit: 512,
            content: bytes.len() as u64,
        }
    }

    fn expected(bytes: &[u8]) -> [u8; 32] {
        let mut digest = SparseDigest::default();
        digest.update_run(0, bytes);
        digest.finish(bytes.len() as u64)
    }

    #[test]
    fn all_of_it_or_only_what_was_written_gives_the_same() {
        let mut bytes = vec![0; 9 * WINDOW_BYTES + 777];
        bytes[3 * WINDOW_BYTES - 1] = 1;
        bytes[7 * WINDOW_BYTES] = 2;
        bytes[9 * WINDOW_BYTES + 776] = 3;
        let source = source(&bytes);
        let whole = source
            .digest(std::slice::from_ref(&(0..source.content)))
            .unwrap();
        assert_eq!(whole, expected(&bytes));
        let window = WINDOW_BYTES as u64;
        let ranges = [
            3 * window - 65536..3 * window,
            7 * window..7 * window + 65536,
            9 * window..9 * window + 1024,
        ];
        assert_eq!(source.digest(&ranges).unwrap(), whole);
        assert_ne!(source.digest(&ranges[..2]).unwrap(), whole);
    }

    #[test]
    fn reading_ends_when_nobody_wants_more() {
        let bytes = vec![1; 20 * WINDOW_BYTES];
        let source = source(&bytes);
        let whole = 0..source.content;
        let mut taken = 0;
        let end = source.each(std::slice::from_ref(&whole), &mut |_, piece| {
            taken += piece.len();
            ControlFlow::Break(())
        });
        assert!(!end.unwrap());
        assert_eq!(taken, WINDOW_BYTES);
    }

    #[test]
    fn content_of_no_length() {
        assert_eq!(source(&[]).digest(&[]).unwrap(), expected(&[]));
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        let mut source = source(&[1; 65536]);
        source.content = 1 << 20;
        assert!(source.digest(std::slice::from_ref(&(0..1 << 20))).is_err());
    }
}

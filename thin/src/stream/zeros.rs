//! Giving blocks back that hold nothing, or nothing that is wanted any more.
//!
//! A discard frees whole chunks only, so both calls want a volume that is active in whole chunks and that
//! nobody else uses. What they did is on disk when they return.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use crate::error::{Error, Result};
use crate::kernel::block::Access;
use crate::kernel::ioctl;
use crate::pool::Pool;
use crate::units::Bytes;
use crate::volume::{Volume, VolumeSpec};

use super::buffer::AlignedBuffer;
use super::digest::is_zero;

/// One read, in whole chunks of every size that a pool may have by default.
const WINDOW_BYTES: u64 = 4 << 20;

impl Pool {
    /// Takes everything from `from` on away from an active volume: it reads as zero afterwards, also if the
    /// volume is made shorter now and longer again later.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the volume does not end with a whole chunk; [`Error::Io`]. A call that was
    /// broken off may be repeated.
    pub fn discard_tail(&self, spec: &VolumeSpec, volume: &Volume, from: Bytes) -> Result<()> {
        let whole = self.whole_chunks(volume, from)?;
        let end = self.mapped(spec.id, spec.uuid)?.end;
        if end > from {
            write_zeros(volume, from.0..whole.0)?;
            volume.discard_range(whole, end.saturating_sub(whole))?;
        }
        make_durable(volume)?;
        // A discard is a request; what is asked for here is that nothing comes back.
        let left = self.mapped(spec.id, spec.uuid)?.end;
        if left > whole {
            return Err(Error::Invalid {
                what: "the end of what is mapped",
                value: left,
                rule: format!(
                    "is still behind {whole} after {} was discarded",
                    volume.name()
                ),
            });
        }
        Ok(())
    }

    /// Gives the chunks of an active volume back that hold nothing but zeros; only what is mapped is read.
    ///
    /// # Errors
    /// As [`Pool::discard_tail`] and [`Pool::metadata_snapshot`].
    pub fn discard_zeros(&self, spec: &VolumeSpec, volume: &Volume) -> Result<()> {
        self.whole_chunks(volume, Bytes(0))?;
        // What is written or freed by others from here on is in other volumes. Released before the first
        // discard: what it holds, nobody can give back.
        let snapshot = self.metadata_snapshot()?;
        let extents = snapshot.extents(spec.id)?;
        snapshot.release()?;
        let file = volume.open(Access::ReadOnly)?;
        let chunk = self.spec.chunk.0;
        let window = WINDOW_BYTES.next_multiple_of(chunk);
        let mut buffer = AlignedBuffer::new(window as usize);
        let mut empty = 0..0;
        for range in extents.ranges() {
            let end = range.end.min(volume.size().0);
            for at in (range.start..end).step_by(window as usize) {
                let bytes = &mut buffer.bytes_mut()[..(end - at).min(window) as usize];
                file.read_exact_at(bytes, at)
                    .map_err(Error::io("read", volume.path()))?;
                let chunks = bytes.chunks(chunk as usize);
                for (start, chunk) in (at..).step_by(chunk as usize).zip(chunks) {
                    if !is_zero(chunk) {
                        continue;
                    }
                    if empty.end != start {
                        discard(volume, &empty)?;
                        empty.start = start;
                    }
                    empty.end = start + chunk.len() as u64;
                }
            }
        }
        discard(volume, &empty)?;
        make_durable(volume)
    }

    /// The first chunk that begins at `from` or after it.
    fn whole_chunks(&self, volume: &Volume, from: Bytes) -> Result<Bytes> {
        let chunk = self.spec.chunk;
        match from.round_up(chunk) {
            Some(whole) if volume.size().is_multiple_of(chunk) => Ok(whole.min(volume.size())),
            _ => Err(Error::Invalid {
                what: "a volume size",
                value: volume.size(),
                rule: format!("is not a whole number of chunks of {chunk}"),
            }),
        }
    }
}

fn discard(volume: &Volume, range: &Range<u64>) -> Result<()> {
    if range.is_empty() {
        return Ok(());
    }
    volume.discard_range(Bytes(range.start), Bytes(range.end - range.start))
}

/// Makes a range zero that ends with a chunk and is shorter than one, unless it is zero already: writing
/// would give a chunk to a volume that had none there.
fn write_zeros(volume: &Volume, range: Range<u64>) -> Result<()> {
    if range.is_empty() {
        return Ok(());
    }
    let file = volume.open(Access::ReadWrite)?;
    let unit = ioctl::logical_block_bytes(&file).map_err(Error::io("examine", volume.path()))?;
    zero_rest(&file, range, u64::from(unit).max(1))
        .map_err(Error::io("clear a part of", volume.path()))
}

/// The same on any file; reads and writes whole units only.
fn zero_rest(file: &File, range: Range<u64>, unit: u64) -> std::io::Result<()> {
    let start = range.start - range.start % unit;
    let mut buffer = AlignedBuffer::new((range.end - start) as usize);
    file.read_exact_at(buffer.bytes_mut(), start)?;
    let rest = &mut buffer.bytes_mut()[(range.start - start) as usize..];
    if is_zero(rest) {
        return Ok(());
    }
    rest.fill(0);
    file.write_all_at(buffer.bytes(), start)
}

/// A discard is in the pool's metadata on disk once the device has been flushed.
fn make_durable(volume: &Volume) -> Result<()> {
    volume
        .open(Access::ReadWrite)?
        .sync_all()
        .map_err(Error::io("flush", volume.path()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_rest_of_a_chunk_is_cleared() {
        for (from, unit) in [(1024, 512), (1536, 512), (1536, 4096), (8192, 4096)] {
            let file = tempfile::tempfile().unwrap();
            file.write_all_at(&[7; 65536], 0).unwrap();
            zero_rest(&file, from..65536, unit).unwrap();
            let mut bytes = vec![1; 65536];
            file.read_exact_at(&mut bytes, 0).unwrap();
            let (kept, cleared) = bytes.split_at(from as usize);
            assert!(kept.iter().all(|&byte| byte == 7), "{from}, {unit}");
            assert!(is_zero(cleared), "{from}, {unit}");
        }
    }
}

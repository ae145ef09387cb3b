//! The SHA-512 of each part of 1 GiB of a disk, as fast-vm's users keep them beside their images.

use super::error::{Result, failed};
use crate::api::{ApiError, ErrorKind, PartChecksum};
use fvm_thin::{Extents, Volume, read_ranges};
use sha2::{Digest, Sha512};
use std::{
    ops::{ControlFlow, Range},
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

/// One part.
const PART_BYTES: u64 = 1 << 30;
/// Parts at once: each takes some 12 MiB of buffers.
const MAX_WORKERS: usize = 4;
static ZEROS: [u8; 256 * 1024] = [0; 256 * 1024];

/// The checksums of all parts, in order; the last part is what follows the last whole GiB, which may be nothing.
pub(super) fn of_parts(volume: &Volume, extents: &Extents) -> Result<Vec<PartChecksum>> {
    let size = volume.size().0;
    let count = u32::try_from(size / PART_BYTES + 1)
        .map_err(|error| failed("counting the parts of a disk", &error))?;
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicU32::new(0);
    let done = Mutex::new(Vec::new());
    let hole = OnceLock::new();
    thread::scope(|scope| {
        for _ in 0..workers.min(MAX_WORKERS).min(count as usize) {
            scope.spawn(|| {
                loop {
                    let part = next.fetch_add(1, Ordering::Relaxed);
                    if part >= count {
                        return;
                    }
                    let start = u64::from(part) * PART_BYTES;
                    let range = start..size.min(start + PART_BYTES);
                    let sha512 = of_part(volume, extents.ranges(), range, &hole);
                    let result = sha512.map(|sha512| PartChecksum { part, sha512 });
                    done.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(result);
                }
            });
        }
    });
    let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut parts = done.into_iter().collect::<Result<Vec<_>>>()?;
    if parts.len() != count as usize {
        // A thread that panicked has said so in the log.
        return Err(ApiError::new(
            ErrorKind::Internal,
            "fvmd failed while computing checksums",
        ));
    }
    parts.sort_by_key(|part| part.part);
    Ok(parts)
}

/// The checksum of one part; that of a whole part without data is computed once.
fn of_part(
    volume: &Volume,
    mapped: &[Range<u64>],
    part: Range<u64>,
    hole: &OnceLock<String>,
) -> Result<String> {
    let within = clipped(mapped, &part);
    if within.is_empty() && part.end - part.start == PART_BYTES {
        let compute = || {
            let mut sha512 = Sha512::new();
            zeros(&mut sha512, PART_BYTES);
            hex(sha512)
        };
        return Ok(hole.get_or_init(compute).clone());
    }
    let mut sha512 = Sha512::new();
    let mut at = part.start;
    read_ranges(volume, &within, &mut |offset, bytes| {
        zeros(&mut sha512, offset - at);
        sha512.update(bytes);
        at = offset + bytes.len() as u64;
        ControlFlow::Continue(())
    })
    .map_err(|error| failed("reading the disk", &error))?;
    zeros(&mut sha512, part.end - at);
    Ok(hex(sha512))
}

/// What of ascending ranges lies in a part.
fn clipped(ranges: &[Range<u64>], part: &Range<u64>) -> Vec<Range<u64>> {
    ranges
        .iter()
        .map(|range| range.start.max(part.start)..range.end.min(part.end))
        .filter(|range| range.start < range.end)
        .collect()
}

fn zeros(sha512: &mut Sha512, mut count: u64) {
    while count > 0 {
        let piece = count.min(ZEROS.len() as u64);
        sha512.update(&ZEROS[..piece as usize]);
        count -= piece;
    }
}

fn hex(sha512: Sha512) -> String {
    sha512
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_at_the_parts() {
        let ranges = [0..10, 20..45, 60..61];
        assert_eq!(clipped(&ranges, &(0..30)), [0..10, 20..30]);
        assert_eq!(clipped(&ranges, &(30..61)), [30..45, 60..61]);
        assert_eq!(clipped(&ranges, &(45..60)), []);
    }

    #[test]
    fn zeros_count_as_they_are() {
        let mut by_count = Sha512::new();
        zeros(&mut by_count, 1_000_001);
        assert_eq!(
            hex(by_count),
            hex(Sha512::new_with_prefix(vec![0; 1_000_001]))
        );
        // The SHA-512 of nothing (FIPS 180-4).
        assert!(hex(Sha512::new()).starts_with("cf83e1357eefb8bd"));
    }
}

//! The metadata snapshot that a power cut only seems to have left.
//!
//! `reserve_metadata_snap` writes the snapshot's root into the superblock in memory, and raises counts in the
//! space map. The commit that follows first flushes every dirty block, the superblock with the *old* space map
//! among them, and then writes the superblock anew (`__commit_transaction` in `drivers/md/dm-thin-metadata.c`).
//! If power is lost between the two, the disk names a snapshot that nothing was counted for. To release it would
//! lower counts that were never raised, and so free blocks that are in use: the pool would destroy itself.
//!
//! The block of such a root counts as free, since the kernel took it from among the free ones; that of a
//! real one counts as used. So before the kernel sees the metadata, the count is looked up, and a root without one
//! is taken out of the superblock. What is left is the state of the commit before.
//!
//! Formats: `thin_disk_superblock` in `dm-thin-metadata.c`, `disk_metadata_index` and `disk_bitmap_header` in
//! `drivers/md/persistent-data/dm-space-map-common.h`; little endian, blocks of 4 KiB.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::error::{Error, Result};

use super::raw;
use super::superblock::Superblock;

/// `THIN_METADATA_BLOCK_SIZE`, in bytes.
const BLOCK: usize = 4096;
/// `SUPERBLOCK_CSUM_XOR`.
const CHECKSUM_XOR: u32 = 160_774;
/// `held_root` in the superblock.
const HELD_ROOT: usize = 56;
/// `metadata_space_map_root` in the superblock, and `bitmap_root` in that.
const BITMAP_ROOT: usize = 192 + 16;
/// Bytes before the entries, in the index as in a bitmap.
const HEADER: usize = 16;
/// `MAX_METADATA_BITMAPS`.
const BITMAPS: u64 = 255;
/// `ENTRIES_PER_BYTE`: a count takes two bits.
const COUNTS_PER_BYTE: u64 = 4;

/// Takes a root that nothing was counted for out of the superblock on `path`, durably; whether there was one.
///
/// Metadata that cannot be read as such are left alone: they are the kernel's and `thin_check`'s matter.
/// The pool must not be active.
pub(super) fn drop_uncounted(path: &Path) -> Result<bool> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(Error::io("open", path))?;
    let mut superblock = block(&file, path, 0)?;
    let Some(root) = held_root(&superblock) else {
        return Ok(false);
    };
    if is_counted(&superblock, root, |number| block(&file, path, number))? != Some(false) {
        return Ok(false);
    }
    without_root(&mut superblock);
    // Root and checksum lie in the first sector, which is written as a whole or not at all.
    file.write_all_at(&superblock, 0)
        .and_then(|()| file.sync_all())
        .map_err(Error::io("write", path))?;
    Ok(true)
}

fn block(file: &File, path: &Path, number: u64) -> Result<Vec<u8>> {
    match number.checked_mul(BLOCK as u64) {
        Some(offset) if offset <= i64::MAX.cast_unsigned() => {
            raw::read_up_to(file, path, offset, BLOCK)
        }
        _ => Ok(Vec::new()),
    }
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The root that a sound superblock names.
fn held_root(superblock: &[u8]) -> Option<u64> {
    Superblock::parse(superblock)?;
    if superblock.len() != BLOCK || superblock[..4] != checksum(superblock).to_le_bytes() {
        return None;
    }
    u64_at(superblock, HELD_ROOT).filter(|root| *root != 0)
}

/// Whether the committed space map counts a block as used; `None` if that cannot be read.
fn is_counted(
    superblock: &[u8],
    number: u64,
    read: impl Fn(u64) -> Result<Vec<u8>>,
) -> Result<Option<bool>> {
    let per_bitmap = (BLOCK - HEADER) as u64 * COUNTS_PER_BYTE;
    let (bitmap, count) = (number / per_bitmap, number % per_bitmap);
    let Some(index_at) = u64_at(superblock, BITMAP_ROOT).filter(|_| bitmap < BITMAPS) else {
        return Ok(None);
    };
    let index = read(index_at)?;
    // `blocknr` of the block itself shows that it is what it should be.
    if u64_at(&index, 8) != Some(index_at) {
        return Ok(None);
    }
    let Some(bitmap_at) = u64_at(&index, HEADER + bitmap as usize * 16) else {
        return Ok(None);
    };
    let bits = read(bitmap_at)?;
    if u64_at(&bits, 8) != Some(bitmap_at) {
        return Ok(None);
    }
    let byte = bits.get(HEADER + (count / COUNTS_PER_BYTE) as usize);
    let shift = count % COUNTS_PER_BYTE * 2;
    Ok(byte.map(|byte| byte >> shift & 0b11 != 0))
}

fn without_root(superblock: &mut [u8]) {
    superblock[HELD_ROOT..HELD_ROOT + 8].fill(0);
    let sum = checksum(superblock);
    superblock[..4].copy_from_slice(&sum.to_le_bytes());
}

/// `dm_bm_checksum` of all that follows the checksum itself.
fn checksum(superblock: &[u8]) -> u32 {
    crc32c(&superblock[4..]) ^ CHECKSUM_XOR
}

/// The kernel's `crc32c(~0, …)`: Castagnoli's polynomial, reflected, without the inversion at the end.
fn crc32c(bytes: &[u8]) -> u32 {
    bytes.iter().fold(!0, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            (sum >> 1) ^ (0x82F6_3B78 & (sum & 1).wrapping_neg())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The held root's block.
    const ROOT: u64 = 16_320 + 6;

    /// Metadata of three blocks: superblock, index, and the second bitmap at 2.
    fn metadata(counts: u8) -> Vec<u8> {
        let mut bytes = vec![0; 3 * BLOCK];
        let mut put =
            |at: usize, value: u64| bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        put(32, 27_022_010);
        put(HELD_ROOT, ROOT);
        put(BITMAP_ROOT, 1);
        put(BLOCK + 8, 1);
        put(BLOCK + HEADER + 16, 2);
        put(2 * BLOCK + 8, 2);
        bytes[2 * BLOCK + HEADER + 1] = counts;
        let sum = checksum(&bytes[..BLOCK]);
        bytes[..4].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    fn after(bytes: &[u8]) -> (bool, Vec<u8>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let dropped = drop_uncounted(file.path()).unwrap();
        (dropped, std::fs::read(file.path()).unwrap())
    }

    #[test]
    fn the_checksum_is_the_kernels() {
        // The check value of CRC-32C, before its final inversion.
        assert_eq!(!crc32c(b"123456789"), 0xE306_9283);
    }

    #[test]
    fn a_root_that_nothing_was_counted_for_is_dropped() {
        // The neighbours' counts are none of its own.
        let (dropped, left) = after(&metadata(0b1100_1111));
        assert!(dropped);
        assert_eq!(u64_at(&left, HELD_ROOT), Some(0));
        assert_eq!(left[..4], checksum(&left[..BLOCK]).to_le_bytes());
        assert_eq!(after(&left), (false, left.clone()), "and that only once");
    }

    #[test]
    fn a_counted_root_stays() {
        for counts in [0b0001_0000, 0b0010_0000, 0b0011_0000] {
            let bytes = metadata(counts);
            assert_eq!(after(&bytes), (false, bytes.clone()));
        }
    }

    #[test]
    fn what_is_damaged_or_cut_short_stays_as_it_is() {
        let good = metadata(0);
        for at in [
            0,
            4,
            8,
            32,
            BITMAP_ROOT,
            BLOCK + 8,
            BLOCK + HEADER + 16,
            2 * BLOCK + 8,
        ] {
            let mut bytes = good.clone();
            bytes[at] ^= 0x10;
            assert_eq!(after(&bytes), (false, bytes.clone()), "{at}");
        }
        for length in [0, 100, BLOCK, 2 * BLOCK, 2 * BLOCK + HEADER] {
            let bytes = good[..length].to_vec();
            assert_eq!(after(&bytes), (false, bytes.clone()), "{length}");
        }
    }
}

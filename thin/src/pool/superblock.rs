//! The first block of a pool's metadata, as far as a repair has to know it. Pure.
//!
//! `struct thin_disk_superblock` in `drivers/md/dm-thin-metadata.c`, little endian:
//!
//! ```text
//! 0 checksum  4 flags  8 block number  16 uuid  32 magic  40 version  44 time  48 transaction id  …
//! ```

use crate::id::TransactionId;

/// `THIN_SUPERBLOCK_MAGIC`.
const MAGIC: u64 = 27_022_010;
/// `THIN_METADATA_NEEDS_CHECK_FLAG`, bit 0 of the flags.
const NEEDS_CHECK: u32 = 1;

/// What the first block says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Superblock {
    pub(super) transaction: TransactionId,
    pub(super) needs_check: bool,
}

impl Superblock {
    /// Reads the beginning of the block; `None` if it is none. Its checksum is `thin_check`'s matter.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let u32_at = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        let u64_at = |at: usize| Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        if u64_at(8)? != 0 || u64_at(32)? != MAGIC {
            return None;
        }
        Some(Self {
            transaction: TransactionId(u64_at(48)?),
            needs_check: u32_at(4)? & NEEDS_CHECK != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_matters_is_read_and_nothing_is_invented() {
        let mut block = [0_u8; 64];
        assert_eq!(Superblock::parse(&block), None);
        block[32..40].copy_from_slice(&MAGIC.to_le_bytes());
        block[48..56].copy_from_slice(&42_u64.to_le_bytes());
        let clean = Superblock {
            transaction: TransactionId(42),
            needs_check: false,
        };
        assert_eq!(Superblock::parse(&block), Some(clean));
        block[4] = 1;
        assert!(Superblock::parse(&block).unwrap().needs_check);
        for length in 0..56 {
            assert_eq!(Superblock::parse(&block[..length]), None, "{length}");
        }
        block[8] = 1;
        assert_eq!(Superblock::parse(&block), None);
    }
}

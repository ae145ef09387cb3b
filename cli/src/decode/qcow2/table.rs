//! Entries of the L1 and L2 tables: where a cluster of the disk lies in the file. Pure.

use super::{Damage, header::Header};

/// Bits 9 to 55, in both tables.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
/// The cluster is used once; of interest to writers only.
const COPIED: u64 = 1 << 63;
const COMPRESSED: u64 = 1 << 62;
/// In standard entries of version 3: reads as zeros.
const ZERO: u64 = 1;
/// Compressed clusters are measured in these.
const SECTOR_BYTES: u64 = 512;
/// Parts of a cluster with an extended entry, each allocated by itself.
const PARTS: u32 = 32;

/// Where a cluster's content is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cluster {
    /// Nowhere: zeros.
    Nothing,
    /// In a cluster of the file.
    Host {
        /// Where that begins.
        offset: u64,
        /// Which 32nds of it are content, lowest first; the others are zeros.
        present: u32,
    },
    /// Compressed, anywhere in the file.
    Packed {
        /// Where it begins.
        offset: u64,
        /// The most bytes that it has; the last sector need not be full.
        length: u64,
    },
}

impl Header {
    /// Where an L1 entry's table is; `None` if all that it would describe is zero.
    pub(super) fn l2_table(&self, entry: u64) -> Result<Option<u64>, Damage> {
        let offset = entry & OFFSET;
        if entry & !(OFFSET | COPIED) != 0 || !offset.is_multiple_of(self.cluster_bytes()) {
            return Err(Damage::Entry("L1", entry));
        }
        Ok((offset != 0).then_some(offset))
    }

    /// What an L2 entry says, which is one word, or two if they are extended.
    pub(super) fn cluster(&self, entry: &[u8]) -> Result<Cluster, Damage> {
        let mut words = entry
            .as_chunks::<8>()
            .0
            .iter()
            .map(|word| u64::from_be_bytes(*word));
        let (first, second) = (words.next().unwrap_or(0), words.next().unwrap_or(0));
        let wrong = || Damage::Entry("L2", first);
        if first & COMPRESSED != 0 {
            // Subclusters mean nothing here, and the used-once bit is never set.
            return if second == 0 && first & COPIED == 0 {
                Ok(self.packed(first))
            } else {
                Err(wrong())
            };
        }
        let zero = if self.zero_flag { ZERO } else { 0 };
        let offset = first & OFFSET;
        if first & !(OFFSET | COPIED | zero) != 0 || !offset.is_multiple_of(self.cluster_bytes()) {
            return Err(wrong());
        }
        let present = if self.extended_l2 {
            let (allocated, zeros) = (second as u32, (second >> PARTS) as u32);
            if allocated & zeros != 0 || (offset == 0 && allocated != 0) {
                return Err(Damage::Entry("extended L2", second));
            }
            allocated
        } else if first & zero != 0 {
            0
        } else {
            u32::MAX
        };
        Ok(match offset {
            0 => Cluster::Nothing,
            offset => Cluster::Host { offset, present },
        })
    }

    fn packed(&self, entry: u64) -> Cluster {
        let length_bit = 62 - (self.cluster_bits - 8);
        let descriptor = entry & (COMPRESSED - 1);
        let offset = descriptor & ((1 << length_bit) - 1);
        let sectors = (descriptor >> length_bit) + 1;
        Cluster::Packed {
            offset,
            length: sectors * SECTOR_BYTES - offset % SECTOR_BYTES,
        }
    }

    /// Bytes of one 32nd of a cluster.
    pub(super) fn part_bytes(&self) -> u64 {
        self.cluster_bytes() / u64::from(PARTS)
    }
}

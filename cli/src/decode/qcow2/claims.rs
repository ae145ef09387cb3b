//! Which clusters of the file are taken, and by what kind of thing.
//!
//! In a sound file every cluster is one table or one cluster of the disk; only compressed data shares clusters, and only
//! with compressed data. A file in which tables overlap can look like a disk of any content, or like one
//! of terabytes that is a single cluster, and is refused.

use super::{Damage, Unfit, header::Header};

/// 16 MiB for both maps: files of 4 TiB with clusters of 64 KiB.
const MAX_CLUSTERS: u64 = 1 << 26;

/// Two bits for each cluster of the file.
#[derive(Debug)]
pub(super) struct Claims {
    cluster_bits: u32,
    clusters: u64,
    alone: Vec<u64>,
    shared: Vec<u64>,
}

impl Claims {
    /// For a file of this length, with nothing claimed.
    pub(super) fn new(header: &Header, file_bytes: u64) -> Result<Self, Unfit> {
        let clusters = file_bytes.div_ceil(header.cluster_bytes());
        if clusters > MAX_CLUSTERS {
            return Err(Unfit::Clusters(clusters));
        }
        let words = clusters.div_ceil(64) as usize;
        Ok(Self {
            cluster_bits: header.cluster_bits,
            clusters,
            alone: vec![0; words],
            shared: vec![0; words],
        })
    }

    /// Claims every cluster of a range for one thing alone.
    pub(super) fn alone(
        &mut self,
        what: &'static str,
        offset: u64,
        bytes: u64,
    ) -> Result<(), Damage> {
        for cluster in self.clusters_of(offset, bytes) {
            let (word, bit) = place(cluster);
            if (self.alone[word] | self.shared[word]) & bit != 0 {
                return Err(Damage::Overlap(what, offset));
            }
            self.alone[word] |= bit;
        }
        Ok(())
    }

    /// Claims every cluster of a range together with other compressed data.
    pub(super) fn shared(
        &mut self,
        what: &'static str,
        offset: u64,
        bytes: u64,
    ) -> Result<(), Damage> {
        for cluster in self.clusters_of(offset, bytes) {
            let (word, bit) = place(cluster);
            if self.alone[word] & bit != 0 {
                return Err(Damage::Overlap(what, offset));
            }
            self.shared[word] |= bit;
        }
        Ok(())
    }

    /// The clusters that a range touches, as far as the file goes.
    fn clusters_of(&self, offset: u64, bytes: u64) -> std::ops::Range<u64> {
        let first = offset >> self.cluster_bits;
        let end = offset
            .saturating_add(bytes)
            .div_ceil(1 << self.cluster_bits);
        first..end.min(self.clusters)
    }
}

fn place(cluster: u64) -> (usize, u64) {
    ((cluster / 64) as usize, 1 << (cluster % 64))
}

//! qcow2 (version 3, `docs/interop/qcow2.rst` of QEMU): data clusters as they come, the tables behind them, the header
//! last.
//!
//! What is zero has no cluster. A table of the second level is written when content has passed what it maps, so that
//! no more than one of them is in memory.

use super::Encode;
use std::{fs::File, io, os::unix::fs::FileExt};

const CLUSTER_BITS: u32 = 16;
const CLUSTER: u64 = 1 << CLUSTER_BITS;
/// Entries of a table in one cluster.
const L2_ENTRIES: u64 = CLUSTER / 8;
/// Entries of a refcount block: 16 bits each.
const REFCOUNTS: u64 = CLUSTER / 2;
/// Bit 63 of an entry: the cluster's refcount is exactly one.
const COPIED: u64 = 1 << 63;
/// The header without optional fields.
const HEADER_BYTES: u32 = 104;

/// An image on its way.
#[derive(Debug)]
pub(super) struct Qcow2 {
    out: File,
    /// Where the next cluster goes; the header has the first.
    end: u64,
    /// How far the content has come.
    position: u64,
    l1: Vec<u64>,
    /// The table that maps where content is now, and its place in the first level.
    l2: Vec<u64>,
    l2_index: u64,
}

impl Qcow2 {
    pub(super) fn new(out: File) -> io::Result<Self> {
        Ok(Self {
            out,
            end: CLUSTER,
            position: 0,
            l1: Vec::new(),
            l2: vec![0; L2_ENTRIES as usize],
            l2_index: 0,
        })
    }

    /// Appends whole clusters, the last one padded, and returns where they are.
    fn append(&mut self, bytes: &[u8]) -> io::Result<u64> {
        let at = self.end;
        self.out.write_all_at(bytes, at)?;
        self.end = (at + bytes.len() as u64).next_multiple_of(CLUSTER);
        Ok(at)
    }

    fn append_table(&mut self, entries: &[u64]) -> io::Result<u64> {
        let bytes: Vec<u8> = entries
            .iter()
            .flat_map(|entry| entry.to_be_bytes())
            .collect();
        self.append(&bytes)
    }

    /// Goes on to another table of the second level.
    fn turn_to(&mut self, index: u64) -> io::Result<()> {
        if self.l2_index == index {
            return Ok(());
        }
        if self.l2.iter().any(|&entry| entry != 0) {
            let table = std::mem::replace(&mut self.l2, vec![0; L2_ENTRIES as usize]);
            let at = self.append_table(&table)?;
            let place = self.l2_index as usize;
            self.l1.resize(self.l1.len().max(place + 1), 0);
            self.l1[place] = at | COPIED;
        }
        self.l2_index = index;
        Ok(())
    }

    /// Counts every cluster once, those of the counts too, and returns where the table of counts is and how many
    /// clusters it has.
    fn append_refcounts(&mut self) -> io::Result<(u64, u32)> {
        let before = self.end / CLUSTER;
        let (mut blocks, mut tables) = (0, 0);
        loop {
            let needed = (before + blocks + tables).div_ceil(REFCOUNTS);
            let tables_needed = needed.div_ceil(L2_ENTRIES);
            if (needed, tables_needed) == (blocks, tables) {
                break;
            }
            (blocks, tables) = (needed, tables_needed);
        }
        let all = before + blocks + tables;
        let mut table = Vec::with_capacity(blocks as usize);
        for block in 0..blocks {
            let counted = REFCOUNTS.min(all - block * REFCOUNTS);
            let counts: Vec<u8> = (0..REFCOUNTS)
                .flat_map(|index| u16::from(index < counted).to_be_bytes())
                .collect();
            table.push(self.append(&counts)?);
        }
        table.resize((tables * L2_ENTRIES) as usize, 0);
        Ok((self.append_table(&table)?, tables as u32))
    }
}

impl Encode for Qcow2 {
    /// Blocks of a stream are clusters: each begins on a boundary.
    fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        for cluster in bytes.chunks(CLUSTER as usize) {
            let index = self.position / CLUSTER;
            self.turn_to(index / L2_ENTRIES)?;
            let at = self.append(cluster)?;
            self.l2[(index % L2_ENTRIES) as usize] = at | COPIED;
            self.position += cluster.len() as u64;
        }
        Ok(())
    }

    fn zeros(&mut self, bytes: u64) -> io::Result<()> {
        self.position += bytes;
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        let size = self.position;
        self.turn_to(u64::MAX)?;
        let l1_entries = size.div_ceil(CLUSTER * L2_ENTRIES);
        let mut l1 = std::mem::take(&mut self.l1);
        l1.resize(l1_entries as usize, 0);
        let l1_at = self.append_table(&l1)?;
        let (refcounts_at, refcount_clusters) = self.append_refcounts()?;
        let mut header = Vec::with_capacity(HEADER_BYTES as usize + 8);
        header.extend(b"QFI\xfb");
        header.extend(3_u32.to_be_bytes());
        // No backing file.
        header.extend([0; 12]);
        header.extend(CLUSTER_BITS.to_be_bytes());
        header.extend(size.to_be_bytes());
        // No encryption.
        header.extend(0_u32.to_be_bytes());
        header.extend((l1_entries as u32).to_be_bytes());
        header.extend(l1_at.to_be_bytes());
        header.extend(refcounts_at.to_be_bytes());
        header.extend(refcount_clusters.to_be_bytes());
        // No snapshots, no features.
        header.extend([0; 4 + 8 + 3 * 8]);
        // Refcounts of 2^4 bits.
        header.extend(4_u32.to_be_bytes());
        header.extend(HEADER_BYTES.to_be_bytes());
        // The end of the header's extensions.
        header.extend([0; 8]);
        self.out.write_all_at(&header, 0)?;
        self.out.set_len(self.end)
    }
}

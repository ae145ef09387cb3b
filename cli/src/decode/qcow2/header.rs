//! The header of a qcow2 file (QEMU's docs/interop/qcow2.txt): read, and refused if an import could not be exact.

use super::{Damage, Flaw, Unfit};

/// Every field that matters here: the fixed part of version 3, then the compression type.
pub(super) const HEADER_BYTES: usize = 105;
const V2_BYTES: usize = 72;
const V3_BYTES: u32 = 104;

/// Cluster sizes that the format allows: 512 bytes to 2 MiB.
const CLUSTER_BITS: std::ops::RangeInclusive<u32> = 9..=21;
/// 32 subclusters of at least 512 bytes each.
const MIN_EXTENDED_CLUSTER_BITS: u32 = 14;
/// QEMU's own limit (`QCOW_MAX_L1_SIZE`).
const MAX_L1_BYTES: u64 = 32 << 20;

const DIRTY: u64 = 1 << 0;
const CORRUPT: u64 = 1 << 1;
const EXTERNAL_DATA: u64 = 1 << 2;
const COMPRESSION_TYPE: u64 = 1 << 3;
const EXTENDED_L2: u64 = 1 << 4;
const KNOWN: u64 = DIRTY | CORRUPT | EXTERNAL_DATA | COMPRESSION_TYPE | EXTENDED_L2;

/// How compressed clusters are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    /// Raw deflate data.
    Deflate,
    /// A zstd frame.
    Zstd,
}

/// What the header says that reading needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) cluster_bits: u32,
    /// The disk's size in bytes.
    pub(super) size: u64,
    pub(super) l1_offset: u64,
    /// Entries of the active L1 table that `size` needs; there may be more.
    pub(super) l1_entries: u64,
    pub(super) extended_l2: bool,
    pub(super) packing: Packing,
    /// Zero clusters are marked by a bit that version 2 reserves.
    pub(super) zero_flag: bool,
    pub(super) snapshots: u32,
    /// Its reference counts may be wrong; they are of no interest to a reader.
    pub(super) dirty: bool,
}

/// Where the name of a backing file stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BackingName {
    pub(super) offset: u64,
    pub(super) length: u32,
}

/// Big-endian fields at offsets; what a short file does not have is zero, and lengths are checked first.
struct Fields([u8; HEADER_BYTES]);

impl Fields {
    fn u32(&self, at: usize) -> u32 {
        self.0[at..]
            .first_chunk()
            .copied()
            .map_or(0, u32::from_be_bytes)
    }

    fn u64(&self, at: usize) -> u64 {
        self.0[at..]
            .first_chunk()
            .copied()
            .map_or(0, u64::from_be_bytes)
    }
}

impl Header {
    /// Reads a header from the first bytes of a file, [`HEADER_BYTES`] if there are as many.
    pub(super) fn parse(start: &[u8]) -> Result<Self, Flaw> {
        let present = start.len().min(HEADER_BYTES);
        let mut fields = Fields([0; HEADER_BYTES]);
        fields.0[..present].copy_from_slice(&start[..present]);
        if present < V2_BYTES {
            return Err(Damage::ShortHeader.into());
        }
        let version = fields.u32(4);
        let features = match version {
            2 => 0,
            3 if present < V3_BYTES as usize => return Err(Damage::ShortHeader.into()),
            3 => fields.u64(72),
            other => return Err(Unfit::Version(other).into()),
        };
        let cluster_bits = fields.u32(20);
        if !CLUSTER_BITS.contains(&cluster_bits) {
            return Err(Damage::Field("cluster_bits", cluster_bits.into()).into());
        }
        Self::check_features(features)?;
        match fields.u32(32) {
            0 => {}
            method => return Err(Unfit::Encrypted(method).into()),
        }
        let extended_l2 = features & EXTENDED_L2 != 0;
        if extended_l2 && cluster_bits < MIN_EXTENDED_CLUSTER_BITS {
            return Err(Damage::Field("cluster_bits", cluster_bits.into()).into());
        }
        let packing = fields.packing(version, features, present, cluster_bits)?;
        let header = Self {
            cluster_bits,
            size: fields.u64(24),
            l1_offset: fields.u64(40),
            l1_entries: 0,
            extended_l2,
            packing,
            zero_flag: version >= 3 && !extended_l2,
            snapshots: fields.u32(60),
            dirty: features & DIRTY != 0,
        };
        header.with_l1(fields.u32(36).into())
    }

    /// The name of the file that this one is a difference to, if there is one.
    pub(super) fn backing(start: &[u8]) -> Option<BackingName> {
        let offset = u64::from_be_bytes(*start.get(8..)?.first_chunk()?);
        let length = u32::from_be_bytes(*start.get(16..)?.first_chunk()?);
        (offset != 0).then_some(BackingName { offset, length })
    }

    fn check_features(features: u64) -> Result<(), Flaw> {
        if features & !KNOWN != 0 {
            return Err(Unfit::Feature((features & !KNOWN).trailing_zeros()).into());
        }
        if features & EXTERNAL_DATA != 0 {
            return Err(Unfit::ExternalData.into());
        }
        if features & CORRUPT != 0 {
            return Err(Unfit::Corrupt.into());
        }
        Ok(())
    }

    fn with_l1(mut self, entries: u64) -> Result<Self, Flaw> {
        if self.size == 0 {
            return Err(Damage::Field("size", 0).into());
        }
        if i64::try_from(self.size).is_err() {
            return Err(Damage::Field("size", self.size).into());
        }
        self.l1_entries = self.size.div_ceil(self.l2_span());
        if entries < self.l1_entries || entries * 8 > MAX_L1_BYTES {
            return Err(Damage::Field("l1_size", entries).into());
        }
        let aligned = self.l1_offset.is_multiple_of(self.cluster_bytes());
        if !aligned || self.l1_offset == 0 {
            return Err(Damage::Field("l1_table_offset", self.l1_offset).into());
        }
        Ok(self)
    }

    /// Bytes of a cluster.
    pub(super) fn cluster_bytes(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// Bytes of an L2 table's entry.
    pub(super) fn l2_entry_bytes(&self) -> usize {
        if self.extended_l2 { 16 } else { 8 }
    }

    /// Bytes of the disk that one L2 table describes: at most 2^39.
    pub(super) fn l2_span(&self) -> u64 {
        self.cluster_bytes() / self.l2_entry_bytes() as u64 * self.cluster_bytes()
    }
}

impl Fields {
    /// The compression type; the field and the feature bit must say the same.
    fn packing(
        &self,
        version: u32,
        features: u64,
        present: usize,
        cluster_bits: u32,
    ) -> Result<Packing, Flaw> {
        if version == 2 {
            return Ok(Packing::Deflate);
        }
        let length = self.u32(100);
        if length < V3_BYTES || !length.is_multiple_of(8) || u64::from(length) > 1 << cluster_bits {
            return Err(Damage::Field("header_length", length.into()).into());
        }
        let kind = if length > V3_BYTES {
            if present < HEADER_BYTES {
                return Err(Damage::ShortHeader.into());
            }
            self.0[V3_BYTES as usize]
        } else {
            0
        };
        match (kind, features & COMPRESSION_TYPE != 0) {
            (0, false) => Ok(Packing::Deflate),
            (1, true) => Ok(Packing::Zstd),
            (0 | 1, _) => Err(Damage::Field("compression_type", kind.into()).into()),
            _ => Err(Unfit::Packing(kind).into()),
        }
    }
}

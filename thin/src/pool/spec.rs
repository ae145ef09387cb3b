//! What a pool is made of, and how large its metadata has to be. Pure.

use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::error::{Error, Result};
use crate::id::PoolName;
use crate::names::{Identity, Kind, Part};
use crate::units::Bytes;

use super::header;

/// The chunk of an ordinary pool.
pub const DEFAULT_CHUNK: Bytes = Bytes::kib(64);
/// The chunk of a pool of several TiB, where smaller ones would need much metadata.
pub const LARGE_POOL_CHUNK: Bytes = Bytes::kib(256);
/// From this size on, a pool gets [`LARGE_POOL_CHUNK`].
pub const LARGE_POOL: Bytes = Bytes::gib(4 * 1024);

/// `DATA_DEV_BLOCK_SIZE_MIN_SECTORS` in `drivers/md/dm-thin.c`; also the step between sizes.
const CHUNK_STEP: Bytes = Bytes::kib(64);
/// The kernel takes up to 1 GiB; a write is assembled from whole chunks in memory, so we stop here.
const CHUNK_MAX: Bytes = Bytes::mib(1);

/// `THIN_METADATA_BLOCK_SIZE` in `drivers/md/dm-thin-metadata.h`.
pub(super) const METADATA_BLOCK: Bytes = Bytes::kib(4);
/// The most metadata that a pool can use: `DM_SM_METADATA_MAX_BLOCKS` in
/// `persistent-data/dm-space-map-metadata.h`; the kernel ignores more.
pub const METADATA_MAX: Bytes = Bytes(255 * ((1 << 14) - 64) * METADATA_BLOCK.0);
const METADATA_MIN: Bytes = Bytes::mib(16);
/// The kernel's rule of thumb (`thin-provisioning.rst`) is 48 bytes a chunk, enough for one mapping of
/// each; twice that leaves room for snapshots that have gone their own ways.
const METADATA_BYTES_PER_CHUNK: u64 = 96;

/// Where a part of a pool lies.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Backing {
    /// A file of fvm's own, reached through a loop device.
    File {
        /// Its path; the directory has to exist.
        path: PathBuf,
    },
    /// A whole block device: a disk, a partition, a logical volume.
    Device {
        /// Its node or a link to it.
        path: PathBuf,
    },
}

impl Backing {
    /// The path, whichever kind it is.
    pub fn path(&self) -> &Path {
        match self {
            Self::File { path } | Self::Device { path } => path,
        }
    }
}

/// Everything that makes up a pool. The caller keeps it; the pool holds no configuration of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolSpec {
    /// Part of every device's name.
    pub name: PoolName,
    /// The pool's identity, part of every device's uuid and of the header of every backing.
    pub uuid: Uuid,
    /// Where the blocks of volumes lie.
    pub data: Backing,
    /// Room for volumes: whole chunks. A file is made longer than that, by header and tail; a device has
    /// room for [`crate::Pool::capacity`].
    pub data_size: Bytes,
    /// Where the kernel's metadata lie: never sparse.
    pub metadata: Backing,
    /// As large as the metadata: where a repair writes to.
    pub spare: Backing,
    /// The unit of allocation, fixed for the pool's life: 64 KiB to 1 MiB, in steps of 64 KiB.
    pub chunk: Bytes,
    /// The pool sends an event when less than this is free.
    pub low_water: Bytes,
}

impl PoolSpec {
    /// The chunk for a pool of this size.
    pub fn chunk_for(data_size: Bytes) -> Bytes {
        if data_size < LARGE_POOL {
            DEFAULT_CHUNK
        } else {
            LARGE_POOL_CHUNK
        }
    }

    /// How much metadata a pool of this size needs, at most what the kernel can use.
    pub fn metadata_size_for(data_size: Bytes, chunk: Bytes) -> Bytes {
        let chunks = data_size.0.div_ceil(chunk.0.max(1));
        let needed = Bytes(chunks.saturating_mul(METADATA_BYTES_PER_CHUNK));
        let whole = needed.round_up(METADATA_BLOCK).unwrap_or(METADATA_MAX);
        whole.clamp(METADATA_MIN, METADATA_MAX)
    }

    /// How much metadata this pool needs.
    pub fn metadata_size(&self) -> Bytes {
        Self::metadata_size_for(self.data_size, self.chunk)
    }

    /// The identity of one of the pool's devices.
    pub fn identity(&self, part: Part) -> Identity {
        Identity {
            pool: self.name.clone(),
            pool_uuid: self.uuid,
            kind: Kind::Part(part),
        }
    }

    /// Checks what can be checked without looking at the host.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the setting, its value and the rule.
    pub fn validate(&self) -> Result<()> {
        let invalid = |what, value, rule: String| Err(Error::Invalid { what, value, rule });
        let chunk = self.chunk;
        if !(CHUNK_STEP..=CHUNK_MAX).contains(&chunk) || !chunk.is_multiple_of(CHUNK_STEP) {
            let rule = format!("is not {CHUNK_STEP} to {CHUNK_MAX} in steps of {CHUNK_STEP}");
            return invalid("a chunk size", chunk, rule);
        }
        if self.data_size == Bytes(0) || !self.data_size.is_multiple_of(chunk) {
            let rule = format!("is not a whole number of chunks of {chunk}");
            return invalid("a pool size", self.data_size, rule);
        }
        if self.data_size > header::CONTENT_MAX {
            let rule = format!("is more than {}", header::CONTENT_MAX);
            return invalid("a pool size", self.data_size, rule);
        }
        if self.low_water > self.data_size {
            let rule = format!("is more than the pool's {}", self.data_size);
            return invalid("a low-water mark", self.low_water, rule);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(data_size: Bytes, chunk: Bytes) -> PoolSpec {
        let file = |path: &str| Backing::File { path: path.into() };
        PoolSpec {
            name: "main".try_into().unwrap(),
            uuid: Uuid::nil(),
            data: file("/data"),
            data_size,
            metadata: file("/meta"),
            spare: file("/spare"),
            chunk,
            low_water: Bytes(0),
        }
    }

    #[test]
    fn metadata_grows_with_the_pool_within_the_kernels_limit() {
        let of = |size, chunk| PoolSpec::metadata_size_for(size, chunk);
        assert_eq!(of(Bytes::mib(64), DEFAULT_CHUNK), METADATA_MIN);
        assert_eq!(of(Bytes::gib(100), DEFAULT_CHUNK), Bytes(1_638_400 * 96));
        assert_eq!(of(Bytes::gib(1 << 20), DEFAULT_CHUNK), METADATA_MAX);
        // 16 TiB still has its two mappings a chunk with the large chunk.
        assert!(of(Bytes::gib(16 << 10), LARGE_POOL_CHUNK) < METADATA_MAX);
        assert!(METADATA_MAX.is_multiple_of(METADATA_BLOCK));
    }

    #[test]
    fn impossible_sizes_are_refused() {
        assert!(spec(Bytes::gib(1), DEFAULT_CHUNK).validate().is_ok());
        assert!(spec(Bytes::gib(1), Bytes::kib(192)).validate().is_err());
        for (size, chunk) in [
            (Bytes(0), DEFAULT_CHUNK),
            (Bytes(65537), DEFAULT_CHUNK),
            (Bytes::gib(1), Bytes(0)),
            (Bytes::gib(1), Bytes::kib(32)),
            (Bytes::gib(1), Bytes::kib(96)),
            (Bytes::gib(1), Bytes::mib(2)),
            (Bytes(u64::MAX).round_down(DEFAULT_CHUNK), DEFAULT_CHUNK),
        ] {
            assert!(spec(size, chunk).validate().is_err(), "{size} {chunk}");
        }
        let mut spec = spec(Bytes::mib(1), DEFAULT_CHUNK);
        spec.low_water = Bytes::mib(2);
        assert!(spec.validate().is_err());
    }
}

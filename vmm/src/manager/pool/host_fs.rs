//! The file system below a pool in a file: a sparse file can promise more than there is.

use crate::manager::error::{Result, failed, file};
use fvm_thin::{Bytes, Usage};
use std::{os::unix::fs::MetadataExt, path::Path};

/// Below this much free space the file system counts as full: root's own writes fail, or soon will.
const FULL: Bytes = Bytes::mib(64);
/// VMs that were paused by a full file system go on once it has so much free space.
const ROOM_AGAIN: Bytes = Bytes::mib(128);

/// How a file system is, and what a file takes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::manager) struct HostFs {
    /// All of it.
    pub(super) total: Bytes,
    /// What nobody has.
    pub(super) free: Bytes,
    /// What of that is not kept back for root.
    pub(super) available: Bytes,
    /// What the file takes.
    pub(super) allocated: Bytes,
    /// How long the file is.
    pub(super) length: Bytes,
}

impl HostFs {
    /// The file system that a file lies on.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub(in crate::manager) fn below(path: &Path) -> Result<Self> {
        let stat = nix::sys::statvfs::statvfs(path).map_err(|error| {
            failed(
                format!("looking at the file system of {}", path.display()),
                &error,
            )
        })?;
        let found = std::fs::metadata(path).map_err(|error| file("looking at", path, &error))?;
        let bytes = |blocks: u64| Bytes(blocks.saturating_mul(stat.fragment_size()));
        Ok(Self {
            total: bytes(stat.blocks()),
            free: bytes(stat.blocks_free()),
            available: bytes(stat.blocks_available()),
            // `st_blocks` counts in 512 bytes whatever the file system's block is.
            allocated: Bytes(found.blocks().saturating_mul(512)),
            length: Bytes(found.len()),
        })
    }

    /// How full it is for those who are not root.
    pub(super) fn usage(&self) -> Usage {
        let used = self.total.saturating_sub(self.free);
        Usage {
            used,
            total: Bytes(used.0.saturating_add(self.available.0)),
        }
    }

    /// Whether the file has promised more than it takes so far.
    pub(super) fn promises(&self) -> bool {
        self.allocated < self.length
    }

    /// Whether writes into the file's holes fail.
    pub(in crate::manager) fn is_full(&self) -> bool {
        self.promises() && self.free < FULL
    }

    /// Whether they work again.
    pub(super) fn has_room_again(&self) -> bool {
        !self.promises() || self.free >= ROOM_AGAIN
    }
}

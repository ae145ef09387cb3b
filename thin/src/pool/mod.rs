//! A thin pool: made, activated, asked, changed, taken down.
//!
//! ```text
//!   volumes     fvm-<pool>-<id>        thin
//!                     │
//!   pool        fvm-<pool>-pool        thin-pool
//!                 │          │
//!   parts  fvm-<pool>-data  -meta      linear: the content of a backing
//!                 │          │
//!   backings   loop of a file, or a block device, each with fvm's header before its content
//! ```
//!
//! Owns the kernel's side only. Which volumes there should be, and the transaction id that the pool should
//! be at, is in the caller's store; [`crate::recovery`] says what to do when the two differ. Calls that
//! change a pool's metadata are to be made by one caller at a time; all others from any thread.

mod activate;
mod backing;
mod commit;
mod extend;
mod extents;
mod format;
mod header;
mod held_root;
mod idle;
mod metadata_snapshot;
mod origins;
mod raw;
mod spec;
mod status;
mod superblock;
mod usage;

pub use commit::{CommitError, KernelState, Message};
pub use extents::Extents;
pub use idle::{IdleMetadata, Repaired};
pub use metadata_snapshot::MetadataSnapshot;
pub use spec::{Backing, DEFAULT_CHUNK, LARGE_POOL, LARGE_POOL_CHUNK, METADATA_MAX, PoolSpec};
pub use status::{Discards, PoolMode, PoolStatus, Usage};
pub use usage::{Inspection, Verdict, VolumeUsage};

use crate::error::{Error, Result};
use crate::kernel::dm::{Dm, Flush};
use crate::names::Part;
use crate::units::Bytes;

/// An active pool.
#[derive(Debug)]
pub struct Pool {
    pub(crate) dm: Dm,
    pub(crate) spec: PoolSpec,
}

impl Pool {
    /// What it is made of.
    pub fn spec(&self) -> &PoolSpec {
        &self.spec
    }

    /// The room for volumes on a device or in a file, in whole chunks.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be opened.
    pub fn capacity(backing: &Backing, chunk: Bytes) -> Result<Bytes> {
        backing::capacity(backing, chunk)
    }

    /// Its status: as in memory with [`Flush::None`], or written to disk first with [`Flush::Commit`].
    ///
    /// # Errors
    /// [`Error::NotActive`] if it was taken down meanwhile, [`Error::Unreadable`] if the kernel says
    /// something that is not understood.
    pub fn status(&self, flush: Flush) -> Result<PoolStatus> {
        let identity = self.spec.identity(Part::Pool);
        let line = match self.dm.status(&identity, flush) {
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => None,
            other => other?,
        };
        let line = line.ok_or_else(|| Error::NotActive {
            device: identity.name(),
        })?;
        PoolStatus::parse(&line.params, self.spec.chunk).ok_or_else(|| Error::Unreadable {
            what: "status",
            device: identity.name(),
            text: line.params,
        })
    }
}

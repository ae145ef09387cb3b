//! A look at the metadata of a pool in use: the kernel keeps one old root for it, the metadata snapshot, which
//! the programs of thin-provisioning-tools can read while the pool goes on changing.
//!
//! There is one for each pool, and it outlives whoever took it: [`MetadataSnapshot`] waits for its turn, takes
//! over what a crash has left, and releases it on every path. It changes no transaction id.

use std::io;
use std::path::PathBuf;

use tracing::warn;

use crate::claim::Claim;
use crate::device::{self, Outcome};
use crate::error::{Error, Result};
use crate::kernel::dm::Flush;
use crate::names::Part;

use super::Pool;

/// The pool's metadata as they were when it was taken, for one user at a time.
///
/// Released when it is dropped; [`Self::release`] also says whether that worked.
#[derive(Debug)]
pub struct MetadataSnapshot<'a> {
    pool: &'a Pool,
    device: PathBuf,
    held: bool,
    _claim: Claim,
}

impl Pool {
    /// Takes the metadata snapshot, when nobody else of this process has it any more. One that an earlier
    /// process has left is released first.
    ///
    /// # Errors
    /// [`Error::NotActive`] if the pool is not; what the kernel says otherwise, such as when the pool cannot be
    /// written.
    pub fn metadata_snapshot(&self) -> Result<MetadataSnapshot<'_>> {
        let claim = self.claim_metadata_snapshot();
        self.release_held()?;
        let identity = self.spec.identity(Part::Metadata);
        let found = self.dm.find(&identity)?.ok_or_else(|| Error::NotActive {
            device: identity.name(),
        })?;
        self.dm
            .message(&self.spec.identity(Part::Pool), "reserve_metadata_snap")?;
        Ok(MetadataSnapshot {
            pool: self,
            device: device::node(found.number),
            held: true,
            _claim: claim,
        })
    }

    /// Releases a metadata snapshot that an earlier process has left; none is fine.
    ///
    /// # Errors
    /// As [`Self::metadata_snapshot`].
    pub fn release_stale_metadata_snapshot(&self) -> Result<Outcome> {
        let _claim = self.claim_metadata_snapshot();
        self.release_held()
    }

    /// A metadata snapshot is no device, but the right to it is claimed as one.
    fn claim_metadata_snapshot(&self) -> Claim {
        Claim::of(&format!(
            "{}-held",
            self.spec.identity(Part::Metadata).name()
        ))
    }

    fn release_held(&self) -> Result<Outcome> {
        if self.status(Flush::None)?.held_metadata_root.is_none() {
            return Ok(Outcome::Unchanged);
        }
        self.dm
            .message(&self.spec.identity(Part::Pool), "release_metadata_snap")?;
        // The result of a message proves nothing (see `commit`).
        match self.status(Flush::None)?.held_metadata_root {
            None => Ok(Outcome::Changed),
            Some(_) => Err(Error::Io {
                action: "release the metadata snapshot of",
                path: self.spec.identity(Part::Pool).name().into(),
                source: io::Error::other("the pool still holds it"),
            }),
        }
    }
}

impl MetadataSnapshot<'_> {
    /// The node of the metadata device, to be read with the option `--metadata-snap` of the tools.
    pub fn device(&self) -> &std::path::Path {
        &self.device
    }

    /// The pool that it is of.
    pub(crate) fn pool(&self) -> &Pool {
        self.pool
    }

    /// Lets the kernel go on without it.
    ///
    /// # Errors
    /// When the kernel does not release it; the next one to be taken tries again.
    pub fn release(mut self) -> Result<()> {
        self.held = false;
        self.pool.release_held().map(drop)
    }
}

impl Drop for MetadataSnapshot<'_> {
    fn drop(&mut self) {
        if self.held
            && let Err(error) = self.pool.release_held()
        {
            warn!(%error, "a metadata snapshot is left, to be released by the next one");
        }
    }
}

//! Reading what a volume holds: from a snapshot of it that nobody changes, and only what is mapped.
//!
//! A snapshot goes: one transaction (`temporary`), under the lock of what it is of; its device, read-only; the
//! mapped ranges, from a metadata snapshot of the pool that is held no longer than that takes; the reading, which
//! may take as long as it likes; the device gone, and a transaction that deletes it. If the daemon dies, the next
//! one deletes it.

use super::{
    Manager,
    error::{Failures, Result, failed},
    host::Host,
    journal::thin_id,
};
use crate::{
    api::stream::{SparseDigest, digest_text},
    fault,
    store::{ImageContent, VolumeRow},
};
use fvm_thin::{Access, Bytes, Extents, ThinId, Volume, VolumeSpec, read_ranges};
use std::{ops::ControlFlow, ops::Range};

impl Manager {
    /// Lets `work` read a snapshot of `origin`; `lock` keeps others off the origin until it has been taken.
    pub(super) fn with_snapshot<T>(
        &self,
        host: &Host,
        origin: &VolumeRow,
        lock: impl Sized,
        work: impl FnOnce(&Volume, &Extents) -> Result<T>,
    ) -> Result<T> {
        let private = self.private.enter();
        let id = self.journal.create_temporary(
            &self.store,
            &host.pool,
            &private.uuid.to_string(),
            thin_id(origin.thin_id)?,
            origin.size_bytes,
        )?;
        drop(lock);
        let spec = VolumeSpec {
            id,
            uuid: private.uuid,
            size: Bytes(origin.size_bytes),
        };
        let result = self.with_content(host, &spec, work);
        match self.drop_snapshot(host, id, origin.thin_id) {
            Ok(()) => result,
            Err(left) => {
                tracing::error!(volume = id.get(), error = %left.message, "a temporary snapshot is left until fvmd starts again");
                result.map_err(|error| error.detail(format!("left behind: {}", left.message)))
            }
        }
    }

    /// Lets `work` read a volume that is not active, and that nobody else activates meanwhile.
    pub(super) fn with_content<T>(
        &self,
        host: &Host,
        spec: &VolumeSpec,
        work: impl FnOnce(&Volume, &Extents) -> Result<T>,
    ) -> Result<T> {
        let volume = host
            .pool
            .activate_volume(spec, Access::ReadOnly)
            .map_err(|error| failed("activating a volume to be read", &error))?;
        let result = extents(host, spec.id).and_then(|extents| work(&volume, &extents));
        let gone = host
            .pool
            .deactivate_volume(spec.id, spec.uuid)
            .map_err(|error| failed("deactivating a volume that was read", &error));
        let mut failures = Failures::default();
        match result {
            Ok(value) => gone.map(|_| value),
            Err(error) => {
                failures.keep::<()>(Err(error.clone()));
                failures.keep(gone);
                failures.into_result().and(Err(error))
            }
        }
    }

    /// Deletes a snapshot. As long as its origin is there it shares its blocks, and has none to give back by
    /// itself.
    fn drop_snapshot(&self, host: &Host, id: ThinId, origin: u32) -> Result<()> {
        if self.store.volume(origin)?.is_none() {
            return self.drop_volume(host, id);
        }
        self.store.mark_deleting(id.get())?;
        self.journal.delete(&self.store, &host.pool, &[id])
    }

    /// Deletes a volume that has no VM: that of an image, of an import that failed, of a snapshot.
    pub(super) fn drop_volume(&self, host: &Host, id: ThinId) -> Result<()> {
        self.store.mark_deleting(id.get())?;
        self.discard_marked(host, id.get())?;
        self.journal.delete(&self.store, &host.pool, &[id])
    }
}

fn extents(host: &Host, id: ThinId) -> Result<Extents> {
    let explain = |error: fvm_thin::Error| failed("finding out what of a volume is mapped", &error);
    let metadata = host.pool.metadata_snapshot().map_err(explain)?;
    fault::point("export/metadata-held");
    let extents = metadata.extents(id);
    let released = metadata.release();
    let extents = extents.map_err(explain)?;
    released.map_err(explain)?;
    Ok(extents)
}

/// The digest of the first bytes of a volume that was read as a whole, or in those parts that are not zero, and how
/// much data there is.
pub(super) fn digest_ranges(volume: &Volume, ranges: &[Range<u64>]) -> Result<(SparseDigest, u64)> {
    let mut digest = SparseDigest::default();
    let mut data_bytes = 0;
    read_ranges(volume, ranges, &mut |offset, bytes| {
        data_bytes += digest.blocks(offset, bytes);
        ControlFlow::Continue(())
    })
    .map_err(|error| failed("reading a volume", &error))?;
    Ok((digest, data_bytes))
}

/// What a whole disk holds.
pub(super) fn content_of(volume: &Volume, extents: &Extents) -> Result<ImageContent> {
    let (digest, data_bytes) = digest_ranges(volume, extents.ranges())?;
    Ok(ImageContent {
        digest: digest_text(&digest.finish(volume.size().0)),
        data_bytes,
    })
}

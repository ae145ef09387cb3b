//! `pool extend`: more room, while VMs run.
//!
//! ```text
//!   files longer, synced  ->  loop devices longer  ->  store: the new size  ->  tables reloaded
//! ```
//!
//! Up to the third step nothing has changed for the pool, and a longer file does no harm; from then on every
//! activation, also that after a crash, brings it up at the new size.

use super::{HostFs, only_root, plan, status::read_status};
use crate::{
    api::{ApiError, DiskSize, ErrorKind, ExtendPool, ExtendReport, REPORT_VERSION},
    fault,
    manager::{
        Caller, HostState, Manager, Progress,
        error::{Result, failed},
        host::Host,
    },
};
use fvm_thin::{Bytes, Pool, PoolSpec};
use std::sync::Arc;

impl Manager {
    /// Makes the pool larger.
    ///
    /// # Errors
    /// When the caller is not root, or the size makes no sense or is not to be had; then nothing was changed.
    pub fn extend_pool(
        self: &Arc<Self>,
        caller: Caller,
        request: &ExtendPool,
        progress: &Progress,
    ) -> Result<ExtendReport> {
        only_root(caller, "extend the pool", "fvm pool extend")?;
        let _alone = self.setup_lock.lock(());
        let host = self.host()?;
        let wanted = wanted_size(&host, request.size)?;
        let before = read_status(&host.pool)?;
        if wanted > host.pool.spec().data_size {
            progress.step(None, format!("extending the pool to {wanted}"));
            self.grow_pool(&host, wanted, None)?;
            tracing::info!(uid = caller.uid, size = %wanted, "pool extended");
        }
        let after = read_status(&self.host()?.pool)?;
        Ok(ExtendReport {
            version: REPORT_VERSION,
            old_data_bytes: before.data.total.0,
            data_bytes: after.data.total.0,
            old_metadata_bytes: before.metadata.total.0,
            metadata_bytes: after.metadata.total.0,
            resumed: self.resume_held(),
        })
    }

    /// The steps themselves. The caller has the set-up lock.
    pub(super) fn grow_pool(
        &self,
        host: &Host,
        data_size: Bytes,
        metadata_size: Option<Bytes>,
    ) -> Result<()> {
        let extending = |error: fvm_thin::Error| failed("extending the pool", &error);
        host.pool.grow_backings(data_size).map_err(extending)?;
        if let Some(size) = metadata_size {
            host.pool.grow_metadata(size).map_err(extending)?;
        }
        fault::point("extend/grown");
        // No message may meet a pool that is being reloaded.
        let _still = self.journal.hold();
        self.store.set_pool_size(data_size.0)?;
        fault::point("extend/recorded");
        let pool = Pool::activate(PoolSpec {
            data_size,
            low_water: host.config.pool.low_water(data_size),
            ..host.pool.spec().clone()
        })
        .map_err(|error| {
            extending(error).hint("`sudo fvm init` brings it up at its new size, once that works")
        })?;
        fault::point("extend/reloaded");
        self.set_host(HostState::Ready(Arc::new(host.with_pool(pool))));
        Ok(())
    }
}

/// The size asked for, if it is to be had.
fn wanted_size(host: &Host, size: Option<DiskSize>) -> Result<Bytes> {
    let spec = host.pool.spec();
    let now = spec.data_size;
    let wanted = size.map(|size| Bytes(size.of(now.0).unwrap_or(u64::MAX)));
    if let Some(wanted) = wanted.filter(|wanted| *wanted < now) {
        return Err(refused(format!(
            "the pool has {now} and cannot be made smaller, to {wanted}"
        )));
    }
    let Some(file) = host.data_file() else {
        let room = Pool::capacity(&spec.data, spec.chunk)
            .map_err(|error| failed("looking at the pool's device", &error))?;
        let path = spec.data.path().display();
        return match wanted.unwrap_or(room).round_down(spec.chunk) {
            wanted if wanted <= now && size.is_some() => Ok(now),
            wanted if wanted > now && wanted <= room => Ok(wanted),
            wanted => Err(refused(format!(
                "{path} has room for {room}, and the pool has {now} of it already{}",
                if wanted > room {
                    format!(": not for {wanted}")
                } else {
                    String::new()
                }
            ))
            .hint("make the device larger first; then `sudo fvm pool extend` takes all of it")),
        };
    };
    let wanted = wanted
        .ok_or_else(|| {
            ApiError::new(ErrorKind::Usage, "how large is the pool to be?")
                .hint("say its new size, `fvm pool extend 50G`, or how much is added, `fvm pool extend +10G`")
        })?
        .round_down(spec.chunk);
    let below = HostFs::below(file)?;
    // Metadata and spare get their space at once, so it is gone for the data.
    let metadata = read_status(&host.pool)?.metadata.total;
    let more = PoolSpec {
        data_size: wanted,
        ..spec.clone()
    }
    .metadata_size()
    .saturating_sub(metadata);
    let largest = plan::largest(&below, Bytes(more.0.saturating_mul(2)));
    if wanted > now && wanted > largest {
        return Err(refused(format!(
            "a pool of {wanted} does not fit in the file system of {}, where {} MiB are free",
            file.display(),
            below.available.0 >> 20
        ))
        .hint(format!(
            "with the {} MiB that the pool takes of it already, {} MiB are possible, less what larger metadata need",
            below.allocated.0 >> 20,
            plan::largest(&below, Bytes(0)).0 >> 20
        )));
    }
    Ok(wanted)
}

fn refused(message: String) -> ApiError {
    ApiError::new(ErrorKind::Refused, message)
}

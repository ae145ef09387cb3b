//! `pool status`: everything about the pool, also of one that cannot be used.

use super::{HostFs, file_of, fill};
use crate::{
    api::{
        ActivePool, ApiError, HostFileSystem, LoopReport, PoolBacking, PoolLimits,
        PoolStatusReport, REPORT_VERSION,
    },
    config::Config,
    manager::{
        Manager,
        error::{Result, failed},
        host, not_initialised,
    },
    store::BackingRow,
};
use fvm_thin::{Flush, LoopState, Pool, PoolMode, PoolStatus};

/// What to do about metadata that the kernel does not trust or cannot write.
const REPAIR: &str = "stop all VMs and run `sudo fvm pool repair`, which checks everything before it changes anything";

impl Manager {
    /// Everything about the pool.
    ///
    /// # Errors
    /// When the host is not set up or the store fails. A pool that does not work is no error.
    pub fn pool_status(&self) -> Result<PoolStatusReport> {
        let row = self.finished_pool()?.ok_or_else(not_initialised)?;
        let spec = host::pool_spec(&row)?;
        let config = Config::load(&self.paths.config).ok().flatten();
        let active = self.host().and_then(|host| {
            let status = read_status(&host.pool)?;
            Ok((active(&host.pool, &status)?, status))
        });
        let (health, hint, active) = match active {
            Ok((report, status)) => {
                let (health, hint) = health(&status);
                (health, hint, Some(report))
            }
            Err(error) => (error.message, error.hint, None),
        };
        let host_file_system = match file_of(&spec.data) {
            Some(path) => {
                let below = HostFs::below(path)?;
                Some(HostFileSystem {
                    fill: fill(below.usage()),
                    pool_bytes: below.allocated.0,
                })
            }
            None => None,
        };
        Ok(PoolStatusReport {
            version: REPORT_VERSION,
            health,
            hint,
            data: backing(&row.pool.data),
            metadata: backing(&row.pool.metadata),
            spare: backing(&row.pool.spare),
            data_bytes: row.pool.data_bytes,
            chunk_bytes: row.pool.chunk_bytes,
            store_transaction_id: row.transaction_id,
            active,
            host_file_system,
            limits: config.map(|config| PoolLimits {
                watermark_percent: config.pool.watermark_percent,
                extend_at_percent: config.pool.extend_at_percent,
                extend_by_percent: config.pool.extend_by_percent,
                extend_limit_bytes: config.pool.extend_limit.map(|limit| limit.0),
            }),
        })
    }

    /// What is wrong with the pool that works in principle; nothing if all is well.
    pub(in crate::manager) fn pool_trouble(&self, pool: &Pool) -> Option<String> {
        match read_status(pool) {
            Ok(status) if status.is_well() => self
                .journal
                .disagreement(&self.store, pool)
                .map(|error| error.message),
            Ok(status) => Some(format!("the thin pool is {}", health(&status).0)),
            Err(error) => Some(error.message),
        }
    }
}

pub(super) fn read_status(pool: &Pool) -> Result<PoolStatus> {
    pool.status(Flush::None)
        .map_err(|error| failed("reading the thin pool's status", &error))
}

/// How a pool is, and what to do about it.
pub(super) fn health(status: &PoolStatus) -> (String, Option<String>) {
    if status.is_well() {
        return ("ok".into(), None);
    }
    let hint = match status.mode {
        PoolMode::OutOfDataSpace if !status.needs_check => {
            "`sudo fvm pool extend +10G` makes it larger, and `fvm disk-usage` shows what takes its space"
        }
        // What lacks nothing but room for metadata gets it from the keeper.
        PoolMode::ReadOnly if !status.needs_check && status.metadata.percent() >= 99 => {
            "its metadata are full: `journalctl -u fvmd` says why they could not be extended"
        }
        _ => REPAIR,
    };
    (status.health(), Some(hint.into()))
}

/// The error for what an unwell pool cannot do.
pub(super) fn unwell(status: &PoolStatus) -> ApiError {
    let (health, hint) = health(status);
    let error = ApiError::new(
        crate::api::ErrorKind::HostNotAble,
        format!("the thin pool is {health}"),
    );
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

fn active(pool: &Pool, status: &PoolStatus) -> Result<ActivePool> {
    let loops = pool
        .loops()
        .map_err(|error| failed("looking at the pool's loop devices", &error))?;
    Ok(ActivePool {
        data: fill(status.data),
        metadata: fill(status.metadata),
        transaction_id: status.transaction.0,
        mode: status.mode.to_string(),
        needs_check: status.needs_check,
        has_metadata_snapshot: status.held_metadata_root.is_some(),
        loops: loops.into_iter().map(loop_report).collect(),
    })
}

fn loop_report(state: LoopState) -> LoopReport {
    LoopReport {
        device: state.device.display().to_string(),
        file: state.file.display().to_string(),
        direct_io: state.direct_io,
        autoclear: state.autoclear,
    }
}

fn backing(row: &BackingRow) -> PoolBacking {
    PoolBacking {
        path: row.path.clone(),
        is_device: row.is_device,
    }
}

//! The pool's own life: how it is, extending, checking and repairing it, what takes its space.
//!
//! Volumes come and go by the operations beside this directory; here is what concerns the pool as a whole. It is
//! extended while VMs run (`extend`), by root or, up to a configured limit, by the `keeper`, a thread that
//! looks at it after every event of device-mapper; the keeper also lets VMs go on that were paused because it
//! was full. `plan` decides, without touching anything.

mod check;
mod extend;
mod host_fs;
mod keeper;
mod plan;
mod repair;
mod room;
mod status;
mod usage;

pub(super) use host_fs::HostFs;

use super::{error::Result, host::Host};
use crate::{
    api::{ApiError, ErrorKind, Fill},
    manager::Caller,
};
use fvm_thin::{Backing, Pool, Usage};
use std::path::Path;

impl Host {
    /// The same host with its pool brought up anew.
    fn with_pool(&self, pool: Pool) -> Self {
        Self {
            config: self.config.clone(),
            id: self.id,
            network: self.network.clone(),
            others: self.others.clone(),
            dns_trouble: self.dns_trouble.clone(),
            pool,
            memory_mib: self.memory_mib,
        }
    }

    /// The file that the pool's data lie in; none if they lie on a block device.
    pub(super) fn data_file(&self) -> Option<&Path> {
        file_of(&self.pool.spec().data)
    }
}

fn file_of(backing: &Backing) -> Option<&Path> {
    match backing {
        Backing::File { path } => Some(path),
        Backing::Device { .. } => None,
    }
}

/// Refuses everybody but root.
fn only_root(caller: Caller, may: &str, command: &str) -> Result<()> {
    if caller.is_root() {
        return Ok(());
    }
    Err(
        ApiError::new(ErrorKind::Refused, format!("only root may {may}"))
            .hint(format!("run it as root: `sudo {command}`")),
    )
}

fn fill(usage: Usage) -> Fill {
    Fill {
        bytes: usage.total.0,
        used_bytes: usage.used.0,
        used_percent: usage.percent(),
    }
}

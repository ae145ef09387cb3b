//! Lending a VM's disk to its owner for a while: a hook works on it as the owner, with programs of its own.
//!
//! The disk is active and its node the owner's as long as the owner keeps the loan; nobody else does anything with the
//! VM meanwhile. If the daemon dies, the next one finds a device of a VM that does not run, and takes it away.

use super::{
    Caller, Manager,
    error::{Failures, Result, failed, file},
    launch::link_device,
    owner::name_of,
};
use crate::{
    api::{ApiError, ErrorKind, VmNumber},
    store::VmRow,
};
use fvm_thin::Access;
use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
};

impl Manager {
    /// Lends the disk of a VM that does not run: tells `lent` when it is there, and takes it back when `returned` returns.
    ///
    /// # Errors
    /// When there is no such VM, it is not the caller's, it runs, or its disk cannot be made active, or inactive again.
    pub fn lend_disk(
        &self,
        caller: Caller,
        number: VmNumber,
        lent: impl FnOnce(),
        returned: impl FnOnce(),
    ) -> Result<()> {
        let host = self.host()?;
        let _alone = self.vm_locks.lock(number);
        let row = self.lasting_vm_row(number)?;
        may_borrow(caller, &row)?;
        if self.machines.get(number).is_some() {
            return Err(ApiError::new(
                ErrorKind::Refused,
                format!("VM {number} is running, and its disk cannot be changed under it"),
            )
            .hint(format!("`fvm stop {number}` stops it")));
        }
        self.finish_shrink(&host, row.thin_id)?;
        let spec = host.volume_spec(&self.volume_row(row.thin_id)?)?;
        let volume = host
            .pool
            .activate_volume(&spec, Access::ReadWrite)
            .map_err(|error| failed(format!("activating VM {number}'s disk"), &error))?;
        let node = volume.path();
        let opened = link_device(&self.paths.device_dir, &row.name, &node)
            .and_then(|()| hand_to(&node, caller.uid));
        let opened = opened.map(|()| {
            tracing::info!(vm = %number, uid = caller.uid, "its disk is lent");
            lent();
            returned();
        });
        let mut failures = Failures::default();
        failures.keep(opened);
        failures.keep(hand_to(&node, 0));
        failures.keep(self.close_disk(&host, row.thin_id, &row.name).map_err(|error| {
            error.hint("something still has the disk open: `lsof /dev/fvm/*` and `lsof /dev/dm-*` tell what")
        }));
        failures.into_result()
    }
}

/// What is written to a raw disk is its owner's matter, whatever else others may do with the VM.
fn may_borrow(caller: Caller, row: &VmRow) -> Result<()> {
    if caller.is_root() || caller.uid == row.owner_uid {
        return Ok(());
    }
    let message = format!(
        "VM {} belongs to {}, who alone may write to its disk from the host",
        row.number,
        name_of(row.owner_uid)
    );
    Err(ApiError::new(ErrorKind::Refused, message))
}

/// Makes a disk's node a user's, and nobody else's.
pub(super) fn hand_to(node: &Path, uid: u32) -> Result<()> {
    chown(node, Some(uid), Some(0))
        .and_then(|()| fs::set_permissions(node, Permissions::from_mode(0o600)))
        .or_else(|error| match error.kind() {
            // What is no longer there is nobody's.
            io::ErrorKind::NotFound if uid == 0 => Ok(()),
            _ => Err(file("handing over", node, &error)),
        })
}

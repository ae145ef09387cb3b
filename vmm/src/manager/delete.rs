//! `delete`: a VM goes with all that is its own: process, taps, rules, bindings, files, disk, row.
//!
//! First, side by side: it is stopped, its volumes and those of its snapshots are marked (from here on the delete is gone through with,
//! after a crash too), its blocks are given back, its node and files go. Then all volumes leave the thin
//! metadata in one transaction, whose settling takes the rows.

use super::{
    Manager, Progress,
    batch::side_by_side,
    error::{Failures, Result, failed, file},
    forward::stays_in_force,
    host::Host,
    journal::thin_id,
    owner::{Root, check_owner},
};
use crate::{
    api::{Action, ApiError, BatchReport, DeleteVms, ErrorKind, VmSet},
    fault,
    manager::Caller,
    store::{VmRow, VolumeRow},
};
use fvm_thin::{Access, ThinId, VolumeSpec};
use std::{io, path::Path};

impl Manager {
    /// Deletes VMs; each has an outcome of its own.
    ///
    /// # Errors
    /// When the host is not set up.
    pub fn delete(
        &self,
        caller: Caller,
        request: &DeleteVms,
        progress: &Progress,
    ) -> Result<BatchReport> {
        let host = self.host()?;
        let insists = Root::HasToInsist {
            force: request.force,
        };
        self.delete_those(caller, &request.vms, progress, |row| {
            check_owner(&host, caller, row, insists)
        })
    }

    /// The same for those VMs that pass a check, which is made where nothing else happens to them any more.
    pub(super) fn delete_those(
        &self,
        caller: Caller,
        vms: &VmSet,
        progress: &Progress,
        check: impl Fn(&VmRow) -> Result<()> + Sync,
    ) -> Result<BatchReport> {
        let host = self.host()?;
        let numbers = vms.numbers();
        let _alone = self.vm_locks.lock_all(numbers);
        let rows = self.store.forwards()?;
        let forwarded = rows.iter().any(|row| numbers.contains(&row.vm));
        let emptied = side_by_side(numbers, |number| {
            let row = self.vm_row(number)?;
            check(&row)?;
            // Whoever goes on after a delete wants to know what it was.
            let was = self.report(&host, &row).ok();
            self.stop_for_good(&row, progress)?;
            if number.is_base() {
                // Its disk is the image's and stays.
                self.delete_base(&host, &row, progress)?;
                return Ok((was, Vec::new()));
            }
            Ok((was, self.empty(&host, &row)?))
        });
        let ids: Vec<ThinId> = emptied
            .iter()
            .filter_map(|(_, result)| result.as_ref().ok())
            .flat_map(|(_, volumes)| volumes)
            .copied()
            .collect();
        let deleted = if ids.is_empty() {
            Ok(())
        } else {
            self.journal.delete(&self.store, &host.pool, &ids)
        };
        // The rows have gone with the VMs'.
        let forwards = match forwarded {
            true => self.apply_forwards(&host).map_err(stays_in_force),
            false => Ok(()),
        };
        let results = emptied
            .into_iter()
            .map(|(number, emptied)| {
                let result = match emptied {
                    Ok((was, volumes)) if volumes.is_empty() => forwards.clone().map(|()| was),
                    Ok((was, _)) => deleted.clone().and(forwards.clone()).map(|()| was),
                    Err(error) => Err(error),
                };
                if result.is_ok() {
                    tracing::info!(vm = %number, uid = caller.uid, "deleted");
                }
                (number, result)
            })
            .collect();
        Ok(self.batch_report(Action::Delete, results))
    }

    fn stop_for_good(&self, row: &VmRow, progress: &Progress) -> Result<()> {
        if let Some(machine) = self.machines.up(row.number) {
            progress.step(Some(row.number), "stopping");
            self.stop_hard(&machine)?;
        }
        fault::point("delete/stopped");
        Ok(())
    }

    /// Everything of a delete but its last transaction; returns the volumes of the VM, of its snapshots and of its further disks.
    fn empty(&self, host: &Host, row: &VmRow) -> Result<Vec<ThinId>> {
        let others = self.store.mark_vm_deleting(row.number)?;
        fault::point("delete/marked");
        let mut ids = vec![self.empty_marked(host, row)?];
        for other in others {
            ids.push(self.discard_marked(host, other)?);
        }
        Ok(ids)
    }

    /// The same for a volume that is marked already; done again after a crash.
    pub(super) fn empty_marked(&self, host: &Host, row: &VmRow) -> Result<ThinId> {
        // A run that failed to be released is in the way of its disk.
        self.release(host, row)?;
        let id = self.discard_marked(host, row.thin_id)?;
        let files = self.paths.vm(row.number);
        let mut failures = Failures::default();
        failures.keep(remove_tree(&files.state));
        failures.keep(remove_tree(&files.run));
        failures.into_result()?;
        fault::point("delete/files-removed");
        Ok(id)
    }

    /// Gives a volume's blocks back to the pool, and to the file below it, before it goes.
    pub(super) fn discard_marked(&self, host: &Host, thin: u32) -> Result<ThinId> {
        let id = thin_id(thin)?;
        let volume = self.volume_row(thin)?;
        let spec = host.volume_spec(&volume)?;
        self.give_blocks_back(host, &spec)?;
        fault::point("delete/discarded");
        host.pool
            .deactivate_volume(spec.id, spec.uuid)
            .map_err(|error| {
                failed("taking a volume's device away", &error).hint(
                    "something on this host holds the disk open: `lsof /dev/fvm/*` tells what",
                )
            })?;
        fault::point("delete/deactivated");
        Ok(id)
    }

    fn give_blocks_back(&self, host: &Host, spec: &VolumeSpec) -> Result<()> {
        let failed =
            |error: fvm_thin::Error| failed("giving a volume's blocks back to the pool", &error);
        match host.pool.activate_volume(spec, Access::ReadWrite) {
            Ok(volume) => host.pool.discard_mapped(spec, &volume).map_err(failed),
            // Interrupted after the pool had deleted it: there is nothing to give back.
            Err(error) if error.raw_os_error() == Some(libc::ENODATA) => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }

    pub(super) fn volume_row(&self, thin: u32) -> Result<VolumeRow> {
        self.store.volume(thin)?.ok_or_else(|| {
            ApiError::new(
                ErrorKind::Internal,
                format!("the store has no volume {thin}"),
            )
        })
    }
}

/// Removes a VM's directory; none is fine.
pub(super) fn remove_tree(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(|error| file("removing", path, &error)),
    }
}

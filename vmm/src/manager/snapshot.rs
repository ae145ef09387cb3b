//! Snapshots of VMs' disks: taken of several at one point in time, listed, restored from, deleted.
//!
//! A snapshot is a volume that is never written and never active. Taking some is one transaction: all disks
//! are suspended before the first is taken, so they show one moment.
//!
//! A restore is two: a new volume is made from the snapshot, nobody's yet; then, in one step of the store, the
//! VM has it and the old one is to be deleted. Interrupted before that step, the new one is dropped;
//! after it, the old one. The VM's number, address, MAC and identity are in its row, which stays; the
//! snapshot stays too.

use super::{
    Manager, Progress,
    batch::side_by_side,
    disk,
    error::{Result, failed},
    host::Host,
    journal::thin_id,
    owner::{Root, check_owner},
    stamp::stamp,
};
use crate::{
    api::{
        Action, ApiError, BatchReport, Consistency, CreateSnapshots, ErrorKind, InvalidName,
        NamedSnapshots, REPORT_VERSION, SnapshotList, SnapshotReport, VmNumber, VmReport,
    },
    fault,
    manager::Caller,
    store::{Caught, NewSnapshot, SnapshotRow, VmRow},
};
use fvm_thin::{Access, ThinId};
use uuid::Uuid;

impl Manager {
    /// Takes snapshots of VMs' disks, all at one point in time.
    ///
    /// # Errors
    /// When anything about the request is wrong, or the pool refuses; then there is none of them.
    pub fn create_snapshots(
        &self,
        caller: Caller,
        request: &CreateSnapshots,
        progress: &Progress,
    ) -> Result<BatchReport<SnapshotReport>> {
        let host = self.host()?;
        let numbers = request.vms.numbers();
        let _alone = self.vm_locks.lock_all(numbers);
        let mut rows = Vec::with_capacity(numbers.len());
        for &number in numbers {
            let thin = self.disk_owner_row(number)?.thin_id;
            self.finish_shrink(&host, thin)?;
            let row = self.disk_owner_row(number)?;
            if !request.main_disk_only {
                refuse_further_disks(&row)?;
            }
            rows.push(row);
        }
        let name = self.free_name(&rows, request.name.as_ref().map(|name| name.as_str()))?;
        self.check_pool_takes_more(&host)?;
        fault::point("snapshot/validated");

        let taken = self.take_snapshots(&host, &rows, &name, progress)?;
        let results = numbers
            .iter()
            .zip(taken)
            .map(|(&number, id)| {
                tracing::info!(vm = %number, snapshot = name, uid = caller.uid, "taken");
                self.record_mapped(&host, id);
                (
                    number,
                    self.snapshot_row(number, &name)
                        .and_then(|row| report(&row)),
                )
            })
            .collect();
        Ok(super::batch::report_of(Action::Snapshot, results))
    }

    /// The name that was asked for if none of the VMs has a snapshot of it, or one of the time.
    fn free_name(&self, rows: &[VmRow], wanted: Option<&str>) -> Result<String> {
        let taken_by = |name: &str| -> Result<Option<VmNumber>> {
            for row in rows {
                if self.store.snapshot(row.number, name)?.is_some() {
                    return Ok(Some(row.number));
                }
            }
            Ok(None)
        };
        if let Some(name) = wanted {
            return match taken_by(name)? {
                None => Ok(name.to_owned()),
                Some(number) => Err(ApiError::new(
                    ErrorKind::Refused,
                    format!("VM {number} has a snapshot '{name}' already"),
                )
                .hint(format!(
                    "`fvm snapshot delete {number} {name}` deletes it; without a name, one is made of the time"
                ))),
            };
        }
        let stamp = stamp(super::now_s());
        let mut name = stamp.clone();
        let mut further = 2_u32;
        while taken_by(&name)?.is_some() {
            name = format!("{stamp}-{further}");
            further += 1;
        }
        Ok(name)
    }

    /// Takes one snapshot of each disk, in one transaction, with the guests holding still as far as they can.
    fn take_snapshots(
        &self,
        host: &Host,
        rows: &[VmRow],
        name: &str,
        progress: &Progress,
    ) -> Result<Vec<ThinId>> {
        let origins = rows
            .iter()
            .map(|row| thin_id(row.thin_id))
            .collect::<Result<Vec<_>>>()?;
        let running = |row: &VmRow| self.machines.get(row.number).is_some();
        let runs: Vec<bool> = rows.iter().map(running).collect();
        let frozen = self.freeze(host, rows, progress);
        fault::point("snapshot/frozen");
        let created_at_s = super::now_s();
        let new: Vec<NewSnapshot> = rows
            .iter()
            .zip(runs)
            .map(|(row, runs)| NewSnapshot {
                vm: row.number,
                name: name.to_owned(),
                volume_uuid: Uuid::new_v4().to_string(),
                size_bytes: row.disk_bytes,
                created_at_s,
                caught: match (runs, frozen.holds(row.number)) {
                    (false, _) => Caught::Stopped,
                    (true, true) => Caught::Frozen,
                    (true, false) => Caught::Running,
                },
            })
            .collect();
        let taken = self
            .journal
            .create_snapshots(&self.store, &host.pool, &new, &origins);
        frozen.thaw();
        taken
    }

    /// Looks at how much of a snapshot there is, for the list. Without it, the list says less.
    fn record_mapped(&self, host: &Host, id: ThinId) {
        let look = || -> Result<()> {
            let spec = host.volume_spec(&self.volume_row(id.get())?)?;
            let looking = |error: fvm_thin::Error| failed("looking at a snapshot", &error);
            host.pool
                .activate_volume(&spec, Access::ReadOnly)
                .map_err(looking)?;
            let mapped = host.pool.mapped(spec.id, spec.uuid);
            host.pool
                .deactivate_volume(spec.id, spec.uuid)
                .map_err(looking)?;
            let bytes = mapped.map_err(looking)?.bytes;
            Ok(self.store.set_snapshot_mapped(id.get(), bytes.0)?)
        };
        if let Err(error) = look() {
            tracing::warn!(volume = id.get(), error = %error.message, "nothing is known of its size");
        }
    }

    /// Snapshots of one VM, or of all.
    ///
    /// # Errors
    /// When there is no such VM, the host is not set up, or the store fails.
    pub fn snapshot_list(&self, vm: Option<VmNumber>) -> Result<SnapshotList> {
        self.host()?;
        if let Some(number) = vm {
            self.vm_row(number)?;
        }
        let rows = self.store.snapshots()?;
        let snapshots = rows
            .iter()
            .filter(|row| vm.is_none_or(|number| row.vm == number))
            .map(report)
            .collect::<Result<_>>()?;
        Ok(SnapshotList {
            version: REPORT_VERSION,
            snapshots,
        })
    }

    /// Restores VMs' disks from their snapshots; each has an outcome of its own.
    ///
    /// # Errors
    /// When the host is not set up.
    pub fn restore_snapshots(
        &self,
        caller: Caller,
        request: &NamedSnapshots,
        progress: &Progress,
    ) -> Result<BatchReport> {
        self.host()?;
        let results = side_by_side(request.vms.numbers(), |number| {
            let _alone = self.vm_locks.lock(number);
            let report = self.restore_one(caller, number, request.name.as_str(), progress)?;
            tracing::info!(vm = %number, snapshot = %request.name, uid = caller.uid, "restored");
            Ok(Some(report))
        });
        Ok(self.batch_report(Action::Restore, results))
    }

    fn restore_one(
        &self,
        caller: Caller,
        number: VmNumber,
        name: &str,
        progress: &Progress,
    ) -> Result<VmReport> {
        let host = self.host()?;
        let row = self.disk_owner_row(number)?;
        check_owner(&host, caller, &row, Root::May)?;
        let snapshot = self.snapshot_row(number, name)?;
        if self.machines.get(number).is_some() {
            return Err(ApiError::new(
                ErrorKind::Refused,
                format!("VM {number} is running, and its disk cannot be changed under it"),
            )
            .hint(format!("`fvm stop {number}` stops it")));
        }
        if !row.disks.is_empty() {
            let text = format!("its further disks stay as they are: {}", disk::names(&row));
            progress.warn(Some(number), text);
        }
        let restored = self.journal.create_restored(
            &self.store,
            &host.pool,
            &Uuid::new_v4().to_string(),
            snapshot.size_bytes,
            thin_id(snapshot.thin_id)?,
        )?;
        if let Err(error) = self.store.swap_volume(number, row.thin_id, restored.get()) {
            let mut error = ApiError::from(error);
            if let Err(left) = self.drop_volume(&host, restored) {
                error.details.push(format!("left behind: {}", left.message));
            }
            return Err(error);
        }
        fault::point("restore/swapped");
        // The VM has its disk. What it had before is nobody's now, and goes at the next start at the latest.
        let dropped = self
            .discard_marked(&host, row.thin_id)
            .and_then(|old| self.journal.delete(&self.store, &host.pool, &[old]));
        if let Err(error) = dropped {
            let text = format!(
                "restored, but the disk it had before still takes space until fvmd is restarted: {}",
                error.message
            );
            progress.warn(Some(number), text);
        }
        self.report(&host, &self.disk_owner_row(number)?)
    }

    /// Deletes VMs' snapshots of one name; each has an outcome of its own.
    ///
    /// # Errors
    /// When the host is not set up.
    pub fn delete_snapshots(
        &self,
        caller: Caller,
        request: &NamedSnapshots,
        _progress: &Progress,
    ) -> Result<BatchReport<SnapshotReport>> {
        let host = self.host()?;
        let results = side_by_side(request.vms.numbers(), |number| {
            let _alone = self.vm_locks.lock(number);
            check_owner(&host, caller, &self.disk_owner_row(number)?, Root::May)?;
            let row = self.snapshot_row(number, request.name.as_str())?;
            self.drop_volume(&host, thin_id(row.thin_id)?)?;
            tracing::info!(vm = %number, snapshot = %request.name, uid = caller.uid, "deleted");
            report(&row)
        });
        Ok(super::batch::report_of(Action::DeleteSnapshot, results))
    }

    /// The snapshot's row, or that there is none.
    fn snapshot_row(&self, number: VmNumber, name: &str) -> Result<SnapshotRow> {
        if let Some(row) = self.store.snapshot(number, name)? {
            return Ok(row);
        }
        let rows = self.store.snapshots()?;
        let names: Vec<&str> = rows
            .iter()
            .filter(|row| row.vm == number)
            .map(|row| row.name.as_str())
            .collect();
        let hint = match names.as_slice() {
            [] => format!("it has none; `fvm snapshot create {number}` takes one"),
            names => format!("there are: {}", names.join(", ")),
        };
        Err(ApiError::new(
            ErrorKind::NotFound,
            format!("VM {number} has no snapshot '{name}'"),
        )
        .hint(hint))
    }
}

/// Refuses a VM of which a snapshot would hold only a part.
fn refuse_further_disks(row: &VmRow) -> Result<()> {
    if row.disks.is_empty() {
        return Ok(());
    }
    Err(ApiError::new(
        ErrorKind::Refused,
        format!(
            "VM {} has further disks, which a snapshot does not hold: {}",
            row.number,
            disk::names(row)
        ),
    )
    .hint("`--main-disk-only` takes one of the VM's own disk alone"))
}

fn report(row: &SnapshotRow) -> Result<SnapshotReport> {
    Ok(SnapshotReport {
        vm: row.vm,
        name: row
            .name
            .parse()
            .map_err(|error: InvalidName| ApiError::new(ErrorKind::Internal, error.to_string()))?,
        created_at_s: row.created_at_s,
        consistency: match row.caught {
            Caught::Stopped => Consistency::Stopped,
            Caught::Frozen => Consistency::Frozen,
            Caught::Running => Consistency::Crash,
        },
        disk_bytes: row.size_bytes,
        data_bytes: row.mapped_bytes,
    })
}

//! `resize`: disks made longer, also while their VM runs, and shorter, while nothing uses them.
//!
//! Longer: the new size is recorded; then the table of an active disk is made longer, and then the guest is
//! told. Whatever was interrupted there is caught up with when the daemon starts, since the recorded size is
//! the one that counts.
//!
//! Shorter: announced in the store; what lies behind the new end is given back to the pool and reads as zero
//! for ever; then the size is recorded. A shrink that has been announced is gone through with: at the
//! daemon's start, or when the disk is wanted next.

use super::{
    Manager, Progress,
    batch::side_by_side,
    error::{Failures, Result, failed},
    host::Host,
    import::checked_size,
    kept,
    machine::Machine,
    owner::{Root, check_owner},
    quota::Amounts,
    templates,
};
use crate::{
    api::{Action, ApiError, BatchReport, DiskSize, ErrorKind, ResizeVms, VmNumber, VmReport},
    fault,
    manager::Caller,
    qemu,
    store::VmRow,
};
use fvm_thin::{Access, Bytes};
use std::{sync::PoisonError, time::Duration};

/// How long QEMU may take to tell its guest.
const QMP_TIMEOUT: Duration = Duration::from_secs(10);

/// What a resize does to a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resize {
    /// To this size, which is larger.
    Grow(Bytes),
    /// To this size, which is smaller.
    Shrink(Bytes),
}

impl Resize {
    /// What it takes to give a disk another size; `what` names the disk, as in `VM 42's disk`.
    pub(super) fn plan(what: &str, now: Bytes, wanted: DiskSize, may_shrink: bool) -> Result<Self> {
        let bytes = wanted.of(now.0).unwrap_or(u64::MAX);
        let size = checked_size(bytes)?;
        let refused = |message| Err(ApiError::new(ErrorKind::Refused, message));
        if size == now {
            return refused(format!("{what} has {size} already"));
        }
        if size > now {
            return Ok(Self::Grow(size));
        }
        if !may_shrink {
            return refused(format!("{what} has {now}, which is more than {size}")).map_err(
                |error| {
                    error.hint(
                        "--shrink makes it shorter, and everything behind its new end is lost",
                    )
                },
            );
        }
        Ok(Self::Shrink(size))
    }
}

impl Manager {
    /// Gives the disks of VMs another size; each has an outcome of its own.
    ///
    /// # Errors
    /// When the host is not set up.
    pub fn resize(
        &self,
        caller: Caller,
        request: &ResizeVms,
        progress: &Progress,
    ) -> Result<BatchReport> {
        self.host()?;
        let results = side_by_side(request.vms.numbers(), |number| {
            let _alone = self.vm_locks.lock(number);
            let report = self.resize_one(caller, number, request, progress)?;
            tracing::info!(
                vm = %number,
                bytes = report.disk_bytes,
                uid = caller.uid,
                "resized"
            );
            Ok(Some(report))
        });
        Ok(self.batch_report(Action::Resize, results))
    }

    fn resize_one(
        &self,
        caller: Caller,
        number: VmNumber,
        request: &ResizeVms,
        progress: &Progress,
    ) -> Result<VmReport> {
        let host = self.host()?;
        let row = self.disk_owner_row(number)?;
        check_owner(&host, caller, &row, Root::May)?;
        self.touch(&row);
        let thin = row.thin_id;
        self.finish_shrink(&host, thin)?;
        let row = self.disk_owner_row(number)?;
        let what = format!("VM {number}'s disk");
        let plan = Resize::plan(&what, Bytes(row.disk_bytes), request.size, request.shrink)?;
        let more = match plan {
            Resize::Grow(to) => Amounts {
                disk_bytes: to.0.saturating_sub(row.disk_bytes),
                ..Amounts::default()
            },
            Resize::Shrink(_) => Amounts::default(),
        };
        let _quota = self.within_quota(&host, caller, row.owner_uid, more)?;
        match (plan, self.machines.up(number)) {
            (Resize::Shrink(_), Some(_)) => {
                return Err(ApiError::new(
                    ErrorKind::Refused,
                    format!("VM {number} is running, and a disk is made shorter only while it is not in use"),
                )
                .hint(format!("`fvm stop {number} --graceful` stops it")));
            }
            (plan, None) => {
                if matches!(plan, Resize::Shrink(_)) {
                    progress.step(Some(number), "discarding what is behind the new end");
                }
                self.resize_volume(&host, thin, plan)?;
            }
            (plan, Some(machine)) => {
                self.resize_volume(&host, thin, plan)?;
                let row = self.disk_owner_row(number)?;
                self.tell_guest(&host, &machine, &row).map_err(|error| {
                    error.hint(format!(
                        "the disk is larger; the guest sees it when VM {number} is stopped and started again"
                    ))
                })?;
            }
        }
        self.report(&host, &self.disk_owner_row(number)?)
    }

    /// Gives a volume another size, whether or not it is active.
    ///
    /// The caller has made sure that nobody else works at it, and that nobody uses one that gets shorter. An
    /// active one has its new length in the kernel afterwards; whoever has it open is not told.
    pub(super) fn resize_volume(&self, host: &Host, thin: u32, plan: Resize) -> Result<()> {
        match plan {
            Resize::Grow(to) => self.grow_volume(host, thin, to),
            Resize::Shrink(to) => {
                self.store.begin_shrink(thin, to.0)?;
                fault::point("shrink/begun");
                self.finish_shrink(host, thin)
            }
        }
    }

    fn grow_volume(&self, host: &Host, thin: u32, to: Bytes) -> Result<()> {
        let before = self.volume_row(thin)?.size_bytes;
        self.store.set_volume_size(thin, to.0)?;
        fault::point("grow/recorded");
        let spec = host.volume_spec(&self.volume_row(thin)?)?;
        match host.pool.resize_volume(&spec) {
            // Its next activation takes the size that is recorded.
            Ok(_) | Err(fvm_thin::Error::NotActive { .. }) => {}
            Err(error) => {
                let mut error = failed("making the disk longer", &error);
                // Nobody has seen the new size yet, so there is a way back.
                if let Err(worse) = self.store.set_volume_size(thin, before) {
                    error.details.push(ApiError::from(worse).message);
                }
                return Err(error);
            }
        }
        fault::point("grow/reloaded");
        Ok(())
    }

    /// Goes through with a volume's shrink, if one has begun.
    pub(super) fn finish_shrink(&self, host: &Host, thin: u32) -> Result<()> {
        let row = self.volume_row(thin)?;
        let Some(to) = row.shrink_bytes else {
            return Ok(());
        };
        let shrinking = |error: fvm_thin::Error| failed("making the disk shorter", &error);
        let spec = host.whole_chunks(&row)?;
        let volume = host
            .pool
            .activate_volume(&spec, Access::ReadWrite)
            .map_err(shrinking)?;
        let discarded = host.pool.discard_tail(&spec, &volume, Bytes(to));
        fault::point("shrink/discarded");
        // Its next activation has its own length again.
        let gone = host.pool.deactivate_volume(spec.id, spec.uuid);
        discarded.map_err(shrinking)?;
        gone.map_err(shrinking)?;
        fault::point("shrink/deactivated");
        self.store.set_volume_size(thin, to)?;
        fault::point("shrink/recorded");
        Ok(())
    }

    /// Lets a guest see its disk's size, if it does not yet.
    fn tell_guest(&self, host: &Host, machine: &Machine, row: &VmRow) -> Result<()> {
        let domain = kept::domain(host, row)?;
        let disk = templates::disk_of(&domain, &row.name)?;
        let node = qemu::args::disk_node_name(&disk.target);
        let told = machine
            .qmp
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .grow_disk(&node, row.disk_bytes, QMP_TIMEOUT);
        match told {
            // There is nobody to tell any more.
            Err(qemu::qmp::QmpError::Closed { .. }) => Ok(()),
            other => other.map_err(|error| {
                failed(
                    format!("telling VM {} of its larger disk", row.number),
                    &error,
                )
            }),
        }
    }

    /// Catches up with what was interrupted: shrinks are finished, and guests that run see their disks' sizes.
    pub(super) fn finish_resizes(&self, host: &Host) -> Result<()> {
        let mut failures = Failures::default();
        for volume in self.store.shrinking()? {
            tracing::warn!(
                volume = volume.thin_id,
                "finishing a shrink that was interrupted"
            );
            failures.keep(self.finish_shrink(host, volume.thin_id));
        }
        for machine in self.machines.all_up() {
            failures.keep(self.catch_up(host, &machine));
        }
        failures.into_result()
    }

    fn catch_up(&self, host: &Host, machine: &Machine) -> Result<()> {
        let Some(row) = self.store.vm(machine.number)? else {
            return Ok(());
        };
        let spec = host.volume_spec(&self.volume_row(row.thin_id)?)?;
        match host.pool.resize_volume(&spec) {
            Ok(_) => self.tell_guest(host, machine, &row),
            // It has ended in the meantime.
            Err(fvm_thin::Error::NotActive { .. }) => Ok(()),
            Err(error) => Err(failed(
                format!("making VM {}'s disk as long as it should be", row.number),
                &error,
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn plan(wanted: DiskSize, may_shrink: bool) -> std::result::Result<Resize, ErrorKind> {
        Resize::plan("VM 42's disk", Bytes(2 * GIB), wanted, may_shrink).map_err(|error| error.kind)
    }

    #[test]
    fn a_disk_gets_shorter_only_if_that_was_said() {
        use DiskSize::{By, To};
        assert_eq!(plan(To(3 * GIB), false), Ok(Resize::Grow(Bytes(3 * GIB))));
        assert_eq!(plan(By(GIB), true), Ok(Resize::Grow(Bytes(3 * GIB))));
        assert_eq!(plan(To(GIB), true), Ok(Resize::Shrink(Bytes(GIB))));
        assert_eq!(plan(To(GIB), false), Err(ErrorKind::Refused));
        for nothing in [To(2 * GIB), By(0)] {
            assert_eq!(plan(nothing, true), Err(ErrorKind::Refused));
        }
        for no_disk in [To(0), To(GIB + 1), By(u64::MAX), To(u64::MAX)] {
            assert_eq!(plan(no_disk, true), Err(ErrorKind::Usage), "{no_disk:?}");
        }
    }
}

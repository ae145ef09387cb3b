//! Disks plugged into running VMs, and out of them; and how a guest is made to let go of any device.
//!
//! QEMU gets a disk as it does at a start: by descriptors, with the same settings, at the same place. A guest has to let go
//! of one before it is taken away.

use super::{
    Manager,
    error::{Result, failed},
    host::Host,
    kept,
    machine::Machine,
    templates,
};
use crate::{
    api::{ApiError, ErrorKind, VmState},
    domain::Disk,
    qemu::{
        self, DiskBacking,
        args::{disk_node_name, hot_plugged},
        qmp::{Client, QmpError},
    },
    store::{DiskRow, VmRow},
};
use std::{
    sync::PoisonError,
    thread,
    time::{Duration, Instant},
};

/// How long QEMU may take to answer a command.
pub(super) const QMP_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a guest may take to let go of a disk, and QEMU to close it then.
const LET_GO_TIMEOUT: Duration = Duration::from_secs(30);
/// How often QEMU is asked whether that is done: its event could have come before anybody listened.
const POLL: Duration = Duration::from_millis(100);
/// How long a run that ends may take to be released.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(60);

impl Manager {
    /// Has a running VM see a further disk. On failure QEMU has nothing of it.
    pub(super) fn plug_in(
        &self,
        host: &Host,
        machine: &Machine,
        row: &VmRow,
        disk: &DiskRow,
    ) -> Result<()> {
        let doing = || format!("plugging disk {} into VM {}", disk.name, row.number);
        let link = row.link_of(disk);
        let domain = kept::domain(host, row)?;
        let model = templates::disk_of(&domain, &link)?;
        let fds = self.open_disk(host, disk.thin_id, &link)?;
        let backing = DiskBacking {
            // QEMU says which when it gets the descriptors.
            path: String::new(),
            is_block_device: qemu::suit(&fds, model).map_err(|error| failed(doing(), &error))?,
        };
        let layout = kept::layout(row, &domain)?;
        let (node, device) = hot_plugged(&domain, &layout, model, &backing)
            .map_err(|error| failed(doing(), &error))?;
        match ask(machine, |qmp| {
            qmp.plug_disk(&fds, node, device, QMP_TIMEOUT)
        }) {
            Err(QmpError::Closed { .. }) => {
                // It has ended meanwhile, and has the disk at its next start.
                drop(fds);
                machine.wait_until_gone(RELEASE_TIMEOUT);
                self.close_disk(host, disk.thin_id, &link)
            }
            plugged => plugged.map_err(|error| failed(doing(), &error)),
        }
    }

    /// Has a running VM let go of a further disk. If its guest does not, nothing has changed.
    pub(super) fn unplug(
        &self,
        host: &Host,
        machine: &Machine,
        row: &VmRow,
        disk: &DiskRow,
    ) -> Result<()> {
        let number = row.number;
        if machine.standing().state == VmState::Paused {
            return Err(ApiError::new(
                ErrorKind::Refused,
                format!("VM {number} is paused, and its guest cannot let go of a disk"),
            )
            .hint(format!(
                "`fvm resume {number}` lets it go on; `fvm stop {number}` stops it"
            )));
        }
        let domain = kept::domain(host, row)?;
        let model = templates::disk_of(&domain, &row.link_of(disk))?;
        match let_go(machine, model) {
            Ok(true) => Ok(()),
            Ok(false) => Err(ApiError::new(
                ErrorKind::Failed,
                format!(
                    "the guest of VM {number} has not let go of disk {} within {} s",
                    disk.name,
                    LET_GO_TIMEOUT.as_secs()
                ),
            )
            .hint(format!(
                "the disk is as it was: unmount it in the guest and try again, or `fvm stop {number}` first"
            ))),
            // Nobody has the disk any more.
            Err(QmpError::Closed { .. }) => {
                machine.wait_until_gone(RELEASE_TIMEOUT);
                Ok(())
            }
            Err(error) => Err(failed(
                format!("taking disk {} out of VM {number}", disk.name),
                &error,
            )),
        }
    }
}

/// Whether a guest that is asked to has let go of a disk in time; then QEMU has closed it.
fn let_go(machine: &Machine, disk: &Disk) -> std::result::Result<bool, QmpError> {
    let deadline = Instant::now() + LET_GO_TIMEOUT;
    let node = disk_node_name(&disk.target);
    if !lets_go(machine, &disk.alias, LET_GO_TIMEOUT)? {
        return Ok(false);
    }
    loop {
        match ask(machine, |qmp| qmp.close_disk(&node, QMP_TIMEOUT)) {
            // A device holds its node for a moment longer than it is in the list.
            Err(QmpError::Refused { .. }) if Instant::now() < deadline => thread::sleep(POLL),
            closed => return closed.map(|()| true),
        }
    }
}

/// Whether a guest that is asked to lets go of the device `alias` within `limit`; of one that is gone already it has.
pub(super) fn lets_go(
    machine: &Machine,
    alias: &str,
    limit: Duration,
) -> std::result::Result<bool, QmpError> {
    let deadline = Instant::now() + limit;
    ask(machine, |qmp| qmp.ask_to_unplug(alias, QMP_TIMEOUT))?;
    while ask(machine, |qmp| qmp.has_device(alias, QMP_TIMEOUT))? {
        if Instant::now() >= deadline {
            return Ok(false);
        }
        thread::sleep(POLL);
    }
    Ok(true)
}

/// Has QEMU do something; whoever else wants something of it need not wait for more than that.
pub(super) fn ask<T>(
    machine: &Machine,
    command: impl FnOnce(&mut Client) -> std::result::Result<T, QmpError>,
) -> std::result::Result<T, QmpError> {
    command(&mut machine.qmp.lock().unwrap_or_else(PoisonError::into_inner))
}

//! What is said of a VM: its row and its machine, put together.

use super::{
    Manager, disk,
    error::Result,
    host::Host,
    lifetime,
    machine::{Entry, Machine},
};
use crate::{
    api::{ApiError, ErrorKind, NicReport, REPORT_VERSION, VmList, VmNumber, VmReport, VmState},
    store::VmRow,
};
use fvm_netd::names::Nic;
use std::net::Ipv4Addr;

impl Manager {
    /// Every VM.
    ///
    /// # Errors
    /// When the host is not set up or the store fails.
    pub fn list(&self) -> Result<VmList> {
        let host = self.host()?;
        let rows = self.store.vms()?;
        let vms = rows
            .iter()
            .map(|row| self.report(&host, row))
            .collect::<Result<_>>()?;
        Ok(VmList {
            version: REPORT_VERSION,
            vms,
        })
    }

    /// One VM.
    ///
    /// # Errors
    /// When there is none, the host is not set up, or the store fails.
    pub fn info(&self, number: VmNumber) -> Result<VmReport> {
        let host = self.host()?;
        self.report(&host, &self.vm_row(number)?)
    }

    /// One VM, for somebody who does something with it.
    ///
    /// # Errors
    /// When there is none, the host is not set up, or the store fails.
    pub fn look_at(&self, number: VmNumber) -> Result<VmReport> {
        let report = self.info(number)?;
        self.touch(&self.vm_row(number)?);
        Ok(report)
    }

    /// What is said of the VM in this row.
    pub(super) fn report(&self, host: &Host, row: &VmRow) -> Result<VmReport> {
        let entry = self.machines.get(row.number);
        let machine = match &entry {
            Some(Entry::Up(machine)) => Some(machine.as_ref()),
            Some(Entry::Starting) | None => None,
        };
        let (state, cause) = match (&entry, machine.map(Machine::standing)) {
            (_, Some(standing)) => (
                standing.state,
                standing.cause.or_else(|| machine?.warning.clone()),
            ),
            (Some(_), None) => (VmState::Starting, None),
            (None, None) if row.deleting => (VmState::Deleting, None),
            (None, None) if row.has_expired() => (VmState::Expired, None),
            (None, None) if row.crash_cause.is_some() => {
                (VmState::Crashed, row.crash_cause.clone())
            }
            (None, None) => (VmState::Stopped, None),
        };
        let address = host.address(row.number)?;
        Ok(VmReport {
            version: REPORT_VERSION,
            number: row.number,
            name: row.name.parse().map_err(|error: crate::api::InvalidName| {
                ApiError::new(ErrorKind::Internal, error.to_string())
            })?,
            uuid: row.uuid.clone(),
            image: row.image.clone(),
            profile: row.profile.clone(),
            owner_uid: row.owner_uid,
            // Checked on its way in, as the note.
            group: row.group.as_ref().and_then(|group| group.parse().ok()),
            state,
            cause,
            address,
            nics: nics(row, host, address, machine.is_some()),
            disk_bytes: row.disk_bytes,
            disk_device: machine.and_then(|_| self.disk_device(row)),
            disks: disk::reports(row)?,
            memory_mib: row.memory_mib,
            cpus: row.cpus,
            pid: machine.map(|machine| machine.process.pid()),
            accelerator: machine.map(|machine| machine.accelerator.as_str().to_owned()),
            created_at_s: row.created_at_s,
            lifetime: row
                .lifetime
                .map(|row| lifetime::report(&row, host.config.undelete_s, super::now_s())),
            used_at_s: row.used_at_s,
            // Checked on its way in; of a row that somebody else wrote, nothing is said.
            note: row.note.parse().unwrap_or_default(),
            started_at_s: machine.map(|machine| machine.started_at_s),
        })
    }

    /// The device-mapper node behind the link to a VM's disk.
    fn disk_device(&self, row: &VmRow) -> Option<String> {
        let target = std::fs::read_link(self.paths.device_link(&row.name)).ok()?;
        Some(target.to_str()?.to_owned())
    }
}

fn nics(row: &VmRow, host: &Host, address: Ipv4Addr, runs: bool) -> Vec<NicReport> {
    row.nics
        .iter()
        .map(|nic| NicReport {
            mac: nic.mac.clone(),
            network: nic.network.clone(),
            tap: runs
                .then(|| host.nic(row.number, u8::try_from(nic.index).ok()?).ok())
                .flatten()
                .map(Nic::tap),
            // The first card on fvm's network has the VM's address.
            address: (nic.index == 0 && nic.network == host.network.bridge).then_some(address),
        })
        .collect()
}

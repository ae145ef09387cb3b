//! What is said of a VM: its row and its machine, put together.

use super::{
    Manager,
    cards::{Card, cards, main_card},
    disk,
    error::Result,
    host::Host,
    lifetime,
    machine::{Entry, Machine},
};
use crate::{
    api::{ApiError, ErrorKind, NicReport, REPORT_VERSION, VmList, VmNumber, VmReport, VmState},
    store::VmRow,
};

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
        let cards = cards(host, row)?;
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
            address: match main_card(&cards).and_then(Card::leased_address) {
                Some(address) => address,
                None => host.address(row.number)?,
            },
            nics: cards
                .iter()
                .map(|card| nic(card, machine.is_some()))
                .collect(),
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

fn nic(card: &Card<'_>, runs: bool) -> NicReport {
    NicReport {
        card: card.nic.index,
        mac: card.nic.mac.clone(),
        network: card.nic.network.clone(),
        tap: runs.then(|| card.place.tap()),
        address: card.leased_address(),
    }
}

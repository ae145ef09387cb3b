//! At start: the kernel is brought into step with the store.
//!
//! Running VMs are adopted. What an interrupted operation left is finished or undone. What is fvm's, by
//! name and uuid, but belongs to no row goes. Nothing else is touched.

use super::{
    Manager,
    error::{Failures, Result, failed, file},
    host::Host,
    kept,
    machine::Machine,
};
use crate::{
    api::VmNumber,
    paths::numbered_entries,
    qemu,
    store::{RunRow, VmRow, VolumeState},
};
use fvm_netd::{names::Nic, net};
use fvm_thin::names::Kind;
use std::{
    collections::{HashMap, HashSet},
    fs, io,
    sync::Arc,
    time::Duration,
};

/// How long a QEMU that is to be adopted may take to answer.
const QMP_TIMEOUT: Duration = Duration::from_secs(10);

/// Setting: the boot during which runs were recorded.
const BOOT_ID: &str = "boot_id";

impl Manager {
    /// Finishes, undoes, adopts and tidies; failures are logged, told, and tried again at the next start.
    pub(super) fn reconcile(self: &Arc<Self>, host: &Arc<Host>) -> Result<()> {
        let rows: HashMap<VmNumber, VmRow> = self
            .store
            .vms()?
            .into_iter()
            .map(|row| (row.number, row))
            .collect();
        let mut failures = Failures::default();
        failures.keep(self.adopt_runs(host, &rows));
        failures.keep(self.thaw_left(host));
        failures.keep(self.kill_strays(&rows));
        failures.keep(self.remove_stray_ports(host));
        failures.keep(self.remove_stray_networks(host));
        failures.keep(self.end_left_sparsifier());
        failures.keep(self.finish_deletes(host, &rows));
        failures.keep(self.finish_resizes(host));
        failures.keep(self.deactivate_strays(host));
        failures.keep(self.remove_stray_files(&rows));
        failures.keep(self.apply_forwards(host));
        failures.into_result()
    }

    /// Takes over the VMs that an earlier daemon started; the others' runs are over.
    fn adopt_runs(self: &Arc<Self>, host: &Host, rows: &HashMap<VmNumber, VmRow>) -> Result<()> {
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .map_err(|error| failed("reading the boot id", &error))?;
        let same_boot = self.store.setting(BOOT_ID)?.as_deref() == Some(boot_id.trim());
        if !same_boot {
            self.store.set_setting(BOOT_ID, boot_id.trim())?;
        }
        for run in self.store.runs()? {
            let Some(row) = rows.get(&run.vm) else {
                continue;
            };
            if self.machines.get(run.vm).is_some() {
                continue;
            }
            match self.adopt(host, row, &run) {
                Ok(machine) => {
                    let machine = Arc::new(machine);
                    tracing::info!(vm = %run.vm, pid = run.pid, "adopted");
                    self.machines.insert(machine.clone());
                    self.supervise(machine);
                }
                Err(why) => {
                    // After a reboot of the host nobody is to blame.
                    let cause = same_boot.then_some("it ended while fvmd was not running");
                    tracing::warn!(vm = %run.vm, why, "its run is over");
                    self.store.end_run(run.vm, cause)?;
                }
            }
        }
        Ok(())
    }

    fn adopt(
        &self,
        host: &Host,
        row: &VmRow,
        run: &RunRow,
    ) -> std::result::Result<Machine, String> {
        let process = qemu::adopt(run.pid, run.start_time).map_err(|error| error.to_string())?;
        let socket = self.paths.vm(run.vm).qmp_socket();
        let mut qmp = qemu::qmp::Client::connect(&socket, QMP_TIMEOUT)
            .map_err(|error| format!("its QEMU does not answer: {error}"))?;
        // One that was recorded but not yet let go is let go now; for others this is nothing.
        let status = qmp.status(QMP_TIMEOUT).map_err(|error| error.to_string())?;
        if status.state == "prelaunch" {
            let domain = kept::domain(host, row).map_err(|error| error.to_string())?;
            qemu::tune::let_go(&domain, run.pid, &mut qmp, QMP_TIMEOUT)
                .map_err(|error| error.to_string())?;
        }
        let accelerator = if run.accelerator == "kvm" {
            qemu::Accel::Kvm
        } else {
            qemu::Accel::Tcg
        };
        Ok(Machine::new(
            run.vm,
            process,
            qmp,
            accelerator,
            run.warning.clone(),
            run.started_at_s,
        ))
    }

    /// Ends QEMUs of runs that were never recorded or cannot be adopted.
    fn kill_strays(&self, rows: &HashMap<VmNumber, VmRow>) -> Result<()> {
        let numbers = self
            .cgroups
            .numbers()
            .map_err(|error| failed("listing the cgroups of VMs", &error))?;
        let mut failures = Failures::default();
        for number in numbers
            .into_iter()
            .filter(|number| self.machines.get(*number).is_none())
        {
            let known = rows.contains_key(&number);
            tracing::warn!(vm = %number, known, "removing what is left of a run");
            failures.keep(
                self.cgroups
                    .destroy(number)
                    .map_err(|error| failed(format!("removing VM {number}'s cgroup"), &error)),
            );
        }
        failures.into_result()
    }

    /// Takes away the taps, rules and bindings of VMs that do not run, and brings `fvm-netd` into step.
    fn remove_stray_ports(&self, host: &Host) -> Result<()> {
        let runs = |nic: &Nic| self.machines.get(host.config.vm_at(nic.vm())).is_some();
        let mut failures = Failures::default();
        let taps = net::list_taps().map_err(|error| failed("listing taps", &error))?;
        for tap in taps.into_iter().filter(|nic| !runs(nic)) {
            tracing::warn!(tap = tap.tap(), "removing a tap that is left over");
            failures.keep(
                net::remove_tap(tap)
                    .map(drop)
                    .map_err(|error| failed(format!("removing the tap {}", tap.tap()), &error)),
            );
        }
        let admitted =
            net::admitted().map_err(|error| failed("listing firewall entries", &error))?;
        let stray: Vec<&str> = admitted
            .iter()
            .map(|admission| admission.port.as_str())
            .filter(|port| Nic::from_tap(port).is_none_or(|nic| !runs(&nic)))
            .collect();
        failures
            .keep(net::expel(&stray).map_err(|error| failed("removing firewall entries", &error)));
        failures.keep(self.resync_netd(host));
        failures.into_result()
    }

    /// Goes through with deletes, imports and exports that were interrupted.
    fn finish_deletes(&self, host: &Host, rows: &HashMap<VmNumber, VmRow>) -> Result<()> {
        let by_volume: HashMap<u32, &VmRow> = rows.values().map(|row| (row.thin_id, row)).collect();
        let mut failures = Failures::default();
        let mut ids = Vec::new();
        for volume in self.store.volumes()? {
            // `init` may be run while others are at work.
            if self.private.contains(&volume.uuid) {
                continue;
            }
            let emptied = match (volume.state, by_volume.get(&volume.thin_id)) {
                (VolumeState::Deleting, Some(row)) => {
                    tracing::warn!(vm = %row.number, "finishing a delete that was interrupted");
                    self.empty_marked(host, row)
                }
                (VolumeState::Importing | VolumeState::Temporary, _) => {
                    tracing::warn!(
                        volume = volume.thin_id,
                        "dropping what an interrupted import, restore or export has left"
                    );
                    self.store
                        .mark_deleting(volume.thin_id)
                        .map_err(Into::into)
                        .and_then(|()| self.discard_marked(host, volume.thin_id))
                }
                (VolumeState::Deleting, None) => self.discard_marked(host, volume.thin_id),
                (VolumeState::Ready | VolumeState::Creating, _) => continue,
            };
            match emptied {
                Ok(id) => ids.push(id),
                Err(error) => failures.keep::<()>(Err(error)),
            }
        }
        if !ids.is_empty() {
            failures.keep(self.journal.delete(&self.store, &host.pool, &ids));
        }
        failures.into_result()
    }

    /// Takes away the nodes of volumes that nobody uses.
    fn deactivate_strays(&self, host: &Host) -> Result<()> {
        let in_use: HashSet<u32> = self
            .store
            .vms()?
            .iter()
            .filter(|row| self.machines.get(row.number).is_some())
            .flat_map(VmRow::volumes)
            .map(|(thin, _)| thin)
            .collect();
        let active = host
            .pool
            .volumes()
            .map_err(|error| failed("listing active volumes", &error))?;
        let mut failures = Failures::default();
        for device in active {
            let Kind::Volume { id, uuid } = device.identity.kind else {
                continue;
            };
            if in_use.contains(&id.get()) || self.private.contains(&uuid.to_string()) {
                continue;
            }
            let name = device.identity.name();
            tracing::warn!(device = name, "removing a device that is left over");
            failures.keep(
                host.pool
                    .deactivate_volume(id, uuid)
                    .map_err(|error| failed(format!("removing {name}"), &error)),
            );
        }
        failures.into_result()
    }

    /// Removes directories and links of VMs that are not there, or do not run.
    fn remove_stray_files(&self, rows: &HashMap<VmNumber, VmRow>) -> Result<()> {
        let mut failures = Failures::default();
        let listed = |dir: &std::path::Path| {
            numbered_entries(dir).map_err(|error| file("listing", dir, &error))
        };
        let run_dir = self.paths.run_vms_dir();
        for number in listed(&run_dir)?
            .into_iter()
            .filter(|n| self.machines.get(*n).is_none())
        {
            failures.keep(super::delete::remove_tree(&self.paths.vm(number).run));
        }
        // The rows as they are now: deletes have just been finished.
        let kept: HashSet<VmNumber> = self.store.vms()?.iter().map(|row| row.number).collect();
        let state_dir = self.paths.vms_dir();
        for number in listed(&state_dir)?
            .into_iter()
            .filter(|n| !kept.contains(n))
        {
            failures.keep(super::delete::remove_tree(&self.paths.vm(number).state));
        }
        let active: HashSet<String> = rows
            .values()
            .filter(|row| self.machines.get(row.number).is_some())
            .flat_map(VmRow::volumes)
            .map(|(_, link)| link)
            .collect();
        let links = match fs::read_dir(&self.paths.device_dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            other => Some(other.map_err(|error| file("listing", &self.paths.device_dir, &error))?),
        };
        for link in links.into_iter().flatten().flatten() {
            let name = link.file_name();
            let stray = name.to_str().is_some_and(|name| !active.contains(name));
            if stray && link.file_type().is_ok_and(|kind| kind.is_symlink()) {
                let path = link.path();
                failures
                    .keep(fs::remove_file(&path).map_err(|error| file("removing", &path, &error)));
            }
        }
        failures.into_result()
    }
}

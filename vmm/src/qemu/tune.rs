//! What a template says that QEMU's command line cannot: set once QEMU is there, before the guest runs.

use super::qmp::{Client, QmpError};
use crate::domain::{CpuSet, Disk, DiskBus, Domain};
use nix::{errno::Errno, sched, unistd::Pid};
use std::{collections::BTreeMap, fs, io, time::Duration};
use thiserror::Error;

/// Why something could not be set.
#[derive(Debug, Error)]
pub enum TuneError {
    /// QEMU refuses.
    #[error("setting what the template says")]
    Qemu(#[from] QmpError),
    /// The kernel refuses.
    #[error("binding the VM to processors of the host")]
    Bind(#[from] io::Error),
}

/// A processor that the template names and this host does not have, and the host's last one.
pub fn missing_processor(domain: &Domain) -> Option<(u32, u32)> {
    let possible = fs::read_to_string("/sys/devices/system/cpu/possible").ok()?;
    let last = last_of(&possible)?;
    let wanted = domain.tuning.highest_cpu()?;
    (wanted > last).then_some((wanted, last))
}

/// The last number of a list like `0-3,8`.
fn last_of(list: &str) -> Option<u32> {
    let last = list.trim().rsplit([',', '-']).next()?;
    last.parse().ok()
}

/// Sets all of it for the QEMU with this process id, and has its guest run.
pub fn let_go(
    domain: &Domain,
    pid: u32,
    qmp: &mut Client,
    limit: Duration,
) -> Result<(), TuneError> {
    apply(domain, pid, qmp, limit)?;
    if let Some(bytes) = domain.balloon_bytes() {
        qmp.balloon(bytes, limit)?;
    }
    Ok(qmp.cont(limit)?)
}

/// Sets all of it.
pub fn apply(
    domain: &Domain,
    pid: u32,
    qmp: &mut Client,
    limit: Duration,
) -> Result<(), TuneError> {
    for nic in domain.devices.interfaces.iter().filter(|nic| !nic.link_up) {
        qmp.set_link(&nic.alias, false, limit)?;
    }
    for disk in &domain.devices.disks {
        if let Some(limits) = &disk.limits {
            qmp.limit_disk(&disk_path(disk), limits, limit)?;
        }
    }
    if domain.tuning.binds() {
        let vcpus = qmp.vcpu_threads(limit)?;
        let iothreads = qmp.iothreads(limit)?;
        bind(domain, pid, &vcpus, &iothreads)?;
    }
    Ok(())
}

/// Where QEMU's object model has what reads and writes the disk, which is a part of some devices.
fn disk_path(disk: &Disk) -> String {
    let alias = &disk.alias;
    match disk.bus {
        DiskBus::Virtio => format!("/machine/peripheral/{alias}/virtio-backend"),
        DiskBus::Usb => format!("/machine/peripheral/{alias}/{alias}.0/legacy[0]"),
        _ => alias.clone(),
    }
}

/// Binds every thread of QEMU; those that it makes later are bound as the thread is that makes them.
fn bind(
    domain: &Domain,
    pid: u32,
    vcpus: &BTreeMap<u32, u32>,
    iothreads: &BTreeMap<u32, u32>,
) -> io::Result<()> {
    let tuning = &domain.tuning;
    let pins = [(vcpus, &tuning.vcpus), (iothreads, &tuning.iothreads)];
    let working: BTreeMap<u32, Option<&CpuSet>> = pins
        .into_iter()
        .flat_map(|(threads, sets)| {
            let pin = move |(index, thread): (&u32, &u32)| (*thread, sets.get(index));
            threads.iter().map(pin)
        })
        .collect();
    for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
        let name = entry?.file_name();
        let Some(thread) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let own = match working.get(&thread) {
            Some(pin) => *pin,
            None => tuning.emulator.as_ref(),
        };
        let set = own.or(tuning.all.as_ref());
        if let Some(set) = set {
            bind_thread(thread, set)?;
        }
    }
    Ok(())
}

fn bind_thread(thread: u32, set: &CpuSet) -> io::Result<()> {
    let mut cpus = sched::CpuSet::new();
    for cpu in set {
        let cpu = usize::try_from(*cpu).unwrap_or(usize::MAX);
        cpus.set(cpu)?;
    }
    match sched::sched_setaffinity(Pid::from_raw(thread.try_into().unwrap_or(i32::MAX)), &cpus) {
        // A thread of QEMU's pool that has ended since.
        Err(Errno::ESRCH) => Ok(()),
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use super::last_of;

    #[test]
    fn the_last_processor_of_a_list_is_known() {
        for (list, last) in [("0\n", 0), ("0-7\n", 7), ("0-3,8-11", 11), ("0,2", 2)] {
            assert_eq!(last_of(list), Some(last), "{list}");
        }
    }
}

//! VMs, their network cards and their runs.

use super::{
    DiskRow, Durability, For, LifetimeRow, Result, SeedRow, Store, VolumeState, column, column_u32,
    disks, lifetimes, seeds, signed,
};
use crate::api::VmNumber;
use rusqlite::{OptionalExtension, Row, Transaction, params};

/// A network card of a VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NicRow {
    /// Its place among the VM's cards, from 0.
    pub index: u32,
    /// Its MAC address, `52:54:00:12:34:56`.
    pub mac: String,
    /// The network it is on, by name.
    pub network: String,
    /// Whether that is the name of a bridge of the host's own instead.
    pub is_bridge: bool,
    /// Its model, if it was added to the VM; cards of the template have theirs there.
    pub model: Option<String>,
}

/// A VM about to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewVm {
    /// Its number.
    pub number: VmNumber,
    /// Its name.
    pub name: String,
    /// Its UUID as the guest sees it.
    pub uuid: String,
    /// Its volume's UUID.
    pub volume_uuid: String,
    /// The image it is made of.
    pub image: String,
    /// The profile it is made by, if it is.
    pub profile: Option<String>,
    /// The user who makes it.
    pub owner_uid: u32,
    /// Its template: XML before macros.
    pub template: String,
    /// Memory.
    pub memory_mib: u64,
    /// Virtual processors.
    pub cpus: u32,
    /// Seconds since 1970-01-01 UTC.
    pub created_at_s: u64,
    /// The group it is made into, if it is.
    pub group: Option<String>,
    /// How long it is kept, in seconds; without it, until somebody deletes it.
    pub ttl_s: Option<u64>,
    /// Its machine type, exactly, once that is settled.
    pub machine: Option<String>,
    /// Where its PCI devices sit, as JSON.
    pub layout: String,
    /// Its network cards.
    pub nics: Vec<NicRow>,
    /// What cloud-init in it is told, if anything.
    pub seed: Option<SeedRow>,
}

/// A VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmRow {
    /// Its number.
    pub number: VmNumber,
    /// Its name.
    pub name: String,
    /// Its UUID as the guest sees it.
    pub uuid: String,
    /// Its thin device.
    pub thin_id: u32,
    /// The image it was made of.
    pub image: String,
    /// The profile it was made by, if it was.
    pub profile: Option<String>,
    /// The user who made it.
    pub owner_uid: u32,
    /// Its template: XML before macros.
    pub template: String,
    /// The group it was made into, if it was.
    pub group: Option<String>,
    /// Memory.
    pub memory_mib: u64,
    /// Virtual processors.
    pub cpus: u32,
    /// Seconds since 1970-01-01 UTC.
    pub created_at_s: u64,
    /// Why its last run ended, if nobody asked for it.
    pub crash_cause: Option<String>,
    /// Its machine type, exactly, once that is settled.
    pub machine: Option<String>,
    /// Where its PCI devices sit, as JSON.
    pub layout: String,
    /// What its people say of it.
    pub note: String,
    /// When somebody last did something with it: seconds since 1970-01-01 UTC.
    pub used_at_s: u64,
    /// How long it is kept, if it was given a time to live.
    pub lifetime: Option<LifetimeRow>,
    /// Its network cards.
    pub nics: Vec<NicRow>,
    /// Its disks beside those of its template.
    pub disks: Vec<DiskRow>,
    /// Its volume's size; not a column of it.
    pub disk_bytes: u64,
    /// True once it is being deleted; not a column of it.
    pub deleting: bool,
}

impl VmRow {
    /// The thin device of each of its disks and the name of its link below `/dev/fvm`; its own disk is the first.
    pub fn volumes(&self) -> Vec<(u32, String)> {
        let further = self
            .disks
            .iter()
            .map(|disk| (disk.thin_id, self.link_of(disk)));
        [(self.thin_id, self.name.clone())]
            .into_iter()
            .chain(further)
            .collect()
    }

    /// The name of the link to a further disk. No VM's name has a colon.
    pub fn link_of(&self, disk: &DiskRow) -> String {
        format!("{}:{}", self.name, disk.name)
    }

    /// True once its time to live was found to be over.
    pub fn has_expired(&self) -> bool {
        self.lifetime
            .is_some_and(|lifetime| lifetime.expired_at_s.is_some())
    }
}

/// A running QEMU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRow {
    /// The VM.
    pub vm: VmNumber,
    /// QEMU's process id.
    pub pid: u32,
    /// When that process was started, in clock ticks after boot: field 22 of `/proc/PID/stat`.
    pub start_time: u64,
    /// `kvm` or `tcg`.
    pub accelerator: String,
    /// What the user has to know of it, such as that it is emulated.
    pub warning: Option<String>,
    /// Seconds since 1970-01-01 UTC.
    pub started_at_s: u64,
}

/// VMs of a create that has not been acknowledged are nobody's business yet.
const SELECT: &str = "SELECT vm.*, volume.size_bytes, volume.state AS volume_state
    FROM vm JOIN volume USING (thin_id) WHERE volume.state <> 'creating'";

fn vm(row: &Row<'_>) -> rusqlite::Result<VmRow> {
    let state: String = row.get("volume_state")?;
    Ok(VmRow {
        number: column_u32(row, "number")?.into(),
        name: row.get("name")?,
        uuid: row.get("uuid")?,
        thin_id: column_u32(row, "thin_id")?,
        image: row.get("image")?,
        profile: row.get("profile")?,
        owner_uid: column_u32(row, "owner_uid")?,
        template: row.get("template")?,
        group: row.get("group_name")?,
        memory_mib: column(row, "memory_mib")?,
        cpus: column_u32(row, "cpus")?,
        created_at_s: column(row, "created_at_s")?,
        crash_cause: row.get("crash_cause")?,
        machine: row.get("machine")?,
        layout: row.get("layout")?,
        note: row.get("note")?,
        used_at_s: column(row, "used_at_s")?,
        lifetime: lifetimes::lifetime(row)?,
        nics: Vec::new(),
        disks: Vec::new(),
        disk_bytes: column(row, "size_bytes")?,
        deleting: VolumeState::from_text(&state) == VolumeState::Deleting,
    })
}

fn nic(row: &Row<'_>) -> rusqlite::Result<(u32, NicRow)> {
    let nic = NicRow {
        index: column_u32(row, "idx")?,
        mac: row.get("mac")?,
        network: row.get("network")?,
        is_bridge: row.get("is_bridge")?,
        model: row.get("model")?,
    };
    Ok((column_u32(row, "vm")?, nic))
}

/// Part of the first transaction of a create.
pub(super) fn insert(tx: &Transaction<'_>, vm: &NewVm, thin_id: u32) -> Result<()> {
    const ACTION: &str = "record a VM";
    tx.execute(
        "INSERT INTO vm (number, name, uuid, thin_id, image, profile, owner_uid, template, memory_mib, cpus,
             created_at_s, used_at_s, machine, layout, ttl_s, expires_at_s, group_name)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?11, ?12, ?13, ?14, ?11 + ?14, ?15)",
        params![
            vm.number.get(),
            vm.name,
            vm.uuid,
            thin_id,
            vm.image,
            vm.profile,
            vm.owner_uid,
            vm.template,
            signed(vm.memory_mib),
            vm.cpus,
            signed(vm.created_at_s),
            vm.machine,
            vm.layout,
            vm.ttl_s.map(signed),
            vm.group,
        ],
    )
    .to(ACTION)?;
    for nic in &vm.nics {
        insert_nic(tx, vm.number, nic).to(ACTION)?;
    }
    if let Some(seed) = &vm.seed {
        seeds::insert(tx, vm.number, seed)?;
    }
    Ok(())
}

fn insert_nic(tx: &Transaction<'_>, vm: VmNumber, nic: &NicRow) -> rusqlite::Result<usize> {
    tx.execute(
        "INSERT INTO nic (vm, idx, mac, network, is_bridge, model) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            vm.get(),
            nic.index,
            nic.mac,
            nic.network,
            nic.is_bridge,
            nic.model
        ],
    )
}

fn set_layout(tx: &Transaction<'_>, vm: VmNumber, layout: &str) -> rusqlite::Result<usize> {
    tx.execute(
        "UPDATE vm SET layout = ?2 WHERE number = ?1",
        params![vm.get(), layout],
    )
}

impl Store {
    /// One VM.
    ///
    /// # Errors
    /// When the database fails.
    pub fn vm(&self, number: VmNumber) -> Result<Option<VmRow>> {
        let connection = self.lock();
        let found = connection
            .query_row(&format!("{SELECT} AND vm.number = ?1"), [number.get()], vm)
            .optional()
            .to("read a VM")?;
        let Some(mut row) = found else {
            return Ok(None);
        };
        row.nics = connection
            .prepare_cached("SELECT * FROM nic WHERE vm = ?1 ORDER BY idx")
            .and_then(|mut statement| {
                statement
                    .query_map([number.get()], nic)?
                    .map(|pair| pair.map(|(_, nic)| nic))
                    .collect()
            })
            .to("read a VM")?;
        row.disks = connection
            .prepare_cached(&format!("{} AND vm = ?1 ORDER BY thin_id", disks::SELECT))
            .and_then(|mut statement| {
                statement
                    .query_map([number.get()], disks::disk)?
                    .map(|pair| pair.map(|(_, disk)| disk))
                    .collect()
            })
            .to("read a VM")?;
        Ok(Some(row))
    }

    /// Every VM, by number.
    ///
    /// # Errors
    /// When the database fails.
    pub fn vms(&self) -> Result<Vec<VmRow>> {
        let connection = self.lock();
        let mut rows: Vec<VmRow> = connection
            .prepare_cached(&format!("{SELECT} ORDER BY vm.number"))
            .and_then(|mut statement| statement.query_map([], vm)?.collect())
            .to("read the VMs")?;
        let nics: Vec<(u32, NicRow)> = connection
            .prepare_cached("SELECT * FROM nic ORDER BY vm, idx")
            .and_then(|mut statement| statement.query_map([], nic)?.collect())
            .to("read the VMs")?;
        let disks: Vec<(u32, DiskRow)> = connection
            .prepare_cached(&format!("{} ORDER BY vm, thin_id", disks::SELECT))
            .and_then(|mut statement| statement.query_map([], disks::disk)?.collect())
            .to("read the VMs")?;
        let mut nics = nics.into_iter().peekable();
        let mut disks = disks.into_iter().peekable();
        for row in &mut rows {
            while disks.next_if(|(vm, _)| *vm < row.number.get()).is_some() {}
            while let Some((_, disk)) = disks.next_if(|(vm, _)| *vm == row.number.get()) {
                row.disks.push(disk);
            }
            while nics.next_if(|(vm, _)| *vm < row.number.get()).is_some() {}
            while let Some((_, nic)) = nics.next_if(|(vm, _)| *vm == row.number.get()) {
                row.nics.push(nic);
            }
        }
        Ok(rows)
    }

    /// Settles the machine type of a VM that has none yet.
    ///
    /// # Errors
    /// When the database fails.
    pub fn keep_machine(&self, number: VmNumber, machine: &str) -> Result<()> {
        const ACTION: &str = "record a VM's machine type";
        self.write(ACTION, Durability::Full, |tx| {
            tx.execute(
                "UPDATE vm SET machine = ?2 WHERE number = ?1 AND machine IS NULL",
                params![number.get(), machine],
            )
            .to(ACTION)?;
            Ok(())
        })
    }

    /// Adds a network card to a VM; `layout` says where its devices sit then.
    ///
    /// # Errors
    /// When the database fails or there is no such VM.
    pub fn add_nic(&self, number: VmNumber, nic: &NicRow, layout: &str) -> Result<()> {
        const ACTION: &str = "record a network card";
        self.write(ACTION, Durability::Full, |tx| {
            insert_nic(tx, number, nic).to(ACTION)?;
            set_layout(tx, number, layout).to(ACTION)?;
            Ok(())
        })
    }

    /// Takes a network card from a VM; `layout` says where its devices sit then.
    ///
    /// # Errors
    /// When the database fails.
    pub fn remove_nic(&self, number: VmNumber, index: u32, layout: &str) -> Result<()> {
        const ACTION: &str = "forget a network card";
        self.write(ACTION, Durability::Full, |tx| {
            tx.execute(
                "DELETE FROM nic WHERE vm = ?1 AND idx = ?2",
                params![number.get(), index],
            )
            .to(ACTION)?;
            set_layout(tx, number, layout).to(ACTION)?;
            Ok(())
        })
    }

    /// Every run that has been recorded.
    ///
    /// # Errors
    /// When the database fails.
    pub fn runs(&self) -> Result<Vec<RunRow>> {
        self.lock()
            .prepare_cached("SELECT * FROM run ORDER BY vm")
            .and_then(|mut statement| {
                statement
                    .query_map([], |row| {
                        Ok(RunRow {
                            vm: column_u32(row, "vm")?.into(),
                            pid: column_u32(row, "pid")?,
                            start_time: column(row, "start_time")?,
                            accelerator: row.get("accelerator")?,
                            warning: row.get("warning")?,
                            started_at_s: column(row, "started_at_s")?,
                        })
                    })?
                    .collect()
            })
            .to("read the runs")
    }

    /// Records that a VM runs, and that its last crash is history.
    ///
    /// # Errors
    /// When the database fails.
    pub fn insert_run(&self, run: &RunRow) -> Result<()> {
        self.write("record a run", Durability::Full, |tx| {
            tx.execute(
                "UPDATE vm SET crash_cause = NULL WHERE number = ?1",
                [run.vm.get()],
            )
            .to("record a run")?;
            tx.execute(
                "INSERT OR REPLACE INTO run (vm, pid, start_time, accelerator, warning, started_at_s)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    run.vm.get(),
                    run.pid,
                    signed(run.start_time),
                    run.accelerator,
                    run.warning,
                    signed(run.started_at_s),
                ],
            )
            .to("record a run")?;
            Ok(())
        })
    }

    /// Notes that a guest may have been asked to hold its file systems still, or that it goes on. It has to
    /// outlive the daemon, not the guest, so it need not reach the disk.
    ///
    /// # Errors
    /// When the database fails.
    pub fn set_frozen(&self, number: VmNumber, frozen: bool) -> Result<()> {
        const ACTION: &str = "note whether a guest holds still";
        self.write(ACTION, Durability::Ordered, |tx| {
            tx.execute(
                "UPDATE run SET frozen = ?2 WHERE vm = ?1",
                params![number.get(), frozen],
            )
            .to(ACTION)?;
            Ok(())
        })
    }

    /// The VMs whose guests may have been asked to hold their file systems still.
    ///
    /// # Errors
    /// When the database fails.
    pub fn frozen(&self) -> Result<Vec<VmNumber>> {
        self.lock()
            .prepare_cached("SELECT vm FROM run WHERE frozen = 1 ORDER BY vm")
            .and_then(|mut statement| {
                statement
                    .query_map([], |row| Ok(column_u32(row, "vm")?.into()))?
                    .collect()
            })
            .to("read which guests hold still")
    }

    /// Records that a VM's run has ended, and why if nobody asked for it.
    ///
    /// # Errors
    /// When the database fails.
    pub fn end_run(&self, number: VmNumber, crash_cause: Option<&str>) -> Result<()> {
        self.write("record the end of a run", Durability::Full, |tx| {
            tx.execute("DELETE FROM run WHERE vm = ?1", [number.get()])
                .to("record the end of a run")?;
            tx.execute(
                "UPDATE vm SET crash_cause = ?2 WHERE number = ?1",
                params![number.get(), crash_cause],
            )
            .to("record the end of a run")?;
            Ok(())
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::store) fn new_vm(number: u32) -> NewVm {
        let nic = |index| NicRow {
            index,
            mac: format!("52:54:00:00:{index:02x}:{number:02x}"),
            network: "fvm0".into(),
            is_bridge: index == 1,
            model: (index == 1).then(|| "virtio".into()),
        };
        NewVm {
            number: number.into(),
            name: format!("fvm-debian-{number}"),
            uuid: format!("uuid-{number}"),
            volume_uuid: format!("volume-{number}"),
            image: "debian".into(),
            profile: None,
            owner_uid: 1000,
            template: "<domain/>".into(),
            memory_mib: 512,
            cpus: 1,
            created_at_s: 1,
            group: None,
            ttl_s: None,
            machine: None,
            layout: "{}".into(),
            nics: vec![nic(0), nic(1)],
            seed: None,
        }
    }
}

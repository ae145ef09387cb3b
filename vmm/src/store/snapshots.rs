//! Snapshots of VMs' disks, and the swap that a restore comes to.

use super::{
    Durability, For, Result, Store, column, column_u32,
    pool::{PendingKind, insert_pending, insert_volume},
    signed, unsigned,
};
use crate::api::VmNumber;
use rusqlite::{OptionalExtension, Row, params};

/// In which state a snapshot caught its guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caught {
    /// The VM was not running.
    Stopped,
    /// It was running, and its guest held its file systems still.
    Frozen,
    /// It was running: the disk is as after a power cut.
    Running,
}

impl Caught {
    fn as_text(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Frozen => "frozen",
            Self::Running => "running",
        }
    }

    fn from_text(text: &str) -> Self {
        // The column has a CHECK, so nothing else can be read.
        match text {
            "stopped" => Self::Stopped,
            "frozen" => Self::Frozen,
            _ => Self::Running,
        }
    }
}

/// A snapshot about to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSnapshot {
    /// The VM.
    pub vm: VmNumber,
    /// Its name among the VM's snapshots.
    pub name: String,
    /// Its volume's UUID.
    pub volume_uuid: String,
    /// The size of the VM's disk.
    pub size_bytes: u64,
    /// Seconds since 1970-01-01 UTC.
    pub created_at_s: u64,
    /// How it caught the guest.
    pub caught: Caught,
}

/// A snapshot of a VM's disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotRow {
    /// Its thin device.
    pub thin_id: u32,
    /// The VM.
    pub vm: VmNumber,
    /// Its name among the VM's snapshots.
    pub name: String,
    /// Seconds since 1970-01-01 UTC.
    pub created_at_s: u64,
    /// How it caught the guest.
    pub caught: Caught,
    /// What of it is mapped, once that has been looked at.
    pub mapped_bytes: Option<u64>,
    /// The disk's size; not a column, but its volume's.
    pub size_bytes: u64,
}

const SELECT: &str = "SELECT snapshot.*, volume.size_bytes
    FROM snapshot JOIN volume USING (thin_id) WHERE volume.state = 'ready'";

fn snapshot(row: &Row<'_>) -> rusqlite::Result<SnapshotRow> {
    Ok(SnapshotRow {
        thin_id: column_u32(row, "thin_id")?,
        vm: column_u32(row, "vm")?.into(),
        name: row.get("name")?,
        created_at_s: column(row, "created_at_s")?,
        caught: Caught::from_text(&row.get::<_, String>("caught")?),
        mapped_bytes: row.get::<_, Option<i64>>("mapped_bytes")?.map(unsigned),
        size_bytes: column(row, "size_bytes")?,
    })
}

impl Store {
    /// First transaction of snapshots: all of them or none; returns the thin ids in the order given.
    ///
    /// # Errors
    /// When the database fails, the ids have run out, or a name is taken.
    pub fn begin_snapshots(&self, new: &[NewSnapshot]) -> Result<Vec<u32>> {
        const ACTION: &str = "begin a snapshot";
        self.write(ACTION, Durability::Full, |tx| {
            let mut thin_ids = Vec::with_capacity(new.len());
            for one in new {
                let thin_id = insert_volume(tx, &one.volume_uuid, "creating", one.size_bytes)?;
                tx.execute(
                    "INSERT INTO snapshot VALUES (?1, ?2, ?3, ?4, ?5, NULL)",
                    params![
                        thin_id,
                        one.vm.get(),
                        one.name,
                        signed(one.created_at_s),
                        one.caught.as_text(),
                    ],
                )
                .to(ACTION)?;
                thin_ids.push(thin_id);
            }
            insert_pending(tx, PendingKind::Create)?;
            Ok(thin_ids)
        })
    }

    /// Records what of a snapshot is mapped, which never changes. If that is lost, nothing is.
    ///
    /// # Errors
    /// When the database fails.
    pub fn set_snapshot_mapped(&self, thin_id: u32, mapped_bytes: u64) -> Result<()> {
        const ACTION: &str = "record what a snapshot holds";
        self.write(ACTION, Durability::Ordered, |tx| {
            tx.execute(
                "UPDATE snapshot SET mapped_bytes = ?2 WHERE thin_id = ?1",
                params![thin_id, signed(mapped_bytes)],
            )
            .to(ACTION)?;
            Ok(())
        })
    }

    /// Second half of a restore: the VM has the new volume, and the one that it had goes.
    ///
    /// # Errors
    /// When the database fails.
    pub fn swap_volume(&self, vm: VmNumber, old: u32, new: u32) -> Result<()> {
        const ACTION: &str = "give a VM its restored disk";
        self.write(ACTION, Durability::Full, |tx| {
            for (sql, thin_id) in [
                ("UPDATE volume SET state = 'ready' WHERE thin_id = ?1", new),
                (
                    "UPDATE volume SET state = 'deleting' WHERE thin_id = ?1",
                    old,
                ),
            ] {
                tx.execute(sql, [thin_id]).to(ACTION)?;
            }
            tx.execute(
                "UPDATE vm SET thin_id = ?2 WHERE number = ?1",
                params![vm.get(), new],
            )
            .to(ACTION)?;
            Ok(())
        })
    }

    /// Marks all volumes of a VM as ones that will be deleted, whatever happens: its own, those of its snapshots and
    /// of its further disks; returns the ids of all but the first.
    ///
    /// # Errors
    /// When the database fails.
    pub fn mark_vm_deleting(&self, vm: VmNumber) -> Result<Vec<u32>> {
        const ACTION: &str = "mark a VM for deletion";
        self.write(ACTION, Durability::Full, |tx| {
            tx.execute(
                "UPDATE volume SET state = 'deleting' WHERE thin_id IN
                     (SELECT thin_id FROM vm WHERE number = ?1
                      UNION SELECT thin_id FROM snapshot WHERE vm = ?1
                      UNION SELECT thin_id FROM disk WHERE vm = ?1)",
                [vm.get()],
            )
            .to(ACTION)?;
            const OTHERS: &str = "SELECT thin_id FROM snapshot WHERE vm = ?1
                UNION SELECT thin_id FROM disk WHERE vm = ?1 ORDER BY thin_id";
            tx.prepare_cached(OTHERS)
                .and_then(|mut statement| {
                    statement
                        .query_map([vm.get()], |row| column_u32(row, "thin_id"))?
                        .collect()
                })
                .to(ACTION)
        })
    }

    /// One snapshot that is ready.
    ///
    /// # Errors
    /// When the database fails.
    pub fn snapshot(&self, vm: VmNumber, name: &str) -> Result<Option<SnapshotRow>> {
        self.lock()
            .query_row(
                &format!("{SELECT} AND snapshot.vm = ?1 AND snapshot.name = ?2"),
                params![vm.get(), name],
                snapshot,
            )
            .optional()
            .to("read a snapshot")
    }

    /// Every snapshot that is ready, by VM and age.
    ///
    /// # Errors
    /// When the database fails.
    pub fn snapshots(&self) -> Result<Vec<SnapshotRow>> {
        self.lock()
            .prepare_cached(&format!("{SELECT} ORDER BY snapshot.vm, snapshot.thin_id"))
            .and_then(|mut statement| statement.query_map([], snapshot)?.collect())
            .to("read the snapshots")
    }
}

#[cfg(test)]
mod tests {
    use super::super::{VolumeState, pool::tests::store, vms::tests::new_vm};
    use super::*;

    fn new(vm: u32, name: &str) -> NewSnapshot {
        NewSnapshot {
            vm: vm.into(),
            name: name.into(),
            volume_uuid: format!("{vm}-{name}"),
            size_bytes: 1 << 30,
            created_at_s: 7,
            caught: Caught::Frozen,
        }
    }

    #[test]
    fn snapshots_are_made_all_or_none_and_go_with_their_vm() {
        let (_dir, store) = store();
        let vms = store
            .begin_create(&[new_vm(42), new_vm(43)], 1 << 30)
            .unwrap();
        store.settle().unwrap();
        store
            .begin_snapshots(&[new(42, "a"), new(43, "a")])
            .unwrap();
        assert!(
            store.snapshots().unwrap().is_empty(),
            "not acknowledged yet"
        );
        store.undo_create().unwrap();
        assert_eq!(store.volumes().unwrap().len(), 2);

        let ids = store
            .begin_snapshots(&[new(42, "a"), new(43, "a")])
            .unwrap();
        store.settle().unwrap();
        assert!(
            store
                .begin_snapshots(&[new(42, "b"), new(43, "a")])
                .is_err()
        );
        let row = store.snapshot(42.into(), "a").unwrap().unwrap();
        assert_eq!((row.caught, row.mapped_bytes), (Caught::Frozen, None));
        store.set_snapshot_mapped(ids[0], 5).unwrap();
        assert_eq!(store.snapshots().unwrap()[0].mapped_bytes, Some(5));

        assert_eq!(store.mark_vm_deleting(42.into()).unwrap(), ids[..1]);
        assert!(store.snapshot(42.into(), "a").unwrap().is_none());
        store.begin_delete(&[vms[0], ids[0]]).unwrap();
        store.settle().unwrap();
        assert!(store.vm(42.into()).unwrap().is_none());
        let left: Vec<_> = store
            .volumes()
            .unwrap()
            .iter()
            .map(|row| row.thin_id)
            .collect();
        assert_eq!(left, [vms[1], ids[1]]);
    }

    #[test]
    fn a_restore_is_nobodys_until_its_swap() {
        let (_dir, store) = store();
        let old = store.begin_create(&[new_vm(42)], 1 << 30).unwrap()[0];
        store.settle().unwrap();
        store.begin_snapshots(&[new(42, "a")]).unwrap();
        store.settle().unwrap();
        let restored = store.begin_import("restored", 1 << 20).unwrap();
        store.settle().unwrap();
        assert_eq!(
            store.volume(restored).unwrap().unwrap().state,
            VolumeState::Importing
        );
        store.swap_volume(42.into(), old, restored).unwrap();
        let row = store.vm(42.into()).unwrap().unwrap();
        assert_eq!(
            (row.thin_id, row.disk_bytes, row.deleting),
            (restored, 1 << 20, false)
        );
        assert_eq!(
            store.volume(old).unwrap().unwrap().state,
            VolumeState::Deleting
        );
        store.begin_delete(&[old]).unwrap();
        store.settle().unwrap();
        assert!(
            store.vm(42.into()).unwrap().is_some()
                && store.snapshot(42.into(), "a").unwrap().is_some()
        );
    }
}

//! Disks of VMs beside those of their templates.

use super::{
    Durability, For, Result, Store, column, column_u32,
    pool::{PendingKind, insert_pending, insert_volume},
    signed,
};
use crate::api::VmNumber;
use rusqlite::{Row, params};

/// A further disk about to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDisk {
    /// The VM.
    pub vm: VmNumber,
    /// Its volume's UUID.
    pub volume_uuid: String,
    /// Its size.
    pub size_bytes: u64,
    /// Its name among the VM's disks.
    pub name: String,
    /// The name that orders the disks: `sdb`, `vdc`.
    pub target: String,
    /// Where it sits: `00:08.0` of PCI, `scsi0:1`.
    pub place: String,
    /// The image that it is a snapshot of; an empty one is of none.
    pub image: Option<String>,
    /// Seconds since 1970-01-01 UTC.
    pub created_at_s: u64,
}

/// A further disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskRow {
    /// Its thin device.
    pub thin_id: u32,
    /// Its name among the VM's disks.
    pub name: String,
    /// The name that orders the disks.
    pub target: String,
    /// Where it sits.
    pub place: String,
    /// The image that it was made of, if it was.
    pub image: Option<String>,
    /// Seconds since 1970-01-01 UTC.
    pub created_at_s: u64,
    /// Its volume's size; not a column of it.
    pub size_bytes: u64,
}

/// Further disks that are there to be used, with their VMs' numbers.
pub(super) const SELECT: &str = "SELECT disk.*, volume.size_bytes
    FROM disk JOIN volume USING (thin_id) WHERE volume.state = 'ready'";

pub(super) fn disk(row: &Row<'_>) -> rusqlite::Result<(u32, DiskRow)> {
    let disk = DiskRow {
        thin_id: column_u32(row, "thin_id")?,
        name: row.get("name")?,
        target: row.get("target")?,
        place: row.get("place")?,
        image: row.get("image")?,
        created_at_s: column(row, "created_at_s")?,
        size_bytes: column(row, "size_bytes")?,
    };
    Ok((column_u32(row, "vm")?, disk))
}

impl Store {
    /// First transaction of a further disk; returns its thin id.
    ///
    /// # Errors
    /// When the database fails, the ids have run out, or the name is taken.
    pub fn begin_disk(&self, new: &NewDisk) -> Result<u32> {
        const ACTION: &str = "begin a further disk";
        self.write(ACTION, Durability::Full, |tx| {
            let thin_id = insert_volume(tx, &new.volume_uuid, "creating", new.size_bytes)?;
            tx.execute(
                "INSERT INTO disk VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![
                    thin_id,
                    new.vm.get(),
                    new.name,
                    new.target,
                    new.place,
                    new.image,
                    signed(new.created_at_s),
                ],
            )
            .to(ACTION)?;
            insert_pending(tx, PendingKind::Create)?;
            Ok(thin_id)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{pool::tests::store, vms::tests::new_vm};
    use super::*;

    fn new(vm: u32, name: &str) -> NewDisk {
        NewDisk {
            vm: vm.into(),
            volume_uuid: format!("{vm}-{name}"),
            size_bytes: 1 << 20,
            name: name.to_owned(),
            target: format!("vd-{name}"),
            place: "00:08.0".to_owned(),
            image: None,
            created_at_s: 7,
        }
    }

    #[test]
    fn a_disk_is_its_vm_s_once_it_is_acknowledged_and_goes_with_it() {
        let (_dir, store) = store();
        let vms = store
            .begin_create(&[new_vm(42), new_vm(43)], 1 << 30)
            .unwrap();
        store.settle().unwrap();
        let disks = |vm: u32| store.vm(vm.into()).unwrap().unwrap().disks;

        store.begin_disk(&new(42, "data")).unwrap();
        assert!(disks(42).is_empty(), "not acknowledged yet");
        store.undo_create().unwrap();
        assert_eq!(store.volumes().unwrap().len(), 2);

        let data = store.begin_disk(&new(42, "data")).unwrap();
        store.settle().unwrap();
        assert!(store.begin_disk(&new(42, "data")).is_err(), "taken");
        let log = store.begin_disk(&new(42, "log")).unwrap();
        store.settle().unwrap();
        let there = disks(42);
        assert_eq!((there.len(), there[0].thin_id), (2, data));
        assert_eq!(
            (there[0].size_bytes, there[1].name.as_str()),
            (1 << 20, "log")
        );
        assert!(disks(43).is_empty());
        assert_eq!(store.vms().unwrap()[0].disks, there);

        // One that is to go is nobody's to use.
        store.mark_deleting(data).unwrap();
        assert_eq!(disks(42).len(), 1);
        store.begin_delete(&[data]).unwrap();
        store.settle().unwrap();
        store.begin_disk(&new(42, "data")).unwrap();
        store.undo_create().unwrap();

        assert_eq!(store.mark_vm_deleting(42.into()).unwrap(), [log]);
        store.begin_delete(&[vms[0], log]).unwrap();
        store.settle().unwrap();
        let left = store.volumes().unwrap();
        assert_eq!((left.len(), left[0].thin_id), (1, vms[1]));
    }
}

//! The pool's row, its volumes, and the two transactions around every change of thin metadata.

use super::{
    Durability, For, NewVm, Result, Store, StoreError, column, column_u32, signed, unsigned, vms,
};
use rusqlite::{OptionalExtension, Row, Transaction, params};

/// Thin device ids have 24 bits (`drivers/md/dm-thin.c`, `MAX_DEV_ID`).
const MAX_THIN_ID: u64 = (1 << 24) - 1;

/// Where half of the pool lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackingRow {
    /// True for a block device, false for a file that fvm made.
    pub is_device: bool,
    /// Its path.
    pub path: String,
}

/// A pool about to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPool {
    /// Its short name.
    pub name: String,
    /// Its UUID.
    pub uuid: String,
    /// Where the data lies.
    pub data: BackingRow,
    /// Room for volumes.
    pub data_bytes: u64,
    /// Where the metadata lies.
    pub metadata: BackingRow,
    /// Where a repair writes to, as large as the metadata.
    pub spare: BackingRow,
    /// The unit of allocation.
    pub chunk_bytes: u64,
}

/// The pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolRow {
    /// What it was made as.
    pub pool: NewPool,
    /// That of the last operation acknowledged.
    pub transaction_id: u64,
}

/// What the pending operation does to its volumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PendingKind {
    /// Makes them.
    Create,
    /// Deletes them.
    Delete,
}

/// The operation begun and not yet settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// The transaction id that the kernel has once it is done.
    pub target: u64,
    /// What it does.
    pub kind: PendingKind,
    /// The thin devices that it is about.
    pub thin_ids: Vec<u32>,
}

/// Where a volume is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolumeState {
    /// Part of a pending create.
    Creating,
    /// An image being written.
    Importing,
    /// A snapshot that somebody reads.
    Temporary,
    /// In use.
    Ready,
    /// To be deleted, whatever happens.
    Deleting,
}

impl VolumeState {
    pub(super) fn from_text(text: &str) -> Self {
        // The column has a CHECK, so nothing else can be read.
        match text {
            "creating" => Self::Creating,
            "importing" => Self::Importing,
            "temporary" => Self::Temporary,
            "deleting" => Self::Deleting,
            _ => Self::Ready,
        }
    }
}

/// A thin device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeRow {
    /// Its 24-bit device id.
    pub thin_id: u32,
    /// Its UUID, part of its device-mapper uuid.
    pub uuid: String,
    /// Where it is in its life.
    pub state: VolumeState,
    /// Its virtual size.
    pub size_bytes: u64,
    /// The size to which a shrink that has begun goes.
    pub shrink_bytes: Option<u64>,
}

pub(super) fn volume(row: &Row<'_>) -> rusqlite::Result<VolumeRow> {
    Ok(VolumeRow {
        thin_id: column_u32(row, "thin_id")?,
        uuid: row.get("uuid")?,
        state: VolumeState::from_text(&row.get::<_, String>("state")?),
        size_bytes: column(row, "size_bytes")?,
        shrink_bytes: row.get::<_, Option<i64>>("shrink_bytes")?.map(unsigned),
    })
}

impl Store {
    /// Records the pool that is about to be made; its first transaction id is 0.
    ///
    /// # Errors
    /// When the database fails, or there is a pool already.
    pub fn insert_pool(&self, pool: &NewPool) -> Result<()> {
        let kind = |backing: &BackingRow| if backing.is_device { "device" } else { "file" };
        self.write("record the pool", Durability::Full, |tx| {
            tx.execute(
                "INSERT INTO pool VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, 0, 1)",
                params![
                    pool.name,
                    pool.uuid,
                    kind(&pool.data),
                    pool.data.path,
                    signed(pool.data_bytes),
                    kind(&pool.metadata),
                    pool.metadata.path,
                    kind(&pool.spare),
                    pool.spare.path,
                    signed(pool.chunk_bytes),
                ],
            )
            .to("record the pool")?;
            Ok(())
        })
    }

    /// The pool, if there is one.
    ///
    /// # Errors
    /// When the database fails.
    pub fn pool(&self) -> Result<Option<PoolRow>> {
        let backing = |row: &Row<'_>, half: &str| -> rusqlite::Result<BackingRow> {
            Ok(BackingRow {
                is_device: row.get::<_, String>(format!("{half}_kind").as_str())? == "device",
                path: row.get(format!("{half}_path").as_str())?,
            })
        };
        self.lock()
            .query_row("SELECT * FROM pool", [], |row| {
                Ok(PoolRow {
                    pool: NewPool {
                        name: row.get("name")?,
                        uuid: row.get("uuid")?,
                        data: backing(row, "data")?,
                        data_bytes: column(row, "data_bytes")?,
                        metadata: backing(row, "metadata")?,
                        spare: backing(row, "spare")?,
                        chunk_bytes: column(row, "chunk_bytes")?,
                    },
                    transaction_id: column(row, "transaction_id")?,
                })
            })
            .optional()
            .to("read the pool")
    }

    /// Records that the pool has another size from now on: it is activated with it.
    ///
    /// # Errors
    /// When the database fails.
    pub fn set_pool_size(&self, data_bytes: u64) -> Result<()> {
        self.write("record the pool's size", Durability::Full, |tx| {
            tx.execute("UPDATE pool SET data_bytes = ?1", [signed(data_bytes)])
                .to("record the pool's size")?;
            Ok(())
        })
    }

    /// Has metadata and spare change places: a repair is in the spare.
    ///
    /// # Errors
    /// When the database fails.
    pub fn swap_metadata_and_spare(&self) -> Result<()> {
        const ACTION: &str = "record the repaired metadata";
        self.write(ACTION, Durability::Full, |tx| {
            tx.execute(
                "UPDATE pool SET metadata_kind = spare_kind, metadata_path = spare_path,
                                 spare_kind = metadata_kind, spare_path = metadata_path",
                [],
            )
            .to(ACTION)?;
            Ok(())
        })
    }

    /// Forgets the pool with everything in it.
    ///
    /// # Errors
    /// When the database fails.
    pub fn delete_pool(&self) -> Result<()> {
        self.write("forget the pool", Durability::Full, |tx| {
            tx.execute_batch(
                "DELETE FROM vm; DELETE FROM image; DELETE FROM profile; DELETE FROM volume;
                 DELETE FROM pending; DELETE FROM pool;",
            )
            .to("forget the pool")
        })
    }

    /// The operation begun and not yet settled.
    ///
    /// # Errors
    /// When the database fails.
    pub fn pending(&self) -> Result<Option<Pending>> {
        let connection = self.lock();
        let head = connection
            .query_row("SELECT target, kind FROM pending", [], |row| {
                Ok((column(row, "target")?, row.get::<_, String>("kind")?))
            })
            .optional()
            .to("read the pending operation")?;
        let Some((target, kind)) = head else {
            return Ok(None);
        };
        let thin_ids = connection
            .prepare_cached("SELECT thin_id FROM volume WHERE in_pending = 1 ORDER BY thin_id")
            .and_then(|mut statement| {
                statement
                    .query_map([], |row| column_u32(row, "thin_id"))?
                    .collect()
            })
            .to("read the pending operation")?;
        let kind = if kind == "delete" {
            PendingKind::Delete
        } else {
            PendingKind::Create
        };
        Ok(Some(Pending {
            target,
            kind,
            thin_ids,
        }))
    }

    /// Every volume, by id.
    ///
    /// # Errors
    /// When the database fails.
    pub fn volumes(&self) -> Result<Vec<VolumeRow>> {
        self.lock()
            .prepare_cached("SELECT * FROM volume ORDER BY thin_id")
            .and_then(|mut statement| statement.query_map([], volume)?.collect())
            .to("read the volumes")
    }

    /// One volume.
    ///
    /// # Errors
    /// When the database fails.
    pub fn volume(&self, thin_id: u32) -> Result<Option<VolumeRow>> {
        self.lock()
            .query_row("SELECT * FROM volume WHERE thin_id = ?1", [thin_id], volume)
            .optional()
            .to("read a volume")
    }

    /// First transaction of a volume that is nobody's yet: of an import, or of a restore.
    ///
    /// # Errors
    /// When the database fails or the ids have run out.
    pub fn begin_import(&self, uuid: &str, size_bytes: u64) -> Result<u32> {
        self.begin_volume("begin an import", uuid, "importing", size_bytes)
    }

    /// First transaction of a snapshot to be read: a volume that is `temporary`.
    ///
    /// # Errors
    /// When the database fails or the ids have run out.
    pub fn begin_temporary(&self, uuid: &str, size_bytes: u64) -> Result<u32> {
        self.begin_volume("begin a temporary snapshot", uuid, "temporary", size_bytes)
    }

    fn begin_volume(
        &self,
        action: &'static str,
        uuid: &str,
        state: &str,
        size_bytes: u64,
    ) -> Result<u32> {
        self.write(action, Durability::Full, |tx| {
            let thin_id = insert_volume(tx, uuid, state, size_bytes)?;
            insert_pending(tx, PendingKind::Create)?;
            Ok(thin_id)
        })
    }

    /// First transaction of a create: VMs with their volumes, all of them or none; returns the thin ids
    /// in the order given.
    ///
    /// # Errors
    /// When the database fails, the ids have run out, or a number, name or UUID is taken.
    pub fn begin_create(&self, new: &[NewVm], disk_bytes: u64) -> Result<Vec<u32>> {
        self.write("begin a create", Durability::Full, |tx| {
            let mut thin_ids = Vec::with_capacity(new.len());
            for vm in new {
                let thin_id = insert_volume(tx, &vm.volume_uuid, "creating", disk_bytes)?;
                vms::insert(tx, vm, thin_id)?;
                thin_ids.push(thin_id);
            }
            insert_pending(tx, PendingKind::Create)?;
            Ok(thin_ids)
        })
    }

    /// Marks a volume as one that will be deleted, whatever happens.
    ///
    /// # Errors
    /// When the database fails.
    pub fn mark_deleting(&self, thin_id: u32) -> Result<()> {
        self.write("mark a volume for deletion", Durability::Full, |tx| {
            tx.execute(
                "UPDATE volume SET state = 'deleting' WHERE thin_id = ?1",
                [thin_id],
            )
            .to("mark a volume for deletion")?;
            Ok(())
        })
    }

    /// First transaction of the deletion of volumes that are marked for it.
    ///
    /// # Errors
    /// When the database fails.
    pub fn begin_delete(&self, thin_ids: &[u32]) -> Result<()> {
        self.write("begin a delete", Durability::Full, |tx| {
            for thin_id in thin_ids {
                tx.execute(
                    "UPDATE volume SET in_pending = 1 WHERE thin_id = ?1 AND state = 'deleting'",
                    [thin_id],
                )
                .to("begin a delete")?;
            }
            insert_pending(tx, PendingKind::Delete)
        })
    }

    /// Second transaction: the kernel has committed the pending operation.
    ///
    /// # Errors
    /// When the database fails.
    pub fn settle(&self) -> Result<()> {
        self.write("settle an operation", Durability::Ordered, |tx| {
            tx.execute_batch(
                "UPDATE pool SET transaction_id = (SELECT target FROM pending);
                 UPDATE volume SET state = 'ready' WHERE in_pending = 1 AND state = 'creating';
                 DELETE FROM vm WHERE thin_id IN
                     (SELECT thin_id FROM volume WHERE in_pending = 1 AND state = 'deleting');
                 DELETE FROM image WHERE thin_id IN
                     (SELECT thin_id FROM volume WHERE in_pending = 1 AND state = 'deleting');
                 DELETE FROM volume WHERE in_pending = 1 AND state = 'deleting';
                 UPDATE volume SET in_pending = 0 WHERE in_pending = 1;
                 DELETE FROM pending;",
            )
            .to("settle an operation")
        })
    }

    /// Takes a pending create back: the kernel has not committed it, and its devices are gone.
    ///
    /// # Errors
    /// When the database fails.
    pub fn undo_create(&self) -> Result<()> {
        self.write("undo a create", Durability::Full, |tx| {
            tx.execute_batch(
                "DELETE FROM vm WHERE thin_id IN (SELECT thin_id FROM volume WHERE in_pending = 1);
                 DELETE FROM volume WHERE in_pending = 1;
                 DELETE FROM pending;",
            )
            .to("undo a create")
        })
    }
}

/// Takes the next device id, which no volume of this pool has ever had.
pub(super) fn insert_volume(
    tx: &Transaction<'_>,
    uuid: &str,
    state: &str,
    size_bytes: u64,
) -> Result<u32> {
    const ACTION: &str = "allocate a device id";
    let thin_id: u32 = tx
        .query_row(
            "UPDATE pool SET next_thin_id = next_thin_id + 1 RETURNING next_thin_id - 1",
            [],
            |row| row.get(0),
        )
        .to(ACTION)?;
    if u64::from(thin_id) > MAX_THIN_ID {
        return Err(StoreError::OutOfThinIds);
    }
    tx.execute(
        "INSERT INTO volume (thin_id, uuid, state, in_pending, size_bytes) VALUES (?1, ?2, ?3, 1, ?4)",
        params![thin_id, uuid, state, signed(size_bytes)],
    )
    .to(ACTION)?;
    Ok(thin_id)
}

pub(super) fn insert_pending(tx: &Transaction<'_>, kind: PendingKind) -> Result<()> {
    let kind = match kind {
        PendingKind::Create => "create",
        PendingKind::Delete => "delete",
    };
    tx.execute(
        "INSERT INTO pending SELECT 1, transaction_id + 1, ?1 FROM pool",
        [kind],
    )
    .to("record the pending operation")?;
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::store::vms::tests::new_vm;

    pub(in crate::store) fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("state.db")).unwrap();
        let half = |path: &str| BackingRow {
            is_device: false,
            path: path.into(),
        };
        store
            .insert_pool(&NewPool {
                name: "pool".into(),
                uuid: "u".into(),
                data: half("/d"),
                data_bytes: 1 << 30,
                metadata: half("/m"),
                spare: BackingRow {
                    is_device: true,
                    path: "/s".into(),
                },
                chunk_bytes: 65536,
            })
            .unwrap();
        (dir, store)
    }

    #[test]
    fn a_settled_create_is_ready_and_an_undone_one_is_gone() {
        let (_dir, store) = store();
        let ids = store
            .begin_create(&[new_vm(42), new_vm(43)], 1 << 30)
            .unwrap();
        let pending = store.pending().unwrap().unwrap();
        assert_eq!(
            (pending.target, pending.thin_ids.as_slice()),
            (1, ids.as_slice())
        );
        store.settle().unwrap();
        assert_eq!(store.pool().unwrap().unwrap().transaction_id, 1);
        assert_eq!(
            store.volume(ids[0]).unwrap().unwrap().state,
            VolumeState::Ready
        );
        assert!(store.vm(42.into()).unwrap().is_some() && store.pending().unwrap().is_none());

        store.begin_create(&[new_vm(44)], 1 << 30).unwrap();
        store.undo_create().unwrap();
        assert!(store.vm(44.into()).unwrap().is_none() && store.pending().unwrap().is_none());
        assert_eq!(store.pool().unwrap().unwrap().transaction_id, 1);
        assert_eq!(store.volumes().unwrap().len(), 2);
    }

    #[test]
    fn a_device_id_is_never_used_twice() {
        let (_dir, store) = store();
        let first = store.begin_create(&[new_vm(42)], 1).unwrap()[0];
        store.undo_create().unwrap();
        let second = store.begin_create(&[new_vm(42)], 1).unwrap()[0];
        assert!(second > first);
        store.settle().unwrap();
        store.mark_deleting(second).unwrap();
        store.begin_delete(&[second]).unwrap();
        store.settle().unwrap();
        assert!(store.vm(42.into()).unwrap().is_none() && store.volumes().unwrap().is_empty());
        assert!(store.begin_create(&[new_vm(42)], 1).unwrap()[0] > second);
    }

    #[test]
    fn a_taken_number_takes_nothing() {
        let (_dir, store) = store();
        store.begin_create(&[new_vm(42)], 1).unwrap();
        store.settle().unwrap();
        assert!(store.begin_create(&[new_vm(41), new_vm(42)], 1).is_err());
        assert!(store.vm(41.into()).unwrap().is_none() && store.pending().unwrap().is_none());
    }

    #[test]
    fn the_pool_grows_and_its_metadata_change_places_with_the_spare() {
        let (_dir, store) = store();
        let before = store.pool().unwrap().unwrap().pool;
        store.set_pool_size(2 << 30).unwrap();
        store.swap_metadata_and_spare().unwrap();
        let after = store.pool().unwrap().unwrap().pool;
        let expected = NewPool {
            data_bytes: 2 << 30,
            metadata: before.spare.clone(),
            spare: before.metadata.clone(),
            ..before
        };
        assert_eq!(after, expected);
    }

    #[test]
    fn one_operation_at_a_time() {
        let (_dir, store) = store();
        store.begin_create(&[new_vm(42)], 1).unwrap();
        assert!(store.begin_import("x", 1).is_err());
        assert_eq!(store.volumes().unwrap().len(), 1);
    }
}

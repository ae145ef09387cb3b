//! The sizes of volumes: growing is one step, shrinking is announced, done, and recorded.

use super::{Durability, For, Result, Store, VolumeRow, pool, signed};
use rusqlite::params;

impl Store {
    /// Records another size, and that no shrink is under way (any more).
    ///
    /// # Errors
    /// When the database fails.
    pub fn set_volume_size(&self, thin_id: u32, size_bytes: u64) -> Result<()> {
        const ACTION: &str = "record a volume's size";
        self.write(ACTION, Durability::Full, |tx| {
            tx.execute(
                "UPDATE volume SET size_bytes = ?2, shrink_bytes = NULL WHERE thin_id = ?1",
                params![thin_id, signed(size_bytes)],
            )
            .to(ACTION)?;
            Ok(())
        })
    }

    /// Announces a shrink: from here on it is gone through with.
    ///
    /// # Errors
    /// When the database fails, or the volume is not larger.
    pub fn begin_shrink(&self, thin_id: u32, size_bytes: u64) -> Result<()> {
        const ACTION: &str = "begin a shrink";
        self.write(ACTION, Durability::Full, |tx| {
            tx.execute(
                "UPDATE volume SET shrink_bytes = ?2 WHERE thin_id = ?1",
                params![thin_id, signed(size_bytes)],
            )
            .to(ACTION)?;
            Ok(())
        })
    }

    /// The volumes whose shrink has begun and is not done.
    ///
    /// # Errors
    /// When the database fails.
    pub fn shrinking(&self) -> Result<Vec<VolumeRow>> {
        self.lock()
            .prepare_cached(
                "SELECT * FROM volume WHERE shrink_bytes IS NOT NULL AND state = 'ready'",
            )
            .and_then(|mut statement| statement.query_map([], pool::volume)?.collect())
            .to("read the volumes that shrink")
    }
}

#[cfg(test)]
mod tests {
    use super::super::{pool::tests::store, vms::tests::new_vm};

    #[test]
    fn a_shrink_is_announced_until_its_size_is_recorded() {
        let (_dir, store) = store();
        let id = store.begin_create(&[new_vm(42)], 1 << 30).unwrap()[0];
        store.settle().unwrap();
        assert!(store.begin_shrink(id, 1 << 30).is_err(), "not smaller");
        store.begin_shrink(id, 1 << 20).unwrap();
        let rows = store.shrinking().unwrap();
        assert_eq!(
            (rows[0].size_bytes, rows[0].shrink_bytes),
            (1 << 30, Some(1 << 20))
        );
        // Whoever looks sees the size that it still has.
        assert_eq!(store.vm(42.into()).unwrap().unwrap().disk_bytes, 1 << 30);
        store.set_volume_size(id, 1 << 20).unwrap();
        assert!(store.shrinking().unwrap().is_empty());
        assert_eq!(store.vm(42.into()).unwrap().unwrap().disk_bytes, 1 << 20);
        store.set_volume_size(id, 1 << 31).unwrap();
        assert_eq!(store.volume(id).unwrap().unwrap().size_bytes, 1 << 31);
    }
}

//! What people say of VMs, and when they last did something with them.

use super::{Durability, For, Result, Store, signed};
use crate::api::VmNumber;
use rusqlite::params;

impl Store {
    /// Records what is said of a VM.
    ///
    /// # Errors
    /// When the database fails.
    pub fn set_note(&self, number: VmNumber, note: &str) -> Result<()> {
        const ACTION: &str = "record a note";
        self.write(ACTION, Durability::Full, |tx| {
            tx.execute(
                "UPDATE vm SET note = ?2 WHERE number = ?1",
                params![number.get(), note],
            )
            .to(ACTION)?;
            Ok(())
        })
    }

    /// Records that somebody did something with a VM; never goes back. Losing it to a power cut harms nobody.
    ///
    /// # Errors
    /// When the database fails.
    pub fn set_used(&self, number: VmNumber, at_s: u64) -> Result<()> {
        const ACTION: &str = "record that a VM was used";
        self.write(ACTION, Durability::Ordered, |tx| {
            tx.execute(
                "UPDATE vm SET used_at_s = ?2 WHERE number = ?1 AND used_at_s < ?2",
                params![number.get(), signed(at_s)],
            )
            .to(ACTION)?;
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::Connection;

    #[test]
    fn a_vm_of_the_first_schema_gets_its_creation_as_its_last_use() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        let raw = Connection::open(&path).unwrap();
        raw.execute_batch(include_str!("0001_initial.sql")).unwrap();
        raw.execute_batch(
            "INSERT INTO volume (thin_id, uuid, state, size_bytes) VALUES (1, 'u', 'ready', 4096);
             INSERT INTO vm VALUES (42, 'fvm-debian-42', 'v', 1, 'debian', NULL, 7, '<domain/>', 512, 1, 99, NULL, NULL, '{}');
             PRAGMA user_version = 1",
        )
        .unwrap();
        drop(raw);
        let store = Store::open(&path).unwrap();
        let row = store.vm(42.into()).unwrap().unwrap();
        assert_eq!((row.note.as_str(), row.used_at_s), ("", 99));
        store.set_note(42.into(), "Ann's mail server").unwrap();
        store.set_used(42.into(), 200).unwrap();
        store.set_used(42.into(), 100).unwrap();
        let row = store.vm(42.into()).unwrap().unwrap();
        assert_eq!(
            (row.note.as_str(), row.used_at_s),
            ("Ann's mail server", 200)
        );
    }
}

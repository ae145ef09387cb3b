//! What cloud-init in VMs is told.

use super::{For, Result, Store};
use crate::api::VmNumber;
use rusqlite::{OptionalExtension, Transaction, params};

/// A VM's data for cloud-init.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeedRow {
    /// As the user gave it; empty if there is none.
    pub user_data: String,
    /// Public keys that may log in, one on each line.
    pub ssh_keys: String,
}

/// Part of the first transaction of a create.
pub(super) fn insert(tx: &Transaction<'_>, vm: VmNumber, seed: &SeedRow) -> Result<()> {
    tx.execute(
        "INSERT INTO seed VALUES (?1, ?2, ?3)",
        params![vm.get(), seed.user_data, seed.ssh_keys],
    )
    .to("record a VM's data for cloud-init")?;
    Ok(())
}

impl Store {
    /// A VM's data, if it was made with some.
    ///
    /// # Errors
    /// When the database fails.
    pub fn seed(&self, vm: VmNumber) -> Result<Option<SeedRow>> {
        self.lock()
            .query_row("SELECT * FROM seed WHERE vm = ?1", [vm.get()], |row| {
                Ok(SeedRow {
                    user_data: row.get("user_data")?,
                    ssh_keys: row.get("ssh_keys")?,
                })
            })
            .optional()
            .to("read a VM's data for cloud-init")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{pool::tests::store, vms::tests::new_vm};

    #[test]
    fn data_are_those_of_a_vm_and_go_with_it() {
        let (_dir, store) = store();
        let mut new = new_vm(42);
        new.seed = Some(SeedRow {
            user_data: "#cloud-config\n".into(),
            ssh_keys: "ssh-rsa AAAA".into(),
        });
        store
            .begin_create(&[new.clone(), new_vm(43)], 4096)
            .unwrap();
        assert_eq!(store.seed(42.into()).unwrap(), new.seed);
        assert_eq!(store.seed(43.into()).unwrap(), None);
        store.undo_create().unwrap();
        assert_eq!(store.seed(42.into()).unwrap(), None);
    }
}

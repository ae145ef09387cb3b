//! Ports of the host that lead to VMs.

use super::{Durability, For, Result, Store, column_u32};
use crate::api::{NetPort, VmNumber};
use rusqlite::{OptionalExtension, Row, params};

/// A port forward.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardRow {
    /// The host's port and its protocol.
    pub host: NetPort,
    /// The VM.
    pub vm: VmNumber,
    /// The VM's port.
    pub vm_port: u16,
    /// The user who made it.
    pub owner_uid: u32,
}

fn forward(row: &Row<'_>) -> rusqlite::Result<ForwardRow> {
    let protocol: String = row.get("protocol")?;
    Ok(ForwardRow {
        host: NetPort {
            // The schema holds no third.
            udp: protocol == "udp",
            port: row.get("host_port")?,
        },
        vm: VmNumber::new(column_u32(row, "vm")?),
        vm_port: row.get("vm_port")?,
        owner_uid: column_u32(row, "owner_uid")?,
    })
}

impl Store {
    /// Every forward, by protocol and port.
    ///
    /// # Errors
    /// When the database fails.
    pub fn forwards(&self) -> Result<Vec<ForwardRow>> {
        const ACTION: &str = "read the port forwards";
        self.lock()
            .prepare_cached("SELECT * FROM forward ORDER BY host_port, protocol")
            .and_then(|mut statement| statement.query_map([], forward)?.collect())
            .to(ACTION)
    }

    /// The forward of one port of the host.
    ///
    /// # Errors
    /// When the database fails.
    pub fn forward(&self, host: NetPort) -> Result<Option<ForwardRow>> {
        self.lock()
            .query_row(
                "SELECT * FROM forward WHERE protocol = ?1 AND host_port = ?2",
                params![host.protocol(), host.port],
                forward,
            )
            .optional()
            .to("read a port forward")
    }

    /// Records a forward.
    ///
    /// # Errors
    /// When the database fails, the port has one already, or there is no such VM.
    pub fn insert_forward(&self, new: &ForwardRow) -> Result<()> {
        const ACTION: &str = "record a port forward";
        self.write(ACTION, Durability::Full, |tx| {
            tx.execute(
                "INSERT INTO forward VALUES (?1, ?2, ?3, ?4, ?5)",
                params![
                    new.host.protocol(),
                    new.host.port,
                    new.vm.get(),
                    new.vm_port,
                    new.owner_uid
                ],
            )
            .to(ACTION)?;
            Ok(())
        })
    }

    /// Forgets a forward.
    ///
    /// # Errors
    /// When the database fails.
    pub fn delete_forward(&self, row: &ForwardRow) -> Result<()> {
        const ACTION: &str = "forget a port forward";
        self.write(ACTION, Durability::Full, |tx| {
            // Not one that was made in place of it.
            tx.execute(
                "DELETE FROM forward WHERE protocol = ?1 AND host_port = ?2 AND vm = ?3",
                params![row.host.protocol(), row.host.port, row.vm.get()],
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
    fn a_forward_is_one_of_its_port_and_goes_with_its_vm() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        let store = Store::open(&path).unwrap();
        let raw = Connection::open(&path).unwrap();
        raw.execute_batch(
            "INSERT INTO volume (thin_id, uuid, state, size_bytes) VALUES (1, 'u', 'ready', 4096), (2, 'v', 'ready', 4096);
             INSERT INTO vm (number, name, uuid, thin_id, image, owner_uid, template, memory_mib, cpus, created_at_s, layout)
             VALUES (42, 'a', 'a', 1, 'debian', 7, '', 512, 1, 99, '{}'), (43, 'b', 'b', 2, 'debian', 7, '', 512, 1, 99, '{}')",
        )
        .unwrap();
        let row = |udp, vm: u32| ForwardRow {
            host: NetPort { udp, port: 2242 },
            vm: vm.into(),
            vm_port: 22,
            owner_uid: 7,
        };
        store.insert_forward(&row(false, 42)).unwrap();
        store.insert_forward(&row(true, 43)).unwrap();
        store.insert_forward(&row(false, 43)).unwrap_err();
        store.insert_forward(&row(false, 44)).unwrap_err();
        store.delete_forward(&row(false, 43)).unwrap();
        let tcp = store.forward(row(false, 42).host).unwrap();
        assert_eq!(tcp, Some(row(false, 42)), "it was that of another VM");
        store.delete_forward(&row(false, 42)).unwrap();
        assert_eq!(store.forwards().unwrap(), [row(true, 43)]);
        raw.pragma_update(None, "foreign_keys", true).unwrap();
        raw.execute("DELETE FROM vm WHERE number = 43", []).unwrap();
        assert_eq!(store.forwards().unwrap(), []);
    }
}

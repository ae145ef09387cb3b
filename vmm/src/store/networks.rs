//! Networks beside the default one.

use super::{Durability, For, Result, Store};
use rusqlite::{Row, params};

/// A network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkRow {
    /// Its name.
    pub name: String,
    /// `nat`, `route`, `isolated` or `bridge`.
    pub mode: String,
    /// Its subnet, `10.64.0.0/24`; none with the mode `bridge`.
    pub subnet: Option<String>,
    /// The bridge of the host's own that it is; only with the mode `bridge`.
    pub bridge: Option<String>,
    /// Whether guests on it are kept from each other.
    pub isolate_guests: bool,
}

fn network(row: &Row<'_>) -> rusqlite::Result<NetworkRow> {
    Ok(NetworkRow {
        name: row.get("name")?,
        mode: row.get("mode")?,
        subnet: row.get("subnet")?,
        bridge: row.get("bridge")?,
        isolate_guests: row.get("isolate_guests")?,
    })
}

impl Store {
    /// Every network, by name.
    ///
    /// # Errors
    /// When the database fails.
    pub fn networks(&self) -> Result<Vec<NetworkRow>> {
        self.lock()
            .prepare_cached("SELECT * FROM network ORDER BY name")
            .and_then(|mut statement| statement.query_map([], network)?.collect())
            .to("read the networks")
    }

    /// Records a network.
    ///
    /// # Errors
    /// When the database fails or there is one of this name.
    pub fn insert_network(&self, new: &NetworkRow) -> Result<()> {
        const ACTION: &str = "record a network";
        self.write(ACTION, Durability::Full, |tx| {
            tx.execute(
                "INSERT INTO network VALUES (?1, ?2, ?3, ?4, ?5)",
                params![
                    new.name,
                    new.mode,
                    new.subnet,
                    new.bridge,
                    new.isolate_guests
                ],
            )
            .to(ACTION)?;
            Ok(())
        })
    }

    /// Forgets a network; none of this name is fine.
    ///
    /// # Errors
    /// When the database fails.
    pub fn delete_network(&self, name: &str) -> Result<()> {
        const ACTION: &str = "forget a network";
        self.write(ACTION, Durability::Full, |tx| {
            tx.execute("DELETE FROM network WHERE name = ?1", [name])
                .to(ACTION)?;
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_a_subnet_or_a_bridge() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("state.db")).unwrap();
        let lab = NetworkRow {
            name: "lab".to_owned(),
            mode: "isolated".to_owned(),
            subnet: Some("10.64.0.0/24".to_owned()),
            bridge: None,
            isolate_guests: true,
        };
        let lan = NetworkRow {
            name: "lan".to_owned(),
            mode: "bridge".to_owned(),
            subnet: None,
            bridge: Some("br0".to_owned()),
            isolate_guests: false,
        };
        for row in [&lan, &lab] {
            store.insert_network(row).unwrap();
            store.insert_network(row).unwrap_err();
        }
        for row in [
            NetworkRow {
                mode: "bridge".to_owned(),
                name: "x".to_owned(),
                ..lab.clone()
            },
            NetworkRow {
                mode: "nat".to_owned(),
                name: "x".to_owned(),
                ..lan.clone()
            },
            NetworkRow {
                mode: "other".to_owned(),
                name: "x".to_owned(),
                ..lab.clone()
            },
        ] {
            store.insert_network(&row).unwrap_err();
        }
        assert_eq!(store.networks().unwrap(), [lab, lan.clone()]);
        store.delete_network("lab").unwrap();
        store.delete_network("lab").unwrap();
        assert_eq!(store.networks().unwrap(), [lan]);
    }
}

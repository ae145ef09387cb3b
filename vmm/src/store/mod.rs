//! The state store: the only truth that fvm keeps, in SQLite.
//!
//! Owns the schema and every statement on it. `pool.rs` has the two transactions around a change of thin
//! metadata, `sizes.rs` those of a volume that is made longer or shorter, `snapshots.rs`, `vms.rs`, `images.rs`
//! and `profiles.rs` the rest. It knows nothing of the kernel: what the rows mean for
//! device-mapper is `manager/journal.rs`.
//!
//! Every write is durable when it returns (`synchronous=FULL`), but for the settling of an operation
//! that the kernel has committed: if power is lost before that reaches the disk, recovery sees the
//! kernel's transaction id one ahead and settles again.

mod disks;
mod forwards;
mod images;
mod lifetimes;
mod networks;
mod notes;
mod pool;
mod profiles;
mod seeds;
mod sizes;
mod snapshots;
mod vms;

pub use disks::{DiskRow, NewDisk};
pub use forwards::ForwardRow;
pub use images::{ImageContent, ImageRow};
pub use lifetimes::LifetimeRow;
pub use networks::NetworkRow;
pub use pool::{BackingRow, NewPool, Pending, PendingKind, PoolRow, VolumeRow, VolumeState};
pub use profiles::ProfileRow;
pub use seeds::SeedRow;
pub use snapshots::{Caught, NewSnapshot, SnapshotRow};
pub use vms::{NewVm, NicRow, RunRow, VmRow};

use crate::fault::{Mutation, mutated};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use std::{
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Each migration once, in order. Frozen: a change to the schema is a new entry.
const MIGRATIONS: &[&str] = &[
    include_str!("0001_initial.sql"),
    include_str!("0002_notes.sql"),
    include_str!("0003_forward.sql"),
    include_str!("0004_seed.sql"),
    include_str!("0005_disk.sql"),
    include_str!("0006_lifetime.sql"),
    include_str!("0007_group.sql"),
    include_str!("0008_network.sql"),
];

/// Why the store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database could not be opened.
    #[error("opening the state store {path}")]
    Open {
        /// The database.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// It was written by a newer fvm.
    #[error(
        "the state store {path} has schema {found}, but this fvmd knows only {known}: install the newer fvm again"
    )]
    TooNew {
        /// The database.
        path: PathBuf,
        /// The schema found.
        found: i64,
        /// The newest schema known.
        known: usize,
    },
    /// A statement failed.
    #[error("the state store failed to {action}")]
    Statement {
        /// What it was for.
        action: &'static str,
        /// Why.
        source: rusqlite::Error,
    },
    /// All device ids of the pool have been used.
    #[error("the pool has used all of its 16,777,216 device ids")]
    OutOfThinIds,
}

type Result<T> = std::result::Result<T, StoreError>;

/// Names what a statement was for.
trait For<T> {
    fn to(self, action: &'static str) -> Result<T>;
}

impl<T> For<T> for rusqlite::Result<T> {
    fn to(self, action: &'static str) -> Result<T> {
        self.map_err(|source| StoreError::Statement { action, source })
    }
}

/// How durable a transaction is when it returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Durability {
    /// On the disk.
    Full,
    /// In order, and on the disk with the next full one.
    Ordered,
}

/// The open store. One connection behind a lock: all of fvmd's writes are short.
#[derive(Debug)]
pub struct Store {
    connection: Mutex<Connection>,
}

impl Store {
    /// Opens the store, making or migrating it as needed.
    ///
    /// # Errors
    /// When the file cannot be opened, was written by a newer fvm, or is damaged.
    pub fn open(path: &Path) -> Result<Self> {
        let failed = |source| StoreError::Open {
            path: path.to_owned(),
            source,
        };
        let mut connection = Connection::open(path).map_err(failed)?;
        connection
            .execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;
                 PRAGMA busy_timeout = 5000;",
            )
            .map_err(failed)?;
        let found: i64 = connection
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .map_err(failed)?;
        let Some(todo) = usize::try_from(found)
            .ok()
            .and_then(|done| MIGRATIONS.get(done..))
        else {
            return Err(StoreError::TooNew {
                path: path.to_owned(),
                found,
                known: MIGRATIONS.len(),
            });
        };
        if !todo.is_empty() {
            let tx = connection.transaction().map_err(failed)?;
            for migration in todo {
                tx.execute_batch(migration).map_err(failed)?;
            }
            tx.pragma_update(None, "user_version", signed(MIGRATIONS.len() as u64))
                .map_err(failed)?;
            tx.commit().map_err(failed)?;
        }
        Ok(Self {
            connection: Mutex::new(connection),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic in a statement rolled its transaction back: the connection is as good as before.
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `body` in one transaction: all of it or nothing.
    fn write<T>(
        &self,
        action: &'static str,
        durability: Durability,
        body: impl FnOnce(&Transaction<'_>) -> Result<T>,
    ) -> Result<T> {
        let mut connection = self.lock();
        let level = match durability {
            _ if mutated(Mutation::SynchronousOff) || mutated(Mutation::MessageBeforeNote) => "OFF",
            Durability::Full => "FULL",
            Durability::Ordered => "NORMAL",
        };
        connection
            .pragma_update(None, "synchronous", level)
            .to(action)?;
        let tx = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .to(action)?;
        let value = body(&tx)?;
        tx.commit().to(action)?;
        Ok(value)
    }

    /// Brings everything written so far to the disk: what is left of a promise that a test has broken.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub(crate) fn sync_late(&self) -> Result<()> {
        let action = "bring the store to the disk";
        let connection = self.lock();
        connection
            .pragma_update(None, "synchronous", "FULL")
            .to(action)?;
        connection
            .query_row("PRAGMA wal_checkpoint(FULL)", [], |_| Ok(()))
            .to(action)
    }

    /// A fact about this host.
    ///
    /// # Errors
    /// When the database fails.
    pub fn setting(&self, key: &str) -> Result<Option<String>> {
        self.lock()
            .query_row("SELECT value FROM setting WHERE key = ?1", [key], |row| {
                row.get(0)
            })
            .optional()
            .to("read a setting")
    }

    /// Records a fact about this host.
    ///
    /// # Errors
    /// When the database fails.
    pub fn set_setting(&self, key: &str, value: &str) -> Result<()> {
        self.write("record a setting", Durability::Full, |tx| {
            tx.execute(
                "INSERT OR REPLACE INTO setting VALUES (?1, ?2)",
                params![key, value],
            )
            .to("record a setting")?;
            Ok(())
        })
    }

    /// Forgets a fact about this host.
    ///
    /// # Errors
    /// When the database fails.
    pub fn clear_setting(&self, key: &str) -> Result<()> {
        self.write("forget a setting", Durability::Full, |tx| {
            tx.execute("DELETE FROM setting WHERE key = ?1", [key])
                .to("forget a setting")?;
            Ok(())
        })
    }
}

/// SQLite's integers are signed; all of ours are sizes, times and ids far below 2^63.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The way back: the schema holds nothing negative.
fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// Reads an unsigned column.
fn column(row: &rusqlite::Row<'_>, index: &str) -> rusqlite::Result<u64> {
    row.get(index).map(unsigned)
}

/// Reads an unsigned column that fits 32 bits.
fn column_u32(row: &rusqlite::Row<'_>, index: &str) -> rusqlite::Result<u32> {
    row.get(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_store_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        drop(Store::open(&path).unwrap());
        let raw = Connection::open(&path).unwrap();
        raw.pragma_update(None, "user_version", 99).unwrap();
        drop(raw);
        let error = Store::open(&path).unwrap_err();
        assert!(
            matches!(error, StoreError::TooNew { found: 99, .. }),
            "{error}"
        );
    }

    #[test]
    fn settings_survive_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        Store::open(&path)
            .unwrap()
            .set_setting("ip_forward", "0")
            .unwrap();
        let store = Store::open(&path).unwrap();
        assert_eq!(store.setting("ip_forward").unwrap().as_deref(), Some("0"));
        store.clear_setting("ip_forward").unwrap();
        assert_eq!(store.setting("ip_forward").unwrap(), None);
    }
}

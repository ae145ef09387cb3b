//! How long VMs are kept.

use super::{Durability, For, Result, Store, column, column_u32, signed, unsigned};
use crate::api::VmNumber;
use rusqlite::{Row, params};

/// The setting that says by which clock the times are meant.
const CLOCK: &str = "clock";

/// A VM's time to live; all times are seconds since 1970-01-01 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LifetimeRow {
    /// What it was given last.
    pub ttl_s: u64,
    /// When that is over.
    pub expires_at_s: u64,
    /// When it was found to be over.
    pub expired_at_s: Option<u64>,
}

/// Reads the columns of a VM's lifetime.
pub(super) fn lifetime(row: &Row<'_>) -> rusqlite::Result<Option<LifetimeRow>> {
    let Some(ttl_s) = row.get::<_, Option<i64>>("ttl_s")? else {
        return Ok(None);
    };
    Ok(Some(LifetimeRow {
        ttl_s: unsigned(ttl_s),
        expires_at_s: column(row, "expires_at_s")?,
        expired_at_s: row.get::<_, Option<i64>>("expired_at_s")?.map(unsigned),
    }))
}

impl Store {
    /// The VMs that have a time to live, by number.
    ///
    /// # Errors
    /// When the database fails.
    pub fn lifetimes(&self) -> Result<Vec<(VmNumber, LifetimeRow)>> {
        self.lock()
            .prepare_cached(
                "SELECT number, ttl_s, expires_at_s, expired_at_s FROM vm JOIN volume USING (thin_id)
                     WHERE ttl_s IS NOT NULL AND volume.state <> 'creating' ORDER BY number",
            )
            .and_then(|mut statement| {
                let rows = statement.query_map([], |row| {
                    let number = column_u32(row, "number")?.into();
                    Ok(lifetime(row)?.map(|lifetime| (number, lifetime)))
                })?;
                rows.filter_map(rusqlite::Result::transpose).collect()
            })
            .to("read how long VMs are kept")
    }

    /// Records a VM's time to live, of which nothing is over; without one, it is kept until it is deleted.
    ///
    /// # Errors
    /// When the database fails.
    pub fn set_lifetime(&self, number: VmNumber, ttl_s: Option<u64>, now_s: u64) -> Result<()> {
        const ACTION: &str = "record how long a VM is kept";
        self.write(ACTION, Durability::Full, |tx| {
            tx.execute(
                "UPDATE vm SET ttl_s = ?2, expires_at_s = ?2 + ?3, expired_at_s = NULL WHERE number = ?1",
                params![number.get(), ttl_s.map(signed), signed(now_s)],
            )
            .to(ACTION)?;
            Ok(())
        })
    }

    /// Records that a VM's time to live was found to be over.
    ///
    /// # Errors
    /// When the database fails.
    pub fn set_expired(&self, number: VmNumber, now_s: u64) -> Result<()> {
        const ACTION: &str = "record that a VM has expired";
        self.write(ACTION, Durability::Full, |tx| {
            tx.execute(
                "UPDATE vm SET expired_at_s = ?2 WHERE number = ?1",
                params![number.get(), signed(now_s)],
            )
            .to(ACTION)?;
            Ok(())
        })
    }

    /// The clock by which the times are meant, as it was recorded last.
    ///
    /// # Errors
    /// When the database fails.
    pub fn clock(&self) -> Result<Option<String>> {
        self.setting(CLOCK)
    }

    /// Records the clock by which the times are meant from now on, in one step with bringing them there: they are moved
    /// by so many seconds.
    ///
    /// # Errors
    /// When the database fails.
    pub fn set_clock(&self, clock: &str, moved_s: i64) -> Result<()> {
        const ACTION: &str = "record that the clock was set";
        self.write(ACTION, Durability::Full, |tx| {
            tx.execute(
                "UPDATE vm SET expires_at_s = max(0, expires_at_s + ?1), expired_at_s = max(0, expired_at_s + ?1)
                     WHERE ttl_s IS NOT NULL",
                [moved_s],
            )
            .to(ACTION)?;
            tx.execute(
                "INSERT OR REPLACE INTO setting VALUES (?1, ?2)",
                params![CLOCK, clock],
            )
            .to(ACTION)?;
            Ok(())
        })
    }

    /// Sees to it that no VM has more left than it was given, and that none expired in the future, as a clock that went back
    /// would have it.
    ///
    /// # Errors
    /// When the database fails.
    pub fn limit_lifetimes(&self, now_s: u64) -> Result<()> {
        const ACTION: &str = "limit how long VMs are kept";
        self.write(ACTION, Durability::Full, |tx| {
            let now = signed(now_s);
            tx.execute(
                "UPDATE vm SET expires_at_s = ?1 + ttl_s WHERE expires_at_s > ?1 + ttl_s",
                [now],
            )
            .to(ACTION)?;
            tx.execute(
                "UPDATE vm SET expired_at_s = ?1 WHERE expired_at_s > ?1",
                [now],
            )
            .to(ACTION)?;
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{NewVm, pool::tests::store, vms::tests::new_vm};

    #[test]
    fn a_time_to_live_is_given_over_and_given_again() {
        let (_dir, store) = store();
        let mortal = NewVm {
            ttl_s: Some(3600),
            ..new_vm(42)
        };
        store.begin_create(&[mortal, new_vm(43)], 1).unwrap();
        assert_eq!(store.lifetimes().unwrap(), [], "nobody's business yet");
        store.settle().unwrap();
        let row = |expires_at_s, expired_at_s| LifetimeRow {
            ttl_s: 3600,
            expires_at_s,
            expired_at_s,
        };
        let all = |row| [(42.into(), row)];
        assert_eq!(store.lifetimes().unwrap(), all(row(3601, None)));
        assert_eq!(store.vm(43.into()).unwrap().unwrap().lifetime, None);
        store.set_expired(42.into(), 4000).unwrap();
        assert_eq!(store.lifetimes().unwrap(), all(row(3601, Some(4000))));
        store.set_lifetime(42.into(), Some(3600), 5000).unwrap();
        assert_eq!(store.lifetimes().unwrap(), all(row(8600, None)));
        store.set_lifetime(42.into(), None, 5000).unwrap();
        assert_eq!(store.lifetimes().unwrap(), []);
    }

    #[test]
    fn times_go_with_the_clock_and_never_beyond_what_was_given() {
        let (_dir, store) = store();
        let of = |number, ttl_s| NewVm {
            ttl_s: Some(ttl_s),
            created_at_s: 1000,
            ..new_vm(number)
        };
        store.begin_create(&[of(42, 100), of(43, 200)], 1).unwrap();
        store.settle().unwrap();
        store.set_expired(43.into(), 1200).unwrap();
        let times = || -> Vec<_> {
            let rows = store.lifetimes().unwrap();
            rows.iter()
                .map(|(_, row)| (row.expires_at_s, row.expired_at_s))
                .collect()
        };
        store.set_clock("set forward", 5000).unwrap();
        assert_eq!(store.clock().unwrap().as_deref(), Some("set forward"));
        assert_eq!(times(), [(6100, None), (6200, Some(6200))]);
        store.limit_lifetimes(6000).unwrap();
        assert_eq!(times(), [(6100, None), (6200, Some(6000))]);
        store.limit_lifetimes(5000).unwrap();
        assert_eq!(times(), [(5100, None), (5200, Some(5000))]);
        store.set_clock("set back", -1_000_000).unwrap();
        assert_eq!(times(), [(0, None), (0, Some(0))]);
    }
}

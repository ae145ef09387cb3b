//! How long VMs are kept: `renew`, `undelete`, and what is said of it. What ends them is `reaper.rs`.
//!
//! ```text
//!            its time to live is over          the undelete window is over
//!   (kept) ---------------------------> Expired --------------------------> deleted
//!      ^ \__ renew                         |
//!      |___________ undelete ______________|
//! ```
//!
//! A VM that has expired is stopped and has its number and its disk until it is deleted.

mod clock;
mod reaper;

use super::{
    Caller, Manager, Progress,
    batch::side_by_side,
    error::Result,
    now_s,
    owner::{Root, check_owner},
};
use crate::{
    api::{
        Action, ApiError, BatchReport, ErrorKind, Lifetime, RenewVms, TTL_S, Ttl, UndeleteVms,
        VmNumber, VmReport, VmSet,
    },
    store::LifetimeRow,
};

/// Whoever has much time is not warned weeks before.
const LONGEST_WARNING_S: u64 = 86_400;

/// What is said of a VM's lifetime where expired VMs are kept for so long.
pub(super) fn report(row: &LifetimeRow, undelete_s: u64, now_s: u64) -> Lifetime {
    let left = row.expires_at_s.saturating_sub(now_s);
    Lifetime {
        ttl_s: row.ttl_s,
        ends_at_s: match row.expired_at_s {
            Some(at) => at.saturating_add(undelete_s),
            None => row.expires_at_s,
        },
        ends_soon: row.expired_at_s.is_none() && left <= (row.ttl_s / 10).min(LONGEST_WARNING_S),
    }
}

/// Refuses a time to live that nobody can mean.
pub(super) fn check(vms: &VmSet, ttl_s: u64) -> Result<()> {
    let usage = |message: String| Err(ApiError::new(ErrorKind::Usage, message));
    if !TTL_S.contains(&ttl_s) {
        return usage(format!(
            "a time to live of {ttl_s} s is not within a minute and ten years"
        ));
    }
    if vms.numbers().contains(&VmNumber::BASE) {
        return usage("the base VM has no time to live: its disk is an image's".to_owned());
    }
    Ok(())
}

impl Manager {
    /// Gives VMs another time to live; each has an outcome of its own.
    ///
    /// # Errors
    /// When the host is not set up, or the time makes no sense.
    pub fn renew(
        &self,
        caller: Caller,
        request: &RenewVms,
        _progress: &Progress,
    ) -> Result<BatchReport> {
        if let Ttl::Seconds(ttl_s) = request.ttl {
            check(&request.vms, ttl_s)?;
        }
        let host = self.host()?;
        let results = side_by_side(request.vms.numbers(), |number| {
            let _alone = self.vm_locks.lock(number);
            let row = self.lasting_vm_row(number)?;
            check_owner(&host, caller, &row, Root::May)?;
            let ttl_s = match (request.ttl, row.lifetime) {
                (Ttl::Seconds(ttl_s), _) => Some(ttl_s),
                (Ttl::Forever, _) => None,
                (Ttl::Same, Some(lifetime)) => Some(lifetime.ttl_s),
                (Ttl::Same, None) => {
                    return Err(ApiError::new(
                        ErrorKind::Refused,
                        format!("VM {number} has no time to live: it is kept until it is deleted"),
                    )
                    .hint(format!("`fvm renew {number} --ttl 8h` gives it one")));
                }
            };
            self.begin_lifetime(number, ttl_s).map(Some)
        });
        Ok(self.batch_report(Action::Renew, results))
    }

    /// Brings VMs back that have expired; each has an outcome of its own.
    ///
    /// # Errors
    /// When the host is not set up.
    pub fn undelete(
        &self,
        caller: Caller,
        request: &UndeleteVms,
        _progress: &Progress,
    ) -> Result<BatchReport> {
        let host = self.host()?;
        let results = side_by_side(request.vms.numbers(), |number| {
            let _alone = self.vm_locks.lock(number);
            let row = self.vm_row(number)?;
            check_owner(&host, caller, &row, Root::May)?;
            match row.lifetime {
                Some(lifetime) if row.has_expired() && !row.deleting => {
                    self.begin_lifetime(number, Some(lifetime.ttl_s)).map(Some)
                }
                _ if row.deleting => Err(ApiError::new(
                    ErrorKind::Refused,
                    format!("VM {number} is being deleted for good"),
                )),
                _ => Err(ApiError::new(
                    ErrorKind::Refused,
                    format!("VM {number} has not expired"),
                )),
            }
        });
        Ok(self.batch_report(Action::Undelete, results))
    }

    fn begin_lifetime(&self, number: VmNumber, ttl_s: Option<u64>) -> Result<VmReport> {
        let now_s = now_s();
        self.store.set_lifetime(number, ttl_s, now_s)?;
        // Somebody wants it.
        self.store.set_used(number, now_s)?;
        self.info(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_tenth_is_soon_and_at_most_the_last_day() {
        let row = |ttl_s, expired_at_s| LifetimeRow {
            ttl_s,
            expires_at_s: 10_000_000,
            expired_at_s,
        };
        let soon = |ttl_s, left: u64| report(&row(ttl_s, None), 3600, 10_000_000 - left).ends_soon;
        assert!(!soon(36_000, 3601) && soon(36_000, 3600) && soon(36_000, 0));
        assert!(!soon(8_640_000, 86_401) && soon(8_640_000, 86_400));
        let expired = report(&row(60, Some(10_000_007)), 3600, 10_000_010);
        assert_eq!((expired.ends_at_s, expired.ends_soon), (10_003_607, false));
    }

    #[test]
    fn times_to_live_have_bounds_and_the_base_vm_has_none() {
        let refusal = |vms: &str, ttl_s| Some(check(&vms.parse().unwrap(), ttl_s).err()?.message);
        for ttl_s in [60, 28_800, 315_360_000] {
            assert_eq!(refusal("42", ttl_s), None);
        }
        for ttl_s in [0, 59, 315_360_001, u64::MAX] {
            assert!(refusal("42", ttl_s).unwrap().contains("not within"));
        }
        assert!(refusal("base", 60).unwrap().contains("base VM"));
    }
}

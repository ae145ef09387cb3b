//! The reaper: a thread that ends lifetimes. A VM whose time is over is stopped; once the undelete window is over
//! too, it is deleted. People are warned before, in the journal here and by `VmReport::lifetime` where they look.
//!
//! Each step is one that can be done again: a daemon that ends in the middle of one does it at its next start.

use super::{clock::Clock, report};
use crate::{
    api::{ApiError, ErrorKind, VmNumber},
    manager::{Caller, Manager, Progress, error::Result, host::Host, now_s},
    store::{LifetimeRow, VmRow},
};
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Weak},
    thread,
    time::Duration,
};

/// The shortest time to live is a minute.
const INTERVAL: Duration = Duration::from_secs(5);

/// By whom VMs are deleted whose time is over.
const ROOT: Caller = Caller { uid: 0 };

/// What is due with a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    Nothing,
    /// To say that it ends soon.
    Warning,
    /// To stop it and keep it for a while.
    Expiry,
    /// To delete it.
    Deletion,
}

fn due(row: &LifetimeRow, undelete_s: u64, now_s: u64) -> Due {
    let said = report(row, undelete_s, now_s);
    match row.expired_at_s {
        Some(_) if said.ends_at_s <= now_s => Due::Deletion,
        Some(_) => Due::Nothing,
        None if said.ends_at_s <= now_s => Due::Expiry,
        None if said.ends_soon => Due::Warning,
        None => Due::Nothing,
    }
}

/// What was said in the journal, so that it is said once.
#[derive(Debug, Default)]
struct Said {
    warned: HashSet<(VmNumber, u64)>,
    trouble: HashMap<Option<VmNumber>, String>,
}

impl Said {
    /// Says what went wrong, unless that was said last time.
    fn trouble(&mut self, vm: Option<VmNumber>, result: Result<()>) {
        match result {
            Ok(()) => {
                self.trouble.remove(&vm);
            }
            Err(error) => {
                if self.trouble.get(&vm) != Some(&error.message) {
                    let about = vm.map(|vm| format!(" of VM {vm}")).unwrap_or_default();
                    tracing::error!(error = %error.message, "cannot end the lifetime{about}; it is tried again");
                    self.trouble.insert(vm, error.message);
                }
            }
        }
    }
}

impl Manager {
    /// Starts the reaper.
    ///
    /// # Errors
    /// When the host has no room for another thread.
    pub(in crate::manager) fn end_lifetimes(self: &Arc<Self>) -> std::io::Result<()> {
        let manager = Arc::downgrade(self);
        thread::Builder::new()
            .name("lifetimes".into())
            .spawn(move || reap(&manager))
            .map(drop)
    }

    fn look_at_lifetimes(&self, said: &mut Said) -> Result<()> {
        // Nothing is ended on a host that is not in order.
        let Ok(host) = self.host() else {
            return Ok(());
        };
        self.go_with_the_clock()?;
        let rows = self.store.lifetimes()?;
        said.warned.retain(|warned| {
            rows.iter()
                .any(|(vm, row)| *warned == (*vm, row.expires_at_s))
        });
        for (vm, row) in rows {
            let result = match due(&row, host.config.undelete_s, now_s()) {
                Due::Nothing => Ok(()),
                Due::Warning => {
                    if said.warned.insert((vm, row.expires_at_s)) {
                        let left_s = row.expires_at_s.saturating_sub(now_s());
                        tracing::warn!(%vm, left_s, "expires soon: `fvm renew {vm}` gives it its time again");
                    }
                    Ok(())
                }
                Due::Expiry => self.expire(&host, vm),
                Due::Deletion => self.delete_expired(&host, vm),
            };
            said.trouble(Some(vm), result);
        }
        Ok(())
    }

    /// Moves all times by as much as the clock was set.
    fn go_with_the_clock(&self) -> Result<()> {
        let clock = Clock::now()?;
        let recorded = self.store.clock()?;
        let earlier: Option<Clock> = recorded.and_then(|text| text.parse().ok());
        if earlier.as_ref() != Some(&clock) {
            let seconds = earlier.map_or(0, |earlier| clock.set_since(&earlier));
            if seconds != 0 {
                tracing::warn!(
                    seconds,
                    "the clock was set: the lifetimes of VMs go with it"
                );
            }
            self.store.set_clock(&clock.to_string(), seconds)?;
        }
        let now = now_s();
        let beyond = |row: &LifetimeRow| {
            row.expires_at_s > now.saturating_add(row.ttl_s) || row.expired_at_s > Some(now)
        };
        if self.store.lifetimes()?.iter().any(|(_, row)| beyond(row)) {
            self.store.limit_lifetimes(now)?;
        }
        Ok(())
    }

    /// Stops a VM whose time is over and keeps it for the undelete window.
    fn expire(&self, host: &Host, vm: VmNumber) -> Result<()> {
        let _alone = self.vm_locks.lock(vm);
        // It may have been renewed or deleted meanwhile.
        let found = self.store.vm(vm)?;
        let Some(row) = found.filter(|row| !row.deleting && is_due(host, row, Due::Expiry)) else {
            return Ok(());
        };
        if let Some(machine) = self.machines.up(vm) {
            self.stop_hard(&machine)?;
        }
        self.store.set_expired(vm, now_s())?;
        let hours = host.config.undelete_s / 3600;
        tracing::warn!(%vm, uid = row.owner_uid, "audit: fvmd: expired VM {vm}: stopped; it is deleted in {hours} h");
        Ok(())
    }

    /// Deletes a VM that has expired and was not brought back.
    fn delete_expired(&self, host: &Host, vm: VmNumber) -> Result<()> {
        let nobody_watches = Progress::new(|_| {});
        let report = self.delete_those(ROOT, &vm.into(), &nobody_watches, |row| {
            match is_due(host, row, Due::Deletion) {
                true => Ok(()),
                false => Err(ApiError::new(
                    ErrorKind::Refused,
                    format!("VM {vm} was brought back"),
                )),
            }
        })?;
        let outcome = report.outcomes.into_iter().next();
        match outcome.and_then(|outcome| outcome.error) {
            // Somebody was faster.
            Some(error) if matches!(error.kind, ErrorKind::Refused | ErrorKind::NotFound) => Ok(()),
            Some(error) => Err(error),
            None => {
                tracing::warn!(%vm, "audit: fvmd: delete VM {vm}, which had expired: done");
                Ok(())
            }
        }
    }
}

/// Whether this is due with a VM now.
fn is_due(host: &Host, row: &VmRow, wanted: Due) -> bool {
    row.lifetime
        .is_some_and(|row| due(&row, host.config.undelete_s, now_s()) == wanted)
}

fn reap(manager: &Weak<Manager>) {
    let mut said = Said::default();
    while let Some(manager) = manager.upgrade() {
        let result = manager.look_at_lifetimes(&mut said);
        said.trouble(None, result);
        drop(manager);
        thread::sleep(INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_ends_step_by_step() {
        let row = |expired_at_s| LifetimeRow {
            ttl_s: 1000,
            expires_at_s: 5000,
            expired_at_s,
        };
        let due = |expired_at_s, now_s| due(&row(expired_at_s), 300, now_s);
        assert_eq!(due(None, 4000), Due::Nothing);
        assert_eq!(due(None, 4900), Due::Warning);
        assert_eq!(due(None, 5000), Due::Expiry);
        // Found late, as after a month without power: the whole window is still to come.
        assert_eq!(due(Some(9000), 9000), Due::Nothing);
        assert_eq!(due(Some(9000), 9299), Due::Nothing);
        assert_eq!(due(Some(9000), 9300), Due::Deletion);
    }
}

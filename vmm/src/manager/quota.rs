//! What users have, what they may have, and that nobody gets more.
//!
//! A VM counts for its owner, whoever asks. Root is not limited, neither for root's own VMs nor when root does something
//! with those of others.

use super::{Caller, Manager, error::Result, host::Host, locks::KeyGuard};
use crate::{
    api::{ApiError, ErrorKind, Quota, QuotaReport, REPORT_VERSION, UserQuota},
    config::Allowance,
    store::VmRow,
};
use fvm_thin::Bytes;
use nix::unistd::{Group, Uid, User, getgrouplist};
use std::{collections::BTreeSet, ffi::CString};

/// How much of everything: what a user has, or is about to get.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Amounts {
    pub(super) vms: u64,
    pub(super) memory_bytes: u64,
    pub(super) disk_bytes: u64,
}

impl Amounts {
    /// What running a VM takes.
    pub(super) fn of_run(row: &VmRow) -> Self {
        Self {
            memory_bytes: row.memory_mib.saturating_mul(1 << 20),
            ..Self::default()
        }
    }
}

impl Manager {
    /// Sees to it that a VM's owner may have so much more. Until the guard goes, nobody else asks for that owner, so it is kept
    /// until what was asked for is there.
    pub(super) fn within_quota(
        &self,
        host: &Host,
        caller: Caller,
        owner_uid: u32,
        more: Amounts,
    ) -> Result<Option<KeyGuard<'_, u32>>> {
        if caller.is_root() || owner_uid == 0 {
            return Ok(None);
        }
        let guard = self.quota_locks.lock(owner_uid);
        let user = user_of(owner_uid)?;
        let has = self.amounts_of(owner_uid)?;
        let name = user.map_or_else(|| format!("user {owner_uid}"), |user| user.name);
        check(&name, has, allowance(host, owner_uid)?, more)?;
        Ok(Some(guard))
    }

    /// What a user has.
    fn amounts_of(&self, uid: u32) -> Result<Amounts> {
        let rows = self.store.vms()?;
        let mut has = Amounts::default();
        for row in rows.iter().filter(|row| row.owner_uid == uid) {
            if self.machines.get(row.number).is_some() {
                has.memory_bytes += Amounts::of_run(row).memory_bytes;
            }
            // The base VM is an image's, and has its disk.
            if !row.number.is_base() {
                has.vms += 1;
                has.disk_bytes += row.disk_bytes;
                has.disk_bytes += row.disks.iter().map(|disk| disk.size_bytes).sum::<u64>();
            }
        }
        Ok(has)
    }

    /// What everybody has who has something or of whom something is said, and who asks.
    ///
    /// # Errors
    /// When the host is not set up, or the store or the host's users cannot be read.
    pub fn quotas(&self, caller: Caller) -> Result<QuotaReport> {
        let host = self.host()?;
        let owners = self.store.vms()?.into_iter().map(|row| row.owner_uid);
        let mut uids: BTreeSet<u32> = owners.chain([caller.uid]).collect();
        for name in host.config.quotas.users() {
            uids.extend(user_named(name)?.map(|user| user.uid.as_raw()));
        }
        let users = uids.into_iter().map(|uid| self.quota_of(&host, uid));
        Ok(QuotaReport {
            version: REPORT_VERSION,
            users: users.collect::<Result<_>>()?,
        })
    }

    /// What one user has, who is given by name or number.
    ///
    /// # Errors
    /// When there is no such user, the host is not set up, or the store or the host's users cannot be read.
    pub fn quota(&self, user: &str) -> Result<QuotaReport> {
        let host = self.host()?;
        let uid = match user.parse() {
            Ok(uid) => uid,
            Err(_) => user_named(user)?
                .ok_or_else(|| {
                    let name = user.escape_debug();
                    ApiError::new(
                        ErrorKind::NotFound,
                        format!("this host has no user '{name}'"),
                    )
                })?
                .uid
                .as_raw(),
        };
        Ok(QuotaReport {
            version: REPORT_VERSION,
            users: vec![self.quota_of(&host, uid)?],
        })
    }

    fn quota_of(&self, host: &Host, uid: u32) -> Result<UserQuota> {
        let (has, may) = (self.amounts_of(uid)?, allowance(host, uid)?);
        let quota = |used, limit| Quota { used, limit };
        Ok(UserQuota {
            uid,
            user: user_of(uid)?.map(|user| user.name),
            vms: quota(has.vms, may.vms),
            memory_bytes: quota(has.memory_bytes, may.memory_bytes),
            disk_bytes: quota(has.disk_bytes, may.disk_bytes),
        })
    }
}

fn users(error: &nix::Error) -> ApiError {
    super::error::failed("looking at the users of this host", error)
}

fn user_of(uid: u32) -> Result<Option<User>> {
    User::from_uid(Uid::from_raw(uid)).map_err(|error| users(&error))
}

fn user_named(name: &str) -> Result<Option<User>> {
    User::from_name(name).map_err(|error| users(&error))
}

/// What a user may have by the configuration; of a user without a name, only what is said of everybody counts.
fn allowance(host: &Host, uid: u32) -> Result<Allowance> {
    if uid == 0 {
        return Ok(Allowance::default());
    }
    let Some(user) = user_of(uid)? else {
        return Ok(host.config.quotas.of("", &[]));
    };
    // No name has a zero byte, so there is always a C string.
    let name = CString::new(user.name.clone()).unwrap_or_default();
    let mut groups = Vec::new();
    for gid in getgrouplist(&name, user.gid).map_err(|error| users(&error))? {
        let group = Group::from_gid(gid).map_err(|error| users(&error))?;
        groups.extend(group.map(|group| group.name));
    }
    Ok(host.config.quotas.of(&user.name, &groups))
}

/// Refuses what would be too much, saying of what, how much, and how much there may be.
fn check(user: &str, has: Amounts, may: Allowance, more: Amounts) -> Result<()> {
    let is_over = |has: u64, more: u64, limit: Option<u64>| {
        limit.filter(|limit| more > 0 && has.saturating_add(more) > *limit)
    };
    let message = if let Some(limit) = is_over(has.vms, more.vms, may.vms) {
        format!(
            "{user} has {} of {limit} VMs: {} more would be too many",
            has.vms, more.vms
        )
    } else if let Some(limit) = is_over(has.disk_bytes, more.disk_bytes, may.disk_bytes) {
        format!(
            "the disks of {user}'s VMs have {} of {}: {} more would be too much",
            Bytes(has.disk_bytes),
            Bytes(limit),
            Bytes(more.disk_bytes)
        )
    } else if let Some(limit) = is_over(has.memory_bytes, more.memory_bytes, may.memory_bytes) {
        format!(
            "{user}'s VMs that run have {} of {} of memory: {} more would be too much",
            Bytes(has.memory_bytes),
            Bytes(limit),
            Bytes(more.memory_bytes)
        )
    } else {
        return Ok(());
    };
    Err(ApiError::new(ErrorKind::Refused, message).hint(
        "`fvm quota` shows the limits, which root sets in /etc/fvm/fvm.toml; delete or stop what is not needed",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_may_be_reached_and_not_passed() {
        let has = Amounts {
            vms: 2,
            memory_bytes: 3 << 30,
            disk_bytes: 20 << 30,
        };
        let may = Allowance {
            vms: Some(3),
            memory_bytes: Some(4 << 30),
            disk_bytes: Some(30 << 30),
        };
        let refusal = |more| Some(check("ann", has, may, more).err()?.message);
        let more = |vms, memory_gib: u64, disk_gib: u64| Amounts {
            vms,
            memory_bytes: memory_gib << 30,
            disk_bytes: disk_gib << 30,
        };
        assert_eq!(refusal(more(1, 1, 10)), None);
        assert_eq!(
            refusal(more(2, 0, 0)).unwrap(),
            "ann has 2 of 3 VMs: 2 more would be too many"
        );
        assert!(
            refusal(more(1, 0, 11))
                .unwrap()
                .contains("the disks of ann's VMs have")
        );
        assert!(refusal(more(0, 2, 0)).unwrap().contains("of memory: 2"));
        // Who has too much already may do what takes nothing more.
        let none = Allowance {
            vms: Some(0),
            ..Allowance::default()
        };
        assert!(check("ann", has, none, more(0, 1, 0)).is_ok());
        assert!(check("ann", has, none, more(1, 0, 0)).is_err());
    }
}

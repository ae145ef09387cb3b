//! The table `[quota]`: what each user may have.

use serde::Deserialize;
use std::collections::BTreeMap;

/// What users may have, as it was written down.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Quotas {
    vms: Option<Limit>,
    memory_gib: Option<Limit>,
    disk_gib: Option<Limit>,
    users: BTreeMap<String, Limits>,
    groups: BTreeMap<String, Limits>,
}

/// What a user or the members of a group may have instead.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Limits {
    vms: Option<Limit>,
    memory_gib: Option<Limit>,
    disk_gib: Option<Limit>,
}

/// How much of something; who may have more comes later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(untagged)]
enum Limit {
    Most(u64),
    Word(Word),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    Unlimited,
}

/// What one user may have; nothing where there is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Allowance {
    /// VMs.
    pub vms: Option<u64>,
    /// Memory of VMs that run.
    pub memory_bytes: Option<u64>,
    /// Disks of VMs, as large as their guests see them.
    pub disk_bytes: Option<u64>,
}

impl Quotas {
    /// What the user of this name may have, who is in these groups: what is said of the user, else the most that is said of
    /// one of the groups, else what is said of everybody.
    pub fn of(&self, user: &str, groups: &[String]) -> Allowance {
        let pick = |of: fn(&Limits) -> Option<Limit>, of_all: Option<Limit>| {
            let own = self.users.get(user).and_then(of);
            let of_groups = groups
                .iter()
                .filter_map(|group| self.groups.get(group).and_then(of));
            match own.or_else(|| of_groups.max()).or(of_all) {
                Some(Limit::Most(most)) => Some(most),
                Some(Limit::Word(Word::Unlimited)) | None => None,
            }
        };
        let gib = |most: u64| most.saturating_mul(1 << 30);
        Allowance {
            vms: pick(|limits| limits.vms, self.vms),
            memory_bytes: pick(|limits| limits.memory_gib, self.memory_gib).map(gib),
            disk_bytes: pick(|limits| limits.disk_gib, self.disk_gib).map(gib),
        }
    }

    /// The users of whom something is said by name.
    pub fn users(&self) -> impl Iterator<Item = &str> {
        self.users.keys().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quotas(text: &str) -> Quotas {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn the_users_own_limit_comes_first_and_then_the_most_generous_groups() {
        let quotas = quotas(
            "vms = 5
             disk_gib = 100
             users.ann = { vms = 2 }
             groups.students = { vms = 3, memory_gib = 4 }
             groups.staff = { vms = 10, memory_gib = 'unlimited' }",
        );
        let of = |user, groups: &[&str]| {
            let groups: Vec<String> = groups.iter().map(|group| (*group).to_owned()).collect();
            let allowed = quotas.of(user, &groups);
            (
                allowed.vms,
                allowed.memory_bytes.map(|bytes| bytes >> 30),
                allowed.disk_bytes.map(|bytes| bytes >> 30),
            )
        };
        assert_eq!(of("eve", &[]), (Some(5), None, Some(100)));
        assert_eq!(of("ann", &["staff"]), (Some(2), None, Some(100)));
        assert_eq!(of("bob", &["students"]), (Some(3), Some(4), Some(100)));
        assert_eq!(
            of("bob", &["students", "staff"]),
            (Some(10), None, Some(100))
        );
        assert_eq!(quotas.users().collect::<Vec<_>>(), ["ann"]);
    }

    #[test]
    fn what_is_no_limit_is_refused() {
        for text in [
            "vms = -1",
            "vms = 'many'",
            "vm = 1",
            "users.ann = 5",
            "users.ann = { cpus = 5 }",
        ] {
            assert!(toml::from_str::<Quotas>(text).is_err(), "{text}");
        }
        assert_eq!(quotas("").of("ann", &[]), Allowance::default());
    }
}

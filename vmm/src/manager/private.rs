//! Volumes that an operation under way has for itself: those being imported or read.
//!
//! They belong to no VM, so to `reconcile` they would look like something that a dead daemon has left.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
};
use uuid::Uuid;

/// The volumes' UUIDs, as the store has them.
#[derive(Debug, Default)]
pub(super) struct PrivateVolumes(Mutex<HashSet<String>>);

impl PrivateVolumes {
    fn lock(&self) -> MutexGuard<'_, HashSet<String>> {
        // Nothing can panic between two consistent states of the set.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names a volume that is about to be made; it is private until the guard goes.
    pub(super) fn enter(&self) -> PrivateVolume<'_> {
        let uuid = Uuid::new_v4();
        self.lock().insert(uuid.to_string());
        PrivateVolume { all: self, uuid }
    }

    /// Whether somebody is at work on this volume.
    pub(super) fn contains(&self, uuid: &str) -> bool {
        self.lock().contains(uuid)
    }
}

/// One of them.
#[derive(Debug)]
pub(super) struct PrivateVolume<'a> {
    all: &'a PrivateVolumes,
    /// Its UUID.
    pub(super) uuid: Uuid,
}

impl Drop for PrivateVolume<'_> {
    fn drop(&mut self) {
        self.all.lock().remove(&self.uuid.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_private_as_long_as_its_guard_is_there() {
        let all = PrivateVolumes::default();
        let one = all.enter();
        let other = all.enter();
        let uuid = one.uuid.to_string();
        assert!(all.contains(&uuid));
        drop(one);
        assert!(!all.contains(&uuid) && all.contains(&other.uuid.to_string()));
    }
}

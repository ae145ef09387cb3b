//! One operation at a time on each VM and each image name.

use std::{
    collections::HashSet,
    hash::Hash,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// A lock for every key, made when it is first wanted and gone when it is given back.
#[derive(Debug)]
pub(super) struct KeyLocks<K> {
    held: Mutex<HashSet<K>>,
    given_back: Condvar,
}

impl<K> Default for KeyLocks<K> {
    fn default() -> Self {
        Self {
            held: Mutex::default(),
            given_back: Condvar::new(),
        }
    }
}

impl<K: Hash + Eq + Clone> KeyLocks<K> {
    /// Waits for the key.
    pub(super) fn lock(&self, key: K) -> KeyGuard<'_, K> {
        let mut held = self.held();
        while held.contains(&key) {
            held = self
                .given_back
                .wait(held)
                .unwrap_or_else(PoisonError::into_inner);
        }
        held.insert(key.clone());
        KeyGuard {
            locks: self,
            keys: vec![key],
        }
    }

    /// Waits for the key, but not for ever.
    pub(super) fn lock_within(&self, key: K, limit: Duration) -> Option<KeyGuard<'_, K>> {
        let deadline = Instant::now() + limit;
        let mut held = self.held();
        while held.contains(&key) {
            let left = deadline.checked_duration_since(Instant::now())?;
            held = self
                .given_back
                .wait_timeout(held, left)
                .map_or_else(|poisoned| poisoned.into_inner().0, |(held, _)| held);
        }
        held.insert(key.clone());
        Some(KeyGuard {
            locks: self,
            keys: vec![key],
        })
    }

    /// Waits for all of the keys at once, so that two sets can never wait for each other.
    pub(super) fn lock_all(&self, keys: &[K]) -> KeyGuard<'_, K> {
        let mut held = self.held();
        while keys.iter().any(|key| held.contains(key)) {
            held = self
                .given_back
                .wait(held)
                .unwrap_or_else(PoisonError::into_inner);
        }
        held.extend(keys.iter().cloned());
        KeyGuard {
            locks: self,
            keys: keys.to_vec(),
        }
    }

    fn held(&self) -> MutexGuard<'_, HashSet<K>> {
        // Nothing can panic between two consistent states of the set.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives its keys back when it goes.
#[derive(Debug)]
pub(super) struct KeyGuard<'a, K: Hash + Eq + Clone> {
    locks: &'a KeyLocks<K>,
    keys: Vec<K>,
}

impl<K: Hash + Eq + Clone> Drop for KeyGuard<'_, K> {
    fn drop(&mut self) {
        let mut held = self.locks.held();
        for key in &self.keys {
            held.remove(key);
        }
        drop(held);
        self.locks.given_back.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        sync::atomic::{AtomicU32, Ordering},
        thread,
    };

    #[test]
    fn a_key_is_held_by_one_at_a_time() {
        let locks = KeyLocks::default();
        let inside = AtomicU32::new(0);
        thread::scope(|scope| {
            for worker in 0..8_u32 {
                let (locks, inside) = (&locks, &inside);
                scope.spawn(move || {
                    for _ in 0..200 {
                        let _guard = if worker % 2 == 0 {
                            locks.lock_all(&[1, 2])
                        } else {
                            locks.lock(2)
                        };
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert!(
            locks.lock_within(1, Duration::ZERO).is_some(),
            "a key was never given back"
        );
    }

    #[test]
    fn waiting_has_a_bound() {
        let locks = KeyLocks::default();
        let guard = locks.lock("debian");
        assert!(locks.lock_within("debian", Duration::ZERO).is_none());
        assert!(locks.lock_within("suse", Duration::ZERO).is_some());
        drop(guard);
        assert!(locks.lock_within("debian", Duration::ZERO).is_some());
    }
}

//! One thread at a time for each device.
//!
//! Bringing a device up takes several ioctls, and so does suspending an origin while its snapshot is taken.
//! Two threads at the same device would undo each other's work: one would resume what the other has just
//! suspended. Threads at different devices do not wait for each other.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

static CLAIMED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
static FREED: Condvar = Condvar::new();

/// The exclusive use of one device's name in this process, until it is dropped; the device need not exist.
///
/// Whoever needs several claims them in ascending order.
#[derive(Debug)]
pub(crate) struct Claim {
    name: String,
}

impl Claim {
    /// Waits until nobody else has it.
    pub(crate) fn of(name: &str) -> Self {
        let mut claimed = lock();
        while !claimed.insert(name.to_owned()) {
            claimed = FREED.wait(claimed).unwrap_or_else(PoisonError::into_inner);
        }
        Self {
            name: name.to_owned(),
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        lock().remove(&self.name);
        FREED.notify_all();
    }
}

fn lock() -> MutexGuard<'static, BTreeSet<String>> {
    CLAIMED.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn one_at_a_time_and_the_next_one_after() {
        let inside = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let _claim = Claim::of("test-data");
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        std::thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
            // Another device is not in the way.
            let _data = Claim::of("test-data");
            let _pool = Claim::of("test-pool");
        });
    }
}

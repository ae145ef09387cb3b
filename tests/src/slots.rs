//! At most two lab hosts run at a time, over all processes of this checkout: each has one emulated processor, and the
//! machines this is made for have two real ones.

use std::fs::File;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};

use crate::paths;
use crate::progress;

const SLOTS: usize = 2;
const POLL: Duration = Duration::from_millis(200);
/// Longer than any test holds a host; a wait beyond it means that something hangs.
const LIMIT: Duration = Duration::from_secs(45 * 60);

/// The right to run one lab host, given back on drop.
#[derive(Debug)]
pub(crate) struct Slot {
    _lock: Flock<File>,
}

impl Slot {
    /// Waits for a free slot.
    pub(crate) fn take() -> Result<Self> {
        let directory = paths::lab_dir("slots")?;
        let since = Instant::now();
        let mut told = false;
        loop {
            for index in 0..SLOTS {
                let path = directory.join(index.to_string());
                let file =
                    File::create(&path).with_context(|| format!("making {}", path.display()))?;
                if let Ok(lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                    return Ok(Self { _lock: lock });
                }
            }
            if since.elapsed() > LIMIT {
                bail!("no lab host ended in {} minutes", LIMIT.as_secs() / 60);
            }
            if !told && since.elapsed() > Duration::from_secs(5) {
                progress::say("[lab] two lab hosts are running, waiting for one to end");
                told = true;
            }
            std::thread::sleep(POLL);
        }
    }
}

//! A running VM: what fvmd knows of it while QEMU is there, and the states it goes through.
//!
//! ```text
//!             start                 QMP answers             stop, delete
//!  (stopped) ------> Starting ----------------> Running ------------------> Stopping --.
//!      ^                | failure                |  ^  \                               |
//!      |                v                  STOP  v  |   \ QEMU ends unasked            | QEMU ends
//!      |<---------- released                   Paused    v                             v
//!      |<------------------------------------------- released, with a cause <-- released
//! ```
//!
//! `fvm pause` and `fvm resume` move it between `Running` and `Paused` too (`control.rs`).
//! A machine that is held ([`Held`]) is `Paused` by QEMU itself; the pool's keeper (`pool/keeper.rs`) lets it go on.
//!
//! A VM without an entry is stopped, or crashed if its row has a cause. The supervisor (`supervise.rs`)
//! moves a machine from `Running` on, and alone takes its entry away, after everything that was made
//! for the run has been released.

use super::console::Keyboard;
use crate::{
    api::{VmNumber, VmState},
    qemu,
};
use std::{
    collections::HashMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How long QEMU may take to answer a command.
const QMP_TIMEOUT: Duration = Duration::from_secs(10);

/// Why QEMU holds a guest whose disk it could not write. The guest has not been told: its write is still to
/// be done, and is done when it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Held {
    /// The pool has no space left.
    PoolFull,
    /// The file system below the pool has none.
    HostFull,
    /// The disk does not work, for another reason.
    DiskError,
}

impl Held {
    /// What is said of it.
    pub(super) fn cause(self) -> &'static str {
        match self {
            Self::PoolFull => "the pool is full; it goes on by itself when there is space",
            Self::HostFull => {
                "the file system below the pool is full; it goes on by itself when there is space"
            }
            Self::DiskError => {
                "its disk cannot be written; `fvm pool status` says more, `fvm start` lets it try again"
            }
        }
    }
}

/// Why a machine is paused that somebody paused.
pub(super) const PAUSED_ON_REQUEST: &str = "on request; `fvm resume` lets it go on";

/// Where a machine stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing {
    /// One of `Starting`, `Running`, `Paused`, `Stopping`.
    pub(super) state: VmState,
    /// Why it is paused.
    pub(super) cause: Option<String>,
    /// It is paused because its disk could not be written, and goes on where it was.
    pub(super) held: Option<Held>,
    /// Somebody asked for its end, so that end is no crash.
    pub(super) end_was_asked_for: bool,
    /// It has ended and been released.
    pub(super) gone: bool,
}

/// A VM while QEMU is there.
#[derive(Debug)]
pub(super) struct Machine {
    /// Its number.
    pub(super) number: VmNumber,
    /// The process.
    pub(super) process: qemu::Running,
    /// For operations; the supervisor has its own.
    pub(super) qmp: Mutex<qemu::qmp::Client>,
    /// Held by whoever talks to the guest's agent: QEMU serves one connection at a time.
    pub(super) agent: Mutex<()>,
    /// How the guest's code is run.
    pub(super) accelerator: qemu::Accel,
    /// What the user has to know of this run.
    pub(super) warning: Option<String>,
    /// When QEMU was started: seconds since 1970-01-01 UTC.
    pub(super) started_at_s: u64,
    /// Where what is typed on its serial line goes.
    pub(super) keyboard: Arc<Keyboard>,
    standing: Mutex<Standing>,
    changed: Condvar,
}

impl Machine {
    /// A machine whose guest runs.
    pub(super) fn new(
        number: VmNumber,
        process: qemu::Running,
        qmp: qemu::qmp::Client,
        accelerator: qemu::Accel,
        warning: Option<String>,
        started_at_s: u64,
    ) -> Self {
        Self {
            number,
            process,
            qmp: Mutex::new(qmp),
            agent: Mutex::default(),
            accelerator,
            warning,
            started_at_s,
            keyboard: Arc::default(),
            standing: Mutex::new(Standing {
                state: VmState::Running,
                cause: None,
                held: None,
                end_was_asked_for: false,
                gone: false,
            }),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Standing> {
        // Each change is one assignment, so a panic elsewhere leaves nothing half-done.
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where it stands now.
    pub(super) fn standing(&self) -> Standing {
        self.lock().clone()
    }

    /// Changes where it stands and tells those who wait.
    pub(super) fn update(&self, change: impl FnOnce(&mut Standing)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    /// Lets the guest go on where it was held; its supervisor sees that it does.
    pub(super) fn go_on(&self) -> Result<(), qemu::qmp::QmpError> {
        self.qmp
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .cont(QMP_TIMEOUT)
    }

    /// Waits until it has ended and been released; false if that took longer than `timeout`.
    pub(super) fn wait_until_gone(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut standing = self.lock();
        while !standing.gone {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                return false;
            };
            standing = self
                .changed
                .wait_timeout(standing, left)
                .map_or_else(|poisoned| poisoned.into_inner().0, |(standing, _)| standing);
        }
        true
    }
}

/// The VMs that have a QEMU, or are about to.
#[derive(Debug, Default)]
pub(super) struct Machines {
    entries: Mutex<HashMap<VmNumber, Entry>>,
}

/// What is known of a VM that is not stopped.
#[derive(Debug, Clone)]
pub(super) enum Entry {
    /// QEMU is being launched.
    Starting,
    /// QEMU is there.
    Up(Arc<Machine>),
}

impl Machines {
    fn lock(&self) -> MutexGuard<'_, HashMap<VmNumber, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of a VM; nothing if it is stopped.
    pub(super) fn get(&self, number: VmNumber) -> Option<Entry> {
        self.lock().get(&number).cloned()
    }

    /// The VM's machine, if QEMU is there.
    pub(super) fn up(&self, number: VmNumber) -> Option<Arc<Machine>> {
        match self.get(number) {
            Some(Entry::Up(machine)) => Some(machine),
            Some(Entry::Starting) | None => None,
        }
    }

    /// All machines that are up.
    pub(super) fn all_up(&self) -> Vec<Arc<Machine>> {
        let entries = self.lock();
        entries
            .values()
            .filter_map(|entry| match entry {
                Entry::Up(machine) => Some(machine.clone()),
                Entry::Starting => None,
            })
            .collect()
    }

    /// Notes that QEMU is being launched.
    pub(super) fn starting(&self, number: VmNumber) {
        self.lock().insert(number, Entry::Starting);
    }

    /// Notes that QEMU is there.
    pub(super) fn insert(&self, machine: Arc<Machine>) {
        self.lock().insert(machine.number, Entry::Up(machine));
    }

    /// Notes that nothing is left of a run.
    pub(super) fn remove(&self, number: VmNumber) {
        self.lock().remove(&number);
    }
}

//! The operations of fvmd, one file each, on one shared [`Manager`].
//!
//! An operation validates everything first, then changes things in an order that recovery understands:
//! thin metadata only through `journal`, everything of a run through `launch` and `release`. The store
//! holds what must be remembered; taps, rules, sockets, device-mapper nodes and bindings are derived, and
//! `reconcile` brings them back into step with the store when the daemon starts.
//!
//! Every method here blocks and may be called from any thread that may.

mod agent;
mod ask_agent;
mod base;
mod batch;
mod boot;
mod caller;
mod cards;
mod cgroup;
mod checksum;
mod compact;
mod console;
mod content;
mod control;
mod create;
mod delete;
mod disk;
mod dns;
mod doctor;
mod error;
mod examine;
mod export;
mod forward;
mod host;
mod image;
mod import;
mod init;
mod journal;
mod kept;
mod launch;
mod leases;
mod lend;
mod lifetime;
mod locks;
mod log;
mod machine;
mod netd;
mod networks;
mod nic;
mod open;
mod owner;
mod plug;
mod pool;
mod private;
mod profile;
mod progress;
mod publish;
mod quota;
mod reconcile;
mod release;
mod report;
mod resize;
mod screen;
mod seed;
mod snapshot;
mod sparsify;
mod stamp;
mod start;
mod stop;
mod supervise;
mod teardown;
mod templates;
mod tpm;
mod whole_file;

pub use caller::Caller;
pub use console::ConsoleLine;
pub use doctor::look_at_host;
pub use export::ExportSource;
pub use log::{VmLog, first_kept, last_lines};
pub use owner::name_of as user_name;
pub use progress::Progress;

use crate::{
    api::{ApiError, ErrorKind, VmNumber},
    paths::Paths,
    store::{Store, VmRow},
};
use cgroup::Cgroups;
use error::Result;
use host::{Host, KvmCache};
use journal::Journal;
use launch::QemuCache;
use locks::KeyLocks;
use machine::Machines;
use netd::Netd;
use private::PrivateVolumes;
use std::sync::{Arc, PoisonError, RwLock};

/// Everything fvmd knows and can do.
#[derive(Debug)]
pub struct Manager {
    paths: Paths,
    store: Store,
    journal: Journal,
    machines: Machines,
    /// One operation at a time on each VM.
    vm_locks: KeyLocks<VmNumber>,
    /// One operation at a time on each image name.
    image_locks: KeyLocks<String>,
    /// One look at what a user may still have, with what follows from it, at a time.
    quota_locks: KeyLocks<u32>,
    /// One set-up or take-down of the host at a time.
    setup_lock: KeyLocks<()>,
    /// One change of the networks at a time, and of which cards are on them.
    networks_lock: KeyLocks<()>,
    /// One change of the rules for port forwards at a time.
    forwards_lock: KeyLocks<()>,
    /// Volumes that an operation under way has for itself.
    private: PrivateVolumes,
    host: RwLock<HostState>,
    netd: Netd,
    cgroups: Cgroups,
    kvm: KvmCache,
    qemu: QemuCache,
    sparsifier: sparsify::Turn,
}

/// Whether the host can work.
#[derive(Debug, Clone)]
enum HostState {
    /// `fvm init` has not been run.
    NotInitialised,
    /// It is set up, but something is wrong.
    Trouble(ApiError),
    /// It works.
    Ready(Arc<Host>),
}

/// What every operation but `init` says on a host that is not set up.
fn not_initialised() -> ApiError {
    ApiError::new(
        ErrorKind::HostNotAble,
        "this host has not been set up for fvm",
    )
    .hint("run `sudo fvm init`")
}

impl Manager {
    /// The pool and the network, if they work.
    fn host(&self) -> Result<Arc<Host>> {
        match &*self.host.read().unwrap_or_else(PoisonError::into_inner) {
            HostState::NotInitialised => Err(not_initialised()),
            HostState::Trouble(error) => Err(error.clone()),
            HostState::Ready(host) => Ok(host.clone()),
        }
    }

    fn host_state(&self) -> HostState {
        self.host
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set_host(&self, state: HostState) {
        *self.host.write().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// The VM's row, or that there is none.
    fn vm_row(&self, number: VmNumber) -> Result<VmRow> {
        self.store.vm(number)?.ok_or_else(|| {
            ApiError::new(ErrorKind::NotFound, format!("there is no VM {number}"))
                .hint("`fvm list` shows the VMs that there are")
        })
    }
}

impl Manager {
    /// The row of a VM that stays: one that has expired or is being deleted is refused.
    fn lasting_vm_row(&self, number: VmNumber) -> Result<VmRow> {
        let row = self.vm_row(number)?;
        if row.deleting {
            return Err(
                ApiError::new(ErrorKind::Refused, format!("VM {number} is being deleted"))
                    .hint(format!("`fvm delete {number}` finishes that")),
            );
        }
        if row.has_expired() {
            return Err(
                ApiError::new(ErrorKind::Refused, format!("VM {number} has expired")).hint(format!(
                    "`fvm undelete {number}` brings it back, `fvm delete {number}` makes its number free at once"
                )),
            );
        }
        Ok(row)
    }

    /// The row of a VM that has a disk of its own; `base` has an image's.
    fn disk_owner_row(&self, number: VmNumber) -> Result<VmRow> {
        if number.is_base() {
            return Err(ApiError::new(
                ErrorKind::Refused,
                "the base VM has no disk of its own: it works on an image's",
            )
            .hint("`fvm image --help` says what can be done with an image"));
        }
        self.lasting_vm_row(number)
    }
}

/// The time now: seconds since 1970-01-01 UTC.
fn now_s() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

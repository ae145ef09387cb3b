//! The beginning and the end of the daemon's own life.

use super::{
    HostState, Manager,
    cgroup::Cgroups,
    error::{Result, failed, file},
    host::KvmCache,
    journal::Journal,
    launch::QemuCache,
    locks::KeyLocks,
    machine::Machines,
    netd::Netd,
    private::PrivateVolumes,
    sparsify::Turn,
};
use crate::{paths::Paths, store::Store};
use std::sync::{Arc, RwLock};

impl Manager {
    /// Opens the store and brings the host into working order, as far as it was set up.
    ///
    /// A host that cannot be brought into order is no error here: it is said to everybody who asks.
    ///
    /// # Errors
    /// When there is no store to be had, or no cgroup to put VMs in.
    pub fn open(paths: Paths) -> Result<Arc<Self>> {
        std::fs::create_dir_all(&paths.state_dir)
            .map_err(|error| file("making", &paths.state_dir, &error))?;
        let manager = Arc::new(Self {
            store: Store::open(&paths.store())?,
            journal: Journal::default(),
            machines: Machines::default(),
            vm_locks: KeyLocks::default(),
            image_locks: KeyLocks::default(),
            quota_locks: KeyLocks::default(),
            setup_lock: KeyLocks::default(),
            networks_lock: KeyLocks::default(),
            forwards_lock: KeyLocks::default(),
            private: PrivateVolumes::default(),
            host: RwLock::new(HostState::NotInitialised),
            netd: Netd::new(paths.netd_socket()),
            cgroups: Cgroups::delegated()
                .map_err(|error| failed("finding fvmd's cgroup", &error))?,
            kvm: KvmCache::default(),
            qemu: QemuCache::default(),
            sparsifier: Turn::default(),
            paths,
        });
        if !manager.cgroups.has_controllers() {
            tracing::warn!(
                "VMs' memory is not limited: that needs systemd 254 or later, with DelegateSubgroup="
            );
        }
        if let Err(error) = manager.bring_up() {
            tracing::error!(error = %error.message, details = ?error.details, "this host is not in order");
        }
        manager
            .watch_netd()
            .map_err(|error| failed("starting a thread", &error))?;
        manager
            .end_lifetimes()
            .map_err(|error| failed("starting a thread", &error))?;
        manager
            .keep_pool()
            .map_err(|error| failed("starting a thread", &error))?;
        Ok(manager)
    }
}

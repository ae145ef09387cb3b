//! The keeper: a thread that looks at the pool after every event of device-mapper, and now and then.
//!
//! It extends a pool in a file that runs full, as far as the configuration and the file system below allow,
//! extends metadata before they are full, lets VMs go on that were paused for lack of space, and says in the
//! log when the pool's state changes. What it cannot do is said once, and tried again at the next look.

use super::{HostFs, file_of, plan, status};
use crate::{
    api::VmNumber,
    manager::{
        Manager,
        error::{Failures, Result, failed},
        host::Host,
        machine::Held,
    },
};
use fvm_thin::{Bytes, EventWatch, Pool};
use std::{
    sync::{Arc, Weak},
    thread,
    time::Duration,
};

/// The kernel tells when space gets scarce, but not of the file system below, nor of metadata at the mark that
/// is wanted here.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// While a VM waits for space, so that it waits no longer than it has to.
const SHORT_INTERVAL: Duration = Duration::from_secs(1);

/// What was said last, so that it is said once.
#[derive(Debug, Default)]
struct Said {
    health: Option<String>,
    trouble: Option<String>,
}

impl Manager {
    /// Starts the keeper.
    ///
    /// # Errors
    /// When the host has no room for another thread.
    pub(in crate::manager) fn keep_pool(self: &Arc<Self>) -> std::io::Result<()> {
        let manager = Arc::downgrade(self);
        thread::Builder::new()
            .name("pool".into())
            .spawn(move || keep(&manager))
            .map(drop)
    }

    /// Lets VMs go on that were paused for lack of space, if there is space; returns which.
    pub(in crate::manager) fn resume_held(&self) -> Vec<VmNumber> {
        let Ok(host) = self.host() else {
            return Vec::new();
        };
        let Ok(pool) = status::read_status(&host.pool) else {
            return Vec::new();
        };
        let pool_has_room = pool.is_well() && pool.data.free() > Bytes(0);
        let host_has_room = match host.data_file().map(HostFs::below) {
            Some(Ok(below)) => below.has_room_again(),
            Some(Err(_)) => false,
            None => true,
        };
        let mut resumed = Vec::new();
        for machine in self.machines.all_up() {
            let goes_on = match machine.standing().held {
                Some(Held::PoolFull | Held::HostFull) => pool_has_room && host_has_room,
                // Nobody knows whether a broken disk works again: that is asked for by name.
                Some(Held::DiskError) | None => false,
            };
            if !goes_on {
                continue;
            }
            match machine.go_on() {
                Ok(()) => {
                    tracing::info!(vm = %machine.number, "goes on: there is space again");
                    resumed.push(machine.number);
                }
                Err(error) => {
                    tracing::warn!(vm = %machine.number, %error, "cannot be told to go on");
                }
            }
        }
        resumed.sort_unstable();
        resumed
    }

    /// Whether the file system below the pool is why a disk cannot be written.
    pub(in crate::manager) fn host_file_system_is_full(&self) -> bool {
        self.host()
            .ok()
            .and_then(|host| HostFs::below(host.data_file()?).ok())
            .is_some_and(|below| below.is_full())
    }

    fn look(&self, said: &mut Said) {
        let Ok(host) = self.host() else {
            return;
        };
        match status::read_status(&host.pool) {
            Ok(pool) => {
                let (health, hint) = status::health(&pool);
                if said.health.as_ref() != Some(&health) {
                    match &hint {
                        None => tracing::info!("the thin pool is {health}"),
                        Some(hint) => tracing::error!(hint, "the thin pool is {health}"),
                    }
                    said.health = Some(health);
                }
            }
            Err(error) => tracing::debug!(error = %error.message, "no look at the pool"),
        }
        let trouble = self
            .extend_if_needed(&host)
            .err()
            .map(|error| error.message);
        if trouble != said.trouble {
            if let Some(trouble) = &trouble {
                tracing::error!("the pool cannot be extended: {trouble}");
            }
            said.trouble = trouble;
        }
        drop(host);
        self.resume_held();
    }

    /// Extends what has to be, if anything.
    fn extend_if_needed(&self, host: &Host) -> Result<()> {
        let mut failures = Failures::default();
        // Each by itself: metadata that cannot grow must not keep the data from it.
        failures.keep(self.extend_metadata_if_needed(host));
        failures.keep(self.extend_data_if_needed());
        failures.into_result()
    }

    fn extend_metadata_if_needed(&self, host: &Host) -> Result<()> {
        let pool = status::read_status(&host.pool)?;
        let metadata = &host.pool.spec().metadata;
        let device = match file_of(metadata) {
            Some(_) => None,
            None => Some(
                Pool::capacity(metadata, Bytes(1))
                    .map_err(|error| failed("looking at the metadata's device", &error))?,
            ),
        };
        // The kernel takes no larger metadata before it has had its check.
        if pool.needs_check {
            return Ok(());
        }
        let Some(size) = plan::metadata_size(pool.metadata, device) else {
            return Ok(());
        };
        let _alone = self.setup_lock.lock(());
        tracing::info!(from = %pool.metadata.total, to = %size, "extending the pool's metadata");
        let host = self.host()?;
        self.grow_pool(&host, host.pool.spec().data_size, Some(size))
    }

    fn extend_data_if_needed(&self) -> Result<()> {
        // As it is now: another size is in another host.
        let Some(size) = self.wanted_data_size(&*self.host()?)? else {
            return Ok(());
        };
        let _alone = self.setup_lock.lock(());
        let host = self.host()?;
        // Somebody may have extended it by hand meanwhile.
        if self.wanted_data_size(&host)? != Some(size) {
            return Ok(());
        }
        tracing::info!(from = %host.pool.spec().data_size, to = %size, "extending the pool");
        self.grow_pool(&host, size, None)
    }

    fn wanted_data_size(&self, host: &Host) -> Result<Option<Bytes>> {
        let Some(path) = host.data_file() else {
            return Ok(None);
        };
        let pool = status::read_status(&host.pool)?;
        if !pool.takes_metadata() {
            return Ok(None);
        }
        Ok(plan::data_size(
            pool.data,
            host.pool.spec().chunk,
            &host.config.pool,
            &HostFs::below(path)?,
        ))
    }

    fn somebody_waits(&self) -> bool {
        let machines = self.machines.all_up();
        machines
            .iter()
            .any(|machine| machine.standing().held.is_some())
    }
}

fn keep(manager: &Weak<Manager>) {
    let mut said = Said::default();
    let mut watch = None;
    while let Some(manager) = manager.upgrade() {
        // Armed before the look, so that what happens meanwhile is not missed.
        if watch.is_none() {
            watch = EventWatch::new().ok();
        }
        manager.look(&mut said);
        let interval = match manager.somebody_waits() {
            true => SHORT_INTERVAL,
            false => LOOK_INTERVAL,
        };
        drop(manager);
        match watch.as_ref().map(|watch| watch.wait(interval)) {
            Some(Ok(_)) => {}
            // A host that is not set up may have no device-mapper yet.
            Some(Err(_)) | None => {
                watch = None;
                thread::sleep(interval);
            }
        }
    }
}

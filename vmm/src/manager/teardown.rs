//! `init --remove`: everything that fvm made on this host goes, while no VMs are there.

use super::{
    HostState, Manager, Progress,
    error::{Failures, Result, failed, file},
    host,
};
use crate::{
    api::{ApiError, Change, ErrorKind, REPORT_VERSION, RemoveReport, VmNumber, VmSet},
    config::Config,
    manager::Caller,
};
use fvm_netd::{HostId, net};
use fvm_thin::Pool;
use std::{io, path::Path, sync::Arc};

impl Manager {
    /// Takes the pool, the network and the configuration away.
    ///
    /// # Errors
    /// When the caller is not root, VMs are there (then nothing was touched), or a step failed; the steps
    /// after it were tried all the same, and it can be done again.
    pub fn remove(self: &Arc<Self>, caller: Caller, progress: &Progress) -> Result<RemoveReport> {
        if !caller.is_root() {
            return Err(
                ApiError::new(ErrorKind::Refused, "only root may take fvm's set-up away")
                    .hint("run it as root: `sudo fvm init --remove`"),
            );
        }
        let _alone = self.setup_lock.lock(());
        let numbers: Vec<VmNumber> = self.store.vms()?.iter().map(|row| row.number).collect();
        if let Ok(vms) = VmSet::try_from(numbers) {
            return Err(
                ApiError::new(ErrorKind::Refused, format!("there are VMs: {vms}"))
                    .hint(format!("delete them first: `fvm delete {vms}`")),
            );
        }
        // From here on nobody begins anything.
        let before = self.host();
        self.set_host(HostState::NotInitialised);
        let mut changes = Vec::new();
        let mut failures = Failures::default();
        progress.step(None, "taking the network away");
        failures.keep(self.remove_network(&mut changes));
        progress.step(None, "taking the pool away");
        failures.keep(self.remove_pool(&mut changes));
        drop(before);
        failures.into_result()?;
        remove_file(&self.paths.config, &mut changes)?;
        tracing::info!(uid = caller.uid, "removed");
        Ok(RemoveReport {
            version: REPORT_VERSION,
            changes,
        })
    }

    fn remove_network(&self, changes: &mut Vec<Change>) -> Result<()> {
        let Some(config) = Config::load(&self.paths.config)? else {
            return Ok(());
        };
        let id = HostId::of_this_host().map_err(|error| failed("identifying this host", &error))?;
        let network = host::network(&config, &id)?;
        let ours = self
            .store
            .setting(super::init::IP_FORWARD_IS_OURS)?
            .is_some();
        if let Err(error) = self.netd.end_networks() {
            tracing::warn!(error = %error.message, "what is served on the networks goes with fvm-netd");
        }
        let mut failures = Failures::default();
        for row in self.store.networks()? {
            if row.bridge.is_none() {
                let bridge = fvm_netd::names::bridge_of(&row.name);
                failures.keep(take_down(&bridge, net::RemoveOptions::default(), changes));
            }
            self.store.delete_network(&row.name)?;
        }
        let options = net::RemoveOptions {
            disable_ip_forward: ours,
        };
        failures.keep(take_down(&network.bridge, options, changes));
        failures.into_result()?;
        Ok(self.store.clear_setting(super::init::IP_FORWARD_IS_OURS)?)
    }

    fn remove_pool(&self, changes: &mut Vec<Change>) -> Result<()> {
        let Some(row) = self.store.pool()? else {
            return Ok(());
        };
        let spec = host::pool_spec(&row)?;
        Pool::destroy(&spec).map_err(|error| failed("taking the pool away", &error))?;
        self.store.delete_pool()?;
        for dir in [
            self.paths.pool_dir(),
            self.paths.vms_dir(),
            self.paths.device_dir.clone(),
        ] {
            // What is not empty is not ours alone.
            let _ = std::fs::remove_dir(dir);
        }
        changes.push(Change {
            what: "pool".into(),
            state: format!("{} is gone, with its images", row.pool.data.path),
            changed: true,
        });
        Ok(())
    }
}

/// Takes one network away, and notes what that changed.
fn take_down(bridge: &str, options: net::RemoveOptions, changes: &mut Vec<Change>) -> Result<()> {
    let report = net::remove_network(bridge, options);
    changes.extend(report.changes.iter().map(|change| Change {
        what: "network".into(),
        state: change.to_string(),
        changed: true,
    }));
    let mut failures = Failures::default();
    for error in &report.failures {
        failures.keep::<()>(Err(failed("taking the network away", error)));
    }
    failures.into_result()
}

fn remove_file(path: &Path, changes: &mut Vec<Change>) -> Result<()> {
    match std::fs::remove_file(path) {
        Ok(()) => changes.push(Change {
            what: "configuration".into(),
            state: format!("{} is gone", path.display()),
            changed: true,
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(file("removing", path, &error)),
    }
    Ok(())
}

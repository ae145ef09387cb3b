//! `pool repair`: the way back when the kernel wants the metadata checked, or they are damaged.
//!
//! ```text
//!   nothing runs, the pool is taken down
//!   thin_check: sound    -> the kernel's wish for a check, if there is one, is taken back
//!               damaged  -> thin_repair to the spare -> that is checked, and compared with the store
//!                           -> store: metadata and spare change places
//!   the pool is brought up
//! ```
//!
//! The old metadata are never written to while they are damaged: they are kept, as the spare, until the next
//! repair. The one step that decides is the store's; before it everything is as it was.

use super::only_root;
use crate::{
    api::{ApiError, Change, ErrorKind, REPORT_VERSION, RepairPool, RepairReport, VmNumber, VmSet},
    fault,
    manager::{
        Caller, HostState, Manager, Progress,
        error::{Result, failed},
        host, not_initialised,
    },
    store::{PoolRow, VolumeState},
};
use fvm_thin::{Error as ThinError, Pool, PoolSpec, Repaired, TransactionId, Verdict};
use std::{collections::HashSet, sync::Arc};

/// What was found and done while the pool was down.
enum Found {
    Sound {
        flag_cleared: bool,
    },
    Saved {
        repaired: Repaired,
        says: Vec<String>,
    },
}

impl Manager {
    /// Checks the pool's metadata while it is down, and repairs them if they are damaged.
    ///
    /// # Errors
    /// When the caller is not root, VMs run (then nothing was touched), or a step failed; the pool is brought
    /// up again then, if that is possible.
    pub fn repair_pool(
        self: &Arc<Self>,
        caller: Caller,
        request: &RepairPool,
        progress: &Progress,
    ) -> Result<RepairReport> {
        only_root(caller, "repair the pool", "fvm pool repair")?;
        let _alone = self.setup_lock.lock(());
        let row = self.finished_pool()?.ok_or_else(not_initialised)?;
        let before = self.host_state();
        // From here on nobody begins anything; what has begun is looked for next.
        self.set_host(HostState::Trouble(
            ApiError::new(ErrorKind::HostNotAble, "the thin pool is being repaired")
                .hint("try again when that is done"),
        ));
        if let Err(error) = self.nothing_runs() {
            self.set_host(before);
            return Err(error);
        }
        drop(before);
        tracing::info!(uid = caller.uid, "pool repair begun");
        let still = self.journal.hold();
        let done = self.try_repair(&row, request, progress);
        drop(still);
        progress.step(None, "bringing the pool up");
        let up = self.bring_up();
        let mut report = done?;
        up?;
        report.changes.push(Change {
            what: "pool".into(),
            state: "it is up again".into(),
            changed: true,
        });
        tracing::info!(changes = ?report.changes, "pool repair done");
        Ok(report)
    }

    fn nothing_runs(&self) -> Result<()> {
        let cgroups = self
            .cgroups
            .numbers()
            .map_err(|error| failed("listing the cgroups of VMs", &error))?;
        let runs = |number: &VmNumber| {
            self.machines.get(*number).is_some()
                || !matches!(self.cgroups.processes(*number), Ok(none) if none.is_empty())
        };
        let running: Vec<VmNumber> = self
            .store
            .vms()?
            .iter()
            .map(|vm| vm.number)
            .filter(|number| self.machines.get(*number).is_some())
            .chain(cgroups)
            .filter(runs)
            .collect();
        match VmSet::try_from(running) {
            Ok(vms) => Err(
                ApiError::new(ErrorKind::Refused, format!("VMs run: {vms}")).hint(format!(
                    "stop them first: `fvm stop {vms}`; nothing was changed"
                )),
            ),
            Err(_) => Ok(()),
        }
    }

    fn try_repair(
        &self,
        row: &PoolRow,
        request: &RepairPool,
        progress: &Progress,
    ) -> Result<RepairReport> {
        let spec = host::pool_spec(row)?;
        progress.step(None, "taking the pool down");
        Pool::shut_down(&spec).map_err(|error| match error {
            ThinError::Busy { .. } => ApiError {
                kind: ErrorKind::Refused,
                ..failed("the pool is in use", &error)
            }
            .hint("something on this host, perhaps an import or a listing, uses it: try again"),
            error => failed("taking the pool down", &error),
        })?;
        fault::point("repair/down");
        progress.step(None, "checking the metadata");
        let found = Pool::with_idle_metadata(&spec, |idle| match idle.check()? {
            Verdict::Sound => {
                let flag_cleared = idle.needs_check()? == Some(true);
                if flag_cleared {
                    idle.clear_needs_check()?;
                }
                Ok(Found::Sound { flag_cleared })
            }
            Verdict::Damaged { says } => {
                progress.warn(
                    None,
                    format!("the metadata are damaged: {}", says.join("; ")),
                );
                progress.step(None, "repairing them to the spare");
                let repaired = idle.repair_to_spare(TransactionId(row.transaction_id))?;
                Ok(Found::Saved { repaired, says })
            }
        })
        .map_err(|error| {
            failed("repairing the pool's metadata", &error)
                .hint("the metadata are as they were; copy them away before anything else is tried")
        })?;
        let mut report = RepairReport {
            version: REPORT_VERSION,
            changes: Vec::new(),
            lost_vms: Vec::new(),
            lost_images: Vec::new(),
        };
        let mut say = |state: String, changed| {
            report.changes.push(Change {
                what: "metadata".into(),
                state,
                changed,
            });
        };
        match found {
            Found::Sound { flag_cleared: true } => {
                say(
                    "checked and sound: the kernel trusts them again".into(),
                    true,
                );
            }
            Found::Sound {
                flag_cleared: false,
            } => {
                say("checked and sound: nothing to repair".into(), false);
            }
            Found::Saved { repaired, says } => {
                fault::point("repair/saved");
                say(format!("damaged: {}", says.join("; ")), false);
                say(kept(row, &spec, &repaired), true);
                self.accept(row, &repaired, request, &mut report)?;
                self.store.swap_metadata_and_spare()?;
                fault::point("repair/swapped");
            }
        }
        Ok(report)
    }

    /// Compares what a repair has saved with what the store says there should be.
    fn accept(
        &self,
        row: &PoolRow,
        repaired: &Repaired,
        request: &RepairPool,
        report: &mut RepairReport,
    ) -> Result<()> {
        let pending = self.store.pending()?.map(|pending| pending.target);
        let transaction = repaired.transaction.0;
        if transaction != row.transaction_id && Some(transaction) != pending {
            return Err(ApiError::new(
                ErrorKind::Failed,
                format!(
                    "what could be saved is of transaction {transaction}, and the store of {}",
                    row.transaction_id
                ),
            )
            .hint("nothing was changed: the metadata are as they were, and what was saved is in the spare"));
        }
        let saved: HashSet<u32> = repaired.volumes.iter().map(|one| one.id.get()).collect();
        let lost: HashSet<u32> = self
            .store
            .volumes()?
            .iter()
            .filter(|volume| volume.state == VolumeState::Ready)
            .map(|volume| volume.thin_id)
            .filter(|id| !saved.contains(id))
            .collect();
        report.lost_vms = self
            .store
            .vms()?
            .iter()
            .filter(|vm| lost.contains(&vm.thin_id))
            .map(|vm| vm.number)
            .collect();
        report.lost_images = self
            .store
            .images()?
            .into_iter()
            .filter(|image| lost.contains(&image.thin_id))
            .map(|image| image.name)
            .collect();
        if (lost.is_empty() && repaired.whole) || request.accept_loss {
            return Ok(());
        }
        let mut error = if lost.is_empty() {
            // The ids are all there, but what they map may be of an earlier time: only a person can judge that.
            ApiError::new(
                ErrorKind::Refused,
                "the metadata could not be read as a whole: what was pieced together may be an older \
                 state of the disks and images",
            )
            .hint("nothing was changed; `fvm pool repair --accept-loss` goes on with that state")
        } else {
            ApiError::new(
                ErrorKind::Refused,
                format!("{} of the pool's volumes could not be saved", lost.len()),
            )
            .hint("nothing was changed; `fvm pool repair --accept-loss` goes on without them")
        };
        if let Ok(vms) = VmSet::try_from(report.lost_vms.clone()) {
            error = error.detail(format!("the disks of VMs {vms}"));
        }
        if !report.lost_images.is_empty() {
            error = error.detail(format!("the images {}", report.lost_images.join(", ")));
        }
        Err(error)
    }
}

fn kept(row: &PoolRow, spec: &PoolSpec, repaired: &Repaired) -> String {
    format!(
        "repaired, with {} volumes, in {}; the old ones are kept in {}",
        repaired.volumes.len(),
        spec.spare.path().display(),
        row.pool.metadata.path
    )
}

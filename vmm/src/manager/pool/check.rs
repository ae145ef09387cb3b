//! `pool check`: whether the metadata are sound and the store agrees with them, while VMs run.

use super::status::{health, read_status};
use crate::{
    api::{PoolCheckReport, REPORT_VERSION},
    manager::{
        Manager, Progress,
        error::{Result, failed},
    },
    store::{VolumeRow, VolumeState},
};
use fvm_thin::{Verdict, VolumeUsage};
use std::collections::BTreeSet;

impl Manager {
    /// Checks the pool's metadata from a snapshot of them, and compares them with the store. Changes nothing.
    ///
    /// # Errors
    /// When the host is not able, or the tools fail.
    pub fn check_pool(&self, progress: &Progress) -> Result<PoolCheckReport> {
        let host = self.host()?;
        let status = read_status(&host.pool)?;
        let mut findings = Vec::new();
        if !status.is_well() {
            findings.push(format!("the pool is {}", health(&status).0));
        }
        findings.extend(
            self.journal
                .disagreement(&self.store, &host.pool)
                .map(|error| error.message),
        );
        if !status.takes_metadata() {
            findings.push(
                "its metadata cannot be looked at while it is up: `fvm pool repair` checks them"
                    .into(),
            );
            return Ok(report(0, findings));
        }
        progress.step(None, "checking the pool's metadata");
        // Volumes come and go meanwhile; their numbers are never used again.
        let before = self.store.volumes()?;
        let inspection = host
            .pool
            .inspect()
            .map_err(|error| failed("checking the pool's metadata", &error))?;
        let after = self.store.volumes()?;
        if let Verdict::Damaged { says } = inspection.verdict {
            findings.push("thin_check finds the metadata damaged".into());
            findings.extend(says);
        }
        let mut both = 0;
        if let Some(there) = &inspection.volumes {
            let compared = compare(&before, there, &after);
            both = compared.both;
            findings.extend(compared.findings);
        }
        Ok(report(both, findings))
    }
}

fn report(volumes: u32, findings: Vec<String>) -> PoolCheckReport {
    PoolCheckReport {
        version: REPORT_VERSION,
        sound: findings.is_empty(),
        volumes,
        findings,
    }
}

/// What a comparison of store and pool came to.
#[derive(Debug, PartialEq, Eq)]
struct Compared {
    both: u32,
    findings: Vec<String>,
}

/// Compares the pool's volumes with the store's, as these were before and after.
fn compare(before: &[VolumeRow], there: &[VolumeUsage], after: &[VolumeRow]) -> Compared {
    let ids = |rows: &[VolumeRow], settled: bool| -> BTreeSet<u32> {
        rows.iter()
            // One being made or deleted may be in the pool or not.
            .filter(|row| {
                !settled || matches!(row.state, VolumeState::Ready | VolumeState::Importing)
            })
            .map(|row| row.thin_id)
            .collect()
    };
    let there: BTreeSet<u32> = there.iter().map(|volume| volume.id.get()).collect();
    let (settled, settled_after) = (ids(before, true), ids(after, true));
    let known: BTreeSet<u32> = ids(before, false)
        .union(&ids(after, false))
        .copied()
        .collect();
    let lost = settled
        .intersection(&settled_after)
        .filter(|id| !there.contains(id))
        .map(|id| format!("volume {id} of the store is not in the pool"));
    let unknown = there
        .difference(&known)
        .map(|id| format!("volume {id} of the pool is not in the store: its blocks are of no use"));
    Compared {
        both: there.intersection(&known).count() as u32,
        findings: lost.chain(unknown).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fvm_thin::{Bytes, ThinId};

    fn row(thin_id: u32, state: VolumeState) -> VolumeRow {
        VolumeRow {
            thin_id,
            uuid: String::new(),
            state,
            size_bytes: 1,
            shrink_bytes: None,
        }
    }

    fn there(ids: &[u64]) -> Vec<VolumeUsage> {
        let volume = |&id| VolumeUsage {
            id: ThinId::try_from(id).unwrap(),
            mapped: Bytes(0),
            exclusive: Bytes(0),
        };
        ids.iter().map(volume).collect()
    }

    #[test]
    fn what_comes_and_goes_meanwhile_is_no_finding() {
        use VolumeState::{Creating, Deleting, Ready};
        let before = [row(1, Ready), row(2, Ready), row(3, Deleting)];
        let after = [row(1, Ready), row(4, Ready), row(5, Creating)];
        // 2 was deleted, 3 may be there or not, 4 was made after the snapshot, 5 is just being made.
        for ids in [&[1][..], &[1, 2, 3], &[1, 4, 5]] {
            let compared = compare(&before, &there(ids), &after);
            assert_eq!(compared.findings, [""; 0], "{ids:?}");
            assert_eq!(compared.both as usize, ids.len());
        }
        let compared = compare(&before, &there(&[7]), &after);
        assert_eq!(compared.findings.len(), 2);
        assert!(compared.findings[0].contains("volume 1"), "{compared:?}");
        assert!(compared.findings[1].contains("volume 7"), "{compared:?}");
    }
}

//! What only the daemon knows of: pool, network, `fvm-netd`, and what belongs to no VM.

use super::from_error;
use crate::{
    api::{Finding, PoolStatusReport},
    manager::{
        Manager,
        error::{Result, failed},
        host::Host,
    },
    paths::numbered_entries,
};
use fvm_netd::net;
use fvm_thin::names::Kind;

/// From here on, in percent, a pool or a file system is worth a look.
const NEARLY_FULL: u8 = 85;

impl Manager {
    pub(super) fn own_findings(&self) -> Vec<Finding> {
        let mut findings = match self.pool_status() {
            Ok(report) => pool(&report),
            Err(error) => return vec![from_error("pool", &error)],
        };
        let host = match self.host() {
            Ok(host) => host,
            Err(error) => {
                findings.push(from_error("set-up", &error));
                return findings;
            }
        };
        findings.push(Finding::ok(
            format!("network {}", host.network.bridge),
            format!("{}, gateway {}", host.network.subnet, host.network.gateway),
        ));
        findings.push(match self.netd.trouble() {
            None => Finding::ok("fvm-netd", "answers"),
            Some(trouble) => {
                Finding::error("fvm-netd", format!("{trouble}: guests get no address"))
                    .fix("sudo systemctl restart fvm-netd.socket fvm-netd.service")
            }
        });
        findings.push(match &host.dns_trouble {
            None => Finding::ok("DNS", format!("served to guests at {}", host.network.gateway)),
            Some(trouble) => Finding::warning(
                "DNS",
                format!("{trouble}: guests know no names of VMs, and ask the host's servers"),
            )
            .fix(format!(
                "`sudo ss -lntup 'sport = 53'` shows what has port 53; have it leave {}, then sudo systemctl restart fvmd",
                host.network.gateway
            )),
        });
        findings.push(match self.left_over(&host) {
            Ok(left) if left.is_empty() => Finding::ok("left over", "nothing"),
            Ok(left) => Finding::warning(
                "left over",
                format!("{}: fvm's, and of no VM", left.join(", ")),
            )
            .fix("sudo systemctl restart fvmd.service"),
            Err(error) => from_error("left over", &error),
        });
        findings
    }

    /// What `reconcile` would take away, named.
    fn left_over(&self, host: &Host) -> Result<Vec<String>> {
        let runs = |number| self.machines.get(number).is_some();
        let mut left = Vec::new();
        let taps = net::list_taps().map_err(|error| failed("listing taps", &error))?;
        let strays = taps
            .into_iter()
            .filter(|nic| !runs(host.config.vm_at(nic.vm())));
        left.extend(strays.map(|nic| format!("tap {}", nic.tap())));
        let rows = self.store.vms()?;
        let active = host
            .pool
            .volumes()
            .map_err(|error| failed("listing active volumes", &error))?;
        for device in active {
            let Kind::Volume { id, uuid } = device.identity.kind else {
                continue;
            };
            let in_use = rows
                .iter()
                .any(|row| row.thin_id == id.get() && (row.deleting || runs(row.number)));
            if !in_use && !self.private.contains(&uuid.to_string()) {
                left.push(format!("device {}", device.identity.name()));
            }
        }
        for (dir, needed) in [
            (self.paths.run_vms_dir(), false),
            (self.paths.vms_dir(), true),
        ] {
            let numbers = numbered_entries(&dir)
                .map_err(|error| failed(format!("listing {}", dir.display()), &error))?;
            let strays = numbers.into_iter().filter(|number| {
                let has_row = rows.iter().any(|row| row.number == *number);
                !(runs(*number) || needed && has_row)
            });
            left.extend(strays.map(|number| dir.join(number.to_string()).display().to_string()));
        }
        Ok(left)
    }
}

fn pool(report: &PoolStatusReport) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut health = if report.health == "ok" {
        Finding::ok("pool", format!("ok, on {}", report.data.path))
    } else {
        Finding::error("pool", &report.health)
    };
    health.fix = report.hint.clone();
    findings.push(health);
    let fill = |what: &str, percent: u8, fix: &str| {
        let state = format!("{percent} % used");
        if percent >= NEARLY_FULL {
            Finding::warning(what, state).fix(fix)
        } else {
            Finding::ok(what, state)
        }
    };
    if let Some(active) = &report.active {
        findings.push(fill(
            "pool data",
            active.data.used_percent,
            "sudo fvm pool extend +10G; `fvm disk-usage` shows what takes it",
        ));
        findings.push(fill(
            "pool metadata",
            active.metadata.used_percent,
            "it is extended by itself; `journalctl -u fvmd` says if that fails",
        ));
    }
    if let Some(below) = &report.host_file_system {
        findings.push(fill(
            "file system below the pool",
            below.fill.used_percent,
            "make room on it, or `fvm compact` VMs",
        ));
    }
    findings
}

//! The host, and what was changed on it.

use super::{Look, Show};
use crate::{
    output::{
        style::Tone,
        table::{Cell, Table, cell},
    },
    quantity::Bytes,
};
use fvm_vmm::api::{
    Change, HostReport, InitReport, KvmReport, NetworkReport, PoolReport, RemoveReport,
};
use serde::Serialize;

fn percent(part: u64, whole: u64) -> u64 {
    // Rounded up: what is not empty is never shown as 0 %.
    match whole {
        0 => 0,
        _ => (u128::from(part) * 100).div_ceil(u128::from(whole)) as u64,
    }
}

pub(super) fn changes(changes: &[Change], changed: &str, look: &Look) -> String {
    let mut table = Table::plain();
    for change in changes {
        let (word, tone) = if change.changed {
            (changed, Tone::Warn)
        } else {
            ("ok", Tone::Good)
        };
        table.row([
            cell(word).tone(tone),
            cell(&change.what),
            cell(&change.state),
        ]);
    }
    table.show(look.palette)
}

impl Show for InitReport {
    fn show(&self, look: &Look) -> String {
        changes(&self.changes, "changed", look)
    }
}

impl Show for RemoveReport {
    fn show(&self, look: &Look) -> String {
        changes(&self.changes, "changed", look)
    }
}

/// What an `init` would do: the report of a dry run.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(crate) struct Plan(pub(crate) InitReport);

impl Show for Plan {
    fn show(&self, look: &Look) -> String {
        changes(&self.0.changes, "to do", look)
    }
}

fn pool(pool: &PoolReport) -> Cell {
    let tone = match (
        pool.health.as_str(),
        percent(pool.data_used_bytes, pool.data_bytes),
    ) {
        ("ok", 0..90) => Tone::Plain,
        ("ok", _) => Tone::Warn,
        _ => Tone::Bad,
    };
    cell(format!(
        "{}, {} of {} used ({} %), metadata {} % used, on {}",
        pool.health,
        Bytes(pool.data_used_bytes),
        Bytes(pool.data_bytes),
        percent(pool.data_used_bytes, pool.data_bytes),
        percent(pool.metadata_used_bytes, pool.metadata_bytes),
        pool.data_path,
    ))
    .tone(tone)
}

fn network(network: &NetworkReport) -> Cell {
    let text = format!(
        "{}, {}, gateway {}, VMs {}-{}",
        network.name, network.subnet, network.gateway, network.first_number, network.last_number
    );
    match &network.dns_trouble {
        None => cell(text),
        Some(trouble) => cell(format!("{text}; {trouble}")).tone(Tone::Warn),
    }
}

fn kvm(kvm: &KvmReport) -> Cell {
    if kvm.works {
        cell(&kvm.detail).tone(Tone::Good)
    } else {
        cell(format!(
            "does not work, guests are emulated: {}",
            kvm.detail
        ))
        .tone(Tone::Warn)
    }
}

impl Show for HostReport {
    fn show(&self, look: &Look) -> String {
        let mut table = Table::plain();
        let mut line = |name: &str, value: Cell| table.row([cell(name).tone(Tone::Dim), value]);
        line("fvmd", cell(format!("version {}", self.daemon_version)));
        line(
            "host",
            match &self.trouble {
                Some(trouble) => cell(trouble).tone(Tone::Bad),
                None if self.initialised => cell("ready").tone(Tone::Good),
                None => cell("not set up: run `sudo fvm init`").tone(Tone::Warn),
            },
        );
        if let Some(report) = &self.pool {
            line("pool", pool(report));
        }
        if let Some(report) = &self.network {
            line("network", network(report));
        }
        line("KVM", kvm(&self.kvm));
        line("templates", cell(self.templates.join(", ")));
        table.show(look.palette)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fvm_vmm::api::REPORT_VERSION;

    #[test]
    fn status_is_a_line_for_each_part() {
        let report = HostReport {
            version: REPORT_VERSION,
            daemon_version: "0.1.0".to_owned(),
            initialised: true,
            trouble: None,
            pool: Some(PoolReport {
                data_path: "/var/lib/fvm/pool.img".to_owned(),
                data_bytes: 20 << 30,
                data_used_bytes: 3 << 30,
                metadata_bytes: 32 << 20,
                metadata_used_bytes: 1,
                chunk_bytes: 65536,
                transaction_id: 7,
                health: "ok".to_owned(),
            }),
            network: Some(NetworkReport {
                name: "fvm0".to_owned(),
                subnet: "192.168.22.0/24".to_owned(),
                gateway: [192, 168, 22, 1].into(),
                first_number: 20,
                last_number: 220,
                dns_trouble: None,
            }),
            kvm: KvmReport {
                works: false,
                detail: "/dev/kvm is missing".to_owned(),
                offers: None,
            },
            templates: vec!["linux".to_owned(), "linux-uefi".to_owned()],
        };
        assert_eq!(
            report.show(&Look::fixed()),
            "\
fvmd       version 0.1.0
host       ready
pool       ok, 3.0 GiB of 20 GiB used (15 %), metadata 1 % used, on /var/lib/fvm/pool.img
network    fvm0, 192.168.22.0/24, gateway 192.168.22.1, VMs 20-220
KVM        does not work, guests are emulated: /dev/kvm is missing
templates  linux, linux-uefi
"
        );
    }

    #[test]
    fn init_says_what_it_changed() {
        let change = |what: &str, state: &str, changed| Change {
            what: what.to_owned(),
            state: state.to_owned(),
            changed,
        };
        let report = InitReport {
            version: REPORT_VERSION,
            changes: vec![
                change("pool", "20 GiB in /var/lib/fvm/pool.img", true),
                change("bridge fvm0", "192.168.22.1/24", false),
            ],
        };
        assert_eq!(
            report.show(&Look::fixed()),
            "\
changed  pool         20 GiB in /var/lib/fvm/pool.img
ok       bridge fvm0  192.168.22.1/24
"
        );
        assert_eq!(
            Plan(report).show(&Look::fixed()),
            "\
to do  pool         20 GiB in /var/lib/fvm/pool.img
ok     bridge fvm0  192.168.22.1/24
"
        );
    }
}

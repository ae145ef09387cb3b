//! Further disks, snapshots, and what disks gave back.

use super::{Look, Show};
use crate::{
    output::{
        style::Tone,
        table::{Table, cell},
    },
    quantity::{Bytes, rough_duration},
};
use fvm_vmm::api::{
    CompactMethod, Compacted, Consistency, DiskList, DiskReport, SnapshotList, SnapshotReport,
};

/// What is said of a further disk that a VM was given.
pub(crate) fn disk_line(report: &DiskReport) -> String {
    let size = Bytes(report.disk_bytes);
    format!("{}  {size}, {}", report.name, report.bus)
}

impl Show for DiskList {
    fn show(&self, look: &Look) -> String {
        let mut table = Table::new(["VM", "DISK", "SIZE", "BUS", "PLACE", "IMAGE", "ADDED"]);
        for one in &self.disks {
            let age = rough_duration(look.since(one.created_at_s));
            table.row([
                cell(one.vm.to_string()).right(),
                cell(one.name.as_str()),
                cell(Bytes(one.disk_bytes).to_string()).right(),
                cell(one.bus.to_string()),
                cell(&one.place),
                cell(one.image.as_deref().unwrap_or_default()),
                cell(format!("{age} ago")),
            ]);
        }
        table.show(look.palette)
    }
}

/// What is said of a snapshot that was taken.
pub(crate) fn snapshot_line(report: &SnapshotReport) -> String {
    let caught = match report.consistency {
        Consistency::Stopped => "the VM was stopped",
        Consistency::Frozen => "its file systems were held still",
        Consistency::Crash => "as after a power cut",
    };
    format!("{}  {caught}", report.name)
}

/// What is said of a disk that was compacted.
pub(crate) fn compacted_line(report: &Compacted) -> String {
    let how = match report.method {
        CompactMethod::Trim => "trimmed by its guest",
        CompactMethod::Scan => "looked for zeros",
        CompactMethod::Sparsify => "virt-sparsify",
    };
    format!(
        "{} given back, {} left ({how})",
        Bytes(report.freed_bytes()),
        Bytes(report.after_bytes)
    )
}

impl Show for SnapshotList {
    fn show(&self, look: &Look) -> String {
        let mut table = Table::new(["VM", "SNAPSHOT", "DISK", "DATA", "GUEST", "TAKEN"]);
        for one in &self.snapshots {
            let tone = match one.consistency {
                Consistency::Stopped | Consistency::Frozen => Tone::Plain,
                Consistency::Crash => Tone::Warn,
            };
            let data = one.data_bytes.map(|bytes| Bytes(bytes).to_string());
            let age = rough_duration(look.since(one.created_at_s));
            table.row([
                cell(one.vm.to_string()).right(),
                cell(one.name.as_str()),
                cell(Bytes(one.disk_bytes).to_string()).right(),
                cell(data.unwrap_or_default()).right(),
                cell(one.consistency.to_string()).tone(tone),
                cell(format!("{age} ago")),
            ]);
        }
        table.show(look.palette)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fvm_vmm::api::{DiskBus, REPORT_VERSION};

    #[test]
    fn the_list_has_a_line_for_each_further_disk() {
        let data = DiskReport {
            vm: 42.into(),
            name: "data".parse().unwrap(),
            bus: DiskBus::Virtio,
            target: "vda".into(),
            place: "00:08.0".into(),
            disk_bytes: 10 << 30,
            image: None,
            created_at_s: 1_799_999_995,
        };
        let tools = DiskReport {
            name: "tools".parse().unwrap(),
            bus: DiskBus::Scsi,
            place: "scsi0:1".into(),
            image: Some("tools-13".into()),
            ..data.clone()
        };
        assert_eq!(disk_line(&data), "data  10 GiB, virtio");
        let list = DiskList {
            version: REPORT_VERSION,
            disks: vec![data, tools],
        };
        assert_eq!(
            list.show(&Look::fixed()),
            "\
VM  DISK     SIZE  BUS     PLACE    IMAGE     ADDED
42  data   10 GiB  virtio  00:08.0            5s ago
42  tools  10 GiB  scsi    scsi0:1  tools-13  5s ago
"
        );
    }

    #[test]
    fn the_list_has_a_line_for_each_snapshot() {
        let taken = SnapshotReport {
            vm: 42.into(),
            name: "before".parse().unwrap(),
            created_at_s: 1_799_999_995,
            consistency: Consistency::Frozen,
            disk_bytes: 2 << 30,
            data_bytes: Some(61 << 20),
        };
        let other = SnapshotReport {
            vm: 143.into(),
            consistency: Consistency::Crash,
            data_bytes: None,
            ..taken.clone()
        };
        assert_eq!(
            snapshot_line(&taken),
            "before  its file systems were held still"
        );
        let list = SnapshotList {
            version: REPORT_VERSION,
            snapshots: vec![taken, other],
        };
        assert_eq!(
            list.show(&Look::fixed()),
            "\
\x20VM  SNAPSHOT     DISK    DATA  GUEST   TAKEN
 42  before    2.0 GiB  61 MiB  frozen  5s ago
143  before    2.0 GiB          crash   5s ago
"
        );
    }

    #[test]
    fn what_came_back_is_the_difference() {
        let mut report = Compacted {
            method: CompactMethod::Trim,
            before_bytes: 100 << 20,
            after_bytes: 60 << 20,
        };
        assert_eq!(
            compacted_line(&report),
            "40 MiB given back, 60 MiB left (trimmed by its guest)"
        );
        report.after_bytes = 101 << 20;
        assert_eq!(report.freed_bytes(), 0);
    }
}

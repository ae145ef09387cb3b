//! What users have and may have.

use super::{Look, Show};
use crate::{
    output::{
        style::Tone,
        table::{Cell, Table, cell},
    },
    quantity::Bytes,
};
use fvm_vmm::api::{Quota, QuotaReport};

/// `2/3`, louder where nothing is left.
fn used(quota: Quota, unit: fn(u64) -> String) -> Cell {
    let limit = quota.limit.map_or_else(|| "-".to_owned(), unit);
    let text = format!("{}/{limit}", unit(quota.used));
    cell(text).right().tone(match quota.limit {
        Some(limit) if quota.used >= limit => Tone::Warn,
        _ => Tone::Plain,
    })
}

impl Show for QuotaReport {
    fn show(&self, look: &Look) -> String {
        let mut table = Table::new(["USER", "VMS", "MEMORY", "DISK"]);
        let bytes = |bytes| Bytes(bytes).to_string();
        for user in &self.users {
            let name = user.user.clone().unwrap_or_else(|| user.uid.to_string());
            table.row([
                cell(name),
                used(user.vms, |number| number.to_string()),
                used(user.memory_bytes, bytes),
                used(user.disk_bytes, bytes),
            ]);
        }
        table.show(look.palette)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fvm_vmm::api::{REPORT_VERSION, UserQuota};

    #[test]
    fn each_user_has_a_line() {
        let quota = |used, limit| Quota { used, limit };
        let report = QuotaReport {
            version: REPORT_VERSION,
            users: vec![
                UserQuota {
                    uid: 1000,
                    user: Some("ann".into()),
                    vms: quota(2, Some(3)),
                    memory_bytes: quota(1 << 30, Some(4 << 30)),
                    disk_bytes: quota(6 << 30, None),
                },
                UserQuota {
                    uid: 1001,
                    user: None,
                    vms: quota(0, Some(20)),
                    memory_bytes: quota(0, None),
                    disk_bytes: quota(0, Some(500 << 30)),
                },
            ],
        };
        assert_eq!(
            report.show(&Look::fixed()),
            "\
USER   VMS           MEMORY         DISK
ann    2/3  1.0 GiB/4.0 GiB    6.0 GiB/-
1001  0/20            0 B/-  0 B/500 GiB
"
        );
    }
}

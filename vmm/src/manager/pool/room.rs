//! Whether the pool has room for more VMs and images, and who has it if not.

use super::{HostFs, status};
use crate::{
    api::{ApiError, DiskUsageReport, DiskUsageRequest, ErrorKind, VmNumber, VmSet},
    manager::{Manager, error::Result, host::Host, owner::name_of},
};
use fvm_thin::Bytes;

/// So many of those who have most are named.
const NAMED_OWNERS: usize = 3;

impl Manager {
    /// Refuses new VMs and images when the pool is not well or too full.
    ///
    /// # Errors
    /// Why not, and who has most of its space.
    pub(in crate::manager) fn check_pool_takes_more(&self, host: &Host) -> Result<()> {
        let pool = status::read_status(&host.pool)?;
        let watermark = host.config.pool.watermark_percent;
        let full = [("data", pool.data), ("metadata", pool.metadata)]
            .into_iter()
            // A pool that failed tells no numbers.
            .filter(|(_, usage)| usage.total > Bytes(0))
            .find(|(_, usage)| usage.percent() > watermark || usage.free() == Bytes(0));
        if let Some((what, usage)) = full {
            let message = format!(
                "the thin pool's {what} is {} % full, and new VMs and images are refused above {watermark} %",
                usage.percent()
            );
            return Err(self.naming_owners(ApiError::new(ErrorKind::Refused, message)));
        }
        if !pool.is_well() {
            return Err(status::unwell(&pool));
        }
        let Some(path) = host.data_file() else {
            return Ok(());
        };
        let below = HostFs::below(path)?;
        let percent = below.usage().percent();
        if below.promises() && percent > watermark {
            return Err(ApiError::new(
                ErrorKind::Refused,
                format!(
                    "the file system of {} is {percent} % full, and new VMs and images are refused above {watermark} %",
                    path.display()
                ),
            )
            .hint("make room on it: the pool's file is sparse and needs what is left"));
        }
        Ok(())
    }

    /// Adds to a refusal who has most of the pool, as far as that can be told now.
    fn naming_owners(&self, error: ApiError) -> ApiError {
        let error = error.hint(
            "`fvm disk-usage` shows what takes the space; `fvm delete` gives it back, `sudo fvm pool extend` adds more",
        );
        match self.disk_usage(&DiskUsageRequest::default()) {
            Ok(usage) => owners(&usage, name_of)
                .into_iter()
                .fold(error, ApiError::detail),
            Err(why) => {
                tracing::warn!(error = %why.message, "cannot tell who uses the pool");
                error
            }
        }
    }
}

/// The owners who have most, a line each.
fn owners(usage: &DiskUsageReport, name_of: impl Fn(u32) -> String) -> Vec<String> {
    usage
        .owners
        .iter()
        .take(NAMED_OWNERS)
        .map(|owner| {
            let numbers: Vec<VmNumber> = usage
                .vms
                .iter()
                .filter(|vm| vm.owner_uid == owner.owner_uid)
                .map(|vm| vm.vm)
                .collect();
            let images: Vec<&str> = usage
                .images
                .iter()
                .filter(|image| image.owner_uid == owner.owner_uid)
                .map(|image| image.image.as_str())
                .collect();
            let mut has = Vec::new();
            has.extend(
                VmSet::try_from(numbers)
                    .ok()
                    .map(|vms| format!("VMs {vms}")),
            );
            if !images.is_empty() {
                has.push(format!("images {}", images.join(", ")));
            }
            format!(
                "{} has {} MiB: {}",
                name_of(owner.owner_uid),
                owner.exclusive_bytes.div_ceil(1 << 20),
                has.join("; ")
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Fill, OwnerUsage, REPORT_VERSION, VmUsage, VolumeSpace};

    #[test]
    fn who_has_most_is_named_with_what_they_have() {
        let vm = |number| VmUsage {
            vm: VmNumber::new(number),
            name: "fvm-debian-42".parse().unwrap(),
            image: "debian".into(),
            owner_uid: 1000,
            space: VolumeSpace::default(),
        };
        let usage = DiskUsageReport {
            version: REPORT_VERSION,
            pool: Fill {
                bytes: 1,
                used_bytes: 1,
                used_percent: 100,
            },
            vms: vec![vm(42), vm(43), vm(50)],
            images: Vec::new(),
            owners: vec![OwnerUsage {
                owner_uid: 1000,
                vms: 3,
                images: 0,
                exclusive_bytes: (3 << 20) + 1,
            }],
        };
        assert_eq!(
            owners(&usage, |uid| format!("user {uid}")),
            ["user 1000 has 4 MiB: VMs 42-43,50"]
        );
    }
}

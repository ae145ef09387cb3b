//! `fvm disk-usage`

use super::Context;
use crate::exit::{self, CommandResult, Exit};
use fvm_vmm::api::{DiskUsageReport, DiskUsageRequest, VmSet, routes};

/// Arguments of `fvm disk-usage`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
SIZE is what the guest sees, MAPPED what is there of it, EXCLUSIVE what nobody else has: so much deleting it \
gives back. SHARED it has together with its image and with other VMs of that image. The figures come from the \
pool's own metadata, in whole chunks of 64 KiB (256 KiB in pools of 4 TiB and more).

Examples:
  fvm disk-usage
  fvm disk-usage 42,50-59
  fvm disk-usage --json | jq '.owners'")]
pub(crate) struct DiskUsage {
    /// Only these VMs, with their images: 42, 42,44 or 50-59
    #[arg(value_name = "NUM")]
    sets: Vec<VmSet>,
}

impl DiskUsage {
    pub(super) async fn run(self, context: &Context<'_>) -> CommandResult {
        let vms = match self.sets.is_empty() {
            true => None,
            false => Some(VmSet::union(self.sets).map_err(|error| exit::wrong_vms(&error))?),
        };
        context.out.busy("reading the pool's metadata");
        let mut tell = |event| context.out.event(&event);
        let report = context
            .client
            .post(routes::POOL_USAGE, &DiskUsageRequest { vms }, &mut tell)
            .await;
        context.out.settled();
        let report: DiskUsageReport = report?;
        context.out.report(&report);
        Ok(Exit::DONE)
    }
}

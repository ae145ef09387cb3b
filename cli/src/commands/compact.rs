//! `fvm compact`

use super::Context;
use crate::{args::Vms, exit::CommandResult, output::compacted_line};
use fvm_vmm::api::{CompactVms, routes};

/// Arguments of `fvm compact`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The guest of a running VM is asked by its guest agent (qemu-guest-agent) to discard what its file systems do \
not use (fstrim). Of a stopped VM, the disk is read, and what is all zero on it is given back.

What is told is how much less of the disk is mapped. Where a snapshot or the image still has the same blocks, \
they stay in the pool.

Examples:
  fvm compact 42
  fvm compact 50-59 --json")]
pub(crate) struct Compact {
    #[command(flatten)]
    vms: Vms,
}

impl Compact {
    pub(super) async fn run(self, context: &Context<'_>) -> CommandResult {
        let request = CompactVms {
            vms: self.vms.union()?,
        };
        let what = format!("compacting the disks of {}", request.vms);
        context
            .batch_of(routes::COMPACT, &request, &what, compacted_line)
            .await
    }
}

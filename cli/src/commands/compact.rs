//! `fvm compact`

use super::Context;
use crate::{args::Vms, exit::CommandResult, output::compacted_line};
use fvm_vmm::api::{CompactVms, routes};

/// Arguments of `fvm compact`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The guest of a running VM is asked by its guest agent (qemu-guest-agent) to discard what its file systems do \
not use (fstrim). Of a stopped VM, virt-sparsify discards that, if it is installed on the VM's host (Debian's \
guestfs-tools), in a small machine of its own; then the disk is read, and what is all zero on it is given back.

What is told is how much less of the disk is mapped. Where a snapshot or the image still has the same blocks, \
they stay in the pool.

Examples:
  fvm compact 42
  fvm compact 50-59 --json")]
pub(crate) struct Compact {
    #[command(flatten)]
    vms: Vms,
    /// Of stopped VMs, only what is all zero, also where virt-sparsify is installed
    #[arg(long)]
    zeros: bool,
}

impl Compact {
    pub(super) async fn run(self, context: &Context<'_>) -> CommandResult {
        let request = CompactVms {
            vms: self.vms.resolve(&context.client).await?,
            zeros_only: self.zeros,
        };
        let what = format!("compacting the disks of {}", request.vms);
        context
            .batch_of(routes::COMPACT, &request, &what, compacted_line)
            .await
    }
}

//! `fvm delete`

use super::Context;
use crate::{args::Vms, exit::CommandResult};
use fvm_vmm::api::{DeleteVms, routes};

/// Arguments of `fvm delete`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Asks no question. A running VM is powered off first. Its disk, its address and all else that is its own \
go with it; the image stays.

Examples:
  fvm delete 42
  fvm delete 42,44 50-59")]
pub(crate) struct Delete {
    #[command(flatten)]
    vms: Vms,
    /// Root only: also VMs of others, where only owners may delete theirs
    #[arg(long)]
    force: bool,
}

impl Delete {
    pub(super) async fn run(self, context: &Context<'_>) -> CommandResult {
        let request = DeleteVms {
            vms: self.vms.union()?,
            force: self.force,
        };
        let what = format!("deleting {}", request.vms);
        context.whole_batch(routes::DELETE, &request, &what).await
    }
}

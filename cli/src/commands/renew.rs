//! `fvm renew`, `fvm undelete`: VMs that are kept for a while only.

use super::Context;
use crate::{args::Vms, exit::CommandResult, quantity::time_to_live};
use fvm_vmm::api::{RenewVms, Ttl, UndeleteVms, routes};

/// Arguments of `fvm renew`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without an option, the VM gets the time again that it was given last.

Examples:
  fvm renew 42
  fvm renew 42 --ttl 2d
  fvm renew 50-59 --forever")]
pub(crate) struct Renew {
    #[command(flatten)]
    vms: Vms,
    /// How long they are kept from now on: 30m, 8h, 7d, 2w
    #[arg(long, value_name = "TIME", value_parser = time_to_live)]
    ttl: Option<u64>,
    /// Keep them until somebody deletes them
    #[arg(long, conflicts_with = "ttl")]
    forever: bool,
}

/// Arguments of `fvm undelete`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A VM whose time to live is over is stopped, and stays for a while (`vm.undelete_hours` in /etc/fvm/fvm.toml) before it is \
deleted for good. Until then this brings it back, with the time to live that it had.

Examples:
  fvm undelete 42
  fvm undelete 42 && fvm renew 42 --ttl 2d && fvm start 42")]
pub(crate) struct Undelete {
    #[command(flatten)]
    vms: Vms,
}

impl Renew {
    pub(super) async fn run(self, context: &Context<'_>) -> CommandResult {
        let ttl = match (self.ttl, self.forever) {
            (Some(seconds), _) => Ttl::Seconds(seconds),
            (None, true) => Ttl::Forever,
            (None, false) => Ttl::Same,
        };
        let vms = self.vms.resolve(&context.client).await?;
        let what = format!("renewing {vms}");
        let request = RenewVms { vms, ttl };
        context.whole_batch(routes::RENEW, &request, &what).await
    }
}

impl Undelete {
    pub(super) async fn run(self, context: &Context<'_>) -> CommandResult {
        let vms = self.vms.resolve(&context.client).await?;
        let what = format!("bringing {vms} back");
        let request = UndeleteVms { vms };
        context.whole_batch(routes::UNDELETE, &request, &what).await
    }
}

//! `fvm delete`

use super::Context;
use crate::{
    args::Vms,
    exit::{CommandResult, Exit},
    keys::KnownHosts,
};
use fvm_vmm::api::{ApiError, BatchReport, DeleteVms, VmList, VmNumber, routes};
use std::net::Ipv4Addr;

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
        let hosts = KnownHosts::of_user().filter(KnownHosts::exists);
        let addresses = match hosts {
            Some(_) => addresses(context).await?,
            None => Vec::new(),
        };
        let what = format!("deleting {}", request.vms);
        let report = context.batch(routes::DELETE, &request, &what).await?;
        context.out.batch(&report);
        if let Some(hosts) = hosts {
            forget(context, &hosts, &report, &addresses);
        }
        Ok(Exit::of_batch(&report))
    }
}

async fn addresses(context: &Context<'_>) -> Result<Vec<(VmNumber, Ipv4Addr)>, ApiError> {
    let list: VmList = context.client.get(routes::VMS).await?;
    Ok(list.vms.iter().map(|vm| (vm.number, vm.address)).collect())
}

/// Takes the host keys of VMs that are gone from the user's `known_hosts`: the next VM of the number has others.
fn forget(
    context: &Context<'_>,
    hosts: &KnownHosts,
    report: &BatchReport,
    addresses: &[(VmNumber, Ipv4Addr)],
) {
    let gone = |number: VmNumber| {
        let mut outcomes = report.outcomes.iter();
        outcomes.any(|outcome| outcome.vm == number && outcome.error.is_none())
    };
    let gone: Vec<Ipv4Addr> = addresses
        .iter()
        .filter(|(number, _)| gone(*number))
        .map(|(_, address)| *address)
        .collect();
    if let Err(error) = hosts.replace(&gone, "") {
        let path = hosts.path().display();
        context.out.note(&format!(
            "{path} still has keys of what was deleted: {error}"
        ));
    }
}

//! `fvm delete`

use super::Context;
use crate::{
    args::Vms,
    exit::{CommandResult, Exit},
    hook::Hook,
    keys::KnownHosts,
};
use fvm_vmm::api::{ApiError, BatchReport, DeleteVms, HookKind, VmReport, routes};
use std::{net::Ipv4Addr, path::PathBuf};

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
    /// A script to run for each VM once it is gone, instead of its profile's or its image's
    #[arg(long, value_name = "FILE")]
    hook: Option<PathBuf>,
    /// Run no hook
    #[arg(long, conflicts_with = "hook")]
    no_hooks: bool,
}

impl Delete {
    pub(super) async fn run(self, context: &Context<'_>) -> CommandResult {
        let request = DeleteVms {
            vms: self.vms.resolve(&context.client).await?,
            force: self.force,
        };
        let hook = match &self.hook {
            Some(file) => Some(Hook::named(HookKind::Delete, file)?),
            None => None,
        };
        let report = delete(context, &request, hook.as_ref(), !self.no_hooks).await?;
        context.out.batch(&report);
        Ok(Exit::of_batch(&report))
    }
}

/// Deletes VMs, forgets their host keys and runs their hooks: one that is named, or their own.
pub(super) async fn delete(
    context: &Context<'_>,
    request: &DeleteVms,
    named: Option<&Hook>,
    hooks: bool,
) -> Result<BatchReport, ApiError> {
    let what = format!("deleting {}", request.vms);
    let mut report = context.batch(routes::DELETE, request, &what).await?;
    forget_host_keys(context, &report);
    if hooks {
        run_hooks(context, named, &mut report).await;
    }
    Ok(report)
}

/// Takes the host keys of VMs that are gone from the user's `known_hosts`: the next VM of the number has others.
fn forget_host_keys(context: &Context<'_>, report: &BatchReport) {
    let Some(hosts) = KnownHosts::of_user().filter(KnownHosts::exists) else {
        return;
    };
    let gone: Vec<Ipv4Addr> = deleted(report).map(|vm| vm.address).collect();
    if let Err(error) = hosts.replace(&gone, "") {
        let path = hosts.path().display();
        context.out.note(&format!(
            "{path} still has keys of what was deleted: {error}"
        ));
    }
}

/// The VMs that are gone, as they were.
fn deleted(report: &BatchReport) -> impl Iterator<Item = &VmReport> {
    report
        .outcomes
        .iter()
        .filter(|outcome| outcome.error.is_none())
        .filter_map(|outcome| outcome.report.as_ref())
}

/// Runs the hooks of VMs that are gone, and enters what failed: it is too late to undo anything.
async fn run_hooks(context: &Context<'_>, named: Option<&Hook>, report: &mut BatchReport) {
    let gone: Vec<VmReport> = deleted(report).cloned().collect();
    for vm in gone {
        let result = match named {
            Some(hook) => hook.run(&context.client, &vm).await,
            None if vm.number.is_base() => Ok(()),
            None => match Hook::of_vm(&context.client, HookKind::Delete, &vm).await {
                Ok(Some(hook)) => hook.run(&context.client, &vm).await,
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            },
        };
        let Err(mut error) = result else { continue };
        error.message = format!("VM {} is deleted, but {}", vm.number, error.message);
        let outcomes = &mut report.outcomes;
        if let Some(outcome) = outcomes.iter_mut().find(|outcome| outcome.vm == vm.number) {
            outcome.error = Some(error);
        }
    }
}

//! `fvm create`

use super::Context;
use crate::{
    exit::{self, CommandResult, Exit},
    hook::Hook,
    quantity::{Mebibytes, time_to_live},
    seed, template,
};
use fvm_vmm::api::{
    ApiError, BatchReport, CreateVms, DeleteVms, GroupName, HookKind, ImageName, VmSet, routes,
};
use std::path::PathBuf;

/// Arguments of `fvm create`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Each VM is a writable snapshot of the image and takes no space until it writes. Several VMs are made \
all, or none.

The base VM is not a snapshot: it changes the image itself, which nobody else can use meanwhile. `fvm \
delete base` ends that, and the image stays as it is then.

A hook is a script that is run as you once the VM is made, with its disk at /dev/$THINPOOL_VG/$VM_NAME. If it fails, \
nothing is created. docs/fast-vm.md says what it is told.

Examples:
  fvm create debian 42
  fvm create debian 50-59 --group web   then: fvm start @web --wait ssh
  fvm create debian 50-59 --memory 1G --cpus 2
  fvm create debian 43 --template ./my-domain.xml
  fvm create debian 46 --ttl 8h         deleted by itself, a day after it has expired
  fvm create debian 45 --ssh-key ~/.ssh/id_ed25519.pub --user-data setup.yaml
  fvm create web 44                     by a profile (see `fvm profile`)
  fvm create debian base                a VM on the image itself, to change it")]
pub(crate) struct Create {
    /// The image to make them of (see `fvm image list`), or a profile (see `fvm profile list`)
    image: ImageName,
    /// VM numbers: 42, 42,44, 50-59 or base
    #[arg(value_name = "NUM", required = true)]
    sets: Vec<VmSet>,
    /// Make them into this group, for `fvm start @GROUP` and all other commands
    #[arg(long, value_name = "GROUP")]
    group: Option<GroupName>,
    /// A shipped template (see `fvm status`) or a domain XML file, instead of the image's
    #[arg(short, long, value_name = "NAME|FILE")]
    template: Option<String>,
    /// Memory instead of the template's: MiB, or with a unit (512M, 4G)
    #[arg(short, long, value_name = "SIZE")]
    memory: Option<Mebibytes>,
    /// Virtual processors instead of the template's
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    cpus: Option<u32>,
    /// Keep them only so long: 30m, 8h, 7d, 2w (see `fvm renew`)
    #[arg(long, value_name = "TIME", value_parser = time_to_live)]
    ttl: Option<u64>,
    /// What cloud-init in the guests is to do (see docs/cloud-init.md)
    #[arg(long, value_name = "FILE")]
    user_data: Option<PathBuf>,
    /// Public keys that cloud-init is to let in by SSH, one on each line; can be given several times
    #[arg(long, value_name = "FILE")]
    ssh_key: Vec<PathBuf>,
    /// A script to run for each VM once it is made, instead of its profile's or its image's
    #[arg(long, value_name = "FILE")]
    hook: Option<PathBuf>,
    /// Run no hook
    #[arg(long, conflicts_with = "hook")]
    no_hooks: bool,
}

impl Create {
    pub(super) async fn run(self, context: &Context<'_>) -> CommandResult {
        let request = CreateVms {
            image: self.image,
            vms: VmSet::union(self.sets).map_err(|error| exit::wrong_vms(&error))?,
            template: template::to_send(self.template)?,
            memory_mib: self.memory.map(|memory| memory.0),
            cpus: self.cpus,
            group: self.group,
            ttl_s: self.ttl,
            user_data: seed::user_data(self.user_data.as_deref())?,
            ssh_keys: seed::keys(&self.ssh_key)?,
        };
        let hook = match &self.hook {
            Some(file) => Some(Hook::named(HookKind::Create, file)?),
            None => None,
        };
        let report = make(context, &request, hook.as_ref(), !self.no_hooks).await?;
        context.out.batch(&report);
        Ok(Exit::of_batch(&report))
    }
}

/// Makes VMs and runs their hooks: one that is named, or their own.
pub(super) async fn make(
    context: &Context<'_>,
    request: &CreateVms,
    named: Option<&Hook>,
    hooks: bool,
) -> Result<BatchReport, ApiError> {
    let what = format!("creating {} from {}", request.vms, request.image);
    let report = context.batch(routes::CREATE, request, &what).await?;
    if hooks && let Err(error) = run_hooks(context, named, &report).await {
        return Err(undo(context, request.vms.clone(), error).await);
    }
    Ok(report)
}

/// Runs each VM's hook; those of profiles and images are not for the base VM, whose disk is the image's.
async fn run_hooks(
    context: &Context<'_>,
    named: Option<&Hook>,
    report: &BatchReport,
) -> Result<(), ApiError> {
    let made = report
        .outcomes
        .iter()
        .filter(|outcome| outcome.error.is_none());
    for vm in made.filter_map(|outcome| outcome.report.as_ref()) {
        let own = match named {
            None if !vm.number.is_base() => {
                Hook::of_vm(&context.client, HookKind::Create, vm).await?
            }
            _ => None,
        };
        if let Some(hook) = named.or(own.as_ref()) {
            hook.run(&context.client, vm).await?;
        }
    }
    Ok(())
}

/// Deletes what was made, since its hook has failed: all of it, as with any other failure to create.
async fn undo(context: &Context<'_>, vms: VmSet, mut error: ApiError) -> ApiError {
    let request = DeleteVms {
        vms: vms.clone(),
        force: false,
    };
    let left = match context
        .batch(routes::DELETE, &request, "undoing the create")
        .await
    {
        Err(error) => vec![error.message],
        Ok(report) => {
            let errors = report
                .outcomes
                .into_iter()
                .filter_map(|outcome| outcome.error);
            errors.map(|error| error.message).collect()
        }
    };
    if left.is_empty() {
        return error.hint("nothing was created; what the hook has printed is above");
    }
    error.details.extend(left);
    error.hint(format!("`fvm delete {vms}` removes what is left"))
}

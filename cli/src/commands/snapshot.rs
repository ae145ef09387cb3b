//! `fvm snapshot`

use super::Context;
use crate::{
    args::one_vm,
    exit::{CommandResult, Exit},
    output::snapshot_line,
    vm_names::VmNames,
};
use fvm_vmm::api::{
    ApiError, CreateSnapshots, NamedSnapshots, SnapshotList, SnapshotName, SnapshotReport,
    VmNumber, routes,
};

/// Arguments of `fvm snapshot`.
#[derive(Debug, clap::Args)]
pub(crate) struct Snapshot {
    #[command(subcommand)]
    command: SnapshotCommand,
}

/// What can be done with snapshots.
#[derive(Debug, clap::Subcommand)]
enum SnapshotCommand {
    /// Take a snapshot of VMs' disks, running or not
    Create(Create),
    /// List snapshots
    List(List),
    /// Put VMs' disks back to a snapshot
    Restore(Named),
    /// Delete snapshots
    Delete(Named),
}

/// Arguments of `fvm snapshot create`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Of several VMs, the snapshots show one point in time, and there are all of them or none. A snapshot takes no \
space until the VM's disk changes. It holds the disk, not the memory.

A running guest is asked by its guest agent (qemu-guest-agent) to write everything out and hold its file \
systems still for that moment. Where that cannot be, the snapshot is as the disk after a power cut, and the \
list says `crash`.

Examples:
  fvm snapshot create 42 before-upgrade
  fvm snapshot create 42,43")]
struct Create {
    /// VM numbers: 42, 42,44 or 50-59; @web for all of the group web
    #[arg(value_name = "NUM")]
    vms: VmNames,
    /// The snapshot's name; without it, one is made of the time
    #[arg(value_name = "NAME")]
    name: Option<SnapshotName>,
    /// Also of VMs that have further disks, which the snapshot does not hold
    #[arg(long)]
    main_disk_only: bool,
}

/// Arguments of `fvm snapshot list`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
GUEST is how the snapshot caught the guest: stopped; frozen, with its file systems held still; or crash, as \
after a power cut. DATA is what of the disk is not empty, much of which it shares with the image and the VM.")]
struct List {
    /// The VM; without it, all
    #[arg(value_name = "NUM", value_parser = one_vm)]
    vm: Option<VmNumber>,
}

/// Arguments of `fvm snapshot restore` and `delete`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
To restore, a VM must be stopped. What its disk holds now is lost; its number, address and MAC address stay, \
and so does the snapshot. Deleting a VM deletes its snapshots.

Examples:
  fvm snapshot restore 42 before-upgrade
  fvm snapshot delete 42,43 before-upgrade")]
struct Named {
    /// VM numbers: 42, 42,44 or 50-59; @web for all of the group web
    #[arg(value_name = "NUM")]
    vms: VmNames,
    /// The snapshot's name
    #[arg(value_name = "NAME")]
    name: SnapshotName,
}

impl Snapshot {
    pub(super) async fn run(self, context: &Context<'_>) -> CommandResult {
        match self.command {
            SnapshotCommand::Create(create) => create.run(context).await,
            SnapshotCommand::List(list) => list.run(context).await,
            SnapshotCommand::Restore(named) => {
                let request = named.request(context).await?;
                let what = format!("restoring {} from {}", request.vms, request.name);
                let path = routes::RESTORE_SNAPSHOTS;
                context.whole_batch(path, &request, &what).await
            }
            SnapshotCommand::Delete(named) => {
                let request = named.request(context).await?;
                let what = format!("deleting snapshot {} of {}", request.name, request.vms);
                let path = routes::DELETE_SNAPSHOTS;
                context
                    .batch_of(path, &request, &what, |report: &SnapshotReport| {
                        report.name.to_string()
                    })
                    .await
            }
        }
    }
}

impl Named {
    async fn request(self, context: &Context<'_>) -> Result<NamedSnapshots, ApiError> {
        Ok(NamedSnapshots {
            vms: self.vms.resolve(&context.client).await?,
            name: self.name,
        })
    }
}

impl Create {
    async fn run(self, context: &Context<'_>) -> CommandResult {
        let request = CreateSnapshots {
            vms: self.vms.resolve(&context.client).await?,
            name: self.name,
            main_disk_only: self.main_disk_only,
        };
        let what = format!("taking snapshots of {}", request.vms);
        let path = routes::CREATE_SNAPSHOTS;
        context.batch_of(path, &request, &what, snapshot_line).await
    }
}

impl List {
    async fn run(self, context: &Context<'_>) -> CommandResult {
        let path = self
            .vm
            .map_or_else(|| routes::SNAPSHOTS.to_owned(), routes::snapshots);
        let list: SnapshotList = context.client.get(&path).await?;
        context.out.report(&list);
        Ok(Exit::DONE)
    }
}

//! `fvm disk`: further disks of VMs.

use super::Context;
use crate::{
    args::one_vm,
    exit::{CommandResult, Exit},
    output::disk_line,
    quantity::Bytes,
};
use fvm_vmm::api::{
    AddDisks, DiskBus, DiskList, DiskName, DiskReport, ImageName, NamedDisks, VmNumber, VmSet,
    routes,
};

/// Arguments of `fvm disk`.
#[derive(Debug, clap::Args)]
pub(crate) struct Disk {
    #[command(subcommand)]
    command: DiskCommand,
}

/// What can be done with further disks.
#[derive(Debug, clap::Subcommand)]
enum DiskCommand {
    /// Give VMs a further disk, running or not
    Add(Add),
    /// List further disks
    List(List),
    /// Take a further disk away from VMs, with what is on it
    Remove(Remove),
}

/// Arguments of `fvm disk add`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The disk is empty, or with --image a writable snapshot of an image. A running VM has it at once, another one from its next \
start on; it stays until it is removed or the VM is deleted. The guest reads its name as the serial number, so a Linux guest \
has it as /dev/disk/by-id/virtio-NAME or /dev/disk/by-id/scsi-*_NAME.

Examples:
  fvm disk add 42 data --size 10G
  fvm disk add 50-59 --size 1T --bus virtio
  fvm disk add 42 tools --image tools")]
struct Add {
    /// VM numbers: 42, 42,44 or 50-59
    #[arg(value_name = "NUM")]
    vms: VmSet,
    /// The disk's name, up to 20 characters; without it, disk1 or the next that is free
    #[arg(value_name = "NAME")]
    name: Option<DiskName>,
    /// Its size, such as 10G; without it, the image's
    #[arg(long, required_unless_present = "image")]
    size: Option<Bytes>,
    /// The image that it is a snapshot of
    #[arg(long)]
    image: Option<ImageName>,
    /// virtio or scsi; without it, as the VM's own disk
    #[arg(long)]
    bus: Option<DiskBus>,
}

/// Arguments of `fvm disk list`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
PLACE is where the disk sits in the VM: a PCI slot, or a SCSI controller and unit.")]
struct List {
    /// The VM; without it, all
    #[arg(value_name = "NUM", value_parser = one_vm)]
    vm: Option<VmNumber>,
}

/// Arguments of `fvm disk remove`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
What is on the disk is lost. Unmount it in a running guest first: one on scsi goes as if it were pulled out. Of one on \
virtio the guest lets go by itself, and has 30 seconds; if it does not, the disk stays as it was.

Example:
  fvm disk remove 42 data")]
struct Remove {
    /// VM numbers: 42, 42,44 or 50-59
    #[arg(value_name = "NUM")]
    vms: VmSet,
    /// The disk's name
    #[arg(value_name = "NAME")]
    name: DiskName,
}

impl Disk {
    pub(super) async fn run(self, context: &Context<'_>) -> CommandResult {
        match self.command {
            DiskCommand::Add(add) => add.run(context).await,
            DiskCommand::List(list) => list.run(context).await,
            DiskCommand::Remove(remove) => remove.run(context).await,
        }
    }
}

impl Add {
    async fn run(self, context: &Context<'_>) -> CommandResult {
        let request = AddDisks {
            vms: self.vms,
            name: self.name,
            size_bytes: self.size.map(|size| size.0),
            image: self.image,
            bus: self.bus,
        };
        let what = format!("giving {} a disk", request.vms);
        let path = routes::ADD_DISKS;
        context.batch_of(path, &request, &what, disk_line).await
    }
}

impl List {
    async fn run(self, context: &Context<'_>) -> CommandResult {
        let path = self
            .vm
            .map_or_else(|| routes::DISKS.to_owned(), routes::disks);
        let list: DiskList = context.client.get(&path).await?;
        context.out.report(&list);
        Ok(Exit::DONE)
    }
}

impl Remove {
    async fn run(self, context: &Context<'_>) -> CommandResult {
        let request = NamedDisks {
            vms: self.vms,
            name: self.name,
        };
        let what = format!("removing disk {} of {}", request.name, request.vms);
        let path = routes::REMOVE_DISKS;
        let line = |report: &DiskReport| report.name.to_string();
        context.batch_of(path, &request, &what, line).await
    }
}

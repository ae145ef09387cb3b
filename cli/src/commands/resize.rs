//! `fvm resize`

use super::Context;
use crate::{
    args::Vms,
    exit::CommandResult,
    quantity::{Bytes, disk_size},
};
use fvm_vmm::api::{ApiError, DiskSize, ErrorKind, ResizeVms, VmNumber, VmReport, VmSet, routes};

/// Arguments of `fvm resize`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A running VM sees its larger disk at once; partitions and file systems in it are the guest's own matter \
(growpart, resize2fs). A larger disk takes no space in the pool until it is written.

With --shrink a disk is also made smaller. What lies behind its new end is lost for ever, so make what is \
on it smaller first; the VM must be stopped, and a question is asked unless --yes is given.

Examples:
  fvm resize 42 20G
  fvm resize 42,44 50-59 +5G
  fvm stop 42 && fvm resize 42 10G --shrink")]
pub(crate) struct Resize {
    #[command(flatten)]
    vms: Vms,
    /// The size: 20G, or +5G for so much more
    #[arg(value_parser = disk_size)]
    size: DiskSize,
    /// Allow disks to get smaller
    #[arg(long)]
    shrink: bool,
    /// Do not ask before disks get smaller
    #[arg(short, long, requires = "shrink")]
    yes: bool,
}

impl Resize {
    pub(super) async fn run(self, context: &Context<'_>) -> CommandResult {
        let request = ResizeVms {
            vms: self.vms.resolve(&context.client).await?,
            size: self.size,
            shrink: self.shrink,
        };
        if self.shrink && !self.yes {
            let disks = disks(context, &request.vms).await?;
            confirm_shrink(context, &disks, self.size)?;
        }
        let what = format!("resizing the disks of {}", request.vms);
        context.whole_batch(routes::RESIZE, &request, &what).await
    }
}

/// The disks as they are, by what people call them.
async fn disks(context: &Context<'_>, vms: &VmSet) -> Result<Vec<(String, Bytes)>, ApiError> {
    let mut disks = Vec::new();
    for &number in vms.numbers() {
        let vm: VmReport = context.client.get(&routes::vm(number)).await?;
        disks.push((name(number), Bytes(vm.disk_bytes)));
    }
    Ok(disks)
}

fn name(number: VmNumber) -> String {
    format!("VM {number}")
}

/// Has the user confirm that these disks may get smaller; nothing to ask if none does.
pub(super) fn confirm_shrink(
    context: &Context<'_>,
    disks: &[(String, Bytes)],
    size: DiskSize,
) -> Result<(), ApiError> {
    let shrinking: Vec<String> = disks
        .iter()
        .filter_map(|(name, now)| {
            let new = size.of(now.0).filter(|new| *new < now.0)?;
            Some(format!("{name}, from {now} to {}", Bytes(new)))
        })
        .collect();
    if shrinking.is_empty() {
        return Ok(());
    }
    if !context.out.can_ask() {
        return Err(ApiError::new(
            ErrorKind::Usage,
            "a disk would get smaller, and there is nobody to ask whether that is meant",
        )
        .hint("add --yes to go on without questions"));
    }
    for line in &shrinking {
        context.out.note(line);
    }
    let answer = context
        .out
        .ask("What lies behind the new end is lost for ever. Type yes to go on:")
        .map_err(|error| {
            ApiError::new(
                ErrorKind::Failed,
                format!("the answer could not be read: {error}"),
            )
        })?;
    match answer.as_deref() {
        Some("yes") => Ok(()),
        _ => Err(ApiError::new(ErrorKind::Failed, "nothing was changed")),
    }
}

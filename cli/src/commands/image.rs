//! `fvm image`: list, show, resize, rename, remove; the larger ones are in files of their own.

use super::{
    Context,
    export::ExportImage,
    image_check::{ChecksumArgs, VerifyArgs},
    import::Import,
    resize::confirm_shrink,
};
use crate::{
    exit::{CommandResult, Exit},
    output::compacted_line,
    quantity::{Bytes, disk_size},
};
use fvm_vmm::api::{
    ApiError, CompactImage, DiskSize, ImageCompacted, ImageList, ImageName, ImageReport,
    RenameImage, ResizeImage, routes,
};
use hyper::Method;
use serde::Serialize;

/// Arguments of `fvm image`.
#[derive(Debug, clap::Args)]
pub(crate) struct Image {
    #[command(subcommand)]
    command: ImageCommand,
}

/// What can be done with images.
#[derive(Debug, clap::Subcommand)]
enum ImageCommand {
    /// Import an image from a file or standard input
    Import(Import),
    /// Write an image to a file or standard output
    Export(ExportImage),
    /// List all images
    List(ListImages),
    /// Show everything about an image
    Show(NamedImage),
    /// Compare an image with its digest, and with checksum files
    Verify(VerifyArgs),
    /// Write the checksums of an image's parts to files
    Checksum(ChecksumArgs),
    /// Give an image's disk another size
    Resize(ResizeArgs),
    /// Give an image another name
    Rename(RenameArgs),
    /// Have an image's disk give back what is all zero in it
    Compact(CompactArgs),
    /// Remove an image; VMs made of it stay
    Remove(NamedImage),
}

/// Arguments of `fvm image list`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
DISK is the size that a VM's disk will have; DATA is how much of it is not zero.")]
struct ListImages {
    /// Names only, one a line
    #[arg(long)]
    short: bool,
}

/// Arguments of `fvm image compact`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
What the image's file systems do not use is discarded by virt-sparsify, if it is installed on the image's host \
(Debian's guestfs-tools); it reads as zero then, so the image has another digest. Then what is all zero is given back. \
An import stores no zeros, so without virt-sparsify this helps where an image was changed since.")]
struct CompactArgs {
    /// The image
    #[arg(value_name = "NAME")]
    name: ImageName,
    /// Only what is all zero, also where virt-sparsify is installed: the content stays the same
    #[arg(long)]
    zeros: bool,
}

/// Arguments of commands that take an image and nothing else.
#[derive(Debug, clap::Args)]
struct NamedImage {
    /// The image
    #[arg(value_name = "NAME")]
    name: ImageName,
}

/// Arguments of `fvm image resize`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
VMs made of the image from now on have a disk of that size; those that are there keep theirs. Partitions \
and file systems in it are the guest's own matter.

With --shrink it is also made smaller. What lies behind its new end is lost for ever, so a question is \
asked unless --yes is given.

Examples:
  fvm image resize debian 20G
  fvm image resize debian +5G
  fvm image resize debian 4G --shrink")]
struct ResizeArgs {
    /// The image
    #[arg(value_name = "NAME")]
    name: ImageName,
    /// The size: 20G, or +5G for so much more
    #[arg(value_parser = disk_size)]
    size: DiskSize,
    /// Allow it to get smaller
    #[arg(long)]
    shrink: bool,
    /// Do not ask before it gets smaller
    #[arg(short, long, requires = "shrink")]
    yes: bool,
}

/// Arguments of `fvm image rename`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
VMs keep their own names; profiles that name the image name it by its new name.")]
struct RenameArgs {
    /// The image
    #[arg(value_name = "NAME")]
    name: ImageName,
    /// Its new name
    #[arg(value_name = "NEW_NAME")]
    new_name: ImageName,
}

impl Image {
    pub(super) async fn run(self, context: &Context<'_>) -> CommandResult {
        match self.command {
            ImageCommand::Import(import) => import.run(context).await,
            ImageCommand::Export(export) => export.run(context).await,
            ImageCommand::List(ListImages { short }) => list(context, short).await,
            ImageCommand::Compact(CompactArgs { name, zeros }) => {
                compact(context, &name, zeros).await
            }
            ImageCommand::Show(NamedImage { name }) => show(context, &name).await,
            ImageCommand::Verify(verify) => verify.run(context).await,
            ImageCommand::Checksum(checksum) => checksum.run(context).await,
            ImageCommand::Resize(resize) => resize.run(context).await,
            ImageCommand::Rename(rename) => rename.run(context).await,
            ImageCommand::Remove(NamedImage { name }) => remove(context, &name).await,
        }
    }
}

async fn list(context: &Context<'_>, short: bool) -> CommandResult {
    let list: ImageList = context.client.get(routes::IMAGES).await?;
    if short {
        let names: Vec<String> = list
            .images
            .iter()
            .map(|image| image.name.to_string())
            .collect();
        context.out.lines(&list, &names);
    } else {
        context.out.report(&list);
    }
    Ok(Exit::DONE)
}

async fn compact(context: &Context<'_>, name: &ImageName, zeros_only: bool) -> CommandResult {
    context.out.busy(&format!("compacting {name}"));
    let path = routes::compact_image(name);
    let mut tell = |event| context.out.event(&event);
    let request = CompactImage { zeros_only };
    let compacted = context.client.post(&path, &request, &mut tell).await;
    context.out.settled();
    let compacted: ImageCompacted = compacted?;
    let text = compacted_line(&compacted.disk);
    context
        .out
        .summary(&compacted, &format!("compacted {name}: {text}"));
    Ok(Exit::DONE)
}

async fn show(context: &Context<'_>, name: &ImageName) -> CommandResult {
    let image: ImageReport = context.client.get(&routes::image(name)).await?;
    context.out.report(&image);
    Ok(Exit::DONE)
}

/// Has something done to an image.
async fn change(
    context: &Context<'_>,
    path: &str,
    request: &impl Serialize,
    what: &str,
) -> Result<ImageReport, ApiError> {
    context.out.busy(what);
    let mut tell = |event| context.out.event(&event);
    let report = context.client.post(path, request, &mut tell).await;
    context.out.settled();
    Ok(report?)
}

impl ResizeArgs {
    async fn run(self, context: &Context<'_>) -> CommandResult {
        let name = &self.name;
        if self.shrink && !self.yes {
            let image: ImageReport = context.client.get(&routes::image(name)).await?;
            let disk = (format!("image '{name}'"), Bytes(image.size_bytes));
            confirm_shrink(context, &[disk], self.size)?;
        }
        let request = ResizeImage {
            size: self.size,
            shrink: self.shrink,
        };
        let path = routes::resize_image(name);
        let resized = change(context, &path, &request, &format!("resizing {name}")).await?;
        let text = format!("resized {name}: {} disk", Bytes(resized.size_bytes));
        context.out.summary(&resized, &text);
        Ok(Exit::DONE)
    }
}

impl RenameArgs {
    async fn run(self, context: &Context<'_>) -> CommandResult {
        let name = &self.name;
        let request = RenameImage {
            name: self.new_name,
        };
        let path = routes::rename_image(name);
        let renamed = change(context, &path, &request, &format!("renaming {name}")).await?;
        let text = format!("renamed {name} to {}", renamed.name);
        context.out.summary(&renamed, &text);
        Ok(Exit::DONE)
    }
}

async fn remove(context: &Context<'_>, name: &ImageName) -> CommandResult {
    let path = routes::image(name);
    let mut tell = |event| context.out.event(&event);
    let removed: ImageReport = context
        .client
        .command(Method::DELETE, &path, &mut tell)
        .await?;
    context
        .out
        .summary(&removed, &format!("removed {}", removed.name));
    Ok(Exit::DONE)
}

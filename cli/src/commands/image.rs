//! `fvm image`: list and remove; `import` is in a file of its own.

use super::{Context, import::Import};
use crate::{
    exit::{CommandResult, Exit},
    output::compacted_line,
};
use fvm_vmm::api::{ImageCompacted, ImageList, ImageName, ImageReport, routes};
use hyper::Method;

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
    /// List all images
    List(ListImages),
    /// Have an image's disk give back what is all zero in it
    Compact(CompactImage),
    /// Remove an image; VMs made of it stay
    Remove(RemoveImage),
}

/// Arguments of `fvm image list`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
DISK is the size that a VM's disk will have; DATA is how much of it is not zero.")]
struct ListImages {}

/// Arguments of `fvm image compact`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
An import stores no zeros, so this helps where an image was changed since. Its content stays the same.")]
struct CompactImage {
    /// The image
    #[arg(value_name = "NAME")]
    name: ImageName,
}

/// Arguments of `fvm image remove`.
#[derive(Debug, clap::Args)]
struct RemoveImage {
    /// The image
    #[arg(value_name = "NAME")]
    name: ImageName,
}

impl Image {
    pub(super) async fn run(self, context: &Context<'_>) -> CommandResult {
        match self.command {
            ImageCommand::Import(import) => import.run(context).await,
            ImageCommand::List(ListImages {}) => list(context).await,
            ImageCommand::Compact(CompactImage { name }) => compact(context, &name).await,
            ImageCommand::Remove(RemoveImage { name }) => remove(context, &name).await,
        }
    }
}

async fn list(context: &Context<'_>) -> CommandResult {
    let list: ImageList = context.client.get(routes::IMAGES).await?;
    context.out.report(&list);
    Ok(Exit::DONE)
}

async fn compact(context: &Context<'_>, name: &ImageName) -> CommandResult {
    context.out.busy(&format!("compacting {name}"));
    let path = routes::compact_image(name);
    let mut tell = |event| context.out.event(&event);
    let compacted = context.client.command(Method::POST, &path, &mut tell).await;
    context.out.settled();
    let compacted: ImageCompacted = compacted?;
    let text = compacted_line(&compacted.disk);
    context
        .out
        .summary(&compacted, &format!("compacted {name}: {text}"));
    Ok(Exit::DONE)
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

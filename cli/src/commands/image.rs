//! `fvm image`: list and remove; `import` is in a file of its own.

use super::{Context, import::Import};
use crate::exit::{CommandResult, Exit};
use fvm_vmm::api::{ImageList, ImageName, ImageReport, routes};
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
    /// Remove an image; VMs made of it stay
    Remove(RemoveImage),
}

/// Arguments of `fvm image list`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
DISK is the size that a VM's disk will have; DATA is how much of it is not zero.")]
struct ListImages {}

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
            ImageCommand::Remove(RemoveImage { name }) => remove(context, &name).await,
        }
    }
}

async fn list(context: &Context<'_>) -> CommandResult {
    let list: ImageList = context.client.get(routes::IMAGES).await?;
    context.out.report(&list);
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

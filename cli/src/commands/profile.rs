//! `fvm profile`: an image together with how VMs are made of it, under one name.

use super::Context;
use crate::{
    exit::{CommandResult, Exit},
    quantity::Mebibytes,
    template,
};
use fvm_vmm::api::{
    ApiError, CreateProfile, ErrorKind, Hook, HookKind, ImageName, MAX_HOOK_BYTES, ProfileList,
    ProfileName, ProfileReport, routes,
};
use hyper::Method;
use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

/// Arguments of `fvm profile`.
#[derive(Debug, clap::Args)]
pub(crate) struct Profile {
    #[command(subcommand)]
    command: ProfileCommand,
}

/// What can be done with profiles.
#[derive(Debug, clap::Subcommand)]
enum ProfileCommand {
    /// Make a profile
    Create(CreateArgs),
    /// List all profiles
    List(ListProfiles),
    /// Show everything about a profile
    Show(NamedProfile),
    /// Delete a profile; VMs made by it stay
    Delete(NamedProfile),
}

/// Arguments of `fvm profile create`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
`fvm create PROFILE NUM` then makes a VM of the image with all that the profile says; options of `fvm \
create` go before it. Templates and hooks are kept as they are now: later changes of their files do not \
count.

Examples:
  fvm profile create web debian --memory 4G --cpus 4
  fvm profile create db debian --template ./db.xml --create-hook ./set-up.sh
  fvm create web 42")]
struct CreateArgs {
    /// The name that the profile will have; no image has the same
    name: ProfileName,
    /// The image
    image: ImageName,
    /// A shipped template (see `fvm status`) or a domain XML file, instead of the image's
    #[arg(short, long, value_name = "NAME|FILE")]
    template: Option<String>,
    /// Memory instead of the template's: MiB, or with a unit (512M, 4G)
    #[arg(short, long, value_name = "SIZE")]
    memory: Option<Mebibytes>,
    /// Virtual processors instead of the template's
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    cpus: Option<u32>,
    /// A script for after a VM was made
    #[arg(long, value_name = "FILE")]
    create_hook: Option<PathBuf>,
    /// A script for after a VM was deleted
    #[arg(long, value_name = "FILE")]
    delete_hook: Option<PathBuf>,
}

/// Arguments of `fvm profile list`.
#[derive(Debug, clap::Args)]
struct ListProfiles {
    /// Names only, one a line
    #[arg(long)]
    short: bool,
}

/// Arguments of commands that take a profile and nothing else.
#[derive(Debug, clap::Args)]
struct NamedProfile {
    /// The profile
    #[arg(value_name = "NAME")]
    name: ProfileName,
}

impl Profile {
    pub(super) async fn run(self, context: &Context<'_>) -> CommandResult {
        match self.command {
            ProfileCommand::Create(create) => create.run(context).await,
            ProfileCommand::List(ListProfiles { short }) => {
                let list: ProfileList = context.client.get(routes::PROFILES).await?;
                if short {
                    let names = list.profiles.iter().map(|profile| profile.name.to_string());
                    context.out.lines(&list, &names.collect::<Vec<_>>());
                } else {
                    context.out.report(&list);
                }
                Ok(Exit::DONE)
            }
            ProfileCommand::Show(NamedProfile { name }) => {
                let path = routes::profile(&name);
                let profile: ProfileReport = context.client.get(&path).await?;
                context.out.report(&profile);
                Ok(Exit::DONE)
            }
            ProfileCommand::Delete(NamedProfile { name }) => delete(context, &name).await,
        }
    }
}

impl CreateArgs {
    async fn run(self, context: &Context<'_>) -> CommandResult {
        let mut hooks = Vec::new();
        for (when, path) in [
            (HookKind::Create, &self.create_hook),
            (HookKind::Delete, &self.delete_hook),
        ] {
            if let Some(path) = path {
                let script = read_script(path)?;
                hooks.push(Hook { when, script });
            }
        }
        let request = CreateProfile {
            image: self.image,
            template: template::to_send(self.template)?,
            memory_mib: self.memory.map(|memory| memory.0),
            cpus: self.cpus,
            hooks,
        };
        let path = routes::profile(&self.name);
        let mut tell = |event| context.out.event(&event);
        let made: ProfileReport = context.client.post(&path, &request, &mut tell).await?;
        let text = format!("created profile {} of image {}", made.name, made.image);
        context.out.summary(&made, &text);
        Ok(Exit::DONE)
    }
}

async fn delete(context: &Context<'_>, name: &ProfileName) -> CommandResult {
    let path = routes::profile(name);
    let mut tell = |event| context.out.event(&event);
    let deleted: ProfileReport = context
        .client
        .command(Method::DELETE, &path, &mut tell)
        .await?;
    let text = format!("deleted profile {}", deleted.name);
    context.out.summary(&deleted, &text);
    Ok(Exit::DONE)
}

/// A script is text of a bounded length.
fn read_script(path: &Path) -> Result<String, ApiError> {
    let mut script = String::new();
    let read = File::open(path).and_then(|file| {
        file.take(MAX_HOOK_BYTES as u64 + 1)
            .read_to_string(&mut script)
    });
    let usage = |what: &str| {
        let message = format!("the hook {} {what}", path.display());
        Err(ApiError::new(ErrorKind::Usage, message))
    };
    match read {
        Ok(length) if length > MAX_HOOK_BYTES => {
            usage(&format!("is longer than {MAX_HOOK_BYTES} bytes"))
        }
        Ok(_) => Ok(script),
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => usage("is not text"),
        Err(error) => {
            let mut told = crate::exit::of_file(path, &error);
            if error.kind() == std::io::ErrorKind::NotFound {
                told.kind = ErrorKind::NotFound;
            }
            Err(told)
        }
    }
}

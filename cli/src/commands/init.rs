//! `fvm init`: asks, switches the units, and has the daemon do the rest.

use super::Context;
use crate::{
    exit::{self, CommandResult, Exit},
    output::Plan,
    quantity::Bytes,
    units::{UnitError, Units},
};
use fvm_vmm::api::{
    ApiError, HostReport, InitReport, InitRequest, REPORT_VERSION, RemoveReport, routes,
};
use hyper::Method;
use nix::unistd::Uid;
use std::{io, path::PathBuf};

/// Arguments of `fvm init`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Can be run at any time: it checks everything, changes only what differs, and says what that was. Without \
--yes it shows what would change and asks.

Examples:
  sudo fvm init
  sudo fvm init --yes --size 50G
  sudo fvm init --yes --data /dev/nvme1n1
  sudo fvm init --dry-run --subnet 10.20.0.0/16
  sudo fvm init --remove")]
pub(crate) struct Init {
    /// Ask nothing
    #[arg(short, long)]
    yes: bool,
    /// Only show what would change
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// Size of a pool in a sparse file, such as 20G
    #[arg(long, value_name = "SIZE", conflicts_with = "data")]
    size: Option<Bytes>,
    /// A block device for the pool, instead of a sparse file; what is on it is lost
    #[arg(long, value_name = "DEV")]
    data: Option<PathBuf>,
    /// A block device for the pool's metadata, instead of a file
    #[arg(long, value_name = "DEV", visible_alias = "meta", requires = "data")]
    metadata: Option<PathBuf>,
    /// The subnet of the VMs; VM 42 has the address 42 above its base
    #[arg(long, value_name = "CIDR")]
    subnet: Option<String>,
    /// Take away all that init has made: pool, images, network, configuration
    #[arg(long, conflicts_with_all = ["dry_run", "size", "data", "metadata", "subnet"])]
    remove: bool,
}

/// Why the host was not set up, before the daemon was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InitError {
    /// Only root may.
    #[error("only root may set up or remove fvm on this host")]
    NotRoot,
    /// Nobody is there to be asked.
    #[error("there is no terminal to ask on, and nothing is changed unasked")]
    Unasked,
    /// The same for a removal.
    #[error("there is no terminal to ask on, and nothing is removed unasked")]
    UnaskedRemove,
    /// The user said no.
    #[error("nothing was changed")]
    Declined,
    /// A path that cannot be sent.
    #[error("the path {} is not UTF-8 text, or not absolute and the working directory is unknown", path.display())]
    DevicePath {
        /// The path.
        path: PathBuf,
    },
    /// The terminal failed.
    #[error("cannot ask")]
    Question {
        /// What the system said.
        source: io::Error,
    },
    /// The units could not be switched.
    #[error("cannot switch the units of fvm")]
    Systemctl {
        /// What failed.
        #[from]
        source: UnitError,
    },
}

impl Init {
    pub(super) async fn run(self, context: &Context<'_>) -> CommandResult {
        if let Some(host) = context.client.jump() {
            return Err(exit::not_from_afar("init", &host));
        }
        if !Uid::effective().is_root() {
            return Err(InitError::NotRoot.into());
        }
        let units = Units::look(context.client.socket());
        if self.remove {
            remove(context, &units, self.yes).await
        } else {
            self.set_up(context, &units).await
        }
    }

    async fn set_up(self, context: &Context<'_>, units: &Units) -> CommandResult {
        let request = InitRequest {
            dry_run: self.dry_run,
            pool_bytes: self.size.map(|size| size.0),
            data_device: self.data.map(to_send).transpose()?,
            metadata_device: self.metadata.map(to_send).transpose()?,
            subnet: self.subnet,
        };
        if self.dry_run {
            context.out.report(&look(context, units, &request).await?);
        } else if self.yes {
            context.out.report(&change(context, units, &request).await?);
        } else if context.out.can_ask() {
            let report = ask_and_change(context, units, request).await?;
            context.out.report(&report);
        } else {
            return Err(InitError::Unasked.into());
        }
        Ok(Exit::DONE)
    }
}

/// A device's path as the daemon, which has another working directory, can use it.
fn to_send(path: PathBuf) -> Result<String, InitError> {
    let absolute = std::path::absolute(&path).ok();
    match absolute.and_then(|path| path.into_os_string().into_string().ok()) {
        Some(text) => Ok(text),
        None => Err(InitError::DevicePath { path }),
    }
}

/// What would change. A daemon that does not listen yet is not started only to be asked.
async fn look(
    context: &Context<'_>,
    units: &Units,
    request: &InitRequest,
) -> Result<Plan, ApiError> {
    let mut changes = units.changes();
    if units.silent() {
        context.out.note(
            "fvmd does not run yet: what it would change is known when its units are started",
        );
    } else {
        changes.extend(post(context, request).await?.changes);
    }
    Ok(Plan(InitReport {
        version: REPORT_VERSION,
        changes,
    }))
}

/// Changes what differs.
async fn change(
    context: &Context<'_>,
    units: &Units,
    request: &InitRequest,
) -> Result<InitReport, ApiError> {
    let mut changes = units.changes();
    units.enable().map_err(InitError::from)?;
    let report = post(context, request).await?;
    changes.extend(report.changes);
    Ok(InitReport { changes, ..report })
}

/// Shows what would change, asks, and changes it.
async fn ask_and_change(
    context: &Context<'_>,
    units: &Units,
    request: InitRequest,
) -> Result<InitReport, ApiError> {
    let started = units.start().map_err(InitError::from)?;
    let agreed = match agree(context, units, request).await {
        Ok(agreed) => agreed,
        Err(error) => {
            Units::stop(&started).map_err(InitError::from)?;
            return Err(error);
        }
    };
    change(context, units, &agreed).await
}

/// The request that the user agrees to.
async fn agree(
    context: &Context<'_>,
    units: &Units,
    mut request: InitRequest,
) -> Result<InitRequest, ApiError> {
    let mut plan = show_plan(context, units, &request).await?;
    let host: HostReport = context.client.get(routes::HOST).await?;
    let open = host.pool.is_none() && request.pool_bytes.is_none() && request.data_device.is_none();
    if open && let Some(size) = ask_size(context)? {
        request.pool_bytes = Some(size.0);
        plan = show_plan(context, units, &request).await?;
    }
    if !plan.0.changes.iter().any(|change| change.changed) {
        return Ok(request);
    }
    match ask(context, "Change this? [y/N]")?
        .to_ascii_lowercase()
        .as_str()
    {
        "y" | "yes" => Ok(request),
        _ => Err(InitError::Declined.into()),
    }
}

async fn show_plan(
    context: &Context<'_>,
    units: &Units,
    request: &InitRequest,
) -> Result<Plan, ApiError> {
    let dry = InitRequest {
        dry_run: true,
        ..request.clone()
    };
    let mut changes = units.changes();
    changes.extend(post(context, &dry).await?.changes);
    let plan = Plan(InitReport {
        version: REPORT_VERSION,
        changes,
    });
    context.out.preview(&plan);
    Ok(plan)
}

/// Asks for the size of a new pool until it is one; nothing keeps what was shown.
fn ask_size(context: &Context<'_>) -> Result<Option<Bytes>, InitError> {
    loop {
        let answer = ask(context, "Size of the pool, such as 50G [as shown above]:")?;
        if answer.is_empty() {
            return Ok(None);
        }
        match answer.parse() {
            Ok(size) => return Ok(Some(size)),
            Err(error) => context.out.note(&format!("{error}")),
        }
    }
}

/// An answer; the end of the input is none, and means no.
fn ask(context: &Context<'_>, question: &str) -> Result<String, InitError> {
    let answer = context.out.ask(question);
    answer
        .map_err(|source| InitError::Question { source })?
        .ok_or(InitError::Declined)
}

async fn post(context: &Context<'_>, request: &InitRequest) -> Result<InitReport, ApiError> {
    let mut tell = |event| context.out.event(&event);
    context.out.busy("setting up this host");
    let report = context.client.post(routes::INIT, request, &mut tell).await;
    context.out.settled();
    Ok(report?)
}

async fn remove(context: &Context<'_>, units: &Units, yes: bool) -> CommandResult {
    if !yes {
        if !context.out.can_ask() {
            return Err(InitError::UnaskedRemove.into());
        }
        let question = "This removes the pool with all images, the network and the configuration of fvm.\n\
                        Type yes to go on:";
        if ask(context, question)? != "yes" {
            return Err(InitError::Declined.into());
        }
    }
    units.start().map_err(InitError::from)?;
    let mut tell = |event| context.out.event(&event);
    context.out.busy("removing");
    let report = context
        .client
        .command(Method::POST, routes::REMOVE, &mut tell)
        .await;
    context.out.settled();
    let mut report: RemoveReport = report?;
    let disabled = units.disable_daemon().map_err(InitError::from)?;
    report.changes.extend(disabled);
    context.out.report(&report);
    Ok(Exit::DONE)
}

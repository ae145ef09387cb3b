//! `fvm pool`: status, extend, check and repair.

use super::Context;
use crate::{
    exit::{CommandResult, Exit},
    quantity::disk_size,
};
use fvm_vmm::api::{
    ApiError, DiskSize, ErrorKind, ExtendPool, ExtendReport, PoolCheckReport, PoolStatusReport,
    RepairPool, RepairReport, routes,
};
use hyper::Method;
use serde::{Serialize, de::DeserializeOwned};

/// Arguments of `fvm pool`.
#[derive(Debug, clap::Args)]
pub(crate) struct Pool {
    #[command(subcommand)]
    command: PoolCommand,
}

/// What can be done with the pool.
#[derive(Debug, clap::Subcommand)]
enum PoolCommand {
    /// Show how the pool is: space, health, what it lies on
    Status(PoolStatus),
    /// Make the pool larger, while VMs run
    Extend(ExtendPoolArgs),
    /// Check the pool's metadata and compare them with fvm's store, while VMs run
    Check(CheckPool),
    /// Check the pool's metadata while nothing runs, and repair them if they are damaged
    Repair(RepairPoolArgs),
}

/// Arguments of `fvm pool status`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit status 0 if the pool is well, 5 if not.")]
struct PoolStatus {}

/// Arguments of `fvm pool extend`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A pool in a file gets its new size at once; VMs run on, and those that were paused because the pool was full go \
on. The file is sparse, but no more is promised than the file system below has room for. A pool on a block \
device is used whole: make the device larger first, then leave SIZE out. A pool cannot be made smaller.

Examples:
  sudo fvm pool extend 50G
  sudo fvm pool extend +10G
  sudo fvm pool extend            after the block device was made larger")]
struct ExtendPoolArgs {
    /// The new size, such as 50G, or how much is added, such as +10G
    #[arg(value_name = "SIZE", value_parser = disk_size)]
    size: Option<DiskSize>,
}

/// Arguments of `fvm pool check`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Changes nothing. Exit status 0 if all is sound, 1 if something was found.")]
struct CheckPool {}

/// Arguments of `fvm pool repair`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Stop all VMs first. If the metadata are sound, the kernel is told so where it wanted a check; if they are \
damaged, they are repaired to the spare, and the old ones are kept until the next repair. Nothing is changed \
where not everything can be saved for certain, unless --accept-loss is given.")]
struct RepairPoolArgs {
    /// Go on although volumes are lost, or may be in an older state
    #[arg(long)]
    accept_loss: bool,
}

impl Pool {
    pub(super) async fn run(self, context: &Context<'_>) -> CommandResult {
        match self.command {
            PoolCommand::Status(PoolStatus {}) => status(context).await,
            PoolCommand::Extend(extend) => extend.run(context).await,
            PoolCommand::Check(CheckPool {}) => check(context).await,
            PoolCommand::Repair(repair) => repair.run(context).await,
        }
    }
}

async fn status(context: &Context<'_>) -> CommandResult {
    let pool: PoolStatusReport = context.client.get(routes::POOL).await?;
    context.out.report(&pool);
    if pool.health == "ok" {
        Ok(Exit::DONE)
    } else {
        Ok(Exit::of(ErrorKind::HostNotAble))
    }
}

impl ExtendPoolArgs {
    async fn run(self, context: &Context<'_>) -> CommandResult {
        let request = ExtendPool { size: self.size };
        let report: ExtendReport =
            operation(context, routes::POOL_EXTEND, &request, "extending the pool").await?;
        context.out.report(&report);
        Ok(Exit::DONE)
    }
}

async fn check(context: &Context<'_>) -> CommandResult {
    context.out.busy("checking the pool");
    let mut tell = |event| context.out.event(&event);
    let report = context
        .client
        .command(Method::POST, routes::POOL_CHECK, &mut tell)
        .await;
    context.out.settled();
    let report: PoolCheckReport = report?;
    context.out.report(&report);
    if report.sound {
        Ok(Exit::DONE)
    } else {
        Ok(Exit::of(ErrorKind::Failed))
    }
}

impl RepairPoolArgs {
    async fn run(self, context: &Context<'_>) -> CommandResult {
        let request = RepairPool {
            accept_loss: self.accept_loss,
        };
        let report: RepairReport =
            operation(context, routes::POOL_REPAIR, &request, "repairing the pool").await?;
        context.out.report(&report);
        Ok(Exit::DONE)
    }
}

/// Has something done that takes time, showing events meanwhile.
async fn operation<R: DeserializeOwned>(
    context: &Context<'_>,
    path: &str,
    request: &impl Serialize,
    what: &str,
) -> Result<R, ApiError> {
    context.out.busy(what);
    let mut tell = |event| context.out.event(&event);
    let report = context.client.post(path, request, &mut tell).await;
    context.out.settled();
    Ok(report?)
}

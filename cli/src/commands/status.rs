//! `fvm status`

use super::Context;
use crate::exit::{CommandResult, Exit};
use fvm_vmm::api::{ErrorKind, HostReport, routes};

/// Arguments of `fvm status`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit status 0 if VMs can be made and run here, 5 if not.")]
pub(crate) struct Status {}

impl Status {
    pub(super) async fn run(self, context: &Context<'_>) -> CommandResult {
        let host: HostReport = context.client.get(routes::HOST).await?;
        context.out.report(&host);
        if host.initialised && host.trouble.is_none() {
            Ok(Exit::DONE)
        } else {
            Ok(Exit::of(ErrorKind::HostNotAble))
        }
    }
}

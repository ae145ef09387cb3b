//! `fvm list`

use super::Context;
use crate::exit::{CommandResult, Exit};
use fvm_vmm::api::{VmList, routes};

/// Arguments of `fvm list`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  fvm list
  fvm list --json | jq -r '.vms[] | select(.state == \"running\") | .address'")]
pub(crate) struct List {}

impl List {
    pub(super) async fn run(self, context: &Context<'_>) -> CommandResult {
        let list: VmList = context.client.get(routes::VMS).await?;
        context.out.report(&list);
        Ok(Exit::DONE)
    }
}

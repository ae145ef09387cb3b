//! `fvm info`

use super::Context;
use crate::{
    args::one_vm,
    exit::{CommandResult, Exit},
};
use fvm_vmm::api::{VmNumber, VmReport, routes};

/// Arguments of `fvm info`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  fvm info 42
  fvm info 42 --json | jq -r .address")]
pub(crate) struct Info {
    /// The VM
    #[arg(value_name = "NUM", value_parser = one_vm)]
    vm: VmNumber,
}

impl Info {
    pub(super) async fn run(self, context: &Context<'_>) -> CommandResult {
        let report: VmReport = context.client.get(&routes::vm(self.vm)).await?;
        context.out.report(&report);
        Ok(Exit::DONE)
    }
}

//! `fvm dumpxml`

use super::Context;
use crate::{
    args::one_vm,
    exit::{CommandResult, Exit},
};
use fvm_vmm::api::{VmNumber, VmXml, routes};

/// Arguments of `fvm dumpxml`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The XML is the VM's template with every name, MAC and PCI address and path filled in. It is the same before \
the first start and after it, so a hook can look up where a network card sits.

Examples:
  fvm dumpxml 42
  fvm dumpxml 42 | xmllint --xpath 'string(//interface/address/@slot)' -")]
pub(crate) struct DumpXml {
    /// The VM
    #[arg(value_name = "NUM", value_parser = one_vm)]
    vm: VmNumber,
}

impl DumpXml {
    pub(super) async fn run(self, context: &Context<'_>) -> CommandResult {
        let report: VmXml = context.client.get(&routes::xml(self.vm)).await?;
        context.out.report(&report);
        Ok(Exit::DONE)
    }
}

//! `fvm nic`: network cards that are added to VMs and taken from them.

use super::Context;
use crate::{
    args::one_vm,
    exit::{CommandResult, Exit},
};
use fvm_vmm::api::{AddNic, NetworkName, RemoveNic, VmNumber, VmReport, routes};

/// Arguments of `fvm nic`.
#[derive(Debug, clap::Args)]
pub(crate) struct Nic {
    #[command(subcommand)]
    command: NicCommand,
}

/// What can be done with network cards.
#[derive(Debug, clap::Subcommand)]
enum NicCommand {
    /// Give a VM one more network card
    Add(Add),
    /// Take a network card from a VM
    Remove(Remove),
}

/// Arguments of `fvm nic add`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A VM that runs has it at once, one that does not at its next start; it is the VM's from then on. Of a VM's cards on one \
network, the first has the VM's address by DHCP, further ones get none.

Examples:
  fvm nic add 42 --network lab
  fvm nic add 42 --model e1000e")]
struct Add {
    /// The VM
    #[arg(value_name = "NUM", value_parser = one_vm)]
    vm: VmNumber,
    /// The network (`fvm net list`); without it, the one that LIBVIRT_NETWORK stands for
    #[arg(long, value_name = "NAME")]
    network: Option<NetworkName>,
    /// What the guest sees: virtio, e1000e, igb, e1000, rtl8139, vmxnet3
    #[arg(long, default_value = "virtio")]
    model: String,
}

/// Arguments of `fvm nic remove`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The guest of a VM that runs has to let go of the card, which one that is booting or paused cannot.

Examples:
  fvm nic remove 42 1")]
struct Remove {
    /// The VM
    #[arg(value_name = "NUM", value_parser = one_vm)]
    vm: VmNumber,
    /// The card, counted from 0 (`fvm info`)
    #[arg(value_name = "CARD")]
    card: u32,
}

impl Nic {
    pub(super) async fn run(self, context: &Context<'_>) -> CommandResult {
        let mut tell = |event| context.out.event(&event);
        match self.command {
            NicCommand::Add(Add { vm, network, model }) => {
                let request = AddNic { vm, network, model };
                let path = routes::ADD_NIC;
                let report: VmReport = context.client.post(path, &request, &mut tell).await?;
                context.out.report(&report);
            }
            NicCommand::Remove(Remove { vm, card }) => {
                let request = RemoveNic { vm, card };
                let path = routes::REMOVE_NIC;
                let report: VmReport = context.client.post(path, &request, &mut tell).await?;
                let text = format!("VM {vm} has no card {card} any more");
                context.out.summary(&report, &text);
            }
        }
        Ok(Exit::DONE)
    }
}

//! `fvm forward`: ports of the host that lead to VMs.

use super::Context;
use crate::exit::{CommandResult, Exit};
use fvm_vmm::api::{AddForward, ForwardList, ForwardPlan, ForwardReport, NetPort, routes};
use std::num::NonZeroU16;

/// Arguments of `fvm forward`.
#[derive(Debug, clap::Args)]
pub(crate) struct Forward {
    #[command(subcommand)]
    command: ForwardCommand,
}

/// What can be done with forwards.
#[derive(Debug, clap::Subcommand)]
enum ForwardCommand {
    /// Have a port of the host lead to a port of a VM
    Add(Add),
    /// List all forwards
    List(ListForwards),
    /// Have a port of the host lead nowhere any more
    Delete(Delete),
}

/// Arguments of `fvm forward add`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Others reach the VM at every address of this host; the host itself does too, but not by localhost. A forward stays over reboots, \
whether its VM runs or not, and goes with the VM. Ports below 1024 are for root alone.

Examples:
  fvm forward add 2242:42:22
  fvm forward add 5342:42:53 --udp")]
struct Add {
    /// The host's port, the VM and its port
    #[arg(value_name = "HOSTPORT:NUM:PORT")]
    plan: ForwardPlan,
    /// UDP instead of TCP
    #[arg(long)]
    udp: bool,
}

/// Arguments of `fvm forward list`.
#[derive(Debug, clap::Args)]
struct ListForwards {}

/// Arguments of `fvm forward delete`.
#[derive(Debug, clap::Args)]
struct Delete {
    /// The host's port
    #[arg(value_name = "HOSTPORT")]
    port: NonZeroU16,
    /// UDP instead of TCP
    #[arg(long)]
    udp: bool,
}

impl Forward {
    pub(super) async fn run(self, context: &Context<'_>) -> CommandResult {
        let mut tell = |event| context.out.event(&event);
        let (report, what) = match self.command {
            ForwardCommand::List(ListForwards {}) => {
                let list: ForwardList = context.client.get(routes::FORWARDS).await?;
                context.out.report(&list);
                return Ok(Exit::DONE);
            }
            ForwardCommand::Add(Add { plan, udp }) => {
                let request = AddForward {
                    udp,
                    host_port: plan.host_port,
                    vm: plan.vm,
                    vm_port: plan.vm_port,
                };
                let path = routes::ADD_FORWARD;
                let report: ForwardReport = context.client.post(path, &request, &mut tell).await?;
                (report, "leads to")
            }
            ForwardCommand::Delete(Delete { port, udp }) => {
                let request = NetPort {
                    udp,
                    port: port.get(),
                };
                let path = routes::DELETE_FORWARD;
                let report: ForwardReport = context.client.post(path, &request, &mut tell).await?;
                (report, "leads no more to")
            }
        };
        let text = format!(
            "{} port {} {what} port {} of VM {}",
            report.protocol.to_uppercase(),
            report.host_port,
            report.vm_port,
            report.vm
        );
        context.out.summary(&report, &text);
        Ok(Exit::DONE)
    }
}

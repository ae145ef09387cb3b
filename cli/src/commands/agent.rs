//! `fvm agent`: what the agents in guests are asked.

use super::Context;
use crate::{
    args::one_vm,
    exit::{CommandResult, Exit},
    quantity::Seconds,
};
use fvm_vmm::api::{AgentAnswer, AgentReport, AskAgent, VmNumber, routes};

/// Arguments of `fvm agent`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The guest needs qemu-guest-agent, and its VM the channel that the shipped templates have. What it answers is a guest's word: it may \
be wrong, or a lie.")]
pub(crate) struct Agent {
    #[command(subcommand)]
    command: AgentCommand,
}

/// What agents are asked.
#[derive(Debug, clap::Subcommand)]
enum AgentCommand {
    /// Whether it is there
    Ping(OneVm),
    /// What the guest's clock shows
    Time(OneVm),
    /// Set the guest's clock by the host's
    SetTime(OneVm),
    /// Which network cards and addresses the guest has
    Addresses(OneVm),
    /// Run a program in the guest, without network or ssh
    Exec(Exec),
}

/// The VM that is meant.
#[derive(Debug, clap::Args)]
struct OneVm {
    /// The VM
    #[arg(value_name = "NUM", value_parser = one_vm)]
    vm: VmNumber,
}

/// Arguments of `fvm agent exec`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The program runs as the agent's user, which is root as a rule, without a shell and without input. What it printed is shown once it \
has ended, up to some 700 KiB of it; fvm ends with its exit status. A program that takes longer than --timeout goes on in the guest.

Examples:
  fvm agent exec 42 -- ip -brief address
  fvm agent exec 42 --timeout 10m -- sh -c 'apt-get update && apt-get install -y nginx'")]
struct Exec {
    /// The VM
    #[arg(value_name = "NUM", value_parser = one_vm)]
    vm: VmNumber,
    /// How long the program may take
    #[arg(long, value_name = "TIME", default_value = "60s")]
    timeout: Seconds,
    /// The program and its arguments
    #[arg(value_name = "COMMAND", required = true, last = true)]
    command: Vec<String>,
}

impl Agent {
    pub(super) async fn run(self, context: &Context<'_>) -> CommandResult {
        let (vm, request) = match self.command {
            AgentCommand::Ping(OneVm { vm }) => (vm, AskAgent::Ping),
            AgentCommand::Time(OneVm { vm }) => (vm, AskAgent::Time),
            AgentCommand::SetTime(OneVm { vm }) => (vm, AskAgent::SetTime),
            AgentCommand::Addresses(OneVm { vm }) => (vm, AskAgent::Addresses),
            AgentCommand::Exec(exec) => {
                let mut words = exec.command.into_iter();
                let request = AskAgent::Exec {
                    program: words.next().unwrap_or_default(),
                    arguments: words.collect(),
                    timeout_s: exec.timeout.0,
                };
                (exec.vm, request)
            }
        };
        context.out.busy(&format!("asking the guest of VM {vm}"));
        let mut tell = |event| context.out.event(&event);
        let report = context
            .client
            .post(&routes::agent(vm), &request, &mut tell)
            .await;
        context.out.settled();
        let report: AgentReport = report?;
        let AgentAnswer::Ended(exit) = &report.answer else {
            context.out.report(&report);
            return Ok(Exit::DONE);
        };
        context.out.guest_exit(&report, exit);
        Ok(match (exit.status, exit.signal) {
            (Some(status), _) => Exit::of_program(i32::try_from(status).unwrap_or(1)),
            (None, Some(signal)) => Exit::signal(i32::try_from(signal).unwrap_or(0)),
            (None, None) => Exit::of_program(1),
        })
    }
}

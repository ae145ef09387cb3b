//! `fvm start`

use super::Context;
use crate::{
    args::Vms,
    exit::{CommandResult, Exit},
    quantity::Seconds,
    wait::{Goal, Ready, Wait},
};
use fvm_vmm::api::{ApiError, BatchReport, StartVms, VmNumber, VmOutcome, routes};
use tokio::task::JoinSet;

/// Arguments of `fvm start`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without --wait, a VM counts as started when its processors run. With it, this command ends when every \
VM has its address (lease) or answers on its ssh port (ssh), or with the reason why one does not: what \
its DHCP client has asked and was answered, and the last lines of its console.

Examples:
  fvm start 42 --wait ssh
  fvm start 50-59 --wait lease --timeout 5m")]
pub(crate) struct Start {
    #[command(flatten)]
    vms: Vms,
    /// Wait until each VM has got this far
    #[arg(short, long, value_name = "GOAL")]
    wait: Option<Goal>,
    /// How long to wait at most
    #[arg(long, value_name = "TIME", default_value = "120s", requires = "wait")]
    timeout: Seconds,
}

impl Start {
    pub(super) async fn run(self, context: &Context<'_>) -> CommandResult {
        let request = StartVms {
            vms: self.vms.union()?,
        };
        let what = format!("starting {}", request.vms);
        match self.wait {
            None => context.whole_batch(routes::START, &request, &what).await,
            Some(goal) => {
                let mut report = context.batch(routes::START, &request, &what).await?;
                wait_for_all(context, &mut report, goal, self.timeout).await;
                if context.out.json() {
                    context.out.batch(&report);
                }
                Ok(Exit::of_batch(&report))
            }
        }
    }
}

/// Waits for every VM that was started, and enters what came of it into the report.
///
/// As text, each is shown as soon as it is known.
async fn wait_for_all(
    context: &Context<'_>,
    report: &mut BatchReport,
    goal: Goal,
    timeout: Seconds,
) {
    let started = report.outcomes.iter().filter(|o| o.error.is_none());
    let numbers: Vec<VmNumber> = started.map(|outcome| outcome.vm).collect();
    let mut waits = JoinSet::new();
    for &vm in &numbers {
        let wait = Wait::new(context.client.clone(), vm, goal, timeout, numbers.len());
        waits.spawn(async move { (vm, wait.run().await) });
    }
    for outcome in report.outcomes.iter().filter(|o| o.error.is_some()) {
        show(context, report.action, outcome, None);
    }
    context.out.busy(&waiting(goal, &numbers, numbers.len()));
    while let Some(ended) = waits.join_next().await {
        // A wait that panicked has been shown as the bug it is; its VM did start.
        let Ok((vm, result)) = ended else { continue };
        context
            .out
            .still_busy(&waiting(goal, &numbers, waits.len()));
        let Some(outcome) = report.outcomes.iter_mut().find(|o| o.vm == vm) else {
            continue;
        };
        let note = enter(outcome, result);
        let outcome = outcome.clone();
        show(context, report.action, &outcome, note.as_deref());
    }
    context.out.settled();
}

fn waiting(goal: Goal, numbers: &[VmNumber], left: usize) -> String {
    match numbers {
        [one] => format!("waiting for {goal} of VM {one}"),
        all => format!("waiting for {goal}: {left} of {} VMs to come", all.len()),
    }
}

/// Enters the end of a wait into the VM's outcome; returns what to say of a success.
fn enter(outcome: &mut VmOutcome, result: Result<Ready, ApiError>) -> Option<String> {
    match result {
        Ok(ready) => {
            let note = ready.to_string();
            outcome.report = Some(ready.vm);
            Some(note)
        }
        Err(error) => {
            outcome.error = Some(error);
            None
        }
    }
}

fn show(
    context: &Context<'_>,
    action: fvm_vmm::api::Action,
    outcome: &VmOutcome,
    note: Option<&str>,
) {
    if !context.out.json() {
        context.out.outcome(action, outcome, note);
    }
}

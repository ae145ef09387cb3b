//! `fvm start`

use super::{Context, keydist::distribute, ssh::run_script};
use crate::{
    args::Vms,
    exit::{CommandResult, Exit},
    quantity::Seconds,
    ssh::{Login, become_command},
    wait::{Goal, Ready, Wait},
};
use fvm_vmm::api::{
    ApiError, BatchReport, ErrorKind, StartVms, VmNumber, VmOutcome, VmReport, VmSet, routes,
};
use std::path::PathBuf;
use tokio::task::JoinSet;

/// Arguments of `fvm start`.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("after").args(["wait", "then"]).multiple(true))]
#[command(after_help = "\
Without --wait, a VM counts as started when its processors run. With it, this command ends when every \
VM has its address (lease) or answers on its ssh port (ssh), or with the reason why one does not: what \
its DHCP client has asked and was answered, and the last lines of its console.

`fvm start 42 ssh`, `console` and `keydist`, as fast-vm writes it, go on with that.

Examples:
  fvm start 42 --wait ssh
  fvm start 42 ssh
  fvm start 50-59 --then ssh --script ./set-up.sh
  fvm start 50-59 --wait lease --timeout 5m")]
pub(crate) struct Start {
    #[command(flatten)]
    vms: Vms,
    /// Wait until each VM has got this far
    #[arg(short, long, value_name = "GOAL")]
    wait: Option<Goal>,
    /// Go on with this once they run
    #[arg(long, value_name = "WHAT")]
    then: Option<Then>,
    /// With --then ssh: run this program here, for each VM, with its address, instead of logging in
    #[arg(long, value_name = "FILE", requires = "then")]
    script: Option<PathBuf>,
    /// How long to wait at most
    #[arg(long, value_name = "TIME", default_value = "120s", requires = "after")]
    timeout: Seconds,
}

/// What to go on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Then {
    /// Its serial console
    Console,
    /// Giving it your key
    Keydist,
    /// Logging in as root
    Ssh,
}

impl Start {
    pub(super) async fn run(self, context: &Context<'_>) -> CommandResult {
        let request = StartVms {
            vms: self.vms.resolve(&context.client).await?,
        };
        if let Some(then) = self.then {
            check_then(
                then,
                self.script.is_some(),
                &request.vms,
                context.out.json(),
            )?;
            let goal = (then == Then::Ssh).then_some(Goal::Ssh).or(self.wait);
            return start_then(context, &request, goal, then, self.script, self.timeout).await;
        }
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

/// Refuses what cannot be gone on with, before anything is started.
fn check_then(then: Then, script: bool, vms: &VmSet, json: bool) -> Result<(), ApiError> {
    let usage = |message: String| Err(ApiError::new(ErrorKind::Usage, message));
    let alone = match then {
        Then::Console => true,
        Then::Ssh => !script,
        Then::Keydist => false,
    };
    if script && then != Then::Ssh {
        return usage("a script goes with --then ssh".to_owned());
    }
    if alone && vms.numbers().len() > 1 {
        return usage(format!(
            "'{vms}' names several VMs, and the terminal takes one"
        ));
    }
    if json {
        return usage("what is gone on with has no JSON: start with --json first".to_owned());
    }
    Ok(())
}

/// Starts VMs and goes on with those that came up.
async fn start_then(
    context: &Context<'_>,
    request: &StartVms,
    goal: Option<Goal>,
    then: Then,
    script: Option<PathBuf>,
    timeout: Seconds,
) -> CommandResult {
    let what = format!("starting {}", request.vms);
    let mut report = context.batch(routes::START, request, &what).await?;
    match goal {
        Some(goal) => wait_for_all(context, &mut report, goal, timeout).await,
        None => context.out.batch(&report),
    }
    let started = Exit::of_batch(&report);
    let up = report
        .outcomes
        .into_iter()
        .filter(|outcome| outcome.error.is_none());
    let vms: Vec<VmReport> = up.filter_map(|outcome| outcome.report).collect();
    let Ok(numbers) = VmSet::try_from(vms.iter().map(|vm| vm.number).collect::<Vec<_>>()) else {
        return Ok(started);
    };
    let root = || "root".to_owned();
    let went = match (then, script, vms.as_slice()) {
        (Then::Ssh, Some(script), vms) => run_script(context, vms, &script).await?,
        (Then::Ssh, None, [vm, ..]) => {
            let login = Login {
                jump: context.client.jump(),
                user: root(),
                key: None,
            };
            return Err(become_command(login.command(vm.address, &[])).into());
        }
        (Then::Console, _, [vm, ..]) => {
            super::console::attach(context, vm.number, false, None).await?
        }
        _ => distribute(context, &numbers, root(), timeout).await?,
    };
    Ok(if started == Exit::DONE { went } else { started })
}

/// Waits for every VM that was started, and enters what came of it into the report.
///
/// As text, each is shown as soon as it is known.
pub(super) async fn wait_for_all(
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

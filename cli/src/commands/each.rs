//! Programs that are run once for each of several VMs, side by side.

use super::Context;
use crate::{
    exit::{CommandResult, Exit},
    output::{Look, Show},
    ssh::SshError,
};
use fvm_vmm::api::{
    ApiError, ErrorKind, REPORT_VERSION, VmNumber, VmReport, VmSet, VmState, routes,
};
use serde::Serialize;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use tokio::task::JoinSet;

/// What came of a program that was run for several VMs.
#[derive(Debug, Serialize)]
struct EachReport {
    version: u32,
    runs: Vec<Run>,
}

/// What came of one.
#[derive(Debug, Serialize)]
struct Run {
    vm: VmNumber,
    /// As shells count it.
    status: i32,
    stdout: String,
    stderr: String,
}

impl Show for EachReport {
    fn show(&self, _look: &Look) -> String {
        let lines = |run: &Run, text: &str| {
            text.lines()
                .map(|line| {
                    let line: String = line
                        .chars()
                        .map(|c| {
                            if c.is_control() && c != '\t' {
                                '\u{fffd}'
                            } else {
                                c
                            }
                        })
                        .collect();
                    format!("{}: {line}\n", run.vm)
                })
                .collect::<String>()
        };
        self.runs
            .iter()
            .map(|run| match run.status {
                0 => format!("{}{}: done\n", lines(run, &run.stdout), run.vm),
                status => format!(
                    "{}{}{}: ended with {status}\n",
                    lines(run, &run.stdout),
                    lines(run, &run.stderr),
                    run.vm
                ),
            })
            .collect()
    }
}

/// A VM that somebody can log in to, or why not.
pub(super) async fn running(context: &Context<'_>, number: VmNumber) -> Result<VmReport, ApiError> {
    let vm: VmReport = context.client.get(&routes::vm(number)).await?;
    if !vm.state.is_active() {
        return Err(not_running(&vm));
    }
    context.warn_of_end(&vm);
    Ok(vm)
}

/// Why nobody can log in to a VM that does not run.
pub(super) fn not_running(vm: &VmReport) -> ApiError {
    let (number, state) = (vm.number, vm.state);
    let hint = match state {
        VmState::Expired => format!("`fvm undelete {number}` brings it back"),
        _ => format!("start it with `fvm start {number} --wait ssh`"),
    };
    let message = format!("VM {number} is not running, it is {state}");
    ApiError::new(ErrorKind::Refused, message).hint(hint)
}

/// The same of several, before anything is done with any.
pub(super) async fn all_running(
    context: &Context<'_>,
    vms: &VmSet,
) -> Result<Vec<VmReport>, ApiError> {
    let mut reports = Vec::new();
    for &number in vms.numbers() {
        reports.push(running(context, number).await?);
    }
    Ok(reports)
}

/// The status of a program, as shells count it.
pub(super) fn status_of(status: ExitStatus) -> i32 {
    status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap_or(1)
}

/// Runs a command for each VM. One has the terminal for itself; several are told of when all have ended.
pub(super) async fn run_for_each(
    context: &Context<'_>,
    vms: &[VmReport],
    what: &str,
    command: impl Fn(&VmReport) -> Command,
) -> CommandResult {
    if let ([vm], false) = (vms, context.out.json()) {
        let mut command = command(vm);
        let status = command
            .status()
            .map_err(|source| SshError::new(command.get_program(), source))?;
        return Ok(Exit::of_program(status_of(status)));
    }
    let mut running = JoinSet::new();
    for vm in vms {
        let (number, mut command) = (vm.number, command(vm));
        command.stdin(Stdio::null());
        running.spawn_blocking(move || {
            let output = command
                .output()
                .map_err(|source| SshError::new(command.get_program(), source))?;
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            Ok::<_, SshError>(Run {
                vm: number,
                status: status_of(output.status),
                stdout: text(&output.stdout),
                stderr: text(&output.stderr),
            })
        });
    }
    context.out.busy(what);
    let mut runs = Vec::new();
    let mut failure = None;
    while let Some(ended) = running.join_next().await {
        match ended {
            Ok(Ok(run)) => runs.push(run),
            Ok(Err(error)) => failure = Some(ApiError::from(error)),
            Err(_) => failure = Some(crate::exit::bug()),
        }
    }
    context.out.settled();
    if let Some(error) = failure {
        return Err(error);
    }
    runs.sort_by_key(|run| run.vm);
    let failed = runs.iter().any(|run| run.status != 0);
    context.out.report(&EachReport {
        version: REPORT_VERSION,
        runs,
    });
    Ok(if failed {
        Exit::of(ErrorKind::Failed)
    } else {
        Exit::DONE
    })
}

//! `fvm exec`: one command in many VMs at once, through ssh.

use super::{Context, each::not_running};
use crate::{
    args::Vms,
    exit::{CommandResult, Exit},
    output::{ExecOutcome, ExecReport},
    quantity::Seconds,
    ssh::{Login, SshError},
};
use fvm_vmm::api::{ApiError, ErrorKind, REPORT_VERSION, VmList, VmNumber, VmReport, routes};
use std::{ffi::OsString, path::PathBuf, process::Stdio, sync::Arc};
use tokio::{sync::Semaphore, task::JoinHandle, time::timeout};

/// The exit status of `ssh` when it failed itself.
const SSH_FAILED: u8 = 255;

/// Arguments of `fvm exec`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The command runs in all VMs at the same time, with nothing on its standard input, and ssh asks no questions: log-ins \
are by key. What it prints is shown VM by VM, by number, each line with the VM's number before it; both streams \
are kept apart.

The exit status is the largest of all: that of the command in each VM, 255 where ssh failed, and the usual one where \
a VM is not there (3) or does not run (4).

Examples:
  fvm exec 50-59 -- uptime
  fvm exec -i ~/.ssh/lab 42,44 -- 'apt-get -y install nginx'
  fvm exec 50-59 --json -- cat /etc/hostname | jq -r '.outcomes[].stdout'")]
pub(crate) struct Exec {
    #[command(flatten)]
    vms: Vms,
    /// The private key to log in with, instead of ssh's own choice
    #[arg(short, value_name = "KEY")]
    identity: Option<PathBuf>,
    /// The user to log in as
    #[arg(short, value_name = "USER", default_value = "root")]
    login: String,
    /// How many VMs at the same time
    #[arg(short, long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..))]
    jobs: u16,
    /// How long it may take in each VM
    #[arg(long, value_name = "TIME")]
    timeout: Option<Seconds>,
    /// The command
    #[arg(value_name = "CMD", required = true, last = true)]
    command: Vec<OsString>,
}

impl Exec {
    pub(super) async fn run(self, context: &Context<'_>) -> CommandResult {
        let numbers = self.vms.resolve(&context.client).await?.numbers().to_vec();
        let list: VmList = context.client.get(routes::VMS).await?;
        let login = Arc::new(Login {
            user: self.login,
            key: self.identity,
            jump: context.client.jump(),
        });
        let command: Arc<[OsString]> = self.command.into();
        let places = Arc::new(Semaphore::new(self.jobs.into()));
        let begun: Vec<(VmNumber, Result<JoinHandle<ExecOutcome>, ApiError>)> = numbers
            .into_iter()
            .map(|number| {
                let begun = running(&list, number).map(|vm| {
                    context.warn_of_end(&vm);
                    let place = places.clone();
                    let (login, command) = (login.clone(), command.clone());
                    tokio::spawn(async move {
                        // Never closed, so always granted.
                        let _place = place.acquire_owned().await;
                        run_in(&vm, &login, &command, self.timeout).await
                    })
                });
                (number, begun)
            })
            .collect();
        context.out.busy("running it in every VM");
        let mut outcomes = Vec::new();
        for (number, begun) in begun {
            let outcome = match begun {
                Ok(task) => task
                    .await
                    .unwrap_or_else(|_| failed(number, crate::exit::bug())),
                Err(error) => failed(number, error),
            };
            if !context.out.json() {
                context.out.executed(&outcome);
            }
            outcomes.push(outcome);
        }
        context.out.settled();
        let worst = outcomes.iter().map(status).max().unwrap_or(0);
        if context.out.json() {
            context.out.json_report(&ExecReport {
                version: REPORT_VERSION,
                outcomes,
            });
        }
        Ok(Exit::status(worst))
    }
}

/// The exit status of one VM.
fn status(outcome: &ExecOutcome) -> u8 {
    let error = outcome.error.as_ref().map(|error| error.kind.exit_code());
    outcome.status.or(error).unwrap_or(0)
}

fn failed(vm: VmNumber, error: ApiError) -> ExecOutcome {
    ExecOutcome {
        vm,
        status: None,
        stdout: String::new(),
        stderr: String::new(),
        error: Some(error),
    }
}

/// The VM, if something can be run in it.
fn running(list: &VmList, number: VmNumber) -> Result<VmReport, ApiError> {
    let found = list.vms.iter().find(|vm| vm.number == number);
    let vm = found.ok_or_else(|| {
        ApiError::new(ErrorKind::NotFound, format!("there is no VM {number}"))
            .hint("`fvm list` shows the VMs that there are")
    })?;
    match vm.state.is_active() {
        true => Ok(vm.clone()),
        false => Err(not_running(vm)),
    }
}

async fn run_in(
    vm: &VmReport,
    login: &Login,
    command: &[OsString],
    limit: Option<Seconds>,
) -> ExecOutcome {
    let number = vm.number;
    // It asks no questions.
    let mut ssh = std::process::Command::new("ssh");
    ssh.args(["-T", "-o", "BatchMode=yes"]);
    ssh.args(login.command(vm.address, command).get_args());
    let output = tokio::process::Command::from(ssh)
        .stdin(Stdio::null())
        // One that takes too long is ended when it is dropped.
        .kill_on_drop(true)
        .output();
    let ended = match limit {
        None => Ok(output.await),
        Some(limit) => timeout(limit.duration(), output).await.map_err(|_| limit),
    };
    let output = match ended {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return failed(number, SshError::new("ssh".as_ref(), error).into()),
        Err(limit) => {
            let message = format!("the command did not end within {limit} and was given up");
            return failed(number, ApiError::new(ErrorKind::Failed, message));
        }
    };
    let status = output
        .status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .unwrap_or(SSH_FAILED);
    let error = match status {
        0 => None,
        SSH_FAILED => Some(
            ApiError::new(
                ErrorKind::Failed,
                "ssh failed, or the command ended with 255",
            )
            .hint(format!(
                "`fvm ssh {number}` shows more; log-ins here are by key only"
            )),
        ),
        other => Some(ApiError::new(
            ErrorKind::Failed,
            format!("the command ended with exit status {other}"),
        )),
    };
    ExecOutcome {
        vm: number,
        status: Some(status),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        error,
    }
}

//! `fvm ssh`

use super::{
    Context,
    each::{all_running, run_for_each, running},
};
use crate::{
    exit::CommandResult,
    ssh::{Login, become_command},
    vm_names::VmNames,
};
use fvm_vmm::api::{ApiError, ErrorKind, VmReport};
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

/// Arguments of `fvm ssh`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The VM's host key is not checked: a VM of the same number has a new one each time. The exit status is \
that of ssh, which is that of the command.

With --script, a program on this host is run for each VM instead, with the VM's address as its argument.

Examples:
  fvm ssh 42
  fvm ssh -i ~/.ssh/lab 42 -- uname -a
  fvm ssh -l admin 42 -- 'cat /etc/os-release'
  fvm ssh 42,43 --script ./set-up.sh")]
pub(crate) struct Ssh {
    /// The private key to log in with, instead of ssh's own choice
    #[arg(short, value_name = "KEY")]
    identity: Option<PathBuf>,
    /// The user to log in as
    #[arg(short, value_name = "USER", default_value = "root")]
    login: String,
    /// Run this program here, for each VM, with its address
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
    /// The VM; with --script, also several
    #[arg(value_name = "NUM")]
    vms: VmNames,
    /// A command to run there, instead of a shell
    #[arg(
        value_name = "CMD",
        trailing_var_arg = true,
        allow_hyphen_values = true,
        conflicts_with = "script"
    )]
    command: Vec<OsString>,
}

impl Ssh {
    pub(super) async fn run(self, context: &Context<'_>) -> CommandResult {
        let vms = self.vms.resolve(&context.client).await?;
        if let Some(script) = &self.script {
            let vms = all_running(context, &vms).await?;
            return run_script(context, &vms, script).await;
        }
        let &[number] = vms.numbers() else {
            let message = format!("'{vms}' names several VMs: this command takes one");
            return Err(ApiError::new(ErrorKind::Usage, message));
        };
        let vm = running(context, number).await?;
        let login = Login {
            user: self.login,
            key: self.identity,
            jump: context.client.jump(),
        };
        Err(become_command(login.command(vm.address, &self.command)).into())
    }
}

/// Runs a program of this host for each VM, with the VM's address as its argument.
pub(super) async fn run_script(
    context: &Context<'_>,
    vms: &[VmReport],
    script: &Path,
) -> CommandResult {
    // By its path, also without a slash in it: what is in PATH by the same name is not meant.
    let path = std::path::absolute(script).map_err(|error| crate::exit::of_file(script, &error))?;
    let what = format!("running {}", script.display());
    run_for_each(context, vms, &what, |vm| {
        let mut command = Command::new(&path);
        command.arg(vm.address.to_string());
        command
    })
    .await
}

//! `fvm ssh`

use super::Context;
use crate::{
    args::one_vm,
    exit::CommandResult,
    ssh::{Login, become_ssh},
};
use fvm_vmm::api::{ApiError, ErrorKind, VmNumber, VmReport, VmState, routes};
use std::{ffi::OsString, path::PathBuf};

/// Arguments of `fvm ssh`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The VM's host key is not checked: a VM of the same number has a new one each time. The exit status is \
that of ssh, which is that of the command.

Examples:
  fvm ssh 42
  fvm ssh -i ~/.ssh/lab 42 -- uname -a
  fvm ssh -l admin 42 -- 'cat /etc/os-release'")]
pub(crate) struct Ssh {
    /// The private key to log in with, instead of ssh's own choice
    #[arg(short, value_name = "KEY")]
    identity: Option<PathBuf>,
    /// The user to log in as
    #[arg(short, value_name = "USER", default_value = "root")]
    login: String,
    /// The VM
    #[arg(value_name = "NUM", value_parser = one_vm)]
    vm: VmNumber,
    /// A command to run there, instead of a shell
    #[arg(
        value_name = "CMD",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    command: Vec<OsString>,
}

impl Ssh {
    pub(super) async fn run(self, context: &Context<'_>) -> CommandResult {
        let vm: VmReport = context.client.get(&routes::vm(self.vm)).await?;
        let number = vm.number;
        if matches!(
            vm.state,
            VmState::Stopped | VmState::Crashed | VmState::Deleting
        ) {
            let message = format!("VM {number} is not running, it is {}", vm.state);
            let hint = format!("start it with `fvm start {number} --wait ssh`");
            return Err(ApiError::new(ErrorKind::Refused, message).hint(hint));
        }
        let login = Login {
            user: self.login,
            key: self.identity,
        };
        Err(become_ssh(&login, vm.address, &self.command).into())
    }
}

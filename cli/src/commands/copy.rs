//! `fvm scp` and `fvm rsync`: files to VMs and from them.

use super::{
    Context,
    each::{all_running, run_for_each},
};
use crate::{exit::CommandResult, ssh::Login, vm_names::VmNames};
use fvm_vmm::api::{ApiError, ErrorKind, VmReport};
use std::{
    ffi::OsString,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::PathBuf,
    process::Command,
};

/// What stands for the VM in a path.
const VM: &[u8] = b"vm:";

/// Arguments of `fvm scp`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A path that begins with vm: is one in the VM. Directories are copied with all that is in them. With several VMs, \
all copy side by side; copy into a directory of its own then, {} stands for the VM's number. Host keys are not checked.

Examples:
  fvm scp 42 setup.sh vm:/root/
  fvm scp 42 vm:/var/log/syslog vm:/etc .
  fvm scp 42,50-59 app.tar.gz vm:/srv/
  fvm scp 42,43 vm:/var/log/syslog syslog-{}")]
pub(crate) struct Scp {
    #[command(flatten)]
    copy: Copy,
}

/// Arguments of `fvm rsync`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A path that begins with vm: is one in the VM. rsync is called with --archive --partial --info=progress2; more of its \
options stand after --. It has to be installed in the VM too.

Examples:
  fvm rsync 42 src/ vm:/srv/src/
  fvm rsync 42,50-59 -- --delete --exclude=.git src/ vm:/srv/src/")]
pub(crate) struct Rsync {
    #[command(flatten)]
    copy: Copy,
}

/// What both take.
#[derive(Debug, clap::Args)]
struct Copy {
    /// The private key to log in with, instead of ssh's own choice
    #[arg(short, value_name = "KEY")]
    identity: Option<PathBuf>,
    /// The user to log in as
    #[arg(short, value_name = "USER", default_value = "root")]
    login: String,
    /// VM numbers: 42, 42,44 or 50-59; @web for all of the group web
    #[arg(value_name = "NUM")]
    vms: VmNames,
    /// What to copy, and last where to; vm:PATH is a path in the VM
    #[arg(value_name = "PATH", required = true, num_args = 2.., trailing_var_arg = true)]
    paths: Vec<OsString>,
}

impl Scp {
    pub(super) async fn run(self, context: &Context<'_>) -> CommandResult {
        self.copy
            .run(context, |login| {
                let mut scp = Command::new("scp");
                scp.args(login.options()).args(["-r", "--"]);
                scp
            })
            .await
    }
}

impl Rsync {
    pub(super) async fn run(self, context: &Context<'_>) -> CommandResult {
        self.copy
            .run(context, |login| {
                let mut rsync = Command::new("rsync");
                rsync.args(["--archive", "--partial", "--info=progress2", "-e"]);
                rsync.arg(shell_words("ssh", &login.options()));
                rsync
            })
            .await
    }
}

impl Copy {
    async fn run(
        self,
        context: &Context<'_>,
        program: impl Fn(&Login) -> Command,
    ) -> CommandResult {
        let set = self.vms.resolve(&context.client).await?;
        let in_vm = |path: &OsString| path.as_bytes().starts_with(VM);
        let usage =
            |message: &str, hint: &str| Err(ApiError::new(ErrorKind::Usage, message).hint(hint));
        if !self.paths.iter().any(in_vm) {
            return usage(
                "none of these paths is in the VM",
                "write vm: before those that are: `fvm scp 42 file vm:/root/`",
            );
        }
        let many = set.numbers().len() > 1;
        let last = self.paths.last();
        if many && last.is_some_and(|last| !in_vm(last) && !last.to_string_lossy().contains("{}")) {
            return usage(
                "several VMs would write to the same place",
                "{} in the last path stands for the VM's number: `fvm scp 42,43 vm:/etc/hosts hosts-{}`",
            );
        }
        let vms = all_running(context, &set).await?;
        let login = Login {
            jump: context.client.jump(),
            user: self.login,
            key: self.identity,
        };
        let what = format!("copying with {set}");
        run_for_each(context, &vms, &what, |vm| {
            let mut command = program(&login);
            let last = self.paths.len() - 1;
            for (at, path) in self.paths.iter().enumerate() {
                command.arg(place(path, &login.user, vm, many && at == last));
            }
            command
        })
        .await
    }
}

/// A path as scp and rsync want it.
fn place(path: &OsString, user: &str, vm: &VmReport, numbered: bool) -> OsString {
    match path.as_bytes().strip_prefix(VM) {
        Some(rest) => {
            let mut place = format!("{user}@{}:", vm.address).into_bytes();
            place.extend_from_slice(rest);
            OsString::from_vec(place)
        }
        None if numbered => path
            .to_string_lossy()
            .replace("{}", &vm.number.to_string())
            .into(),
        None => path.clone(),
    }
}

/// A command line for rsync's `-e`, which splits it at blanks outside quotes.
fn shell_words(program: &str, words: &[OsString]) -> OsString {
    let mut line = OsString::from(program);
    for word in words {
        line.push(" '");
        // rsync takes two quotes within quotes for one.
        line.push(word.to_string_lossy().replace('\'', "''"));
        line.push("'");
    }
    line
}

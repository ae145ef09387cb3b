//! `fvm ssh-config`: VMs for ssh's own configuration, so that `ssh fvm-42`, scp and the like find them.

use super::Context;
use crate::{
    exit::{CommandResult, Exit},
    output::SshConfig,
    ssh::{Login, OPTIONS},
    vm_names::{self, VmNames},
};
use fvm_vmm::api::{ApiError, ErrorKind, REPORT_VERSION, VmList, VmNumber, VmReport, routes};
use std::path::PathBuf;

/// Arguments of `fvm ssh-config`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Each VM has two names there: fvm-42, and the name that `fvm list --json` gives. VMs that do not run are there too: \
their addresses never change.

Examples:
  fvm ssh-config > ~/.ssh/fvm                  and once, at the top of ~/.ssh/config: Include fvm
  fvm ssh-config 42 > c && scp -F c file fvm-42:")]
pub(crate) struct PrintSshConfig {
    /// VM numbers, or @web for all of the group web; all VMs without any
    #[arg(value_name = "NUM")]
    sets: Vec<VmNames>,
    /// The user to log in as
    #[arg(short, value_name = "USER", default_value = "root")]
    login: String,
    /// The private key to log in with, instead of ssh's own choice
    #[arg(short, value_name = "KEY")]
    identity: Option<PathBuf>,
}

impl PrintSshConfig {
    pub(super) async fn run(self, context: &Context<'_>) -> CommandResult {
        let list: VmList = context.client.get(routes::VMS).await?;
        let vms = if self.sets.is_empty() {
            list.vms.iter().collect()
        } else {
            let wanted = vm_names::resolve(self.sets, &context.client).await?;
            chosen(&list, wanted.numbers())?
        };
        let login = Login {
            user: self.login,
            key: self.identity,
            jump: context.client.jump(),
        };
        let hosts = vms.iter().map(|vm| entry(vm, &login)).collect();
        context.out.report(&SshConfig {
            version: REPORT_VERSION,
            hosts,
        });
        Ok(Exit::DONE)
    }
}

/// The VMs of these numbers, or that one is not there.
fn chosen<'l>(list: &'l VmList, numbers: &[VmNumber]) -> Result<Vec<&'l VmReport>, ApiError> {
    let find = |number: &VmNumber| {
        let found = list.vms.iter().find(|vm| vm.number == *number);
        found.ok_or_else(|| {
            ApiError::new(ErrorKind::NotFound, format!("there is no VM {number}"))
                .hint("`fvm list` shows the VMs that there are")
        })
    };
    numbers.iter().map(find).collect()
}

fn entry(vm: &VmReport, login: &Login) -> crate::output::SshHost {
    let mut options = vec![
        ("HostName".to_owned(), vm.address.to_string()),
        ("User".to_owned(), login.user.clone()),
    ];
    options.extend(OPTIONS.map(|(name, value)| (name.to_owned(), value.to_owned())));
    if let Some(key) = &login.key {
        options.push(("IdentityFile".to_owned(), key.display().to_string()));
        options.push(("IdentitiesOnly".to_owned(), "yes".to_owned()));
    }
    if let Some(jump) = &login.jump {
        options.push(("ProxyJump".to_owned(), jump.clone()));
    }
    crate::output::SshHost {
        names: vec![format!("fvm-{}", vm.number), vm.name.to_string()],
        options,
    }
}

//! `fvm list`

use super::Context;
use crate::exit::{CommandResult, Exit};
use fvm_vmm::api::{GroupName, VmList, VmState, routes};
use std::time::Duration;

/// Arguments of `fvm list`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
IDLE is for how many days nobody has done anything with the VM: started, stopped or resized it, logged in with \
`fvm ssh`, looked at its console or asked for it with `fvm info`. LEFT is what is left of its time to live, or once that is over, \
of the time in which `fvm undelete` brings it back.

`fvm list active short`, as fast-vm writes it, lists the numbers of VMs that run.

Examples:
  fvm list
  fvm list --state active
  fvm list --group web
  fvm list --json | jq -r '.vms[] | select(.state == \"running\") | .address'
  for vm in $(fvm list active short); do …")]
pub(crate) struct List {
    /// Only those that run, or only those that do not
    #[arg(long, value_name = "WHICH", default_value = "all")]
    state: Which,
    /// Only those of this group
    #[arg(long, value_name = "GROUP")]
    group: Option<GroupName>,
    /// Numbers only, one a line
    #[arg(long, visible_alias = "quiet")]
    short: bool,
    /// Show it again whenever something changes, until ^C
    #[arg(short, long)]
    watch: bool,
}

/// How often the daemon is asked.
const INTERVAL: Duration = Duration::from_secs(1);

/// Which VMs are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Which {
    /// All of them
    All,
    /// Those that have a QEMU
    Active,
    /// Those that have none
    Inactive,
}

impl Which {
    fn has(self, state: VmState) -> bool {
        match self {
            Self::All => true,
            Self::Active => state.is_active(),
            Self::Inactive => !state.is_active(),
        }
    }
}

impl List {
    pub(super) async fn run(self, context: &Context<'_>) -> CommandResult {
        let mut shown: Option<VmList> = None;
        loop {
            let mut list: VmList = context.client.get(routes::VMS).await?;
            list.vms.retain(|vm| self.state.has(vm.state));
            if self.group.is_some() {
                list.vms.retain(|vm| vm.group == self.group);
            }
            if shown.as_ref() != Some(&list) {
                if self.watch {
                    context.out.clear();
                }
                if self.short {
                    let numbers: Vec<String> =
                        list.vms.iter().map(|vm| vm.number.to_string()).collect();
                    context.out.lines(&list, &numbers);
                } else {
                    context.out.report(&list);
                }
                shown = Some(list);
            }
            if !self.watch || context.out.is_closed() {
                return Ok(Exit::DONE);
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }
}

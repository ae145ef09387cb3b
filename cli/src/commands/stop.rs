//! `fvm stop`

use super::Context;
use crate::{args::Vms, exit::CommandResult, quantity::Seconds};
use fvm_vmm::api::{StopMode, StopVms, routes};

/// Arguments of `fvm stop`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without --graceful, the power is cut: what the guest had not written to its disk is lost. With it, the \
guest is asked to shut down by its power button, and a guest that does not do so in time is an error; \
it goes on running, unless --cut-power says that its power is cut then.

Examples:
  fvm stop 42
  fvm stop 50-59 --graceful --timeout 2m
  fvm stop 42 --graceful --cut-power")]
pub(crate) struct Stop {
    #[command(flatten)]
    pub(crate) vms: Vms,
    /// Press the power button and wait, instead of cutting the power
    #[arg(short, long)]
    graceful: bool,
    /// How long the guest may take
    #[arg(
        long,
        value_name = "TIME",
        default_value = "60s",
        requires = "graceful"
    )]
    timeout: Seconds,
    /// Cut the power of a guest that has not shut down in time
    #[arg(long, requires = "graceful")]
    cut_power: bool,
    /// Root only: also VMs of others, where only owners may stop theirs
    #[arg(long)]
    force: bool,
}

impl Stop {
    pub(super) async fn run(self, context: &Context<'_>) -> CommandResult {
        let mode = if self.graceful {
            StopMode::Graceful {
                timeout_s: self.timeout.0,
                cut_power: self.cut_power,
            }
        } else {
            StopMode::Hard
        };
        let request = StopVms {
            vms: self.vms.resolve(&context.client).await?,
            mode,
            force: self.force,
        };
        let what = format!("stopping {}", request.vms);
        context.whole_batch(routes::STOP, &request, &what).await
    }
}

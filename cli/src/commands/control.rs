//! `fvm pause`, `fvm resume`, `fvm reset`, `fvm link`, `fvm send-key`

use super::Context;
use crate::{
    args::Vms,
    exit::{CommandResult, wrong_usage},
    vm_names::VmNames,
};
use fvm_vmm::api::{Chord, Control, ControlVms, VmSet, routes};

/// Arguments of `fvm pause`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The processors stand still where they are; memory, disk and network cards stay. `fvm list` shows that it is \
paused and why.

Examples:
  fvm pause 42
  fvm resume 42")]
pub(crate) struct Pause {
    #[command(flatten)]
    vms: Vms,
}

/// Arguments of `fvm resume`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Also lets a VM go on that fvm paused because its disk could not be written: what was to be written is tried again.

Examples:
  fvm resume 42
  fvm resume 50-59")]
pub(crate) struct Resume {
    #[command(flatten)]
    vms: Vms,
}

/// Arguments of `fvm reset`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The reset button: the guest boots again without having shut down, and what it had not written to its disk is \
lost. QEMU goes on, so the VM keeps its console and its changes since the start.

Examples:
  fvm reset 42")]
pub(crate) struct Reset {
    #[command(flatten)]
    vms: Vms,
}

/// Arguments of `fvm link`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The guest sees that its cards have no cable any more, or one again. A VM that is stopped and started has what its \
template says: a cable, without <link state='down'/>.

Examples:
  fvm link 42 down
  fvm link 42 down --card 1
  fvm link 50-59 up")]
pub(crate) struct Link {
    /// VM numbers: 42, 42,44 or 50-59; @web for all of the group web
    #[arg(value_name = "NUM")]
    vms: VmNames,
    /// In or out
    #[arg(value_name = "up|down")]
    state: Cable,
    /// Only that of this card, counted from 0
    #[arg(long, value_name = "CARD")]
    card: Option<u32>,
}

/// Whether there is a cable.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Cable {
    /// There is
    Up,
    /// There is none
    Down,
}

/// Arguments of `fvm send-key`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Keys that are pressed together are joined by - or +; what follows is pressed after that. Keys have the names \
printed on them: a, 7, f1, enter, esc, tab, space, backspace, delete, up, pgup, shift, ctrl, alt, win, minus, \
dot, slash. The names of the keys of a US keyboard are meant.

Examples:
  fvm send-key 42 ctrl-alt-delete
  fvm send-key 42 r o o t enter
  fvm send-key 50-59 esc")]
pub(crate) struct SendKey {
    /// VM numbers: 42, 42,44 or 50-59; @web for all of the group web
    #[arg(value_name = "NUM")]
    vms: VmNames,
    /// Keys, or chords of keys
    #[arg(value_name = "KEYS", required = true)]
    chords: Vec<Chord>,
}

impl Pause {
    pub(super) async fn run(self, context: &Context<'_>) -> CommandResult {
        control(
            context,
            self.vms.resolve(&context.client).await?,
            Control::Pause,
            "pausing",
        )
        .await
    }
}

impl Resume {
    pub(super) async fn run(self, context: &Context<'_>) -> CommandResult {
        control(
            context,
            self.vms.resolve(&context.client).await?,
            Control::Resume,
            "resuming",
        )
        .await
    }
}

impl Reset {
    pub(super) async fn run(self, context: &Context<'_>) -> CommandResult {
        control(
            context,
            self.vms.resolve(&context.client).await?,
            Control::Reset,
            "resetting",
        )
        .await
    }
}

impl Link {
    pub(super) async fn run(self, context: &Context<'_>) -> CommandResult {
        let up = matches!(self.state, Cable::Up);
        control(
            context,
            self.vms.resolve(&context.client).await?,
            Control::Link {
                up,
                card: self.card,
            },
            "setting the cable of",
        )
        .await
    }
}

impl SendKey {
    pub(super) async fn run(self, context: &Context<'_>) -> CommandResult {
        if self.chords.len() > Chord::MOST {
            return Err(wrong_usage(format!(
                "{} keys at once are too many: {} are possible",
                self.chords.len(),
                Chord::MOST
            )));
        }
        let chords = self.chords;
        control(
            context,
            self.vms.resolve(&context.client).await?,
            Control::SendKey { chords },
            "pressing keys of",
        )
        .await
    }
}

async fn control(
    context: &Context<'_>,
    vms: VmSet,
    control: Control,
    doing: &str,
) -> CommandResult {
    let what = format!("{doing} {vms}");
    let request = ControlVms { vms, control };
    context.whole_batch(routes::CONTROL, &request, &what).await
}

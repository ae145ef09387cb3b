//! `fvm note`: what people say of a VM.

use super::Context;
use crate::{editor, exit::CommandResult, vm_names::VmNames};
use fvm_vmm::api::{ApiError, ErrorKind, InvalidNote, Note, NoteVms, VmReport, VmSet, routes};

/// Arguments of `fvm note`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A note is one line, which `fvm list` and `fvm info` show. Without a text, the note there is now is opened in \
$VISUAL or $EDITOR. An empty text takes it away.

Examples:
  fvm note 42 mail server, ask Ann before deleting
  fvm note 42
  fvm note 42,50-59 ''")]
pub(crate) struct EditNote {
    /// VM numbers: 42, 42,44, 50-59 or base; @web for all of the group web
    #[arg(value_name = "NUM")]
    vms: VmNames,
    /// The note; several words are put together
    #[arg(value_name = "TEXT", trailing_var_arg = true)]
    text: Vec<String>,
}

impl EditNote {
    pub(super) async fn run(self, context: &Context<'_>) -> CommandResult {
        let vms = self.vms.resolve(&context.client).await?;
        let note = match self.text.as_slice() {
            [] => edited(context, &vms).await?,
            words => words.join(" ").parse().map_err(refused)?,
        };
        let request = NoteVms { vms, note };
        let what = format!("noting something about {}", request.vms);
        context.whole_batch(routes::NOTE, &request, &what).await
    }
}

/// The note that the user makes of the one that is there.
async fn edited(context: &Context<'_>, vms: &VmSet) -> Result<Note, ApiError> {
    let &[number] = vms.numbers() else {
        return Err(ApiError::new(
            ErrorKind::Usage,
            format!("'{vms}' names several VMs, and an editor opens one note"),
        )
        .hint("give the text after the numbers"));
    };
    let vm: VmReport = context.client.get(&routes::vm(number)).await?;
    let text = editor::edit(vm.note.as_str()).map_err(ApiError::from)?;
    // An editor ends its lines; a note is one.
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.parse().map_err(refused)
}

fn refused(error: InvalidNote) -> ApiError {
    ApiError::new(ErrorKind::Usage, error.to_string())
}

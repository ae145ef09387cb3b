//! `fvm log`

use super::Context;
use crate::{
    args::one_vm,
    client::ClientError,
    exit::{self, CommandResult, Exit, wrong_usage},
    output::{LogText, RawOutput, nobody_reads},
    terminal::TerminalError,
};
use fvm_vmm::api::{
    VmNumber,
    console::{LogQuery, LogSource},
    routes,
};

/// Arguments of `fvm log`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
What the guest has printed on its serial line since its last start, also after it has stopped; the last 16 MiB of \
it are kept. On a terminal it is shown without colours and movements of the cursor; in a pipe or file it is as the guest \
printed it.

Examples:
  fvm log 42
  fvm log 42 --lines 20 --follow
  fvm log 42 --qemu                     why QEMU did not start, or what it warns of")]
pub(crate) struct Log {
    /// The VM
    #[arg(value_name = "NUM", value_parser = one_vm)]
    vm: VmNumber,
    /// What QEMU has said, instead
    #[arg(long)]
    qemu: bool,
    /// Only the last lines
    #[arg(short = 'n', long, value_name = "N")]
    lines: Option<u64>,
    /// Go on with what is said from now on, until the VM ends
    #[arg(short, long)]
    follow: bool,
}

impl Log {
    pub(super) async fn run(self, context: &Context<'_>) -> CommandResult {
        let query = LogQuery {
            source: if self.qemu {
                LogSource::Qemu
            } else {
                LogSource::Console
            },
            lines: self.lines,
            follow: self.follow,
        };
        print(context, self.vm, &query).await
    }
}

/// Prints a log.
pub(super) async fn print(
    context: &Context<'_>,
    number: VmNumber,
    query: &LogQuery,
) -> CommandResult {
    if context.out.json() {
        return Err(wrong_usage("a log is text and has no JSON"));
    }
    let mut log = context.client.download(&routes::log(number, query)).await?;
    let unread = nobody_reads().map_err(TerminalError::Keep)?;
    let output = RawOutput::start();
    let mut text = LogText::for_stdout();
    let read = async {
        while let Some(bytes) = log.next().await? {
            output.write(&text.next(&bytes)).await;
        }
        output.write(&text.rest()).await;
        Ok::<_, ClientError>(())
    };
    tokio::select! {
        read = read => read?,
        () = output.closed() => {}
        () = unread => {}
    }
    let finished = output.finish().await;
    finished.map_err(|error| exit::unwritten(&error))?;
    Ok(Exit::DONE)
}

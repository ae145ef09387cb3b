//! `fvm export` and `fvm image export`: a disk's blocks come from `fvmd` and are written as the user, in a thread.

use super::Context;
use crate::{
    args::one_vm,
    client::{ClientError, Download},
    decode::Meter,
    encode::{self, EncodeError, Exported, Format, Target},
    exit::{CommandResult, Exit},
    output::{TICK, seconds},
    quantity::Bytes,
    terminal::TerminalError,
};
use fvm_vmm::api::{
    ApiError, DiskList, ErrorKind, ImageName, REPORT_VERSION, VmNumber, routes,
    stream::{StreamError, digest_text},
};
use serde::Serialize;
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, oneshot},
};

/// Pieces on their way between the socket and the encoder.
const PIECES: usize = 8;
const STANDARD_OUTPUT: &str = "-";

/// Where an export goes, and as what.
#[derive(Debug, clap::Args)]
pub(super) struct To {
    /// The file, or - for standard output; without it, a file in the current directory named after what is exported
    #[arg(value_name = "FILE")]
    target: Option<PathBuf>,
    /// What to write; without it, what the end of FILE stands for, else zst
    #[arg(short, long)]
    format: Option<Format>,
    /// How hard to compress: zst 1 to 19, gz 1 to 9, xz 0 to 9
    #[arg(short, long, value_name = "N")]
    level: Option<u32>,
    /// Replace FILE if it is there
    #[arg(long)]
    force: bool,
}

/// Arguments of `fvm image export`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Only what is not zero is read and sent. The file appears under its name when all of it is there and its \
digest was found right; if the export fails or is interrupted, nothing is left of it. The image can be \
used meanwhile.

Examples:
  fvm image export debian                         debian.raw.zst
  fvm image export debian /srv/debian.qcow2
  fvm image export debian --format raw - | ssh other fvm image import debian -")]
pub(super) struct ExportImage {
    /// The image
    #[arg(value_name = "NAME")]
    name: ImageName,
    #[command(flatten)]
    to: To,
}

/// Arguments of `fvm export`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The VM may run: its disk is exported as a power cut at that moment would leave it. What is written can be \
imported as an image.

Examples:
  fvm export 42                                   vm-42.raw.zst
  fvm export 42 /srv/web.qcow2
  fvm export 42 - | fvm image import web -")]
pub(crate) struct ExportVm {
    /// The VM
    #[arg(value_name = "NUM", value_parser = one_vm)]
    vm: VmNumber,
    #[command(flatten)]
    to: To,
}

impl ExportImage {
    pub(super) async fn run(self, context: &Context<'_>) -> CommandResult {
        let path = routes::image_content(&self.name);
        export(context, &path, self.name.as_str(), self.to).await
    }
}

impl ExportVm {
    pub(super) async fn run(self, context: &Context<'_>) -> CommandResult {
        // A daemon that knows of no further disks has none.
        let further = context.client.get(&routes::disks(self.vm)).await;
        for disk in further.map_or_else(|_| Vec::new(), |list: DiskList| list.disks) {
            let text = format!(
                "further disk {} of VM {} is not exported",
                disk.name, self.vm
            );
            context.out.note(&text);
        }
        let path = routes::vm_content(self.vm);
        export(context, &path, &format!("vm-{}", self.vm), self.to).await
    }
}

/// What was exported, for scripts.
#[derive(Debug, Serialize)]
struct Report {
    version: u32,
    /// The file; none for standard output.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<PathBuf>,
    format: String,
    size_bytes: u64,
    data_bytes: u64,
    digest: String,
}

/// What is to be written, checked.
struct Plan {
    /// Nothing for standard output.
    path: Option<PathBuf>,
    format: Format,
    level: u32,
    replace: bool,
}

impl Plan {
    fn of(to: To, name: &str) -> Result<Self, ApiError> {
        let usage = |message: String| ApiError::new(ErrorKind::Usage, message);
        let promised = to.target.as_deref().and_then(Format::promised_by);
        let format = to.format.or(promised).unwrap_or(Format::Zst);
        let path = match to.target {
            Some(target) if target == Path::new(STANDARD_OUTPUT) => None,
            Some(target) => Some(target),
            None => Some(format!("{name}.{}", format.extension()).into()),
        };
        if path.is_none() && format == Format::Qcow2 {
            return Err(usage(
                "qcow2 cannot be written to standard output: its header is written last".into(),
            )
            .hint("name a file, or choose another format"));
        }
        let level = match (format.levels(), to.level) {
            (Some((levels, _)), Some(level)) if levels.contains(&level) => level,
            (Some((levels, _)), Some(level)) => {
                let (low, high) = levels.into_inner();
                return Err(usage(format!(
                    "level {level} is not possible: {format} has {low} to {high}"
                )));
            }
            (Some((_, usual)), None) => usual,
            (None, Some(_)) => return Err(usage(format!("{format} has no levels of compression"))),
            (None, None) => 0,
        };
        Ok(Self {
            path,
            format,
            level,
            replace: to.force,
        })
    }

    fn open(&self) -> Result<Target, EncodeError> {
        match &self.path {
            Some(path) => Target::file(path, self.replace),
            None => Target::standard_output(),
        }
    }
}

async fn export(context: &Context<'_>, route: &str, name: &str, to: To) -> CommandResult {
    let plan = Plan::of(to, name)?;
    // From here on no signal ends us with half a file.
    let mut signals = Signals::listen()?;
    let target = plan.open()?;
    let begun = Instant::now();
    let download = context.client.download(route).await?;
    context.out.transfer(&format!("exporting {name}"), None);
    let end = transfer(context, download, target, &plan, &mut signals).await;
    context.out.settled();
    let exported = match end? {
        End::Done(exported) => exported,
        End::Signal(number) => return Ok(Exit::signal(number)),
    };
    let report = Report {
        version: REPORT_VERSION,
        file: plan.path.clone(),
        format: plan.format.to_string(),
        size_bytes: exported.size_bytes,
        data_bytes: exported.data_bytes,
        digest: digest_text(&exported.digest),
    };
    let summary = summary(name, &report, begun.elapsed());
    match &report.file {
        Some(_) => context.out.summary(&report, &summary),
        // Standard output has the disk.
        None => context.out.note(&summary),
    }
    Ok(Exit::DONE)
}

fn summary(name: &str, report: &Report, took: Duration) -> String {
    let rate = report.data_bytes as f64 / took.as_secs_f64().max(0.001);
    let place = match &report.file {
        Some(file) => file.display().to_string(),
        None => "standard output".to_owned(),
    };
    format!(
        "exported {name} to {place}: {} disk, {} of data in {} ({}/s)",
        Bytes(report.size_bytes),
        Bytes(report.data_bytes),
        seconds(took),
        Bytes(rate as u64),
    )
}

enum End {
    Done(Exported),
    Signal(i32),
}

async fn transfer(
    context: &Context<'_>,
    mut download: Download,
    target: Target,
    plan: &Plan,
    signals: &mut Signals,
) -> Result<End, ApiError> {
    let meter = Arc::new(Meter::default());
    let cancelled = Arc::new(AtomicBool::new(false));
    let (sender, pieces) = mpsc::channel(PIECES);
    let (ended, mut result) = oneshot::channel();
    let (format, level) = (plan.format, plan.level);
    let (thread_meter, thread_cancelled) = (Arc::clone(&meter), Arc::clone(&cancelled));
    thread::spawn(move || {
        let result = encode::write(
            pieces,
            target,
            format,
            level,
            &thread_meter,
            &thread_cancelled,
        );
        let _ = ended.send(result);
    });
    let pump = async move {
        while let Some(piece) = download.next().await? {
            // Whoever has stopped taking them says why.
            if sender.send(piece).await.is_err() {
                break;
            }
        }
        Ok::<(), ClientError>(())
    };
    let mut pump = Some(Box::pin(pump));
    let mut cut = None;
    let mut tick = tokio::time::interval(TICK);
    let mut caught = None;
    let written = loop {
        let pumping = async {
            match &mut pump {
                Some(pump) => pump.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            written = &mut result => break written,
            pumped = pumping => {
                cut = pumped.err();
                // With it the pieces end.
                pump = None;
            }
            number = signals.next() => {
                caught = Some(number);
                cancelled.store(true, Ordering::SeqCst);
                pump = None;
            }
            _ = tick.tick() => context.out.moved(&meter),
        }
    };
    match (written, caught) {
        (Ok(Ok(exported)), _) => Ok(End::Done(exported)),
        (_, Some(number)) => Ok(End::Signal(number)),
        (Ok(Err(error)), None) => Err(conclude(error, cut)),
        // The thread has panicked, and said so.
        (Err(_), None) => Err(crate::exit::bug()),
    }
}

/// Why an export failed: of the two ends, the one that failed by itself has the reason.
fn conclude(error: EncodeError, cut: Option<ClientError>) -> ApiError {
    match (error, cut) {
        (EncodeError::Cancelled | EncodeError::Stream(StreamError::CutOff(_)), Some(cut)) => {
            cut.into()
        }
        (error, _) => error.into(),
    }
}

/// The signals that end a command.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    fn listen() -> Result<Self, TerminalError> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// The number of the next one.
    async fn next(&mut self) -> i32 {
        let kind = tokio::select! {
            _ = self.interrupt.recv() => SignalKind::interrupt(),
            _ = self.terminate.recv() => SignalKind::terminate(),
            _ = self.hang_up.recv() => SignalKind::hangup(),
        };
        kind.as_raw_value()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(
        target: Option<&str>,
        format: Option<Format>,
        level: Option<u32>,
    ) -> Result<Plan, ApiError> {
        let to = To {
            target: target.map(Into::into),
            format,
            level,
            force: false,
        };
        Plan::of(to, "debian")
    }

    #[test]
    fn the_format_follows_the_option_then_the_name() {
        for (target, format, expected, path) in [
            (None, None, Format::Zst, Some("debian.raw.zst")),
            (
                None,
                Some(Format::Qcow2),
                Format::Qcow2,
                Some("debian.qcow2"),
            ),
            (Some("x.xz"), None, Format::Xz, Some("x.xz")),
            (Some("x.xz"), Some(Format::Raw), Format::Raw, Some("x.xz")),
            (Some("x"), None, Format::Zst, Some("x")),
            (Some("-"), None, Format::Zst, None),
        ] {
            let plan = plan(target, format, None).unwrap();
            assert_eq!(plan.format, expected, "{target:?}");
            assert_eq!(plan.path, path.map(PathBuf::from), "{target:?}");
        }
    }

    #[test]
    fn what_cannot_be_written_is_refused_before_anything_is_touched() {
        for (target, format, level) in [
            ("-", Format::Qcow2, None),
            ("x", Format::Raw, Some(3)),
            ("x", Format::Zst, Some(20)),
            ("x", Format::Gz, Some(0)),
        ] {
            let error = plan(Some(target), Some(format), level).err().unwrap();
            assert_eq!(error.kind, ErrorKind::Usage, "{format}");
        }
    }
}

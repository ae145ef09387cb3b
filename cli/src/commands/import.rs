//! `fvm image import`: unpacks in a thread, sends what comes out, and reports the end of whichever fails first.

use super::Context;
use crate::{
    client::ClientError,
    decode::{self, DecodeError, Meter, Source},
    exit::{CommandResult, Exit},
    output::{TICK, seconds},
    quantity::Bytes,
    template,
};
use fvm_vmm::api::{ApiError, ImageName, ImageReport, ImportHeader, routes};
use std::{
    path::PathBuf,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, oneshot};

/// Pieces on their way between unpacking and the socket; each is about a MiB.
const PIECES: usize = 4;
/// How long `fvmd` may take to drop an upload that we gave up.
const GIVE_UP_LIMIT: Duration = Duration::from_secs(30);

/// Arguments of `fvm image import`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
SOURCE is a raw image, as it is or compressed with gzip, xz or zstd; which one is told by its content, \
not by its name. Blocks that are all zero are neither sent nor stored. A damaged or truncated file is \
an error, and nothing of it is kept.

Examples:
  fvm image import debian debian-13-nocloud-amd64.raw.xz
  fvm image import debian debian.raw --size 20G
  fvm image import uefi disk.raw.zst --template linux-uefi
  curl -fL https://example.org/disk.raw.gz | fvm image import web -")]
pub(crate) struct Import {
    /// The name that the image will have
    name: ImageName,
    /// A file or a device, or - for standard input
    source: PathBuf,
    /// Size of the disk, if it is to be larger than what is imported
    #[arg(short, long, value_name = "SIZE")]
    size: Option<Bytes>,
    /// A shipped template (see `fvm status`) or a domain XML file for VMs made of this image
    #[arg(short, long, value_name = "NAME|FILE")]
    template: Option<String>,
}

impl Import {
    pub(super) async fn run(self, context: &Context<'_>) -> CommandResult {
        let header = ImportHeader {
            size: self.size.map(|size| size.0),
            template: template::to_send(self.template)?,
        };
        let source = Source::open(&self.source)?;
        let begun = Instant::now();
        let report = upload(context, &self.name, source, header).await;
        context.out.settled();
        let report = report?;
        context
            .out
            .summary(&report, &summary(&report, begun.elapsed()));
        Ok(Exit::DONE)
    }
}

fn summary(report: &ImageReport, took: Duration) -> String {
    let rate = report.data_bytes as f64 / took.as_secs_f64().max(0.001);
    format!(
        "imported {}: {} disk, {} of data in {} ({}/s)",
        report.name,
        Bytes(report.size_bytes),
        Bytes(report.data_bytes),
        seconds(took),
        Bytes(rate as u64),
    )
}

async fn upload(
    context: &Context<'_>,
    name: &ImageName,
    source: Source,
    header: ImportHeader,
) -> Result<ImageReport, ApiError> {
    context
        .out
        .transfer(&format!("importing {name}"), source.size());
    let meter = Arc::new(Meter::default());
    let (failure_sender, mut failures) = oneshot::channel();
    let (sender, pieces) = mpsc::channel(PIECES);
    let thread_meter = Arc::clone(&meter);
    thread::spawn(move || {
        let mut send = |piece: Vec<u8>| sender.blocking_send(piece.into()).is_ok();
        if let Err(error) = decode::encode(source, &header, &thread_meter, &mut send) {
            // Before the pieces end: whoever has seen their end finds the reason here.
            let _ = failure_sender.send(error);
        }
    });
    let path = routes::image(name);
    let mut tell = |event| context.out.event(&event);
    let mut answer = std::pin::pin!(context.client.upload(&path, pieces, &mut tell));
    let mut tick = tokio::time::interval(TICK);
    let mut failure = None;
    let mut failed_at = None;
    // When unpacking fails, the body ends without the end of its block stream. The daemon drops what it has
    // and says so; waiting for that makes sure that nothing is left when this command ends.
    let answer = loop {
        tokio::select! {
            answer = &mut answer => break Some(answer),
            _ = tick.tick() => context.out.moved(&meter),
        }
        failure = failure.or_else(|| failures.try_recv().ok());
        if failure.is_some() {
            let since = failed_at.get_or_insert_with(Instant::now);
            if since.elapsed() > GIVE_UP_LIMIT {
                break None;
            }
        }
    };
    conclude(answer, failure.or_else(|| failures.try_recv().ok()))
}

/// The result of an import: of the two ends, the one that failed by itself has the reason.
fn conclude(
    answer: Option<Result<ImageReport, ClientError>>,
    decoding: Option<DecodeError>,
) -> Result<ImageReport, ApiError> {
    match (answer, decoding) {
        (Some(Ok(report)), _) => Ok(report),
        (Some(Err(error)), None | Some(DecodeError::Stopped)) => Err(error.into()),
        // Never connected: that is the first thing to mend.
        (
            Some(Err(
                error @ (ClientError::NoDaemon { .. }
                | ClientError::Denied { .. }
                | ClientError::Connect { .. }),
            )),
            _,
        ) => Err(error.into()),
        (_, Some(error)) => Err(error.into()),
        (None, None) => Err(DecodeError::Stopped.into()),
    }
}

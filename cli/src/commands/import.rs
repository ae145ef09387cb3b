//! `fvm image import`: unpacks in a thread, sends what comes out, and reports the end of whichever fails first.

use super::Context;
use crate::{
    checksum::{Checksum, Sha256Sum, Sha512Sum},
    client::ClientError,
    decode::{self, DecodeError, Meter, Source, Terms},
    exit::{CommandResult, Exit},
    origin::{Origin, OriginError},
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
SOURCE is a raw image, as it is or compressed with gzip, xz or zstd, or a qcow2 image, likewise; which one \
is told by its content, not by its name. Blocks that are all zero are neither sent nor stored. A damaged or \
truncated file is an error, and nothing of it is kept. A qcow2 image that needs another file is refused.

A URL is fetched by you, not by the daemon, through the proxy of the environment if there is one; a broken \
connection is resumed if the server can prove that the file is still the same.

Without --size, the disk is as large as the content; or, if its size cannot be known before its end, as \
the file's name says: 6g__debian.raw.xz is a disk of 6 GiB.

Examples:
  fvm image import debian debian-13-nocloud-amd64.raw.xz
  fvm image import debian debian-13-genericcloud-amd64.qcow2 --size 20G
  fvm image import debian https://example.org/debian.qcow2 --checksums https://example.org/SHA512SUMS
  fvm image import uefi disk.raw.zst --template linux-uefi
  fvm image import scratch empty --size 50G
  ssh other cat disk.raw.gz | fvm image import copy - --sha256 9f86d0…")]
pub(crate) struct Import {
    /// The name that the image will have
    name: ImageName,
    /// A file, a device, a URL, - for standard input, or the word empty for a disk of zeros
    source: PathBuf,
    /// Size of the disk, if it is to be larger than what is imported
    #[arg(short, long, value_name = "SIZE")]
    size: Option<Bytes>,
    /// A shipped template (see `fvm status`) or a domain XML file for VMs made of this image
    #[arg(short, long, value_name = "NAME|FILE")]
    template: Option<String>,
    #[command(flatten)]
    expect: Expect,
    /// The most memory that unpacking may take, for files packed with very large windows
    #[arg(long, value_name = "SIZE", default_value_t = Bytes(decode::DEFAULT_MEMORY_BYTES))]
    unpack_memory: Bytes,
}

/// What the file must be: its checksum as it is, packed if it is packed.
#[derive(Debug, clap::Args)]
#[group(multiple = false)]
struct Expect {
    /// The SHA-256 checksum that the file must have
    #[arg(long, value_name = "HEX")]
    sha256: Option<Sha256Sum>,
    /// The SHA-512 checksum that the file must have
    #[arg(long, value_name = "HEX")]
    sha512: Option<Sha512Sum>,
    /// A list with the file's checksum, such as SHA512SUMS
    #[arg(long, value_name = "FILE|URL")]
    checksums: Option<PathBuf>,
}

impl Expect {
    fn checksum(&self, origin: &Origin) -> Result<Option<Checksum>, OriginError> {
        match self {
            Self {
                sha256: Some(sum), ..
            } => Ok(Some(sum.0.clone())),
            Self {
                sha512: Some(sum), ..
            } => Ok(Some(sum.0.clone())),
            Self {
                checksums: Some(list),
                ..
            } => origin.checksum_in(list).map(Some),
            _ => Ok(None),
        }
    }
}

impl Import {
    pub(super) async fn run(self, context: &Context<'_>) -> CommandResult {
        let template = template::to_send(self.template)?;
        let origin = Origin::of(&self.source)?;
        if let Origin::Server(url) = &origin {
            context.out.busy(&format!("asking for {}", url.shown()));
        }
        let opened = self.expect.checksum(&origin).and_then(|expected| {
            let source = origin.open(self.size, expected.is_some())?;
            Ok((expected, source))
        });
        context.out.settled();
        let (expected, source) = opened?;
        let named = match source.disk_bytes() {
            Some(_) => None,
            None => origin.size_by_name(),
        };
        if let (None, Some(size)) = (self.size, named) {
            context
                .out
                .note(&format!("a disk of {size}, as the file's name says"));
        }
        let header = ImportHeader {
            size: self.size.or(named).map(|size| size.0),
            template,
        };
        let terms = Terms {
            expected,
            memory_bytes: self.unpack_memory.0,
        };
        let begun = Instant::now();
        let report = upload(context, &self.name, source, terms, header).await;
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
    terms: Terms,
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
        if let Err(error) = decode::encode(source, &terms, &header, &thread_meter, &mut send) {
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
    context.out.moved(&meter);
    conclude(answer, failure.or_else(|| failures.try_recv().ok()))
}

/// The result of an import: of the two ends, the one that failed by itself has the reason.
fn conclude(
    answer: Option<Result<ImageReport, ClientError>>,
    decoding: Option<DecodeError>,
) -> Result<ImageReport, ApiError> {
    match (answer, decoding) {
        (Some(Ok(report)), None) => Ok(report),
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

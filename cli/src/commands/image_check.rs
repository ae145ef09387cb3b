//! `fvm image verify` and `fvm image checksum`: `fvmd` reads the image, checksum files are the user's.

use super::Context;
use crate::{
    exit::{CommandResult, Exit},
    part_files::{Comparison, Files},
    quantity::Bytes,
};
use fvm_vmm::api::{ApiError, ErrorKind, ImageName, VerifyImage, VerifyReport, routes};
use serde::Serialize;
use std::{
    io,
    path::{Path, PathBuf},
};

/// Arguments of `fvm image verify`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The image is read as a whole and compared with the digest that was kept when it was imported or last \
changed. With DIR, each part of 1 GiB is also compared with the checksum in DIR/NAME.part_NN.sha512.txt, \
which `fvm image checksum` and fast-vm write.

Examples:
  fvm image verify debian
  fvm image verify debian /srv/images")]
pub(super) struct VerifyArgs {
    /// The image
    #[arg(value_name = "NAME")]
    name: ImageName,
    /// Where its checksum files are
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
}

/// Arguments of `fvm image checksum`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Writes DIR/NAME.part_00.sha512.txt and so on, one for each GiB of the disk and one for what follows the \
last whole one, in the format of fast-vm. Files of these names are replaced.

Examples:
  fvm image checksum debian
  fvm image checksum debian /srv/images")]
pub(super) struct ChecksumArgs {
    /// The image
    #[arg(value_name = "NAME")]
    name: ImageName,
    /// Where to write the checksum files
    #[arg(value_name = "DIR", default_value = ".")]
    directory: PathBuf,
}

/// The report of a verification, with what came of the comparison of parts.
#[derive(Debug, Serialize)]
struct Verified {
    #[serde(flatten)]
    report: VerifyReport,
    /// True if nothing differs and nothing is missing.
    intact: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    parts_ok: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parts_failed: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parts_missing: Option<u32>,
}

impl VerifyArgs {
    pub(super) async fn run(self, context: &Context<'_>) -> CommandResult {
        if let Some(directory) = &self.directory {
            check_directory(directory)?;
        }
        let report = verify(context, &self.name, self.directory.is_some()).await?;
        let digest_differs = report
            .expected
            .as_ref()
            .is_some_and(|it| *it != report.found);
        let mut verified = Verified {
            intact: !digest_differs,
            report,
            parts_ok: None,
            parts_failed: None,
            parts_missing: None,
        };
        let mut failed = Vec::new();
        if let Some(directory) = &self.directory {
            failed = compare(directory, &mut verified)?;
        }
        let name = &self.name;
        if verified.intact {
            context.out.summary(&verified, &praise(&verified));
            return Ok(Exit::DONE);
        }
        if context.out.json() {
            context.out.summary(&verified, "");
        }
        let message = if digest_differs {
            format!("image '{name}' does not hold what it should")
        } else {
            format!("image '{name}' does not agree with its checksum files")
        };
        let mut error = ApiError::new(ErrorKind::Failed, message);
        if digest_differs {
            let expected = verified.report.expected.as_deref().unwrap_or_default();
            error = error
                .detail(format!("its digest was {expected}"))
                .detail(format!("and is now {}", verified.report.found));
        }
        Err(failed.into_iter().fold(error, ApiError::detail))
    }
}

fn praise(verified: &Verified) -> String {
    let report = &verified.report;
    let digest = match report.expected {
        Some(_) => "it holds what it should",
        None => "nothing was known of what it should hold; its digest is kept from now on",
    };
    let parts = match (verified.parts_ok, verified.parts_missing) {
        (Some(ok), _) => format!(", {ok} parts agree with their checksums"),
        _ => String::new(),
    };
    format!(
        "verified {}: {} disk, {digest}{parts}",
        report.name,
        Bytes(report.size_bytes)
    )
}

/// Compares all parts with their files, counts, and returns what there is to say.
fn compare(directory: &Path, verified: &mut Verified) -> Result<Vec<String>, ApiError> {
    let report = &verified.report;
    let files = Files::new(directory, &report.name, report.size_bytes);
    let (mut ok, mut failed, mut missing) = (0, 0, 0);
    let mut said = Vec::new();
    for part in &report.parts {
        let path = files.path(part.part);
        match files.compare(part).map_err(explain)? {
            Comparison::Same => ok += 1,
            Comparison::NotNeeded => {}
            Comparison::Different => {
                failed += 1;
                said.push(format!(
                    "part {} is not that of {}",
                    part.part,
                    path.display()
                ));
            }
            Comparison::Missing => {
                missing += 1;
                said.push(format!("there is no {}", path.display()));
            }
        }
    }
    said.push(format!("OK: {ok}  FAIL: {failed}  MISSING: {missing}"));
    verified.intact &= failed == 0 && missing == 0;
    verified.parts_ok = Some(ok);
    verified.parts_failed = Some(failed);
    verified.parts_missing = Some(missing);
    Ok(said)
}

impl ChecksumArgs {
    pub(super) async fn run(self, context: &Context<'_>) -> CommandResult {
        check_directory(&self.directory)?;
        let report = verify(context, &self.name, true).await?;
        let files = Files::new(&self.directory, &self.name, report.size_bytes);
        files.write(&report.parts).map_err(explain)?;
        let count = report.parts.len();
        let text = format!(
            "wrote {count} checksum file{} of {} to {}",
            if count == 1 { "" } else { "s" },
            self.name,
            self.directory.display()
        );
        context.out.summary(&report, &text);
        Ok(Exit::DONE)
    }
}

async fn verify(
    context: &Context<'_>,
    name: &ImageName,
    checksums: bool,
) -> Result<VerifyReport, ApiError> {
    context.out.busy(&format!("reading {name}"));
    let mut tell = |event| context.out.event(&event);
    let request = VerifyImage { checksums };
    let path = routes::verify_image(name);
    let report = context.client.post(&path, &request, &mut tell).await;
    context.out.settled();
    Ok(report?)
}

/// Reading an image takes a while: a wrong directory is better known before.
fn check_directory(directory: &Path) -> Result<(), ApiError> {
    let shown = directory.display();
    match std::fs::metadata(directory) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(ApiError::new(
            ErrorKind::Usage,
            format!("{shown} is not a directory"),
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(ApiError::new(
            ErrorKind::NotFound,
            format!("there is no directory {shown}"),
        )),
        Err(error) => Err(explain((directory.to_owned(), error))),
    }
}

fn explain((path, error): (PathBuf, io::Error)) -> ApiError {
    crate::exit::of_file(&path, &error)
}

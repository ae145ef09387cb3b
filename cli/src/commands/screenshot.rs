//! `fvm screenshot`

use super::Context;
use crate::{
    args::one_vm,
    exit::{CommandResult, Exit, wrong_usage},
};
use fvm_vmm::api::{ApiError, ErrorKind, REPORT_VERSION, VmNumber, routes};
use serde::Serialize;
use std::{
    fs::OpenOptions,
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Arguments of `fvm screenshot`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The VM needs a graphics card: the templates gui-vnc, gui-spice and windows have one. A headless VM has its \
serial line instead (`fvm console`).

Examples:
  fvm screenshot 42 screen.png
  fvm screenshot 42 screen.png --force        in the place of the last one")]
pub(crate) struct Screenshot {
    /// The VM
    #[arg(value_name = "NUM", value_parser = one_vm)]
    vm: VmNumber,
    /// The file for the picture, a PNG
    #[arg(value_name = "FILE.png")]
    file: PathBuf,
    /// Replace FILE.png if it is there
    #[arg(long)]
    force: bool,
}

/// What was written.
#[derive(Debug, Serialize)]
struct Picture {
    version: u32,
    vm: VmNumber,
    path: PathBuf,
    bytes: u64,
}

impl Screenshot {
    pub(super) async fn run(self, context: &Context<'_>) -> CommandResult {
        let path = self.file.as_path();
        // Said before QEMU is asked, and made sure of when it is written.
        if !self.force && path.symlink_metadata().is_ok() {
            return Err(in_the_way(path));
        }
        let bytes = context.client.bytes(&routes::screenshot(self.vm)).await?;
        write(path, &bytes, self.force).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => in_the_way(path),
            _ => ApiError::new(
                ErrorKind::Failed,
                format!("writing {}: {error}", path.display()),
            ),
        })?;
        let picture = Picture {
            version: REPORT_VERSION,
            vm: self.vm,
            bytes: bytes.len() as u64,
            path: self.file.clone(),
        };
        let text = format!("{}  screen  {}", self.vm, path.display());
        context.out.summary(&picture, &text);
        Ok(Exit::DONE)
    }
}

fn in_the_way(path: &Path) -> ApiError {
    wrong_usage(format!("{} is there already", path.display()))
        .hint("--force puts the picture in its place")
}

fn write(path: &Path, bytes: &[u8], replace: bool) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true);
    if replace {
        options.create(true).truncate(true);
    } else {
        options.create_new(true);
    }
    options.open(path)?.write_all(bytes)
}

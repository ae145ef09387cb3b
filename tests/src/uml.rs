//! User Mode Linux: a real kernel with device-mapper, there in two seconds and as fast as this machine, without KVM, udev
//! or systemd. For what looks at the kernel hundreds of times over; everything else has a lab host.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::{fs, path::PathBuf};

use anyhow::{Context, Result};

use crate::package::{self, Build};
use crate::{left_behind, paths};

/// The kernel of User Mode Linux has no inet tables, and nothing there has a packet to filter.
const NFT: &str = "#!/bin/sh\ncase \"$*\" in *-f*) cat >/dev/null ;; esac\ncase \"$*\" in *-j*) echo '{\"nftables\": []}' ;; esac\n";

/// What programs there have in common.
const DAEMON: &str = include_str!("../assets/umlfvm.py");

/// Programs for a run: this build of fvm, its templates, and the count of what is left.
#[derive(Debug)]
pub struct Programs {
    directory: tempfile::TempDir,
}

impl Programs {
    /// Builds fvm and gathers it.
    pub fn of(build: Build) -> Result<Self> {
        let binaries = package::programs(build)?;
        let templates = paths::workspace()?.join("templates");
        let directory = tempfile::tempdir().context("making a directory for programs")?;
        let top = directory.path();
        for (name, path) in binaries {
            copy(&path, &top.join(name))?;
        }
        fs::create_dir(top.join("templates"))?;
        for file in fs::read_dir(&templates)? {
            let file = file?;
            copy(&file.path(), &top.join("templates").join(file.file_name()))?;
        }
        for (name, text) in [
            ("left-behind", left_behind::SCRIPT),
            ("nft", NFT),
            ("umlfvm.py", DAEMON),
        ] {
            let path = top.join(name);
            fs::write(&path, text)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        }
        Ok(Self { directory })
    }

    /// Runs a program of `tests/assets` among them, for so long at most, and returns what it said.
    pub fn run(&self, program: &str, arguments: &[&str], limit_s: u32) -> Result<Output> {
        let assets: PathBuf = paths::workspace()?.join("tests/assets");
        Command::new(assets.join("uml.sh"))
            .arg(assets.join(program))
            .args(arguments)
            .env("FVM_UML_WITH", self.directory.path())
            .env("FVM_UML_LIMIT", limit_s.to_string())
            .stdin(Stdio::null())
            .output()
            .context("starting tests/assets/uml.sh")
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to)
        .map(drop)
        .with_context(|| format!("copying {}", from.display()))
}

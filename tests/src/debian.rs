//! Debian 13 packages for the lab, from wherever this machine's own apt gets its packages.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::unistd::Uid;

use crate::command;

/// The release that lab hosts, guests and tools are made of.
pub(crate) const SUITE: &str = "trixie";

/// An `mmdebstrap` run that is being put together.
pub(crate) struct Bootstrap {
    command: Command,
}

impl Bootstrap {
    /// Prepares a run that extracts or installs `packages`; `directory` is where its hooks run.
    pub(crate) fn new(variant: &str, packages: &str, directory: &Path) -> Result<Self> {
        if !command::installed("mmdebstrap") {
            bail!(
                "mmdebstrap is not installed, and the lab makes its Debian hosts with it; run \
                 packaging/prepare as root, or apt-get install mmdebstrap"
            );
        }
        let mut command = Command::new("mmdebstrap");
        command.current_dir(directory);
        command.arg(format!("--variant={variant}"));
        // Not as root: user namespaces stand in for its privileges.
        command.arg(if Uid::effective().is_root() {
            "--mode=root"
        } else {
            "--mode=unshare"
        });
        command.args(["--format=tar", &format!("--include={packages}")]);
        // The result is thrown away when the machine dies half way, so nothing needs to reach the disk in order.
        command.arg("--dpkgopt=force-unsafe-io");
        for option in apt_options()? {
            command.arg(format!("--aptopt={option}"));
        }
        Ok(Self { command })
    }

    /// Adds an option as it is.
    pub(crate) fn option(mut self, option: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.arg(option);
        self
    }

    /// Runs it; the result is a tar archive of the file system.
    pub(crate) fn run(mut self, archive: &Path) -> Result<()> {
        self.command.arg(SUITE).arg(archive).args(sources()?);
        command::output(&mut self.command).map(drop)
    }
}

/// Unpacks packages, with all that they depend on, into a directory, but for what is below the `excluded` paths: nothing is
/// installed and none of their scripts run.
pub(crate) fn unpack(packages: &str, directory: &Path, excluded: &[&str]) -> Result<()> {
    let archive = directory.join("tree.tar");
    Bootstrap::new("extract", packages, directory)?.run(&archive)?;
    let excluded = excluded.iter().map(|path| format!("--exclude=./{path}"));
    command::output(
        Command::new("tar")
            .arg("-C")
            .arg(directory)
            .arg("--no-same-owner")
            .args(excluded)
            .arg("-xf")
            .arg(&archive),
    )?;
    fs::remove_file(&archive).context("removing the unpacked archive")
}

/// This machine's Debian archives as apt source lines, with the suite replaced.
///
/// Empty when apt has no lists yet: then mmdebstrap takes its own default mirror.
fn sources() -> Result<Vec<String>> {
    let listed = command::text(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(ORIGIN)|$(CODENAME)|$(COMPONENT)|$(REPO_URI)",
        "Created-By: Packages",
    ]))
    .context("asking apt for this machine's package sources")?;
    Ok(source_lines(&listed))
}

fn source_lines(listed: &str) -> Vec<String> {
    let mut lines: Vec<String> = listed
        .lines()
        .filter_map(|line| {
            let mut fields = line.split('|');
            let origin = fields.next()?;
            let codename = fields.next()?;
            let component = fields.next()?;
            let uri = fields.next()?;
            let pocket = codename.split_once('-').map_or("", |(_, pocket)| pocket);
            let wanted = origin == "Debian"
                && component == "main"
                && ["", "updates", "security"].contains(&pocket);
            let dash = if pocket.is_empty() { "" } else { "-" };
            wanted.then(|| format!("deb {uri} {SUITE}{dash}{pocket} main"))
        })
        .collect();
    lines.sort();
    lines.dedup();
    lines
}

/// How this machine's apt reaches its sources: proxies, and checks that its administrator switched off.
fn apt_options() -> Result<Vec<String>> {
    let dump = command::text(Command::new("apt-config").arg("dump"))
        .context("asking apt for its configuration")?;
    let wanted = ["Acquire::http::", "Acquire::https::", "Acquire::Check-"];
    Ok(dump
        .lines()
        .filter(|line| wanted.iter().any(|start| line.starts_with(start)) && !line.contains("\"\""))
        .map(str::to_owned)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::source_lines;

    #[test]
    fn sources_keep_their_places_and_change_their_suite() {
        let listed = "Debian|bookworm|main|file:/a/\n\
                      Debian|bookworm|contrib|file:/a/\n\
                      Debian|bookworm|main|file:/a/\n\
                      Debian|bookworm-security|main|file:/b/\n\
                      Debian|bookworm-backports|main|file:/a/\n\
                      Node Source|nodistro|main|file:/c/\n";
        assert_eq!(
            source_lines(listed),
            [
                "deb file:/a/ trixie main",
                "deb file:/b/ trixie-security main"
            ]
        );
    }
}

//! Programs and files from Debian 13 that the lab works with: its outer QEMU, file system makers, boot loaders, the
//! guests' kernel.
//!
//! They are unpacked, not installed: each runs through the tree's own dynamic loader. So the build machine's packages
//! stay as they are, whatever release it has, and every machine has the same versions.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::cache::{Entry, Recipe};
use crate::command;
use crate::debian::{self, SUITE};

const PACKAGES: &str = "qemu-system-x86,qemu-utils,ovmf,e2fsprogs,libarchive13t64,mtools,dosfstools,fdisk,syslinux,\
     syslinux-common,systemd-boot-efi,busybox-static,dropbear-bin,dhcpcd-base,qemu-guest-agent,linux-image-cloud-amd64,kmod,zstd,xz-utils,swtpm";

/// Programs that get a wrapper in the tree's `bin`, by their path under `usr`.
const PROGRAMS: [&str; 16] = [
    "bin/qemu-system-x86_64",
    "bin/qemu-img",
    "bin/swtpm",
    "bin/mcopy",
    "bin/mmd",
    "bin/mattrib",
    "bin/mmove",
    "bin/syslinux",
    "bin/dropbearkey",
    "bin/xz",
    "bin/zstd",
    "sbin/mke2fs",
    "sbin/debugfs",
    "sbin/mkfs.fat",
    "sbin/sfdisk",
    "sbin/depmod",
];

/// The tools tree.
#[derive(Debug)]
pub(crate) struct Tools {
    entry: Entry,
}

impl Tools {
    /// Opens the tree, making it first on a fresh machine.
    pub(crate) fn get() -> Result<Self> {
        let recipe = Recipe::new("tools")
            .with("suite", SUITE)
            .with("packages", PACKAGES)
            .with("programs", PROGRAMS.join(" "))
            .with("wrapper", WRAPPER);
        let entry = recipe.entry(
            "tools: QEMU, kernel and disk tools of Debian 13 (about 30 s)",
            make,
        )?;
        Ok(Self { entry })
    }

    /// The cache entry, as an ingredient of what is made with it.
    pub(crate) fn entry(&self) -> &Entry {
        &self.entry
    }

    /// A file of the tree, by its path from the root.
    pub(crate) fn file(&self, path: &str) -> PathBuf {
        self.entry.file(path)
    }

    /// A program of the tree, ready to take arguments; what it starts itself comes from the tree too.
    pub(crate) fn command(&self, program: &str) -> Command {
        let bin = self.entry.file("bin");
        let mut command = Command::new(bin.join(program));
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", bin.display()));
        command
    }

    /// The libraries that a program of the tree loads, and the dynamic loader itself.
    pub(crate) fn libraries(&self, program: &str) -> Result<Vec<PathBuf>> {
        let listed = command::text(
            Command::new(self.file(LOADER))
                .arg("--library-path")
                .arg(self.file(LIBRARIES))
                .arg("--list")
                .arg(self.file(program)),
        )?;
        Ok(listed
            .lines()
            .filter_map(|line| line.split_once("=> "))
            .filter_map(|(_, path)| path.split_whitespace().next())
            .map(PathBuf::from)
            .collect())
    }
}

const LOADER: &str = "usr/lib64/ld-linux-x86-64.so.2";
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// What each file in `bin` is; `exec` keeps the process id, so that a caller can kill what it started.
const WRAPPER: &str = r#"#!/bin/sh
tree=${0%/*}/..
export QEMU_MODULE_DIR="$tree/usr/lib/x86_64-linux-gnu/qemu"
exec "$tree/usr/lib64/ld-linux-x86-64.so.2" --argv0 NAME \
    --library-path "$tree/usr/lib/x86_64-linux-gnu:$tree/usr/lib/x86_64-linux-gnu/swtpm" "$tree/usr/PROGRAM" EXTRA "$@"
"#;

fn make(directory: &Path) -> Result<()> {
    let unused = [
        "dev",
        "var",
        "usr/share/doc",
        "usr/share/man",
        "usr/share/locale",
    ];
    debian::unpack(PACKAGES, directory, &unused)?;
    let bin = directory.join("bin");
    fs::create_dir(&bin).context("making the tools' bin directory")?;
    for program in PROGRAMS {
        write_wrapper(&bin, program)?;
    }
    Ok(())
}

fn write_wrapper(bin: &Path, program: &str) -> Result<()> {
    let name = program.rsplit('/').next().unwrap_or(program);
    let extra = match name {
        "qemu-system-x86_64" => r#"-L "$tree/usr/share/qemu" -L "$tree/usr/share/seabios""#,
        _ => "",
    };
    let text = WRAPPER
        .replace("NAME", name)
        .replace("PROGRAM", program)
        .replace("EXTRA", extra);
    let path = bin.join(name);
    fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("making {} executable", path.display()))
}

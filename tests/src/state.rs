//! Lab hosts that have been brought up once and saved: every test goes on from there, in seconds.
//!
//! A saved state is a directory with the disk (an overlay on the image or on the state before it) and the memory. There
//! are two layers: the booted host, and the booted host with this build of fvm installed.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::cache::{Entry, Recipe};
use crate::command;
use crate::image::Image;
use crate::machine::{DISK, Disk, Hardware, Machine, STATE, Start};
use crate::ssh::Ssh;
use crate::tools::Tools;

/// How long a host may take to boot, on a machine that has other things to do.
pub(crate) const BOOT_LIMIT: Duration = Duration::from_secs(600);

/// Hosts settle before they are saved: everything started, nothing waiting to be written.
const SETTLE: &str = "
timeout 120 systemctl is-system-running --wait > /dev/null || systemctl --failed --no-legend >&2
[ \"$(systemctl is-system-running)\" = running ]
[ -c /dev/kvm ]
sync
echo 3 > /proc/sys/vm/drop_caches
";

/// The booted host.
pub(crate) fn booted(tools: &Tools, image: &Image, hardware: Hardware) -> Result<Entry> {
    let recipe = Recipe::new("boot")
        .with_entry(tools.entry())
        .with_entry(&image.entry)
        .with("hardware", format!("{hardware:?}"))
        .with("machine", include_str!("machine.rs"))
        .with("settle", SETTLE);
    recipe.entry("lab host: first boot (about 40 s)", |directory| {
        new_disk(tools, directory, &image.entry.file("root.raw"), "raw")?;
        save_after(tools, image, hardware, directory, None, |_| Ok(()))
    })
}

/// The booted host with a package of fvm installed.
pub(crate) fn installed(
    tools: &Tools,
    image: &Image,
    hardware: Hardware,
    booted: &Entry,
    package: &Entry,
) -> Result<Entry> {
    let recipe = Recipe::new("install")
        .with_entry(booted)
        .with_entry(package);
    recipe.entry("lab host: installing fvm (about 15 s)", |directory| {
        new_disk(tools, directory, &booted.file(DISK), "qcow2")?;
        save_after(
            tools,
            image,
            hardware,
            directory,
            Some(&booted.file(STATE)),
            |ssh| {
                ssh.put(&package.file("fvm.deb"), "/root/fvm.deb")?;
                // Not apt: with every dependency there already, dpkg says it when one is missing.
                must(ssh, "dpkg -i /root/fvm.deb && rm /root/fvm.deb")
            },
        )
    })
}

/// Makes a machine's disk as an overlay; the way to the file below is relative, so that the checkout can be moved.
pub(crate) fn new_disk(tools: &Tools, directory: &Path, below: &Path, format: &str) -> Result<()> {
    let lab = crate::paths::lab()?;
    let below = below.strip_prefix(&lab).context("a disk outside the lab")?;
    // Every machine's directory is two levels below the lab's.
    let below = Path::new("../..").join(below);
    let disk = directory.join(DISK);
    command::output(
        tools
            .command("qemu-img")
            .args(["create", "-q", "-f", "qcow2", "-F", format, "-b"])
            .arg(below)
            .arg(disk),
    )?;
    Ok(())
}

fn save_after(
    tools: &Tools,
    image: &Image,
    hardware: Hardware,
    directory: &Path,
    state: Option<&Path>,
    change: impl FnOnce(&Ssh) -> Result<()>,
) -> Result<()> {
    let machine = Machine::start(&Start {
        tools,
        image,
        hardware,
        disk: Disk::Durable,
        directory,
        state,
    })?;
    let ssh = Ssh::new(directory, image.key.file("id_ed25519"), machine.ssh_port());
    let done = ssh
        .wait(BOOT_LIMIT, || machine.is_alive())
        .and_then(|()| set_clock(&ssh))
        .and_then(|()| change(&ssh))
        .and_then(|()| must(&ssh, SETTLE));
    done.map_err(|error| error.context(machine.last_words()))?;
    machine.save(&directory.join(STATE))?;
    for name in ["qemu.log", "qemu.pid", "serial.log"] {
        fs::remove_file(directory.join(name)).with_context(|| format!("removing {name}"))?;
    }
    Ok(())
}

/// A host that goes on from a saved state still has the time at which it was saved.
pub(crate) fn set_clock(ssh: &Ssh) -> Result<()> {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .context("this machine's clock is before 1970")?;
    must(ssh, &format!("date -s @{} > /dev/null", now.as_secs()))
}

fn must(ssh: &Ssh, script: &str) -> Result<()> {
    let done = ssh.script(script)?;
    anyhow::ensure!(
        done.status.success(),
        "on the lab host, {}:\n{script}\n{}{}",
        done.status,
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
    Ok(())
}

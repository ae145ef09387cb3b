//! Test guests: small bootable disks made of Debian's cloud kernel, busybox, a DHCP client and dropbear.
//!
//! Owns what is inside them and how they are put together. They lie in `/lab/guests` on every lab host, with their ssh
//! key; `assets/guest/README` there says what each is for.

mod cpio;
mod disk;
mod initramfs;

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::cache::{Entry, Recipe};
use crate::command;
use crate::tools::Tools;

use self::disk::Firmware;
use self::initramfs::{Client, Initramfs};

const README: &str = include_str!("../../assets/guest/README");

/// The directory of guests as a cache entry, making it first on a fresh machine.
pub(crate) fn get(tools: &Tools) -> Result<Entry> {
    let recipe = initramfs::ingredients(disk::ingredients(
        Recipe::new("guests")
            .with_entry(tools.entry())
            .with("readme", README),
    ));
    recipe.entry(
        "test guests: kernel, initramfs, disks (about 15 s)",
        |directory| make(tools, directory),
    )
}

fn make(tools: &Tools, directory: &Path) -> Result<()> {
    let key = directory.join("id_ed25519");
    command::output(
        Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "root@guest", "-f"])
            .arg(&key),
    )?;
    fs::write(directory.join("README"), README).context("writing the guests' README")?;

    let udhcpc = Initramfs::make(tools, directory, Client::Udhcpc)?;
    disk::make(tools, Firmware::Bios, &udhcpc, &directory.join("bios.raw"))?;
    disk::make(tools, Firmware::Uefi, &udhcpc, &directory.join("uefi.raw"))?;
    let dhcpcd = Initramfs::make(tools, directory, Client::Dhcpcd)?;
    let dhcpcd_disk = directory.join("bios-dhcpcd.raw");
    disk::make(tools, Firmware::Bios, &dhcpcd, &dhcpcd_disk)?;
    udhcpc.remove()?;
    dhcpcd.remove()?;

    let bios = directory.join("bios.raw");
    let compressed = command::output(Command::new("gzip").args(["-1nc"]).arg(&bios))?;
    fs::write(directory.join("bios.raw.gz"), compressed).context("writing bios.raw.gz")?;
    command::output(tools.command("xz").args(["-1", "-k"]).arg(&bios))?;
    command::output(tools.command("zstd").args(["-q", "-3"]).arg(&bios))?;
    command::output(
        tools
            .command("zstd")
            .args(["-q", "-3"])
            .arg(directory.join("uefi.raw")),
    )?;
    command::output(
        tools
            .command("zstd")
            .args(["-q", "-3", "--rm"])
            .arg(&dhcpcd_disk),
    )?;
    Ok(())
}

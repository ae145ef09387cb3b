//! A guest's disk: a partition table, a FAT partition to boot from, and a small ext4 partition that keeps data.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::cache::Recipe;
use crate::command;
use crate::guests::initramfs::Initramfs;
use crate::tools::Tools;

/// What starts the boot loader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Firmware {
    /// MBR, syslinux.
    Bios,
    /// GPT, systemd-boot; nothing on it that a BIOS could start.
    Uefi,
}

const MIB: u64 = 1 << 20;
const SECTOR_BYTES: u64 = 512;
/// Where the boot partition starts, leaving room for the partition table.
const BOOT_START: u64 = MIB;
const BOOT_BYTES: u64 = 40 * MIB;
const DATA_BYTES: u64 = 8 * MIB;
/// The backup GPT needs room after the last partition.
const DISK_BYTES: u64 = BOOT_START + BOOT_BYTES + DATA_BYTES + MIB;

/// Quiet, since every line costs time on a nested emulated serial port; and a guest that panics starts again.
const COMMAND_LINE: &str = "console=ttyS0 quiet mitigations=off cryptomgr.notests panic=5";

/// Adds everything of this file that the guests are made from.
pub(super) fn ingredients(recipe: Recipe) -> Recipe {
    recipe.with("disk", include_str!("disk.rs"))
}

/// Makes the disk at `path`, using files beside it on the way.
pub(super) fn make(
    tools: &Tools,
    firmware: Firmware,
    system: &Initramfs,
    path: &Path,
) -> Result<()> {
    let boot = path.with_extension("boot");
    boot_partition(tools, firmware, system, &boot)?;
    let data = path.with_extension("data");
    data_partition(tools, &data)?;

    let disk = File::create_new(path).with_context(|| format!("making {}", path.display()))?;
    disk.set_len(DISK_BYTES)
        .with_context(|| format!("sizing {}", path.display()))?;
    partition(tools, firmware, path)?;
    if firmware == Firmware::Bios {
        let code = tools.file("usr/lib/syslinux/mbr/mbr.bin");
        place(&code, &disk, 0)?;
    }
    place(&boot, &disk, BOOT_START)?;
    place(&data, &disk, BOOT_START + BOOT_BYTES)?;
    fs::remove_file(&boot).context("removing the boot partition's image")?;
    fs::remove_file(&data).context("removing the data partition's image")
}

fn boot_partition(
    tools: &Tools,
    firmware: Firmware,
    system: &Initramfs,
    image: &Path,
) -> Result<()> {
    let hidden_sectors = (BOOT_START / SECTOR_BYTES).to_string();
    let kib = (BOOT_BYTES / 1024).to_string();
    command::output(
        tools
            .command("mkfs.fat")
            .args(["-h", &hidden_sectors, "-n", "GUESTBOOT", "-C"])
            .arg(image)
            .arg(kib),
    )?;
    copy_in(tools, image, &system.kernel, "/vmlinuz")?;
    copy_in(tools, image, &system.initrd, "/initrd")?;
    match firmware {
        Firmware::Bios => {
            let config = format!(
                "DEFAULT guest\nPROMPT 0\nTIMEOUT 0\nLABEL guest\n LINUX /vmlinuz\n INITRD /initrd\n APPEND {COMMAND_LINE}\n"
            );
            copy_text_in(tools, image, &config, "/syslinux.cfg")?;
            command::output(tools.command("syslinux").arg("--install").arg(image))?;
        }
        Firmware::Uefi => {
            for directory in ["/EFI", "/EFI/BOOT", "/loader", "/loader/entries"] {
                command::output(
                    tools
                        .command("mmd")
                        .arg("-i")
                        .arg(image)
                        .arg(format!("::{directory}")),
                )?;
            }
            let loader = tools.file("usr/lib/systemd/boot/efi/systemd-bootx64.efi");
            copy_in(tools, image, &loader, "/EFI/BOOT/BOOTX64.EFI")?;
            copy_text_in(
                tools,
                image,
                "timeout 0\neditor no\n",
                "/loader/loader.conf",
            )?;
            let config =
                format!("title guest\nlinux /vmlinuz\ninitrd /initrd\noptions {COMMAND_LINE}\n");
            copy_text_in(tools, image, &config, "/loader/entries/guest.conf")?;
        }
    }
    Ok(())
}

fn data_partition(tools: &Tools, image: &Path) -> Result<()> {
    File::create_new(image)
        .and_then(|file| file.set_len(DATA_BYTES))
        .with_context(|| format!("making {}", image.display()))?;
    command::output(
        tools
            .command("mke2fs")
            .args(["-q", "-t", "ext4", "-L", "guest-data"])
            .arg(image),
    )?;
    Ok(())
}

fn partition(tools: &Tools, firmware: Firmware, disk: &Path) -> Result<()> {
    let sectors = |bytes: u64| bytes / SECTOR_BYTES;
    let (label, boot, data) = match firmware {
        Firmware::Bios => ("dos", "type=c, bootable", "type=83"),
        Firmware::Uefi => ("gpt", "type=U", "type=L"),
    };
    let script = format!(
        "label: {label}\nstart={}, size={}, {boot}\nstart={}, size={}, {data}\n",
        sectors(BOOT_START),
        sectors(BOOT_BYTES),
        sectors(BOOT_START + BOOT_BYTES),
        sectors(DATA_BYTES),
    );
    let mut child = tools
        .command("sfdisk")
        .args(["-q", "--no-reread", "--no-tell-kernel"])
        .arg(disk)
        .stdin(Stdio::piped())
        .spawn()
        .context("starting sfdisk")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin
            .write_all(script.as_bytes())
            .context("writing to sfdisk")?;
    }
    let status = child.wait().context("waiting for sfdisk")?;
    ensure!(
        status.success(),
        "sfdisk on {} ended with {status}",
        disk.display()
    );
    Ok(())
}

fn copy_in(tools: &Tools, image: &Path, from: &Path, to: &str) -> Result<()> {
    let mut copy: Command = tools.command("mcopy");
    command::output(copy.arg("-i").arg(image).arg(from).arg(format!("::{to}"))).map(drop)
}

fn copy_text_in(tools: &Tools, image: &Path, text: &str, to: &str) -> Result<()> {
    let file = image.with_extension("text");
    fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
    copy_in(tools, image, &file, to)?;
    fs::remove_file(&file).with_context(|| format!("removing {}", file.display()))
}

/// Copies a file into the disk at an offset, leaving holes where there are zeros.
fn place(from: &Path, mut disk: &File, offset: u64) -> Result<()> {
    let mut from = File::open(from).with_context(|| format!("opening {}", from.display()))?;
    let mut block = vec![0_u8; 64 * 1024];
    let mut at = offset;
    loop {
        let read = from
            .read(&mut block)
            .context("reading a partition's image")?;
        if read == 0 {
            return Ok(());
        }
        if block[..read].iter().any(|byte| *byte != 0) {
            disk.seek(SeekFrom::Start(at))
                .context("seeking in a guest's disk")?;
            disk.write_all(&block[..read])
                .context("writing a guest's disk")?;
        }
        at += read as u64;
    }
}

//! The lab host's disk: a plain Debian 13 server with what fvm's package depends on, and the test guests beside it.
//!
//! Nothing that fvm needs is named here: it comes from the `Depends` of the package, through apt. So a dependency that
//! the package forgets is missing on every lab host. What is named is what a plain server has, and the tools that tests
//! look into a host with.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::cache::{Entry, Recipe};
use crate::command;
use crate::debian::{Bootstrap, SUITE};
use crate::kvm_amd;
use crate::package;
use crate::tools::Tools;

/// A plain server.
const SERVER: &str = "linux-image-amd64,initramfs-tools,systemd,systemd-sysv,udev,dbus,kmod,iproute2,procps,openssh-server";
/// What tests look into a host with; fvm uses none of it.
const INSTRUMENTS: &str = "jq,sqlite3,python3,curl,tcpdump,iputils-ping,strace,e2fsprogs,lvm2";

const SETUP: &str = include_str!("../assets/host/setup");
const NETWORK: &str = include_str!("../assets/host/10-lab.network");
const INITRAMFS: &str = include_str!("../assets/host/initramfs.conf");
const INITRAMFS_MODULES: &str = include_str!("../assets/host/initramfs.modules");

/// Files that go into the image by way of the directory it is made in.
const UPLOADS: [(&str, &str); 4] = [
    ("setup", SETUP),
    ("10-lab.network", NETWORK),
    ("initramfs.conf", INITRAMFS),
    ("initramfs.modules", INITRAMFS_MODULES),
];

/// Sparse: what a host does not write takes no room.
const DISK_BYTES: u64 = 32 << 30;
const GUESTS_DISK_BYTES: u64 = 256 << 20;

/// The image and what goes with it.
#[derive(Debug)]
pub(crate) struct Image {
    /// Files `root.raw`, `lab.raw`, `vmlinuz`, `initrd.img`.
    pub(crate) entry: Entry,
    /// Files `id_ed25519` and `id_ed25519.pub`, for root on lab hosts.
    pub(crate) key: Entry,
}

impl Image {
    /// Opens the image, making it first on a fresh machine.
    pub(crate) fn get(tools: &Tools, guests: &Entry) -> Result<Self> {
        let key = Recipe::new("key").entry("ssh key of the lab", make_key)?;
        let depends = package::depends()?;
        let entry = Recipe::new("image")
            .with_entry(tools.entry())
            .with_entry(guests)
            .with_entry(&key)
            .with_file(&key.file("id_ed25519.pub"))?
            .with("suite", SUITE)
            .with("server", SERVER)
            .with("instruments", INSTRUMENTS)
            .with("depends", depends.join(" "))
            .with(
                "uploads",
                UPLOADS
                    .map(|(name, text)| format!("{name}\0{text}"))
                    .join("\0"),
            )
            .with("image", include_str!("image.rs"))
            .with("kvm-amd", include_str!("kvm_amd.rs"))
            .entry("lab host: installing Debian 13 (about 90 s)", |directory| {
                make(tools, guests, &key, &depends, directory)
            })?;
        Ok(Self { entry, key })
    }
}

fn make_key(directory: &Path) -> Result<()> {
    command::output(
        Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "fvm-lab", "-f"])
            .arg(directory.join("id_ed25519")),
    )?;
    Ok(())
}

fn make(
    tools: &Tools,
    guests: &Entry,
    key: &Entry,
    depends: &[String],
    directory: &Path,
) -> Result<()> {
    fs::copy(
        key.file("id_ed25519.pub"),
        directory.join("authorized_keys"),
    )
    .context("copying the lab's public key")?;
    for (name, text) in UPLOADS {
        fs::write(directory.join(name), text).with_context(|| format!("writing {name}"))?;
    }
    let archive = directory.join("root.tar");
    let install = format!(
        "chroot \"$1\" apt-get install -y --no-install-recommends {}",
        depends.join(" ")
    );
    Bootstrap::new("minbase", &format!("{SERVER},{INSTRUMENTS}"), directory)?
        // Before the kernel is installed, so that its initramfs is made once and small.
        .option(
            "--essential-hook=mkdir -p \"$1/etc/initramfs-tools/conf.d\" \
             \"$1/usr/share/initramfs-tools/modules.d\"",
        )
        .option("--essential-hook=upload initramfs.conf /etc/initramfs-tools/conf.d/lab.conf")
        .option(
            "--essential-hook=upload initramfs.modules \
             /usr/share/initramfs-tools/modules.d/lab.conf",
        )
        .option(format!("--customize-hook={install}"))
        .option("--customize-hook=upload authorized_keys /root/authorized_keys")
        .option("--customize-hook=upload 10-lab.network /etc/systemd/network/10-lab.network")
        .option("--customize-hook=upload setup /root/setup")
        .option("--customize-hook=chroot \"$1\" sh /root/setup")
        .option("--customize-hook=download /vmlinuz vmlinuz")
        .option("--customize-hook=download /initrd.img initrd.img")
        .run(&archive)?;

    let root = directory.join("root.raw");
    make_file_system(tools, &root, DISK_BYTES, "root", &archive)?;
    patch_kvm_amd(tools, directory, &archive, &root)?;
    guests_disk(tools, guests, directory)?;
    let used = UPLOADS.map(|(name, _)| name);
    for name in used.into_iter().chain(["root.tar", "authorized_keys"]) {
        fs::remove_file(directory.join(name)).with_context(|| format!("removing {name}"))?;
    }
    Ok(())
}

/// An ext4 image filled from a directory or a tar archive.
fn make_file_system(
    tools: &Tools,
    image: &Path,
    bytes: u64,
    label: &str,
    contents: &Path,
) -> Result<()> {
    File::create_new(image)
        .and_then(|file| file.set_len(bytes))
        .with_context(|| format!("making {}", image.display()))?;
    command::output(
        tools
            .command("mke2fs")
            .args(["-q", "-t", "ext4", "-F", "-L", label])
            .args(["-E", "lazy_itable_init=0,lazy_journal_init=0", "-d"])
            .arg(contents)
            .arg(image),
    )?;
    Ok(())
}

/// The disk that is `/lab` on every lab host.
fn guests_disk(tools: &Tools, guests: &Entry, directory: &Path) -> Result<()> {
    let contents = directory.join("lab");
    fs::create_dir(&contents).context("making the lab disk's directory")?;
    command::output(
        Command::new("cp")
            .args(["-r", "--sparse=always"])
            .arg(guests.path())
            .arg(contents.join("guests")),
    )?;
    make_file_system(
        tools,
        &directory.join("lab.raw"),
        GUESTS_DISK_BYTES,
        "lab",
        &contents,
    )?;
    fs::remove_dir_all(&contents).context("removing the lab disk's directory")
}

fn patch_kvm_amd(tools: &Tools, directory: &Path, archive: &Path, root: &Path) -> Result<()> {
    let listed = command::text(Command::new("tar").arg("-tf").arg(archive))?;
    let Some(member) = listed.lines().find(|name| name.ends_with("/kvm-amd.ko.xz")) else {
        bail!("the lab host's kernel has no module kvm-amd");
    };
    let packed: PathBuf = directory.join("kvm-amd.ko.xz");
    let bytes = command::output(Command::new("tar").arg("-xOf").arg(archive).arg(member))?;
    fs::write(&packed, bytes).context("writing the kvm-amd module")?;
    let module = command::output(tools.command("xz").arg("-dc").arg(&packed))?;
    let module = kvm_amd::with_cr8_intercept(&module).context("changing the kvm-amd module")?;
    fs::remove_file(&packed).context("removing the packed kvm-amd module")?;
    let plain = directory.join("kvm-amd.ko");
    fs::write(&plain, module).context("writing the kvm-amd module")?;
    // The kernel knows no other checksum of xz.
    command::output(
        tools
            .command("xz")
            .args(["--check=crc32", "-1"])
            .arg(&plain),
    )?;

    let inside = member.trim_start_matches('.');
    let commands = directory.join("debugfs.commands");
    fs::write(
        &commands,
        format!("rm {inside}\nwrite {} {inside}\n", packed.display()),
    )
    .context("writing debugfs commands")?;
    command::output(
        tools
            .command("debugfs")
            .arg("-w")
            .arg("-f")
            .arg(&commands)
            .arg(root),
    )?;
    let written = command::output(
        tools
            .command("debugfs")
            .arg("-R")
            .arg(format!("cat {inside}"))
            .arg(root),
    )?;
    if written != fs::read(&packed).context("reading the kvm-amd module")? {
        bail!("the changed kvm-amd module did not arrive in the lab host's image");
    }
    fs::remove_file(&packed).context("removing the kvm-amd module")?;
    fs::remove_file(&commands).context("removing debugfs commands")
}

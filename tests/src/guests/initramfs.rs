//! What runs in a guest: the whole system is an initramfs, so that a guest needs no root disk driver to come up and no
//! test can wear it out.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::cache::Recipe;
use crate::command;
use crate::guests::cpio::Archive;
use crate::tools::Tools;

/// The DHCP client in a guest; they differ in the client identifier that they send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Client {
    /// Identifier: type 1 and the hardware address.
    Udhcpc,
    /// Identifier: type 255, IAID and DUID (RFC 4361), new at every boot.
    Dhcpcd,
}

/// Drivers loaded at every boot, with whatever they depend on; network first, since the lease takes longest.
const FIRST_DRIVERS: [&str; 7] = [
    "virtio_net",
    "virtio_rng",
    "virtio_blk",
    "evdev",
    "button",
    "i6300esb",
    "vfat",
];
/// Drivers loaded when the disk is no virtio disk; looking for what is not there takes seconds when it is emulated.
const DISK_DRIVERS: [&str; 4] = ["virtio_scsi", "sd_mod", "ahci", "ata_piix"];

const RC: &str = include_str!("../../assets/guest/rc");
const INITTAB: &str = include_str!("../../assets/guest/inittab");
const POWER_BUTTON: &str = include_str!("../../assets/guest/power-button");
const AGENT: &str = include_str!("../../assets/guest/agent");
const LEASE: &str = include_str!("../../assets/guest/lease");
const NET_UDHCPC: &str = include_str!("../../assets/guest/net-udhcpc");
const NET_DHCPCD: &str = include_str!("../../assets/guest/net-dhcpcd");
const DHCPCD_CONF: &str = include_str!("../../assets/guest/dhcpcd.conf");

/// Adds everything of this file that the guests are made from.
pub(super) fn ingredients(recipe: Recipe) -> Recipe {
    let scripts = [
        RC,
        INITTAB,
        POWER_BUTTON,
        AGENT,
        LEASE,
        NET_UDHCPC,
        NET_DHCPCD,
        DHCPCD_CONF,
    ];
    scripts
        .iter()
        .fold(recipe, |recipe, text| recipe.with("script", text))
        .with("initramfs", include_str!("initramfs.rs"))
}

/// A kernel and an initramfs on the disk of the build machine.
pub(super) struct Initramfs {
    pub(super) kernel: PathBuf,
    pub(super) initrd: PathBuf,
}

impl Initramfs {
    /// Makes the initramfs of guests with that client, in `directory`, which has the guests' ssh key.
    pub(super) fn make(tools: &Tools, directory: &Path, client: Client) -> Result<Self> {
        let kernel = the_one(&tools.file("boot"), "vmlinuz-")?;
        let mut archive = Archive::default();
        skeleton(&mut archive);
        configuration(&mut archive, client);
        programs(&mut archive, tools, client)?;
        secrets(&mut archive, tools, directory)?;
        drivers(&mut archive, tools)?;
        let plain = directory.join(format!("{client:?}.cpio"));
        fs::write(&plain, archive.finish()).context("writing an initramfs")?;
        command::output(
            tools
                .command("zstd")
                .args(["-q", "-12", "-T0", "--rm"])
                .arg(&plain),
        )?;
        Ok(Self {
            kernel,
            initrd: plain.with_extension("cpio.zst"),
        })
    }

    /// Removes the initramfs, once the disks with it are made.
    pub(super) fn remove(self) -> Result<()> {
        fs::remove_file(&self.initrd).context("removing an initramfs")
    }
}

fn skeleton(archive: &mut Archive) {
    for directory in [
        "bin",
        "data",
        "dev",
        "etc",
        "etc/dropbear",
        "lib",
        "lib/modules",
        "lib/x86_64-linux-gnu",
        "lib64",
        "proc",
        "run",
        "sys",
        "usr",
        "var",
        "var/lib",
        "var/lib/dhcpcd",
        "var/log",
    ] {
        archive.directory(directory, 0o755);
    }
    archive.directory("root", 0o700);
    archive.directory("root/.ssh", 0o700);
    archive.directory("tmp", 0o1777);
    // The kernel opens the console before init has mounted anything.
    archive.character_device("dev/console", 0o600, 5, 1);
    archive.link("init", "/bin/busybox");
    archive.link("sbin", "bin");
    archive.link("var/run", "/run");
    archive.link("usr/bin", "/bin");
    archive.link("usr/sbin", "/bin");
}

fn configuration(archive: &mut Archive, client: Client) {
    let net = match client {
        Client::Udhcpc => NET_UDHCPC,
        Client::Dhcpcd => NET_DHCPCD,
    };
    for (path, mode, text) in [
        ("etc/rc", 0o755, RC),
        ("etc/inittab", 0o644, INITTAB),
        ("etc/power-button", 0o755, POWER_BUTTON),
        ("etc/agent", 0o755, AGENT),
        ("etc/lease", 0o755, LEASE),
        ("etc/net", 0o755, net),
        ("etc/dhcpcd.conf", 0o644, DHCPCD_CONF),
        (
            "etc/passwd",
            0o644,
            "root:x:0:0:root:/root:/bin/sh\ndhcpcd:x:100:100::/var/lib/dhcpcd:/bin/sh\n",
        ),
        ("etc/group", 0o644, "root:x:0:\ndhcpcd:x:100:\n"),
        ("etc/shells", 0o644, "/bin/sh\n"),
        ("etc/profile", 0o644, "export PS1='guest# '\n"),
    ] {
        archive.file(path, mode, text.as_bytes());
    }
}

fn programs(archive: &mut Archive, tools: &Tools, client: Client) -> Result<()> {
    let busybox = "usr/bin/busybox";
    add_program(archive, tools, busybox)?;
    let applets = command::text(Command::new(tools.file(busybox)).arg("--list"))?;
    for applet in applets.lines().filter(|name| *name != "busybox") {
        archive.link(&format!("bin/{applet}"), "busybox");
    }
    let mut linked = vec!["usr/sbin/dropbear", "usr/sbin/qemu-ga"];
    if client == Client::Dhcpcd {
        linked.push("usr/sbin/dhcpcd");
    }
    let mut libraries = BTreeSet::new();
    for program in linked {
        add_program(archive, tools, program)?;
        libraries.extend(tools.libraries(program)?);
    }
    for library in libraries {
        let contents = read(&library)?;
        let name = library
            .file_name()
            .map(|name| name.to_string_lossy())
            .unwrap_or_default();
        let directory = if name.starts_with("ld-linux") {
            "lib64"
        } else {
            "lib/x86_64-linux-gnu"
        };
        archive.file(&format!("{directory}/{name}"), 0o755, &contents);
    }
    Ok(())
}

fn add_program(archive: &mut Archive, tools: &Tools, path: &str) -> Result<()> {
    let name = path.rsplit('/').next().unwrap_or(path);
    archive.file(&format!("bin/{name}"), 0o755, &read(&tools.file(path))?);
    Ok(())
}

/// The key that may log in, and a host key of the image's own, as a golden image has.
fn secrets(archive: &mut Archive, tools: &Tools, directory: &Path) -> Result<()> {
    archive.file(
        "root/.ssh/authorized_keys",
        0o600,
        &read(&directory.join("id_ed25519.pub"))?,
    );
    let host_key = directory.join("host_key");
    command::output(
        tools
            .command("dropbearkey")
            .args(["-t", "ed25519", "-f"])
            .arg(&host_key),
    )?;
    archive.file("etc/dropbear/host_key", 0o600, &read(&host_key)?);
    for made in [host_key.with_extension("pub"), host_key] {
        fs::remove_file(&made).context("removing a guest's host key")?;
    }
    Ok(())
}

fn drivers(archive: &mut Archive, tools: &Tools) -> Result<()> {
    let modules = tools.file("usr/lib/modules");
    let tree = the_one(&modules, "")?;
    let version = tree
        .file_name()
        .map(|name| name.to_string_lossy())
        .unwrap_or_default();
    let list = command::text(
        tools
            .command("depmod")
            .arg("-n")
            .arg("-b")
            .arg(tools.file("usr"))
            .arg(&*version),
    )?;
    let mut added: Vec<String> = Vec::new();
    for (list_name, drivers) in [
        ("first", FIRST_DRIVERS.as_slice()),
        ("disks", &DISK_DRIVERS),
    ] {
        let mut names = String::new();
        for driver in drivers {
            for module in load_order(&list, driver)? {
                if added.contains(&module) {
                    continue;
                }
                let packed = tree.join(&module);
                let contents = command::output(tools.command("xz").arg("-dc").arg(&packed))?;
                let name = module
                    .rsplit('/')
                    .next()
                    .unwrap_or(&module)
                    .trim_end_matches(".xz");
                archive.file(&format!("lib/modules/{name}"), 0o644, &contents);
                names.push_str(name);
                names.push('\n');
                added.push(module);
            }
        }
        archive.file(&format!("lib/modules/{list_name}"), 0o644, names.as_bytes());
    }
    Ok(())
}

/// A driver and what it depends on, in the order of loading, from the text of `modules.dep`.
fn load_order(dependencies: &str, driver: &str) -> Result<Vec<String>> {
    let file = format!("/{}.ko.xz", driver);
    let dashed = file.replace('_', "-");
    let line = dependencies.lines().find_map(|line| {
        let (path, needs) = line.split_once(':')?;
        (path.ends_with(&file) || path.ends_with(&dashed)).then_some((path, needs))
    });
    let Some((path, needs)) = line else {
        bail!("the guests' kernel has no module {driver}");
    };
    let mut order: Vec<String> = needs.split_whitespace().map(str::to_owned).collect();
    order.reverse(); // depmod lists what to load last first
    order.push(path.to_owned());
    Ok(order)
}

fn the_one(directory: &Path, prefix: &str) -> Result<PathBuf> {
    let mut found = fs::read_dir(directory)
        .with_context(|| format!("listing {}", directory.display()))?
        .filter_map(Result::ok)
        .map(|item| item.path())
        .filter(|path| {
            path.file_name()
                .is_some_and(|n| n.to_string_lossy().starts_with(prefix))
        });
    match (found.next(), found.next()) {
        (Some(path), None) => Ok(path),
        (None, _) => bail!("no {prefix}* in {}", directory.display()),
        (Some(_), Some(_)) => bail!("several {prefix}* in {}", directory.display()),
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("reading {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::load_order;

    #[test]
    fn dependencies_come_before_the_driver() {
        let list = "kernel/net/virtio_net.ko.xz: kernel/net/net_failover.ko.xz kernel/net/failover.ko.xz\n\
                    kernel/net/failover.ko.xz:\n";
        assert_eq!(
            load_order(list, "virtio_net").unwrap(),
            [
                "kernel/net/failover.ko.xz",
                "kernel/net/net_failover.ko.xz",
                "kernel/net/virtio_net.ko.xz"
            ]
        );
    }

    #[test]
    fn a_driver_that_is_not_there_is_named() {
        let error = load_order("kernel/a.ko.xz:\n", "i6300esb").unwrap_err();
        assert!(error.to_string().contains("i6300esb"), "{error}");
    }
}

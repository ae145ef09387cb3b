//! What a template from an ordinary user may name: of the host, only what fvm hands out itself.
//!
//! QEMU runs without privileges, but it reads what every user may read, and a device or bridge of the host that
//! is handed to a guest is the guest's. So files, devices and networks of the host, and options that
//! go past fvm, are for root to give. This looks at the elements as they stand, before they are read into
//! the model, so that what fvm does not support yet is refused for the right reason.

use super::error::TemplateError;
use super::xml::Element;

/// What everybody's templates may name of the host.
pub struct Permitted<'p> {
    /// The VM's own disk.
    pub disk: &'p str,
    /// The network of VMs.
    pub network: &'p str,
    /// Whether a path is that of a firmware file which a package has installed.
    pub is_firmware: &'p dyn Fn(&str) -> bool,
}

impl std::fmt::Debug for Permitted<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Permitted")
            .field("disk", &self.disk)
            .field("network", &self.network)
            .finish_non_exhaustive()
    }
}

/// What one element names that it may not.
struct Offence {
    /// The attribute that says so; without one it is the element.
    attribute: Option<&'static str>,
    message: String,
    hint: &'static str,
}

const LEAVE_OUT: &str = "leave it out";
const OWN_KERNEL: &str = "leave it out: the image's own boot loader starts its kernel";
const OWN_FIRMWARE: &str = "write <os firmware='efi'>, and fvm finds the firmware itself";
const OWN_DISK: &str = "a VM's disk is written <source dev='/dev/THINPOOL_VG/VM_NAME'/>";
const OWN_NETWORK: &str =
    "write <interface type='network'> with <source network='LIBVIRT_NETWORK'/>";
const OWN_SOCKET: &str =
    "write type='pty' or type='unix', and fvm makes the host's end of it itself";

/// Finds the first thing in a template, whose macros have been replaced, that an ordinary user may not name.
pub(crate) fn check(root: &Element, permitted: &Permitted<'_>) -> Result<(), TemplateError> {
    walk(root, format!("/{}", root.name), &root.name, permitted)
}

fn walk(
    element: &Element,
    path: String,
    names: &str,
    permitted: &Permitted<'_>,
) -> Result<(), TemplateError> {
    if let Some(offence) = offence(element, names, permitted) {
        return Err(TemplateError {
            path: match offence.attribute {
                Some(name) => format!("{path}/@{name}"),
                None => path,
            },
            line: element.line,
            message: offence.message,
            hint: Some(offence.hint.to_owned()),
        });
    }
    for child in &element.children {
        let names = format!("{names}/{}", child.name);
        // Others' notes to themselves, which fvm does not look at.
        if names == "domain/metadata" {
            continue;
        }
        walk(child, element.path_of(&path, child), &names, permitted)?;
    }
    Ok(())
}

fn offence(element: &Element, names: &str, permitted: &Permitted<'_>) -> Option<Offence> {
    let whole = |message: &str, hint| {
        Some(Offence {
            attribute: None,
            message: message.to_owned(),
            hint,
        })
    };
    let text = element.text.trim();
    match names {
        "domain/os/kernel" | "domain/os/initrd" | "domain/os/dtb" | "domain/os/acpi/table" => {
            whole(&file(text), OWN_KERNEL)
        }
        "domain/os/loader" if !text.is_empty() && !(permitted.is_firmware)(text) => {
            whole(&file(text), OWN_FIRMWARE)
        }
        "domain/os/nvram" => named(element, &["template"], OWN_FIRMWARE, |path| {
            (!(permitted.is_firmware)(path)).then(|| file(path))
        }),
        "domain/devices/disk/source" => named(element, &["dev", "file", "dir"], OWN_DISK, |path| {
            (path != permitted.disk).then(|| format!("{path} is not the VM's own disk"))
        }),
        "domain/devices/interface" => named(element, &["type"], OWN_NETWORK, |kind| {
            (!matches!(kind, "network" | "bridge"))
                .then(|| format!("an interface of type {kind:?} reaches the host's own networks"))
        }),
        "domain/devices/interface/source" => named(element, &["bridge"], OWN_NETWORK, |bridge| {
            (bridge != permitted.network)
                .then(|| format!("{bridge:?} is a bridge of the host's own"))
        }),
        "domain/cputune/shares" if text.parse().is_ok_and(|shares: u32| shares > 100) => whole(
            "it takes processor time from other VMs, which have 100 shares",
            "leave it out, or write up to 100",
        ),
        "domain/sysinfo/entry" => named(element, &["file"], LEAVE_OUT, |path| Some(file(path))),
        "domain/devices/hostdev" => whole("it hands a device of the host to the guest", LEAVE_OUT),
        "domain/devices/filesystem" => {
            whole("it shows a directory of the host to the guest", LEAVE_OUT)
        }
        "domain/devices/serial"
        | "domain/devices/parallel"
        | "domain/devices/console"
        | "domain/devices/channel"
        | "domain/devices/redirdev" => named(element, &["type"], OWN_SOCKET, |kind| {
            let what = match kind {
                "dev" | "file" | "pipe" => "opens a file or device of the host",
                "tcp" | "udp" => "opens connections in the host's name",
                _ => return None,
            };
            Some(format!("type {kind:?} {what}"))
        }),
        "domain/devices/tpm/backend" => named(element, &["type"], LEAVE_OUT, |kind| {
            (kind == "passthrough").then(|| "it hands the host's TPM to the guest".to_owned())
        }),
        "domain/devices/rng/backend" if text == "/dev/hwrng" => whole(
            "/dev/hwrng is a device of the host",
            "write /dev/urandom there",
        ),
        // `qemu:commandline`, under whatever prefix.
        _ if element.name.contains(':') && names.matches('/').count() == 1 => {
            whole("it gives QEMU options that fvm does not check", LEAVE_OUT)
        }
        _ => None,
    }
}

fn file(path: &str) -> String {
    format!("{path} is a file of the host")
}

/// The first of these attributes that `wrong` has something to say about.
fn named(
    element: &Element,
    attributes: &[&'static str],
    hint: &'static str,
    wrong: impl Fn(&str) -> Option<String>,
) -> Option<Offence> {
    attributes.iter().find_map(|name| {
        let message = wrong(element.attribute(name)?)?;
        Some(Offence {
            attribute: Some(name),
            message,
            hint,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Macros, tree};

    const LINUX: &str = include_str!("../../../templates/linux.xml");

    fn checked(template: &str) -> Result<(), TemplateError> {
        let macros = Macros::new("fvm-debian-42", "fvm", "fvm0", 42, "debian");
        let permitted = Permitted {
            disk: "/dev/fvm/fvm-debian-42",
            network: "fvm0",
            is_firmware: &|path| path.starts_with("/usr/share/OVMF/"),
        };
        check(&tree(template, &macros).expect("well-formed"), &permitted)
    }

    const OS: &str = "<boot dev='hd'/>";
    const DISK: &str = "<source dev='/dev/THINPOOL_VG/VM_NAME'/>";
    const NIC: &str = "<interface type='network'>";
    const NIC_SOURCE: &str = "<source network='LIBVIRT_NETWORK'/>";
    const DEVICES: &str = "<memballoon model='virtio'/>";
    const RNG: &str = "/dev/urandom";
    const END: &str = "</devices>";

    /// What is replaced, by what, the path that is told, a part of the message.
    #[rustfmt::skip]
    const FORBIDDEN: &[(&str, &str, &str, &str)] = &[
        (OS, "<kernel>/boot/vmlinuz</kernel>", "/domain/os/kernel", "/boot/vmlinuz is a file of the host"),
        (OS, "<kernel>/k</kernel><initrd>/etc/passwd</initrd>", "/domain/os/kernel", "/k is"),
        (OS, "<initrd>/etc/passwd</initrd>", "/domain/os/initrd", "/etc/passwd"),
        (OS, "<dtb>/x</dtb>", "/domain/os/dtb", "/x"),
        (OS, "<acpi><table type='slic'>/x</table></acpi>", "/domain/os/acpi/table", "/x"),
        (OS, "<loader type='rom'>/home/ann/bios.bin</loader>", "/domain/os/loader", "/home/ann/bios.bin"),
        (OS, "<loader type='pflash' readonly='yes'>/etc/shadow</loader>", "/domain/os/loader", "/etc/shadow"),
        (OS, "<nvram template='/etc/shadow'/>", "/domain/os/nvram/@template", "/etc/shadow"),
        (OS, "<boot dev='hd'/></os><cputune><shares>200</shares></cputune><os>", "/domain/cputune/shares", "other VMs"),
        (OS, "</os><sysinfo type='fwcfg'><entry name='opt/x' file='/etc/shadow'/></sysinfo><os>", "/domain/sysinfo/entry/@file", "/etc/shadow"),
        (DISK, "<source dev='/dev/sda'/>", "/domain/devices/disk/source/@dev", "/dev/sda"),
        (DISK, "<source dev='/dev/fvm/fvm-debian-43'/>", "/domain/devices/disk/source/@dev", "own disk"),
        (DISK, "<source file='/root/x.raw'/>", "/domain/devices/disk/source/@file", "/root/x.raw"),
        (DISK, "<source dir='/etc'/>", "/domain/devices/disk/source/@dir", "/etc"),
        (NIC, "<interface type='direct'>", "/domain/devices/interface/@type", "direct"),
        (NIC, "<interface type='ethernet'>", "/domain/devices/interface/@type", "ethernet"),
        (NIC, "<interface type='hostdev'>", "/domain/devices/interface/@type", "hostdev"),
        (NIC_SOURCE, "<source bridge='br0'/>", "/domain/devices/interface/source/@bridge", "br0"),
        (DEVICES, "<hostdev mode='subsystem' type='pci'/>", "/domain/devices/hostdev", "device of the host"),
        (DEVICES, "<hostdev/><hostdev/>", "/domain/devices/hostdev[1]", "device of the host"),
        (DEVICES, "<filesystem type='mount'><source dir='/etc'/></filesystem>", "/domain/devices/filesystem", "directory"),
        (DEVICES, "<parallel type='dev'><source path='/dev/lp0'/></parallel>", "/domain/devices/parallel/@type", "dev"),
        (DEVICES, "<channel type='tcp'/><channel type='pty'/>", "/domain/devices/channel[2]/@type", "tcp"),
        (DEVICES, "<tpm><backend type='passthrough'/></tpm>", "/domain/devices/tpm/backend/@type", "TPM"),
        (RNG, "/dev/hwrng", "/domain/devices/rng/backend", "/dev/hwrng"),
        (END, "</devices><qemu:commandline/>", "/domain/qemu:commandline", "options"),
        (END, "</devices><q:override/>", "/domain/q:override", "options"),
    ];

    #[test]
    fn what_is_of_the_host_is_for_root_to_name() {
        for (old, new, path, word) in FORBIDDEN {
            assert_eq!(LINUX.matches(old).count(), 1, "{old} is not there once");
            let template = LINUX.replace(old, new);
            let error = checked(&template).expect_err(new);
            assert_eq!(error.path, *path, "{new}");
            assert!(error.message.contains(word), "{new}: {}", error.message);
            let line = template
                .lines()
                .nth(error.line as usize - 1)
                .expect("a line");
            let name = path.rsplit('/').find(|part| !part.starts_with('@'));
            let name = name.expect("an element").split('[').next().expect("a name");
            assert!(
                line.contains(&format!("<{name}")),
                "{new}: line {}",
                error.line
            );
            assert!(error.hint.is_some(), "{new}");
        }
    }

    #[test]
    fn what_is_a_vms_own_is_for_everybody_to_name() {
        for (old, new) in [
            (OS, OS),
            (
                OS,
                "<loader type='pflash' readonly='yes'>/usr/share/OVMF/OVMF_CODE.fd</loader>",
            ),
            (
                OS,
                "<nvram template='/usr/share/OVMF/OVMF_VARS.fd'>/any/where</nvram>",
            ),
            (DISK, "<source dev='/dev/fvm/fvm-debian-42'/>"),
            (NIC_SOURCE, "<source bridge='LIBVIRT_NETWORK'/>"),
            (DEVICES, "<tpm><backend type='emulator'/></tpm>"),
            (
                DEVICES,
                "<channel type='spicevmc'><target type='virtio'/></channel>",
            ),
            (RNG, "/dev/random"),
            (
                END,
                "</devices><metadata><qemu:commandline/><hostdev/></metadata>",
            ),
        ] {
            let template = LINUX.replace(old, new);
            assert_eq!(checked(&template), Ok(()), "{new}");
        }
    }
}

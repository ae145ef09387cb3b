//! The machine type, the firmware and what is booted.

use super::device::PciModel;
use super::error::Result;
use super::node::{Node, words};

words! {
    /// The guest's architecture.
    pub enum Arch {
        /// 64-bit x86.
        X86_64 = "x86_64",
        /// 64-bit ARM.
        Aarch64 = "aarch64",
        /// 64-bit POWER, little-endian.
        Ppc64le = "ppc64le",
    }
}

impl Arch {
    /// The architecture that fvm itself was built for, which KVM can run.
    pub const HOST: Option<Self> = if cfg!(target_arch = "x86_64") {
        Some(Self::X86_64)
    } else if cfg!(target_arch = "aarch64") {
        Some(Self::Aarch64)
    } else {
        None
    };

    /// The QEMU that runs it.
    pub fn qemu(self) -> &'static str {
        match self {
            Self::X86_64 => "qemu-system-x86_64",
            Self::Aarch64 => "qemu-system-aarch64",
            Self::Ppc64le => "qemu-system-ppc64",
        }
    }

    /// Debian's package with that QEMU.
    pub fn debian_package(self) -> &'static str {
        match self {
            Self::X86_64 => "qemu-system-x86",
            Self::Aarch64 => "qemu-system-arm",
            Self::Ppc64le => "qemu-system-ppc",
        }
    }

    /// The family of a machine type by its name: `pc`, or with a version, `pc-i440fx-7.2`.
    fn machine(self, name: &str) -> Option<MachineKind> {
        let families: &[(&str, &str, MachineKind)] = match self {
            Self::X86_64 if name == "microvm" => return Some(MachineKind::Microvm),
            Self::X86_64 => &[
                ("pc", "pc-i440fx-", MachineKind::I440fx),
                ("q35", "pc-q35-", MachineKind::Q35),
            ],
            Self::Aarch64 => &[("virt", "virt-", MachineKind::Virt)],
            Self::Ppc64le => &[("pseries", "pseries-", MachineKind::Pseries)],
        };
        let named = |(short, versioned, _): &&(&str, &str, _)| {
            name == *short || name.starts_with(versioned)
        };
        families.iter().find(named).map(|(_, _, kind)| *kind)
    }

    /// The machine type of a template that names none.
    fn default_machine(self) -> (&'static str, MachineKind) {
        match self {
            Self::X86_64 => ("pc", MachineKind::I440fx),
            Self::Aarch64 => ("virt", MachineKind::Virt),
            Self::Ppc64le => ("pseries", MachineKind::Pseries),
        }
    }

    /// The machine types that a template may name, for people.
    fn machines(self) -> &'static str {
        match self {
            Self::X86_64 => "pc, q35, their versions pc-i440fx-* and pc-q35-*, and microvm",
            Self::Aarch64 => "virt and its versions virt-*",
            Self::Ppc64le => "pseries and its versions pseries-*",
        }
    }
}

/// The family of a machine type, which decides where devices sit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MachineKind {
    /// i440FX and PIIX3: one PCI bus.
    I440fx,
    /// Q35 and ICH9: PCI Express.
    Q35,
    /// x86 without a PCI bus: virtio devices in memory.
    Microvm,
    /// ARM's machine without a model in hardware: PCI Express, and virtio devices in memory.
    Virt,
    /// POWER as PAPR describes it: one PCI bus, and the hypervisor's virtual devices.
    Pseries,
}

impl MachineKind {
    /// The root of its PCI buses; `None` if it has none.
    pub fn pci_root(self) -> Option<PciModel> {
        match self {
            Self::I440fx | Self::Pseries => Some(PciModel::PciRoot),
            Self::Q35 | Self::Virt => Some(PciModel::PcieRoot),
            Self::Microvm => None,
        }
    }

    /// Whether its buses are PCI Express.
    pub fn is_express(self) -> bool {
        self.pci_root() == Some(PciModel::PcieRoot)
    }

    /// Whether it is a PC: i440FX or Q35 with what belongs to them.
    pub fn is_pc(self) -> bool {
        matches!(self, Self::I440fx | Self::Q35)
    }
}

/// A class of device to boot from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BootDevice {
    /// The first disk.
    Disk,
    /// The first CD-ROM drive.
    Cdrom,
    /// The first network interface.
    Network,
    /// The first floppy drive.
    Floppy,
}

/// A firmware image that the template names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loader {
    /// The file with the code.
    pub path: String,
    /// Whether it is mapped as flash (UEFI), not loaded as a ROM.
    pub pflash: bool,
    /// Whether the guest may not write to it.
    pub readonly: bool,
    /// Whether flash may be written in system management mode only.
    pub secure: bool,
}

/// What starts the guest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Firmware {
    /// Whether a UEFI firmware is wanted and fvm looks for it.
    pub efi: bool,
    /// Whether the firmware must enforce secure boot, if the template says so.
    pub secure_boot: Option<bool>,
    /// The image that the template names.
    pub loader: Option<Loader>,
    /// The template of the variables store; every VM has a copy of its own.
    pub vars_template: Option<String>,
}

impl Firmware {
    /// Whether the guest starts by UEFI from flash and so needs a variables store.
    pub fn is_uefi(&self) -> bool {
        self.efi || self.loader.as_ref().is_some_and(|loader| loader.pflash)
    }
}

/// A kernel that is started without firmware finding it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectKernel {
    /// The kernel image.
    pub kernel: String,
    /// The initial RAM disk.
    pub initrd: Option<String>,
    /// The kernel's command line.
    pub cmdline: Option<String>,
}

/// The `<os>` element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Os {
    /// The architecture.
    pub arch: Arch,
    /// The machine type as the template names it: `pc`, `q35`, `pc-i440fx-7.2`…
    pub machine: String,
    /// The family of the machine type.
    pub kind: MachineKind,
    /// What starts the guest.
    pub firmware: Firmware,
    /// The classes to boot from, in order; empty when devices carry their own order.
    pub boot: Vec<BootDevice>,
    /// Whether the firmware shows a menu, and for how long in milliseconds.
    pub boot_menu: Option<(bool, Option<u32>)>,
    /// Whether BIOS messages go to the serial line.
    pub bios_useserial: Option<bool>,
    /// How long the firmware waits before it tries again to boot, in ms; -1 for never.
    pub reboot_timeout_ms: Option<i32>,
    /// A kernel to start directly.
    pub kernel: Option<DirectKernel>,
    /// Whether the guest's SMBIOS tables are those of the template.
    pub smbios: bool,
}

/// Reads `<os>`.
pub(crate) fn read(domain: &Node<'_>) -> Result<Os> {
    domain.need_child("os", |node| {
        let efi = match node.attr("firmware") {
            None => false,
            Some(value) => value.choice(&[("efi", true), ("bios", false)])?,
        };
        let (arch, machine, kind) = node.need_child("type", machine)?;
        let boot = node.each("boot", |boot| {
            boot.need("dev")?.choice(&[
                ("hd", BootDevice::Disk),
                ("cdrom", BootDevice::Cdrom),
                ("network", BootDevice::Network),
                ("fd", BootDevice::Floppy),
            ])
        })?;
        let boot_menu = node.child("bootmenu", |menu| {
            let timeout = menu.attr("timeout").map(|t| t.number()).transpose()?;
            Ok((menu.need("enable")?.yes_no()?, timeout))
        })?;
        let bios = node.child("bios", |bios| {
            Ok((
                bios.attr("useserial").map(|v| v.yes_no()).transpose()?,
                bios.attr("rebootTimeout").map(|v| v.number()).transpose()?,
            ))
        })?;
        let smbios = node.child("smbios", |smbios| {
            smbios
                .need("mode")?
                .choice(&[("sysinfo", true), ("emulate", false)])
        })?;
        let (bios_useserial, reboot_timeout_ms) = bios.unwrap_or_default();
        Ok(Os {
            arch,
            machine,
            kind,
            firmware: firmware(node, efi)?,
            boot,
            boot_menu,
            bios_useserial,
            reboot_timeout_ms,
            kernel: kernel(node)?,
            smbios: smbios.unwrap_or(false),
        })
    })
}

fn machine(node: &Node<'_>) -> Result<(Arch, String, MachineKind)> {
    node.text().choice(&[("hvm", ())])?;
    let arch = match node.attr("arch") {
        None => Arch::X86_64,
        Some(value) => value.choice(Arch::WORDS)?,
    };
    let Some(machine) = node.attr("machine") else {
        let (name, kind) = arch.default_machine();
        return Ok((arch, name.to_owned(), kind));
    };
    let name = machine.str();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if !name.chars().all(plain) {
        return Err(machine.refuse("not the name of a machine type"));
    }
    let kind = arch.machine(name).ok_or_else(|| {
        let of = arch.as_str();
        machine.refuse_with(
            format!("fvm does not know the machine type {name:?} for {of}"),
            format!("supported: {}", arch.machines()),
        )
    })?;
    Ok((arch, name.to_owned(), kind))
}

fn firmware(os: &Node<'_>, efi: bool) -> Result<Firmware> {
    let loader = os.child("loader", |node| {
        let pflash = match node.attr("type") {
            None => false,
            Some(value) => value.choice(&[("pflash", true), ("rom", false)])?,
        };
        let flag = |name: &str| node.attr(name).map_or(Ok(false), |value| value.yes_no());
        let (readonly, secure) = (flag("readonly")?, flag("secure")?);
        if let Some(format) = node.attr("format") {
            format.expect("raw")?;
        }
        let path = node.text().str().to_owned();
        if path.is_empty() && !efi {
            return Err(node.refuse("the path of the firmware is missing"));
        }
        if pflash && !readonly && !efi {
            return Err(node.refuse("flash with the firmware's code must be readonly='yes'"));
        }
        Ok(Loader {
            path,
            pflash,
            readonly,
            secure,
        })
    })?;
    let vars_template = os.child("nvram", |node| {
        if let Some(format) = node.attr("format") {
            format.expect("raw")?;
        }
        if !node.text().str().is_empty() {
            node.warn(
                "fvm keeps each VM's UEFI variables in a file of its own; the path is not used",
            );
        }
        Ok(node.attr("template").map(|value| value.str().to_owned()))
    })?;
    let features = os.child("firmware", |node| {
        node.each("feature", |feature| {
            let enabled = feature.need("enabled")?.yes_no()?;
            let name = feature.need("name")?;
            name.choice(&[("secure-boot", true), ("enrolled-keys", false)])
                .map(|is_secure_boot| (is_secure_boot, enabled))
        })
    })?;
    let secure_boot = features
        .unwrap_or_default()
        .into_iter()
        .find_map(|(is_secure_boot, enabled)| is_secure_boot.then_some(enabled));
    let secure_loader = loader.as_ref().is_some_and(|loader| loader.secure);
    Ok(Firmware {
        efi,
        secure_boot: secure_boot.or(secure_loader.then_some(true)),
        loader: loader.filter(|loader| !loader.path.is_empty()),
        vars_template: vars_template.flatten(),
    })
}

fn kernel(os: &Node<'_>) -> Result<Option<DirectKernel>> {
    let text = |name: &str| -> Result<Option<String>> {
        os.child_text(name)?
            .map(|value| value.non_empty())
            .transpose()
    };
    let (kernel, initrd, cmdline) = (text("kernel")?, text("initrd")?, text("cmdline")?);
    match kernel {
        Some(kernel) => Ok(Some(DirectKernel {
            kernel,
            initrd,
            cmdline,
        })),
        None if initrd.is_some() || cmdline.is_some() => {
            Err(os.refuse("initrd and cmdline need a kernel"))
        }
        None => Ok(None),
    }
}

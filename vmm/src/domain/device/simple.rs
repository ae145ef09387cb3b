//! Devices of a few attributes: balloon, rng, watchdog, input, hub, IOMMU, panic, vsock.

use crate::domain::address::{self, PciPlace, UsbAddress};
use crate::domain::error::Result;
use crate::domain::node::{Node, words};
use crate::domain::origin::Origin;

/// The memory balloon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Balloon {
    /// The device's id in QEMU.
    pub alias: String,
    /// Where it stands in the template.
    pub origin: Origin,
    /// Whether the guest takes memory back when it runs short.
    pub autodeflate: Option<bool>,
    /// Whether the guest reports pages that it does not use.
    pub free_page_reporting: Option<bool>,
    /// How often the guest reports its memory's state, in seconds.
    pub stats_period_s: Option<u32>,
    /// The place on the PCI bus.
    pub pci: PciPlace,
}

/// A source of randomness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rng {
    /// The device's id in QEMU.
    pub alias: String,
    /// Where it stands in the template.
    pub origin: Origin,
    /// The file that it reads.
    pub path: String,
    /// The most bytes in a period, and the period in ms.
    pub rate: Option<(u64, u32)>,
    /// The place on the PCI bus.
    pub pci: PciPlace,
}

words! {
    /// The watchdog that the guest sees.
    pub enum WatchdogModel {
        /// Intel 6300ESB.
        I6300esb = "i6300esb",
        /// IBASE 700.
        Ib700 = "ib700",
        /// The timer of ICH9, on q35.
        Itco = "itco",
    }
}

words! {
    /// What happens when the guest does not feed the watchdog.
    pub enum WatchdogAction {
        /// The guest is reset.
        Reset = "reset",
        /// The guest is asked to shut down.
        Shutdown = "shutdown",
        /// The VM ends.
        Poweroff = "poweroff",
        /// The VM is paused.
        Pause = "pause",
        /// Nothing.
        None = "none",
        /// The guest gets a non-maskable interrupt.
        InjectNmi = "inject-nmi",
    }
}

/// A watchdog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watchdog {
    /// The device's id in QEMU.
    pub alias: String,
    /// Where it stands in the template.
    pub origin: Origin,
    /// Which.
    pub model: WatchdogModel,
    /// What happens when it fires.
    pub action: WatchdogAction,
    /// The place on the PCI bus.
    pub pci: PciPlace,
}

words! {
    /// What the device is for.
    pub enum InputKind {
        /// A relative pointer.
        Mouse = "mouse",
        /// An absolute pointer.
        Tablet = "tablet",
        /// A keyboard.
        Keyboard = "keyboard",
    }
}

words! {
    /// How an input device is attached.
    pub enum InputBus {
        /// PS/2, which the machine always has.
        Ps2 = "ps2",
        /// USB.
        Usb = "usb",
        /// virtio.
        Virtio = "virtio",
    }
}

/// An input device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// The device's id in QEMU.
    pub alias: String,
    /// Where it stands in the template.
    pub origin: Origin,
    /// What it is for.
    pub kind: InputKind,
    /// How it is attached.
    pub bus: InputBus,
    /// The place on the PCI bus, of virtio.
    pub pci: PciPlace,
    /// The place on the USB bus, of USB.
    pub usb: Option<UsbAddress>,
}

/// A USB hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hub {
    /// The device's id in QEMU.
    pub alias: String,
    /// Where it stands in the template.
    pub origin: Origin,
    /// The place on the USB bus.
    pub usb: Option<UsbAddress>,
}

words! {
    /// The model of the IOMMU.
    pub enum IommuModel {
        /// Intel's.
        Intel = "intel",
        /// virtio.
        Virtio = "virtio",
    }
}

/// A unit that translates the addresses of devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Iommu {
    /// The device's id in QEMU.
    pub alias: String,
    /// Where it stands in the template.
    pub origin: Origin,
    /// Which.
    pub model: IommuModel,
    /// Whether it remaps interrupts.
    pub interrupt_remapping: Option<bool>,
    /// Whether the guest says which entries it changed.
    pub caching_mode: Option<bool>,
    /// Whether processors beyond 255 get interrupts.
    pub extended_interrupts: Option<bool>,
    /// Whether devices cache translations.
    pub device_iotlb: Option<bool>,
    /// The width of addresses in bits.
    pub address_bits: Option<u32>,
    /// The place on the PCI bus, of virtio.
    pub pci: PciPlace,
}

words! {
    /// How the guest reports a panic.
    pub enum PanicModel {
        /// The ISA device.
        Isa = "isa",
        /// The PCI device.
        Pvpanic = "pvpanic",
        /// Hyper-V's crash registers.
        Hyperv = "hyperv",
        /// A call to the hypervisor, on POWER.
        Pseries = "pseries",
    }
}

/// A way to report a panic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Panic {
    /// The device's id in QEMU.
    pub alias: String,
    /// Where it stands in the template.
    pub origin: Origin,
    /// Which.
    pub model: PanicModel,
    /// The place on the PCI bus.
    pub pci: PciPlace,
}

/// A socket between guest and host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vsock {
    /// The device's id in QEMU.
    pub alias: String,
    /// Where it stands in the template.
    pub origin: Origin,
    /// The guest's context id, if the template fixes it.
    pub cid: Option<u32>,
    /// The place on the PCI bus.
    pub pci: PciPlace,
}

/// Reads `<memballoon>`; `None` is the template's "no balloon".
pub(crate) fn balloon(node: &Node<'_>) -> Result<Option<Balloon>> {
    let present = node
        .need("model")?
        .choice(&[("virtio", true), ("none", false)])?;
    node.ignore_children("alias");
    let balloon = Balloon {
        alias: String::new(),
        origin: node.origin(),
        autodeflate: node.attr("autodeflate").map(|v| v.on_off()).transpose()?,
        free_page_reporting: node
            .attr("freePageReporting")
            .map(|v| v.on_off())
            .transpose()?,
        stats_period_s: node.child("stats", |stats| stats.need("period")?.number())?,
        pci: address::pci(node)?,
    };
    Ok(present.then_some(balloon))
}

/// Reads `<rng>`.
pub(crate) fn rng(node: &Node<'_>) -> Result<Rng> {
    node.need("model")?.expect("virtio")?;
    node.ignore_children("alias");
    let path = node.need_child("backend", |backend| {
        backend.need("model")?.expect("random")?;
        let path = backend.text();
        if path.str().is_empty() {
            return Ok("/dev/urandom".to_owned());
        }
        path.choice(&[
            ("/dev/random", "/dev/random"),
            ("/dev/urandom", "/dev/urandom"),
            ("/dev/hwrng", "/dev/hwrng"),
        ])
        .map(str::to_owned)
    })?;
    let rate = node.child("rate", |rate| {
        let period = rate
            .attr("period")
            .map_or(Ok(1000), |value| value.number())?;
        Ok((rate.need("bytes")?.number()?, period))
    })?;
    Ok(Rng {
        alias: String::new(),
        origin: node.origin(),
        path,
        rate,
        pci: address::pci(node)?,
    })
}

/// Reads `<watchdog>`.
pub(crate) fn watchdog(node: &Node<'_>) -> Result<Watchdog> {
    node.ignore_children("alias");
    let model = node.need("model")?.choice(WatchdogModel::WORDS)?;
    let action = match node.attr("action") {
        None => WatchdogAction::Reset,
        Some(value) => value.choice(WatchdogAction::WORDS)?,
    };
    let pci = match model {
        WatchdogModel::I6300esb => address::pci(node)?,
        _ => PciPlace::default(),
    };
    Ok(Watchdog {
        alias: String::new(),
        origin: node.origin(),
        model,
        action,
        pci,
    })
}

/// Reads `<input>`.
pub(crate) fn input(node: &Node<'_>) -> Result<Input> {
    let kind_value = node.need("type")?;
    let kind = kind_value.choice(InputKind::WORDS)?;
    let bus = match node.attr("bus") {
        None if kind == InputKind::Tablet => InputBus::Usb,
        None => InputBus::Ps2,
        Some(value) => value.choice(InputBus::WORDS)?,
    };
    if (kind, bus) == (InputKind::Tablet, InputBus::Ps2) {
        return Err(kind_value.refuse_with("there is no PS/2 tablet", "use bus='usb'"));
    }
    node.ignore_children("alias");
    let (mut pci, mut usb) = (PciPlace::default(), None);
    match bus {
        InputBus::Virtio => pci = address::pci(node)?,
        InputBus::Usb => usb = address::usb(node)?,
        InputBus::Ps2 => {}
    }
    Ok(Input {
        alias: String::new(),
        origin: node.origin(),
        kind,
        bus,
        pci,
        usb,
    })
}

/// Reads `<hub>`.
pub(crate) fn hub(node: &Node<'_>) -> Result<Hub> {
    node.need("type")?.expect("usb")?;
    node.ignore_children("alias");
    Ok(Hub {
        alias: String::new(),
        origin: node.origin(),
        usb: address::usb(node)?,
    })
}

/// Reads `<iommu>`.
pub(crate) fn iommu(node: &Node<'_>) -> Result<Iommu> {
    let model = node.need("model")?.choice(IommuModel::WORDS)?;
    node.ignore_children("alias");
    let mut iommu = Iommu {
        alias: String::new(),
        origin: node.origin(),
        model,
        interrupt_remapping: None,
        caching_mode: None,
        extended_interrupts: None,
        device_iotlb: None,
        address_bits: None,
        pci: PciPlace::default(),
    };
    if model == IommuModel::Virtio {
        iommu.pci = address::pci(node)?;
        return Ok(iommu);
    }
    node.child("driver", |driver| {
        let switch = |name: &str| driver.attr(name).map(|value| value.on_off()).transpose();
        iommu.interrupt_remapping = switch("intremap")?;
        iommu.caching_mode = switch("caching_mode")?;
        iommu.extended_interrupts = switch("eim")?;
        iommu.device_iotlb = switch("iotlb")?;
        iommu.address_bits = match driver.attr("aw_bits") {
            None => None,
            Some(value) => Some(value.choice(&[("39", 39), ("48", 48)])?),
        };
        Ok(())
    })?;
    Ok(iommu)
}

/// Reads `<panic>`.
pub(crate) fn panic(node: &Node<'_>) -> Result<Panic> {
    let model = match node.attr("model") {
        None => PanicModel::Isa,
        Some(value) => value.choice(PanicModel::WORDS)?,
    };
    node.ignore_children("alias");
    let mut pci = PciPlace::default();
    match model {
        PanicModel::Isa => {
            node.child("address", |address| {
                address.need("type")?.expect("isa")?;
                match address.attr("iobase") {
                    Some(port) if port.address(0xffff)? != 0x505 => {
                        Err(port.refuse("the device is always at port 0x505"))
                    }
                    _ => Ok(()),
                }
            })?;
        }
        PanicModel::Pvpanic => pci = address::pci(node)?,
        PanicModel::Hyperv | PanicModel::Pseries => {}
    }
    Ok(Panic {
        alias: String::new(),
        origin: node.origin(),
        model,
        pci,
    })
}

/// Reads `<vsock>`.
pub(crate) fn vsock(node: &Node<'_>) -> Result<Vsock> {
    if let Some(model) = node.attr("model") {
        model.expect("virtio")?;
    }
    node.ignore_children("alias");
    let cid = node.child("cid", |cid| {
        let auto = cid.attr("auto").map_or(Ok(false), |value| value.yes_no())?;
        let Some(address) = cid.attr("address") else {
            return Ok(None);
        };
        match address.number()? {
            // 0 to 2 stand for the hypervisor, loopback and the host.
            0..=2 => Err(address.refuse("a guest's context id is 3 or more")),
            number => Ok((!auto).then_some(number)),
        }
    })?;
    Ok(Vsock {
        alias: String::new(),
        origin: node.origin(),
        cid: cid.flatten(),
        pci: address::pci(node)?,
    })
}

//! Controllers: PCI, SCSI, IDE, SATA, NVMe, USB, virtio-serial, floppy.

use crate::domain::address::{self, PciPlace};
use crate::domain::error::Result;
use crate::domain::node::{Node, words};
use crate::domain::origin::Origin;

words! {
    /// The SCSI host adapter that the guest sees.
    pub enum ScsiModel {
        /// virtio.
        VirtioScsi = "virtio-scsi",
        /// LSI Logic 53C895A.
        LsiLogic = "lsilogic",
        /// LSI SAS 1068.
        LsiSas1068 = "lsisas1068",
        /// LSI SAS 1078 (MegaRAID).
        LsiSas1078 = "lsisas1078",
        /// VMware's paravirtual adapter.
        VmPvScsi = "vmpvscsi",
        /// AMD 53C974.
        Am53C974 = "am53c974",
        /// Tekram DC-390.
        Dc390 = "dc390",
        /// POWER's virtual adapter.
        IbmVscsi = "ibmvscsi",
    }
}

words! {
    /// The USB controller that the guest sees.
    pub enum UsbModel {
        /// UHCI of PIIX3, at 01.2 of i440FX.
        Piix3Uhci = "piix3-uhci",
        /// UHCI of PIIX4.
        Piix4Uhci = "piix4-uhci",
        /// A stand-alone EHCI.
        Ehci = "ehci",
        /// EHCI of ICH9.
        Ich9Ehci1 = "ich9-ehci1",
        /// The first UHCI companion of ICH9.
        Ich9Uhci1 = "ich9-uhci1",
        /// The second.
        Ich9Uhci2 = "ich9-uhci2",
        /// The third.
        Ich9Uhci3 = "ich9-uhci3",
        /// VIA's UHCI.
        Vt82c686bUhci = "vt82c686b-uhci",
        /// OHCI.
        PciOhci = "pci-ohci",
        /// NEC's xHCI.
        NecXhci = "nec-xhci",
        /// QEMU's own xHCI.
        QemuXhci = "qemu-xhci",
    }
}

words! {
    /// A PCI bridge or port.
    pub enum PciModel {
        /// The root of a conventional PCI machine.
        PciRoot = "pci-root",
        /// The root of a PCI Express machine.
        PcieRoot = "pcie-root",
        /// A root port.
        PcieRootPort = "pcie-root-port",
        /// A bridge to a conventional bus on an Express port.
        PcieToPciBridge = "pcie-to-pci-bridge",
        /// A bridge from the Express root to a conventional bus.
        DmiToPciBridge = "dmi-to-pci-bridge",
        /// A bridge between conventional buses.
        PciBridge = "pci-bridge",
    }
}

/// What a controller controls, and by which model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControllerKind {
    /// IDE.
    Ide,
    /// Floppy.
    Fdc,
    /// SATA (AHCI).
    Sata,
    /// SCSI.
    Scsi {
        /// The adapter.
        model: ScsiModel,
        /// The number of request queues.
        queues: Option<u32>,
        /// The thread that serves it.
        iothread: Option<u32>,
    },
    /// USB; `None` is the template's "no USB".
    Usb {
        /// The controller.
        model: Option<UsbModel>,
        /// The number of ports.
        ports: Option<u32>,
        /// The first port of the EHCI that a companion serves.
        companion_port: Option<u32>,
    },
    /// NVMe; its serial number is that of its disks.
    Nvme,
    /// virtio-serial.
    VirtioSerial {
        /// The number of ports.
        ports: Option<u32>,
        /// The number of interrupt vectors.
        vectors: Option<u32>,
    },
    /// PCI.
    Pci {
        /// The bridge or port.
        model: PciModel,
        /// The chassis number of a root port.
        chassis: Option<u8>,
        /// The port number of a root port.
        port: Option<u8>,
        /// The chassis number of a bridge.
        chassis_number: Option<u8>,
    },
}

impl ControllerKind {
    /// The word for `<controller type=…>`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Ide => "ide",
            Self::Fdc => "fdc",
            Self::Sata => "sata",
            Self::Scsi { .. } => "scsi",
            Self::Usb { .. } => "usb",
            Self::Nvme => "nvme",
            Self::VirtioSerial { .. } => "virtio-serial",
            Self::Pci { .. } => "pci",
        }
    }
}

/// A controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Controller {
    /// The device's id in QEMU.
    pub alias: String,
    /// Where it stands in the template.
    pub origin: Origin,
    /// What it controls.
    pub kind: ControllerKind,
    /// Its number among those of its type.
    pub index: u32,
    /// Its place on the PCI bus.
    pub pci: PciPlace,
}

impl Controller {
    /// A controller that completion adds.
    pub(crate) fn implied(kind: ControllerKind, index: u32) -> Self {
        Self {
            alias: String::new(),
            origin: Origin::default(),
            kind,
            index,
            pci: PciPlace::default(),
        }
    }

    /// The PCI model, of PCI controllers.
    pub fn pci_model(&self) -> Option<PciModel> {
        match self.kind {
            ControllerKind::Pci { model, .. } => Some(model),
            _ => None,
        }
    }

    /// The USB model, of USB controllers.
    pub fn usb_model(&self) -> Option<UsbModel> {
        match self.kind {
            ControllerKind::Usb { model, .. } => model,
            _ => None,
        }
    }
}

/// A controller as the template has it: some models and indexes are the machine's to choose.
#[derive(Debug, Clone)]
pub(crate) struct TemplateController {
    pub(crate) controller: Controller,
    /// The template gave no index.
    pub(crate) choose_index: bool,
    /// The template gave no model, and it depends on the machine.
    pub(crate) choose_model: bool,
    pub(crate) path: String,
    pub(crate) line: u32,
}

/// Reads `<controller>`.
pub(crate) fn controller(node: &Node<'_>) -> Result<TemplateController> {
    let word = node.need("type")?;
    let mut choose_model = false;
    let kind = match word.str() {
        "ide" => {
            // The machine has one kind of each, which libvirt names in its own output.
            if let Some(model) = node.attr("model") {
                model.choice(&[("piix3", ()), ("piix4", ()), ("ich6", ())])?;
            }
            ControllerKind::Ide
        }
        "fdc" => ControllerKind::Fdc,
        "sata" => ControllerKind::Sata,
        "nvme" => ControllerKind::Nvme,
        "scsi" => scsi(node, &mut choose_model)?,
        "usb" => usb(node, &mut choose_model)?,
        "virtio-serial" => ControllerKind::VirtioSerial {
            ports: node.attr("ports").map(|v| v.number()).transpose()?,
            vectors: node.attr("vectors").map(|v| v.number()).transpose()?,
        },
        "pci" => pci(node)?,
        other => {
            return Err(word.refuse_with(
                format!("fvm does not support controllers of type {other:?}"),
                "supported values here: ide, fdc, sata, scsi, usb, nvme, virtio-serial, pci",
            ));
        }
    };
    let index = match node.attr("index") {
        None => None,
        Some(value) => Some(value.address(255)?),
    };
    node.ignore_children("alias");
    let pci = address::pci(node)?;
    Ok(TemplateController {
        controller: Controller {
            alias: String::new(),
            origin: node.origin(),
            kind,
            index: index.unwrap_or(0),
            pci,
        },
        choose_index: index.is_none(),
        choose_model,
        path: node.path().to_owned(),
        line: node.line(),
    })
}

fn scsi(node: &Node<'_>, choose_model: &mut bool) -> Result<ControllerKind> {
    let model = match node.attr("model") {
        None => {
            *choose_model = true;
            ScsiModel::LsiLogic
        }
        Some(value) if value.str() == "auto" => {
            *choose_model = true;
            ScsiModel::LsiLogic
        }
        Some(value) => {
            let mut words = ScsiModel::WORDS.to_vec();
            words.push(("dc-390", ScsiModel::Dc390));
            value.choice(&words)?
        }
    };
    let driver = node.child("driver", |driver| {
        if model != ScsiModel::VirtioScsi {
            return Ok((None, None));
        }
        Ok((
            driver.attr("queues").map(|v| v.number()).transpose()?,
            driver.attr("iothread").map(|v| v.number()).transpose()?,
        ))
    })?;
    let (queues, iothread) = driver.unwrap_or_default();
    Ok(ControllerKind::Scsi {
        model,
        queues,
        iothread,
    })
}

fn usb(node: &Node<'_>, choose_model: &mut bool) -> Result<ControllerKind> {
    let model = match node.attr("model") {
        None => {
            *choose_model = true;
            None
        }
        Some(value) if value.str() == "none" => None,
        Some(value) => Some(value.choice(UsbModel::WORDS)?),
    };
    let ports = match model {
        Some(UsbModel::NecXhci | UsbModel::QemuXhci) => {
            node.attr("ports").map(|v| v.number()).transpose()?
        }
        _ => None,
    };
    let companion_port = node.child("master", |master| master.need("startport")?.number())?;
    Ok(ControllerKind::Usb {
        model,
        ports,
        companion_port,
    })
}

fn pci(node: &Node<'_>) -> Result<ControllerKind> {
    let model = node.need("model")?.choice(PciModel::WORDS)?;
    node.child("model", |name| {
        // QEMU's device name, which the model already fixes.
        name.need("name")?.choice(&[
            ("pcie-root-port", ()),
            ("ioh3420", ()),
            ("pcie-pci-bridge", ()),
            ("i82801b11-bridge", ()),
            ("pci-bridge", ()),
        ])
    })?;
    let target = node.child("target", |target| {
        let part = |name: &str, max: u32| -> Result<Option<u8>> {
            let Some(value) = target.attr(name) else {
                return Ok(None);
            };
            let number = value.address(max)?;
            Ok(Some(
                u8::try_from(number).map_err(|e| value.refuse(e.to_string()))?,
            ))
        };
        Ok((
            part("chassis", 255)?,
            part("port", 255)?,
            part("chassisNr", 255)?,
        ))
    })?;
    let (chassis, port, chassis_number) = target.unwrap_or_default();
    Ok(ControllerKind::Pci {
        model,
        chassis,
        port,
        chassis_number,
    })
}

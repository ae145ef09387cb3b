//! Controllers: the template's, the machine's own, and those that other devices need.

use crate::domain::device::{self, *};
use crate::domain::error::{Result, TemplateError};
use crate::domain::model::Domain;
use crate::domain::origin::Origin;
use crate::domain::os::MachineKind;
use std::collections::BTreeSet;

/// The template's controllers, with the indexes and models it left to the machine.
pub(super) fn given_controllers(
    domain: &mut Domain,
    given: Vec<device::TemplateController>,
) -> Result<()> {
    let mut taken: BTreeSet<(&'static str, u32)> = given
        .iter()
        .filter(|c| !c.choose_index)
        .map(|c| (c.controller.kind.word(), c.controller.index))
        .collect();
    for mut template in given {
        let word = template.controller.kind.word();
        if template.choose_index {
            let free = (0..=255).find(|index| !taken.contains(&(word, *index)));
            template.controller.index = free.unwrap_or(255);
            taken.insert((word, template.controller.index));
        }
        match &mut template.controller.kind {
            ControllerKind::Usb { model, .. } if template.choose_model => {
                *model = Some(default_usb(domain.os.kind));
            }
            ControllerKind::Scsi { model, .. } if template.choose_model => {
                *model = default_scsi(domain.os.kind);
            }
            _ => {}
        }
        let refuse = |message: String| TemplateError {
            path: template.path.clone(),
            line: template.line,
            message,
            hint: None,
        };
        let same = domain.devices.controllers.iter().any(|other| {
            other.kind.word() == word
                && other.index == template.controller.index
                // The functions of one USB 2 controller share their index.
                && !(is_ich9_usb(other) && is_ich9_usb(&template.controller))
        });
        if same {
            let index = template.controller.index;
            return Err(refuse(format!(
                "the {word} controller {index} is given twice"
            )));
        }
        if let Some(model) = template.controller.pci_model() {
            let express = domain.os.kind.is_express();
            let fits = match model {
                PciModel::PciRoot => !express && template.controller.index == 0,
                PciModel::PcieRoot => express && template.controller.index == 0,
                PciModel::PcieRootPort | PciModel::PcieToPciBridge | PciModel::DmiToPciBridge => {
                    express
                }
                PciModel::PciBridge => true,
            };
            if !fits {
                return Err(refuse(format!(
                    "{} does not exist at index {} of this machine type",
                    model.as_str(),
                    template.controller.index
                )));
            }
        }
        insert(&mut domain.devices.controllers, template.controller);
    }
    Ok(())
}

fn is_ich9_usb(controller: &Controller) -> bool {
    matches!(
        controller.usb_model(),
        Some(UsbModel::Ich9Ehci1 | UsbModel::Ich9Uhci1 | UsbModel::Ich9Uhci2 | UsbModel::Ich9Uhci3)
    )
}

fn default_usb(kind: MachineKind) -> UsbModel {
    match kind {
        MachineKind::I440fx => UsbModel::Piix3Uhci,
        _ => UsbModel::QemuXhci,
    }
}

pub(super) fn default_scsi(kind: MachineKind) -> ScsiModel {
    match kind {
        MachineKind::I440fx | MachineKind::Q35 => ScsiModel::LsiLogic,
        MachineKind::Microvm | MachineKind::Virt => ScsiModel::VirtioScsi,
        MachineKind::Pseries => ScsiModel::IbmVscsi,
    }
}

/// Keeps controllers of a type together, ordered by index; the order decides addresses.
fn insert(controllers: &mut Vec<Controller>, new: Controller) {
    let word = new.kind.word();
    let position = controllers
        .iter()
        .rposition(|other| other.kind.word() == word && other.index <= new.index)
        .map(|last| last + 1)
        .or_else(|| {
            controllers
                .iter()
                .position(|other| other.kind.word() == word)
        });
    controllers.insert(position.unwrap_or(controllers.len()), new);
}

fn add_missing(domain: &mut Domain, kind: ControllerKind, index: u32, origin: Origin) {
    let there = domain
        .devices
        .controllers
        .iter()
        .any(|c| c.kind.word() == kind.word() && c.index == index);
    if !there {
        let controller = Controller {
            origin,
            ..Controller::implied(kind, index)
        };
        insert(&mut domain.devices.controllers, controller);
    }
}

/// What the machine type has by itself.
pub(super) fn machine_controllers(domain: &mut Domain) {
    let usb = ControllerKind::Usb {
        model: Some(default_usb(domain.os.kind)),
        ports: None,
        companion_port: None,
    };
    if !matches!(domain.os.kind, MachineKind::Microvm | MachineKind::Virt) {
        add_missing(domain, usb, 0, Origin::default());
    }
    if domain.os.kind == MachineKind::Q35 {
        add_missing(domain, ControllerKind::Sata, 0, Origin::default());
    }
    let Some(root) = domain.os.kind.pci_root() else {
        return;
    };
    let root = ControllerKind::Pci {
        model: root,
        chassis: None,
        port: None,
        chassis_number: None,
    };
    add_missing(domain, root, 0, Origin::default());
}

/// The controllers that disks and channels sit on.
pub(super) fn needed_controllers(domain: &mut Domain) {
    for bus in [
        DiskBus::Ide,
        DiskBus::Scsi,
        DiskBus::Fdc,
        DiskBus::Sata,
        DiskBus::Nvme,
    ] {
        let disks = domain.devices.disks.iter().filter(|disk| disk.bus == bus);
        let last = disks
            .clone()
            .filter_map(|disk| disk.drive)
            .map(|drive| drive.controller)
            .max();
        let said = disks.flat_map(|disk| disk.origin.at(&["", "target", "address"]));
        let origin = Origin::default().with(said);
        let kind = match bus {
            DiskBus::Ide => ControllerKind::Ide,
            DiskBus::Fdc => ControllerKind::Fdc,
            DiskBus::Sata => ControllerKind::Sata,
            DiskBus::Nvme => ControllerKind::Nvme,
            _ => ControllerKind::Scsi {
                model: default_scsi(domain.os.kind),
                queues: None,
                iothread: None,
            },
        };
        for index in 0..last.map_or(0, |last| last + 1) {
            add_missing(domain, kind, index, origin.clone());
        }
    }
    let devices = &domain.devices;
    if !devices.channels.is_empty() || !devices.consoles.is_empty() {
        let addresses = devices.channels.iter().map(|c| c.address);
        let addresses = addresses.chain(devices.consoles.iter().map(|c| c.address));
        let last = addresses.flatten().map(|a| a.controller).max().unwrap_or(0);
        let channels = devices.channels.iter().map(|c| &c.origin);
        let consoles = devices.consoles.iter().map(|c| &c.origin);
        let said = channels
            .chain(consoles)
            .flat_map(|origin| origin.at(&["", "target", "address"]));
        let origin = Origin::default().with(said);
        let kind = ControllerKind::VirtioSerial {
            ports: None,
            vectors: None,
        };
        for index in 0..=last {
            add_missing(domain, kind, index, origin.clone());
        }
    }
}

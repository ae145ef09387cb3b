//! The PCI devices of a domain, in the order in which they get their addresses.

use super::bus::Connects;
use crate::domain::*;

/// A device that needs a place.
#[derive(Debug, Clone)]
pub(super) struct PciDevice {
    pub(super) alias: String,
    pub(super) connects: Connects,
    pub(super) given: PciPlace,
    pub(super) role: Role,
}

/// What is special about a device's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Nothing.
    Plain,
    /// The IDE controller of PIIX3.
    PrimaryIde,
    /// The USB controller of PIIX3.
    Piix3Usb,
    /// The SATA controller of ICH9.
    PrimarySata,
    /// The graphics card that the firmware uses.
    PrimaryVideo,
    /// A part of a USB 2 controller: its index and its function.
    Ich9Usb { index: u32, function: u8 },
    /// HD audio of ICH9.
    Ich9Sound,
    /// A DMI-to-PCI bridge.
    DmiBridge,
}

/// How a PCI controller connects; roots do not.
pub(super) fn controller_connects(model: PciModel) -> Option<Connects> {
    match model {
        PciModel::PciRoot | PciModel::PcieRoot => None,
        PciModel::PcieRootPort => Some(Connects::RootPort),
        PciModel::PcieToPciBridge => Some(Connects::PcieToPciBridge),
        PciModel::DmiToPciBridge => Some(Connects::DmiToPciBridge),
        PciModel::PciBridge => Some(Connects::PciBridge),
    }
}

/// Every device that needs a place on a bus, PCI controllers first.
pub(super) fn devices(domain: &Domain, pci_controllers: &[Controller]) -> Vec<PciDevice> {
    let mut devices = with_those_in_memory(domain, pci_controllers);
    devices.retain(|device| !device.given.mmio);
    devices
}

/// The aliases of the virtio devices that are in memory instead.
pub(super) fn in_memory(domain: &Domain) -> Vec<String> {
    let devices = with_those_in_memory(domain, &[]).into_iter();
    let in_memory = devices.filter(|device| device.given.mmio);
    in_memory.map(|device| device.alias).collect()
}

fn with_those_in_memory(domain: &Domain, pci_controllers: &[Controller]) -> Vec<PciDevice> {
    let express = match domain.os.kind.is_express() {
        true => Connects::Pcie,
        false => Connects::Pci,
    };
    let mut all = Vec::new();
    let mut add = |alias: &str, connects, given: PciPlace, role| {
        all.push(PciDevice {
            alias: alias.to_owned(),
            connects,
            given,
            role,
        });
    };
    for controller in pci_controllers {
        let model = controller.pci_model();
        if let Some(connects) = model.and_then(controller_connects) {
            let role = match connects {
                Connects::DmiToPciBridge => Role::DmiBridge,
                _ => Role::Plain,
            };
            add(&controller.alias, connects, controller.pci, role);
        }
    }
    let devices = &domain.devices;
    for nic in &devices.interfaces {
        let connects = match nic.model {
            NicModel::Virtio | NicModel::E1000e | NicModel::Igb => express,
            NicModel::E1000 | NicModel::Rtl8139 | NicModel::Vmxnet3 => Connects::Pci,
            NicModel::SpaprVlan => continue,
        };
        add(&nic.alias, connects, nic.pci, Role::Plain);
    }
    for sound in &devices.sounds {
        let role = match sound.model {
            SoundModel::Usb => continue,
            SoundModel::Ich9 => Role::Ich9Sound,
            _ => Role::Plain,
        };
        add(&sound.alias, Connects::Pci, sound.pci, role);
    }
    for controller in &devices.controllers {
        if let Some((connects, role)) = other_controller(domain.os.kind, controller, express) {
            add(&controller.alias, connects, controller.pci, role);
        }
    }
    for disk in devices
        .disks
        .iter()
        .filter(|disk| disk.bus == DiskBus::Virtio)
    {
        add(&disk.alias, express, disk.pci, Role::Plain);
    }
    if let Some(balloon) = &devices.balloon {
        add(&balloon.alias, express, balloon.pci, Role::Plain);
    }
    for rng in &devices.rngs {
        add(&rng.alias, express, rng.pci, Role::Plain);
    }
    for watchdog in &devices.watchdogs {
        if watchdog.model == WatchdogModel::I6300esb {
            add(&watchdog.alias, Connects::Pci, watchdog.pci, Role::Plain);
        }
    }
    for video in &devices.videos {
        let connects = match video.model {
            VideoModel::Virtio | VideoModel::Bochs => express,
            _ => Connects::Pci,
        };
        let role = if video.primary {
            Role::PrimaryVideo
        } else {
            Role::Plain
        };
        add(&video.alias, connects, video.pci, role);
    }
    for input in devices
        .inputs
        .iter()
        .filter(|input| input.bus == InputBus::Virtio)
    {
        add(&input.alias, express, input.pci, Role::Plain);
    }
    if let Some(iommu) = &devices.iommu
        && iommu.model == IommuModel::Virtio
    {
        add(&iommu.alias, Connects::Integrated, iommu.pci, Role::Plain);
    }
    if let Some(vsock) = &devices.vsock {
        add(&vsock.alias, express, vsock.pci, Role::Plain);
    }
    for panic in devices
        .panics
        .iter()
        .filter(|panic| panic.model == PanicModel::Pvpanic)
    {
        add(&panic.alias, Connects::Integrated, panic.pci, Role::Plain);
    }
    all
}

/// How a controller that is none of PCI's connects, if it does.
fn other_controller(
    machine: MachineKind,
    controller: &Controller,
    express: Connects,
) -> Option<(Connects, Role)> {
    let pci = (Connects::Pci, Role::Plain);
    match controller.kind {
        ControllerKind::Pci { .. } | ControllerKind::Fdc => None,
        ControllerKind::Ide if controller.index == 0 => Some((Connects::Pci, Role::PrimaryIde)),
        ControllerKind::Ide => Some(pci),
        ControllerKind::Sata if controller.index == 0 && machine == MachineKind::Q35 => {
            Some((Connects::Pci, Role::PrimarySata))
        }
        ControllerKind::Sata => Some(pci),
        ControllerKind::Scsi { model, .. } => match model {
            ScsiModel::VirtioScsi => Some((express, Role::Plain)),
            ScsiModel::IbmVscsi => None,
            _ => Some(pci),
        },
        ControllerKind::VirtioSerial { .. } | ControllerKind::Nvme => Some((express, Role::Plain)),
        ControllerKind::Usb { model, .. } => {
            let part = |function| {
                let index = controller.index;
                Some((Connects::Pci, Role::Ich9Usb { index, function }))
            };
            match model? {
                UsbModel::Piix3Uhci if controller.index == 0 && machine == MachineKind::I440fx => {
                    Some((Connects::Pci, Role::Piix3Usb))
                }
                UsbModel::NecXhci | UsbModel::QemuXhci => Some((express, Role::Plain)),
                UsbModel::Ich9Uhci1 => part(0),
                UsbModel::Ich9Uhci2 => part(1),
                UsbModel::Ich9Uhci3 => part(2),
                UsbModel::Ich9Ehci1 => part(7),
                _ => Some(pci),
            }
        }
    }
}

//! PCI bridges and ports, and the controllers of other buses.

use super::disk::NVME_CONTROLLER;
use super::{ArgumentError, Builder, insert, object};
use crate::domain::{
    Controller, ControllerKind, DiskBus, ElementId, MachineKind, ScsiModel, UsbModel,
};

impl Builder<'_> {
    pub(super) fn bridges(&mut self) -> Result<(), ArgumentError> {
        for bridge in self.given.layout.bridges.clone() {
            let alias = format!("pci.{}", bridge.index);
            let mut properties = object! {"driver": bridge.device.as_str()};
            match bridge.device {
                crate::qemu::pci::BridgeDevice::PcieRootPort => {
                    insert(&mut properties, "chassis", Some(bridge.chassis));
                    insert(&mut properties, "port", bridge.port);
                }
                crate::qemu::pci::BridgeDevice::PciBridge => {
                    insert(&mut properties, "chassis_nr", Some(bridge.chassis));
                }
                _ => {}
            }
            let origins = self.bridge_origins(bridge.index);
            self.pci_device(&alias, properties)?.because(origins);
        }
        Ok(())
    }

    /// The controller in the template, or the devices for which the bus was added.
    fn bridge_origins(&self, index: u8) -> Vec<ElementId> {
        let devices = &self.domain.devices;
        let mut given = devices.controllers.iter();
        let given = given.find(|c| c.pci_model().is_some() && c.index == u32::from(index));
        if let Some(controller) = given {
            return controller.origin.all();
        }
        let places = &self.given.layout.places;
        let behind = places.iter().filter(|(_, p)| p.address.bus == index);
        let mut origins = Vec::new();
        for (alias, _) in behind {
            let bridge = alias.strip_prefix("pci.").and_then(|n| n.parse().ok());
            origins.extend(match (bridge, devices.origin_of(alias)) {
                (Some(bridge), _) if bridge > index => self.bridge_origins(bridge),
                (_, Some(origin)) => origin.at(&["", "address"]),
                _ => Vec::new(),
            });
        }
        origins
    }

    pub(super) fn controllers(&mut self) -> Result<(), ArgumentError> {
        let domain = self.domain;
        for controller in &domain.devices.controllers {
            self.controller(controller)?;
        }
        Ok(())
    }

    fn controller(&mut self, controller: &Controller) -> Result<(), ArgumentError> {
        let alias = &controller.alias;
        let mut all = controller.origin.all();
        let q35 = self.domain.os.kind == MachineKind::Q35;
        let properties = match controller.kind {
            // Bridges come from the layout; the first IDE and SATA are the machine's own.
            ControllerKind::Pci { .. } => return Ok(()),
            ControllerKind::Usb { model: None, .. } => {
                self.vector.remark(
                    all,
                    "no controller is what a machine has without being told",
                );
                return Ok(());
            }
            ControllerKind::Ide | ControllerKind::Fdc if controller.index == 0 && !q35 => {
                self.vector.remark(all, BUILT_IN);
                return Ok(());
            }
            ControllerKind::Sata if controller.index == 0 && q35 => {
                self.vector.remark(all, BUILT_IN);
                return Ok(());
            }
            ControllerKind::Ide => object! {"driver": "piix3-ide"},
            ControllerKind::Sata => object! {"driver": "ich9-ahci"},
            ControllerKind::Fdc if q35 => {
                self.device(object! {"driver": "isa-fdc", "id": alias})?
                    .because(all);
                return Ok(());
            }
            ControllerKind::Fdc => return Ok(()),
            ControllerKind::Scsi {
                model,
                queues,
                iothread,
            } => {
                let mut properties = object! {"driver": scsi_device(model)};
                insert(&mut properties, "num_queues", queues);
                insert(
                    &mut properties,
                    "iothread",
                    iothread.map(|n| format!("iothread{n}")),
                );
                properties
            }
            ControllerKind::Usb {
                model: Some(model),
                ports,
                companion_port,
            } => {
                let mut properties = object! {"driver": usb_device(model)};
                if matches!(model, UsbModel::NecXhci | UsbModel::QemuXhci) {
                    insert(&mut properties, "p2", ports);
                    insert(&mut properties, "p3", ports);
                }
                if let Some(first) = companion_port {
                    let master = match controller.index {
                        0 => "usb.0".to_owned(),
                        index => format!("usb{index}.0"),
                    };
                    insert(&mut properties, "masterbus", Some(master));
                    insert(&mut properties, "firstport", Some(first));
                }
                properties
            }
            ControllerKind::Nvme => {
                let disks = self.domain.devices.disks.iter();
                let disks = disks.filter(|disk| {
                    let drive = disk.drive.unwrap_or_default();
                    disk.bus == DiskBus::Nvme && drive.controller == controller.index
                });
                all.extend(
                    disks
                        .clone()
                        .flat_map(|disk| disk.origin.at(&NVME_CONTROLLER)),
                );
                let serial = disks.clone().find_map(|disk| disk.serial.clone());
                let serial = serial.unwrap_or_else(|| format!("fvm-nvme{}", controller.index));
                let mut properties = object! {"driver": "nvme", "serial": serial};
                // QEMU names a namespace to the firmware without its controller's place, so
                // SeaBIOS would find none to start from.
                let boot_index = disks.filter_map(|disk| disk.boot_index).min();
                insert(&mut properties, "bootindex", boot_index);
                properties
            }
            ControllerKind::VirtioSerial { ports, vectors } => {
                let mut properties = object! {"driver": "virtio-serial-pci"};
                insert(&mut properties, "max_ports", ports);
                insert(&mut properties, "vectors", vectors);
                properties
            }
        };
        self.pci_device(alias, properties)?.because(all);
        Ok(())
    }
}

/// What is said of devices that come with the machine.
pub(super) const BUILT_IN: &str = "every machine of this type has it";

fn scsi_device(model: ScsiModel) -> &'static str {
    match model {
        ScsiModel::VirtioScsi => "virtio-scsi-pci",
        ScsiModel::LsiLogic => "lsi53c895a",
        ScsiModel::LsiSas1068 => "mptsas1068",
        ScsiModel::LsiSas1078 => "megasas",
        ScsiModel::VmPvScsi => "pvscsi",
        ScsiModel::Am53C974 => "am53c974",
        ScsiModel::Dc390 => "dc390",
        ScsiModel::IbmVscsi => "spapr-vscsi",
    }
}

fn usb_device(model: UsbModel) -> &'static str {
    match model {
        UsbModel::Piix3Uhci => "piix3-usb-uhci",
        UsbModel::Piix4Uhci => "piix4-usb-uhci",
        UsbModel::Ehci => "usb-ehci",
        UsbModel::Ich9Ehci1 => "ich9-usb-ehci1",
        UsbModel::Ich9Uhci1 => "ich9-usb-uhci1",
        UsbModel::Ich9Uhci2 => "ich9-usb-uhci2",
        UsbModel::Ich9Uhci3 => "ich9-usb-uhci3",
        UsbModel::Vt82c686bUhci => "vt82c686b-usb-uhci",
        UsbModel::PciOhci => "pci-ohci",
        UsbModel::NecXhci => "nec-usb-xhci",
        UsbModel::QemuXhci => "qemu-xhci",
    }
}

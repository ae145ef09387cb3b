//! PCI bridges and ports, and the controllers of other buses.

use super::{ArgumentError, Builder, insert, object};
use crate::domain::{Controller, ControllerKind, DiskBus, MachineKind, ScsiModel, UsbModel};

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
            self.pci_device(&alias, properties)?;
        }
        Ok(())
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
        let q35 = self.domain.os.kind == MachineKind::Q35;
        let properties = match controller.kind {
            // Bridges come from the layout; the first IDE and SATA are the machine's own.
            ControllerKind::Pci { .. } | ControllerKind::Usb { model: None, .. } => return Ok(()),
            ControllerKind::Ide if controller.index == 0 => return Ok(()),
            ControllerKind::Sata if controller.index == 0 && q35 => return Ok(()),
            ControllerKind::Ide => object! {"driver": "piix3-ide"},
            ControllerKind::Sata => object! {"driver": "ich9-ahci"},
            ControllerKind::Fdc if q35 => {
                return self.device(object! {"driver": "isa-fdc", "id": alias});
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
                let mut disks = self.domain.devices.disks.iter();
                let serial = disks.find_map(|disk| match (disk.bus, disk.drive) {
                    (DiskBus::Nvme, Some(drive)) if drive.controller == controller.index => {
                        disk.serial.as_deref()
                    }
                    _ => None,
                });
                let serial =
                    serial.map_or_else(|| format!("fvm-nvme{}", controller.index), str::to_owned);
                object! {"driver": "nvme", "serial": serial}
            }
            ControllerKind::VirtioSerial { ports, vectors } => {
                let mut properties = object! {"driver": "virtio-serial-pci"};
                insert(&mut properties, "max_ports", ports);
                insert(&mut properties, "vectors", vectors);
                properties
            }
        };
        self.pci_device(alias, properties)
    }
}

fn scsi_device(model: ScsiModel) -> &'static str {
    match model {
        ScsiModel::VirtioScsi => "virtio-scsi-pci",
        ScsiModel::LsiLogic => "lsi53c895a",
        ScsiModel::LsiSas1068 => "mptsas1068",
        ScsiModel::LsiSas1078 => "megasas",
        ScsiModel::VmPvScsi => "pvscsi",
        ScsiModel::Am53C974 => "am53c974",
        ScsiModel::Dc390 => "dc390",
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

//! libvirt's names for the devices, which become QEMU's ids.

use crate::domain::address::DriveAddress;
use crate::domain::device::{self, *};
use crate::domain::model::Domain;
use crate::domain::os::MachineKind;
use std::collections::BTreeSet;

/// That of a virtio disk whose target's name stands for this position.
pub(crate) fn virtio_alias(index: u32) -> String {
    format!("virtio-disk{index}")
}

/// libvirt's names for the devices.
pub(super) fn aliases(domain: &mut Domain) {
    let kind = domain.os.kind;
    let devices = &mut domain.devices;
    let is_lsi = |controller: &&Controller| {
        matches!(
            controller.kind,
            ControllerKind::Scsi {
                model: ScsiModel::LsiLogic,
                ..
            }
        )
    };
    let lsi: BTreeSet<u32> = devices
        .controllers
        .iter()
        .filter(is_lsi)
        .map(|c| c.index)
        .collect();
    for disk in &mut devices.disks {
        let index = device::target_index(&disk.target).unwrap_or(0);
        let drive = disk.drive.unwrap_or_default();
        let DriveAddress {
            controller,
            bus,
            target,
            unit,
        } = drive;
        disk.alias = match disk.bus {
            DiskBus::Virtio => virtio_alias(index),
            DiskBus::Usb => format!("usb-disk{index}"),
            // The LSI adapter's units are targets: one number less.
            DiskBus::Scsi if lsi.contains(&controller) => format!("scsi{controller}-{bus}-{unit}"),
            DiskBus::Scsi => format!("scsi{controller}-{bus}-{target}-{unit}"),
            other => format!("{}{controller}-{bus}-{unit}", other.as_str()),
        };
    }
    let mut usb_seen = BTreeSet::new();
    for controller in &mut devices.controllers {
        let index = controller.index;
        controller.alias = match &controller.kind {
            ControllerKind::Usb { .. } => {
                let base = if index == 0 {
                    "usb".to_owned()
                } else {
                    format!("usb{index}")
                };
                // Companions share the index; each has its own id all the same.
                match usb_seen.insert(base.clone()) {
                    true => base,
                    false => format!(
                        "{base}-{}",
                        controller.usb_model().map_or("", UsbModel::as_str)
                    ),
                }
            }
            ControllerKind::Ide if index == 0 => "ide".to_owned(),
            ControllerKind::Sata if index == 0 && kind == MachineKind::Q35 => "ide".to_owned(),
            ControllerKind::Pci {
                model: PciModel::PciRoot,
                ..
            } => "pci".to_owned(),
            ControllerKind::Pci {
                model: PciModel::PcieRoot,
                ..
            } => "pcie".to_owned(),
            ControllerKind::Pci { .. } => format!("pci.{index}"),
            other => format!("{}{index}", other.word()),
        };
    }
    number("net", devices.interfaces.iter_mut().map(|d| &mut d.alias));
    for serial in &mut devices.serials {
        serial.alias = format!("serial{}", serial.port);
    }
    // Console 0 is the first serial line's other name when there is one.
    let first = usize::from(!devices.serials.is_empty());
    for (position, console) in devices.consoles.iter_mut().enumerate() {
        console.alias = format!("console{}", position + first);
    }
    number("channel", devices.channels.iter_mut().map(|d| &mut d.alias));
    number("hub", devices.hubs.iter_mut().map(|d| &mut d.alias));
    number("iommu", devices.iommu.iter_mut().map(|d| &mut d.alias));
    number("input", devices.inputs.iter_mut().map(|d| &mut d.alias));
    number("redir", devices.redirects.iter_mut().map(|d| &mut d.alias));
    number("video", devices.videos.iter_mut().map(|d| &mut d.alias));
    number("sound", devices.sounds.iter_mut().map(|d| &mut d.alias));
    number("balloon", devices.balloon.iter_mut().map(|d| &mut d.alias));
    number("rng", devices.rngs.iter_mut().map(|d| &mut d.alias));
    number(
        "watchdog",
        devices.watchdogs.iter_mut().map(|d| &mut d.alias),
    );
    number("panic", devices.panics.iter_mut().map(|d| &mut d.alias));
    number("tpm", devices.tpm.iter_mut().map(|d| &mut d.alias));
    number("vsock", devices.vsock.iter_mut().map(|d| &mut d.alias));
}

fn number<'a>(prefix: &str, aliases: impl Iterator<Item = &'a mut String>) {
    for (position, alias) in aliases.enumerate() {
        *alias = format!("{prefix}{position}");
    }
}

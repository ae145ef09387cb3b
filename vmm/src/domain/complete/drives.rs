//! The places of disks on their controllers.

use super::Place;
use crate::domain::address::DriveAddress;
use crate::domain::device::{self, *};
use crate::domain::error::Result;
use crate::domain::model::Domain;
use crate::domain::os::MachineKind;
use std::collections::BTreeSet;

/// Where a target's name puts a disk if the template does not say.
fn default_drive(bus: DiskBus, target: &str) -> Option<DriveAddress> {
    let index = device::target_index(target)?;
    let at = |controller, bus, unit| DriveAddress {
        controller,
        bus,
        target: 0,
        unit,
    };
    match bus {
        DiskBus::Scsi => Some(at(index / 7, 0, index % 7)),
        DiskBus::Ide => Some(at(index / 4, index % 4 / 2, index % 2)),
        DiskBus::Sata => Some(at(index / 6, 0, index % 6)),
        DiskBus::Fdc => Some(at(index / 2, 0, index % 2)),
        DiskBus::Nvme => Some(at(index, 0, device::nvme_namespace(target).unwrap_or(0))),
        DiskBus::Virtio | DiskBus::Usb => None,
    }
}

pub(super) fn drive_addresses(domain: &mut Domain, places: &[Place]) -> Result<()> {
    let mut targets = BTreeSet::new();
    let mut drives = BTreeSet::new();
    let kind = domain.os.kind;
    let controllers = &domain.devices.controllers;
    for (disk, place) in domain.devices.disks.iter_mut().zip(places) {
        if !targets.insert(disk.target.clone()) {
            return Err(place.refuse(format!("the target {:?} is given twice", disk.target)));
        }
        if disk.drive.is_none() {
            disk.drive = default_drive(disk.bus, &disk.target);
        }
        let Some(drive) = disk.drive else { continue };
        let (indexes, units) = match disk.bus {
            DiskBus::Ide => (1, 2),
            DiskBus::Fdc => (1, 2),
            DiskBus::Sata => (256, 6),
            _ => (256, 16384),
        };
        if drive.controller >= indexes || drive.unit >= units {
            return Err(place.refuse(format!(
                "there is no unit {} on bus {} of {} controller {}",
                drive.unit,
                drive.bus,
                disk.bus.as_str(),
                drive.controller
            )));
        }
        if disk.bus == DiskBus::Scsi
            && let Some((word, most)) = scsi_limit(controllers, kind, drive)
        {
            return Err(place.refuse(format!("a {word} controller has units up to {most} only")));
        }
        if disk.bus == DiskBus::Ide && kind != MachineKind::I440fx {
            let mut error = match kind {
                MachineKind::Q35 => place.refuse("a q35 machine has no IDE controller"),
                _ => place.refuse("this machine type has no IDE controller"),
            };
            error.hint = Some("use bus='sata'".to_owned());
            return Err(error);
        }
        if disk.bus == DiskBus::Fdc && !kind.is_pc() {
            return Err(place.refuse("this machine type has no floppy controller"));
        }
        if !drives.insert((disk.bus.as_str(), drive)) {
            return Err(place.refuse("another disk has the same place on the controller"));
        }
    }
    Ok(())
}

/// The greatest unit of a SCSI adapter, if the drive's is beyond it.
fn scsi_limit(
    controllers: &[Controller],
    kind: MachineKind,
    drive: DriveAddress,
) -> Option<(&'static str, u32)> {
    let model = controllers
        .iter()
        .find_map(|controller| match controller.kind {
            ControllerKind::Scsi { model, .. } if controller.index == drive.controller => {
                Some(model)
            }
            _ => None,
        });
    let model = model.unwrap_or(super::controllers::default_scsi(kind));
    let most = match model {
        ScsiModel::VirtioScsi => 16383,
        ScsiModel::LsiSas1078 => 255,
        // The adapter is a target itself.
        ScsiModel::LsiLogic | ScsiModel::Am53C974 | ScsiModel::Dc390 => 6,
        ScsiModel::LsiSas1068 => 1,
        ScsiModel::VmPvScsi => 0,
        ScsiModel::IbmVscsi => 31,
    };
    (drive.unit > most).then_some((model.as_str(), most))
}

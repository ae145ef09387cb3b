//! Devices that are not on a PCI bus: virtio devices in memory, and the virtual devices of POWER.

use super::Elements;
use crate::domain::address::PciPlace;
use crate::domain::device::*;
use crate::domain::error::Result;
use crate::domain::model::{Devices, Domain};
use crate::domain::origin::Origin;
use crate::domain::os::MachineKind;

/// What a device can be attached by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    /// PCI alone.
    Pci,
    /// PCI or memory.
    Virtio,
    /// POWER's virtual bus alone.
    Vio,
}

/// Puts the virtio devices of a machine without PCI into memory, and refuses what the machine has no bus for.
pub(super) fn transports(domain: &mut Domain, elements: &Elements) -> Result<()> {
    let kind = domain.os.kind;
    for (place, family, origin) in places(&mut domain.devices) {
        let refuse = |message: &str| Err(elements.of(origin).refuse(message));
        if place.vio.is_some() && family != Family::Vio {
            return refuse("spapr-vio addresses are for spapr-vlan, ibmvscsi and spapr-vty");
        }
        match (family, kind) {
            (Family::Vio, MachineKind::Pseries) if place.address.is_some() || place.mmio => {
                return refuse("this device takes an address of type spapr-vio");
            }
            (Family::Vio, MachineKind::Pseries) => {}
            (Family::Vio, _) => return refuse("this device is there on the machine pseries only"),
            (Family::Virtio, MachineKind::Microvm) if place.address.is_some() => {
                return refuse("a microvm has no PCI bus: leave out the address");
            }
            (Family::Virtio, MachineKind::Microvm) => place.mmio = true,
            (Family::Pci, MachineKind::Microvm) => {
                return refuse("a microvm has no PCI bus, so it can have virtio devices only");
            }
            (Family::Virtio, MachineKind::Virt) => {}
            _ if place.mmio => {
                return refuse(
                    "virtio-mmio is for virtio devices of the machines virt and microvm",
                );
            }
            _ => {}
        }
    }
    for nic in &domain.devices.interfaces {
        if nic.pci.mmio && (nic.rom_bar.is_some() || !nic.rom_enabled) {
            let place = elements.of(&nic.origin);
            return Err(place.refuse("only a card on the PCI bus has an option ROM"));
        }
    }
    Ok(())
}

type Attached<'d> = (&'d mut PciPlace, Family, &'d Origin);

/// Every device that is on a PCI bus in some machine, or on POWER's.
fn places(devices: &mut Devices) -> impl Iterator<Item = Attached<'_>> {
    let virtio = |virtio: bool| if virtio { Family::Virtio } else { Family::Pci };
    let nics = devices.interfaces.iter_mut().map(move |nic| {
        let family = match nic.model {
            NicModel::SpaprVlan => Family::Vio,
            model => virtio(model == NicModel::Virtio),
        };
        (&mut nic.pci, family, &nic.origin)
    });
    let controllers = devices
        .controllers
        .iter_mut()
        .filter_map(move |controller| {
            let family = match controller.kind {
                ControllerKind::Usb { model: None, .. } => return None,
                ControllerKind::Scsi { model, .. } => match model {
                    ScsiModel::IbmVscsi => Family::Vio,
                    model => virtio(model == ScsiModel::VirtioScsi),
                },
                ControllerKind::VirtioSerial { .. } => Family::Virtio,
                _ => Family::Pci,
            };
            Some((&mut controller.pci, family, &controller.origin))
        });
    let disks = devices.disks.iter_mut();
    let disks = disks.filter(|disk| disk.bus == DiskBus::Virtio);
    let inputs = devices.inputs.iter_mut();
    let inputs = inputs.filter(|input| input.bus == InputBus::Virtio);
    let watchdogs = devices.watchdogs.iter_mut();
    let watchdogs = watchdogs.filter(|watchdog| watchdog.model == WatchdogModel::I6300esb);
    let panics = devices.panics.iter_mut();
    let panics = panics.filter(|panic| panic.model == PanicModel::Pvpanic);
    let sounds = devices.sounds.iter_mut();
    let sounds = sounds.filter(|sound| sound.model != SoundModel::Usb);
    let balloons = devices.balloon.iter_mut();
    let vsocks = devices.vsock.iter_mut();
    let rngs = devices.rngs.iter_mut();
    nics.chain(controllers)
        .chain(disks.map(|d| (&mut d.pci, Family::Virtio, &d.origin)))
        .chain(inputs.map(|d| (&mut d.pci, Family::Virtio, &d.origin)))
        .chain(balloons.map(|d| (&mut d.pci, Family::Virtio, &d.origin)))
        .chain(rngs.map(|d| (&mut d.pci, Family::Virtio, &d.origin)))
        .chain(vsocks.map(|d| (&mut d.pci, Family::Virtio, &d.origin)))
        .chain(watchdogs.map(|d| (&mut d.pci, Family::Pci, &d.origin)))
        .chain(panics.map(|d| (&mut d.pci, Family::Pci, &d.origin)))
        .chain(sounds.map(|d| (&mut d.pci, Family::Pci, &d.origin)))
        .chain(
            devices
                .videos
                .iter_mut()
                .map(|d| (&mut d.pci, Family::Pci, &d.origin)),
        )
        .chain(
            devices
                .iommu
                .iter_mut()
                .map(|d| (&mut d.pci, Family::Pci, &d.origin)),
        )
}

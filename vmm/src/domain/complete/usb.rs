//! Ports of USB controllers and hubs.
//!
//! Devices take the ports of controllers first, then those of hubs; when there are too few, hubs
//! are added, as many as are needed.

use super::Place;
use crate::domain::address::UsbAddress;
use crate::domain::device::*;
use crate::domain::error::Result;
use crate::domain::model::{Devices, Domain};
use crate::domain::origin::{ElementId, Origin};
use std::collections::BTreeSet;

/// The ports of QEMU's hub.
const HUB_PORTS: u32 = 8;
/// The deepest chain of hubs that USB allows, counted in ports.
const MAX_DEPTH: usize = 4;

/// Gives every USB device its port.
pub(super) fn usb_ports(domain: &mut Domain, place: &Place) -> Result<()> {
    let devices = &mut domain.devices;
    let mut ports = Ports::new(devices);
    let wanted = places(devices).count() as u32;
    if wanted == 0 {
        return Ok(());
    }
    if ports.controllers.is_empty() {
        return Err(place.refuse("a USB device needs a USB controller"));
    }
    for given in places(devices).filter_map(|place| place.as_ref()) {
        if !ports.taken.insert((given.bus, given.port.clone())) {
            return Err(place.refuse(format!("the USB port {} is given twice", given.port)));
        }
    }
    let given_hubs = devices.hubs.len() as u32;
    let available = ports
        .controllers
        .iter()
        .map(|(_, ports)| ports)
        .sum::<u32>()
        + given_hubs * HUB_PORTS;
    // A hub brings eight ports and takes one.
    let missing = wanted.saturating_sub(available).div_ceil(HUB_PORTS - 1);
    let wanting = Origin::default().with(usb_devices(devices));
    for _ in 0..missing {
        devices.hubs.push(Hub {
            alias: String::new(),
            origin: wanting.clone(),
            usb: None,
        });
    }
    for hub in &mut devices.hubs {
        if hub.usb.is_none() {
            hub.usb = ports.next();
        }
        let Some(address) = &hub.usb else {
            return Err(place.refuse("the USB controllers have no free port"));
        };
        ports.hubs.push(address.clone());
    }
    for open in places(devices).filter(|place| place.is_none()) {
        let next = ports.next();
        *open = Some(next.ok_or_else(|| place.refuse("the USB controllers have no free port"))?);
    }
    Ok(())
}

/// The places of all USB devices, in libvirt's order: hubs, disks, sound, inputs, viewers' devices.
fn places(devices: &mut Devices) -> impl Iterator<Item = &mut Option<UsbAddress>> {
    let hubs = devices.hubs.iter_mut().map(|hub| &mut hub.usb);
    let disks = devices
        .disks
        .iter_mut()
        .filter(|d| d.bus == DiskBus::Usb)
        .map(|d| &mut d.usb);
    let inputs = devices
        .inputs
        .iter_mut()
        .filter(|i| i.bus == InputBus::Usb)
        .map(|i| &mut i.usb);
    let sounds = devices
        .sounds
        .iter_mut()
        .filter(|s| s.model == SoundModel::Usb);
    let redirects = devices.redirects.iter_mut().map(|r| &mut r.usb);
    hubs.chain(disks)
        .chain(sounds.map(|s| &mut s.usb))
        .chain(inputs)
        .chain(redirects)
}

/// The elements of the template's USB devices, which together need the hubs that are added.
fn usb_devices(devices: &Devices) -> Vec<ElementId> {
    let disks = devices.disks.iter().filter(|d| d.bus == DiskBus::Usb);
    let inputs = devices.inputs.iter().filter(|i| i.bus == InputBus::Usb);
    let sounds = devices.sounds.iter();
    let sounds = sounds.filter(|s| s.model == SoundModel::Usb);
    let origins = disks.map(|d| &d.origin);
    let origins = origins.chain(inputs.map(|i| &i.origin));
    let origins = origins.chain(sounds.map(|s| &s.origin));
    let origins = origins.chain(devices.redirects.iter().map(|r| &r.origin));
    origins.flat_map(|origin| origin.at(&[""])).collect()
}

/// What is free.
struct Ports {
    /// The controllers that have ports of their own, with their number of ports.
    controllers: Vec<(u32, u32)>,
    hubs: Vec<UsbAddress>,
    taken: BTreeSet<(u32, String)>,
}

impl Ports {
    fn new(devices: &Devices) -> Self {
        let own_ports = |controller: &Controller| match controller.kind {
            // A companion serves the ports of its EHCI.
            ControllerKind::Usb {
                companion_port: Some(_),
                ..
            } => None,
            ControllerKind::Usb {
                model: Some(model),
                ports,
                ..
            } => Some((controller.index, port_count(model, ports))),
            _ => None,
        };
        Self {
            controllers: devices.controllers.iter().filter_map(own_ports).collect(),
            hubs: Vec::new(),
            taken: BTreeSet::new(),
        }
    }

    fn next(&mut self) -> Option<UsbAddress> {
        let own = self
            .controllers
            .iter()
            .flat_map(|(bus, count)| (1..=*count).map(|port| (*bus, port.to_string())));
        let behind = self
            .hubs
            .iter()
            .filter(|hub| hub.port.split('.').count() < MAX_DEPTH);
        let behind = behind.flat_map(|hub| {
            (1..=HUB_PORTS).map(move |port| (hub.bus, format!("{}.{port}", hub.port)))
        });
        let (bus, port) = own.chain(behind).find(|port| !self.taken.contains(port))?;
        self.taken.insert((bus, port.clone()));
        Some(UsbAddress { bus, port })
    }
}

fn port_count(model: UsbModel, given: Option<u32>) -> u32 {
    match model {
        UsbModel::Piix3Uhci
        | UsbModel::Piix4Uhci
        | UsbModel::Vt82c686bUhci
        | UsbModel::Ich9Uhci1
        | UsbModel::Ich9Uhci2
        | UsbModel::Ich9Uhci3 => 2,
        UsbModel::Ehci | UsbModel::Ich9Ehci1 => 6,
        UsbModel::PciOhci => 3,
        UsbModel::NecXhci | UsbModel::QemuXhci => given.unwrap_or(4),
    }
}

//! PCI addresses by libvirt's rules, on which the names of network cards in the guest depend.
//!
//! Addresses in the template are reserved first, then the chipset's own devices get the places
//! they have on the board, then every other device the next completely empty slot, in the order of
//! [`devices`]. It is done twice: a first pass finds how many bridges and ports must be added, and
//! keeps one slot or port free for a device to be plugged in later; a second pass starts again
//! with them. What a VM got stays in its row, so that it is the same at every start.

mod bus;
mod devices;
#[cfg(test)]
mod tests;
mod vio;

use crate::domain::{Controller, ControllerKind, Domain, MachineKind, PciAddress, PciModel};
use bus::{Buses, Chosen, Connects};
use devices::{PciDevice, Role};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use thiserror::Error;

/// Where every PCI device of a machine sits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// The places, by the devices' aliases.
    pub places: BTreeMap<String, Place>,
    /// The ports and bridges, by bus number; the roots are not among them.
    pub bridges: Vec<Bridge>,
    /// The devices of machines that are on no PCI bus, by their aliases.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub beside: BTreeMap<String, Beside>,
}

/// The place of a device that is not on a PCI bus, although it is in other machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Beside {
    /// In memory, where QEMU puts it.
    Mmio,
    /// At this register of POWER's virtual bus.
    Vio(u32),
}

/// One device's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The address.
    #[serde(serialize_with = "write_address", deserialize_with = "read_address")]
    pub address: PciAddress,
    /// Whether the slot has further functions.
    pub multifunction: bool,
}

/// A port or bridge, which makes a bus.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bridge {
    /// The number of the bus that it makes.
    pub index: u8,
    /// QEMU's name for the device.
    pub device: BridgeDevice,
    /// The chassis number.
    pub chassis: u8,
    /// The port number, of root ports.
    pub port: Option<u8>,
}

/// The devices that make buses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BridgeDevice {
    /// A root port.
    PcieRootPort,
    /// Express to conventional.
    PciePciBridge,
    /// The Express root to conventional.
    #[serde(rename = "i82801b11-bridge")]
    DmiToPciBridge,
    /// Conventional to conventional.
    PciBridge,
}

impl BridgeDevice {
    /// The template's model of it.
    pub(super) fn model(self) -> PciModel {
        match self {
            Self::PcieRootPort => PciModel::PcieRootPort,
            Self::PciePciBridge => PciModel::PcieToPciBridge,
            Self::DmiToPciBridge => PciModel::DmiToPciBridge,
            Self::PciBridge => PciModel::PciBridge,
        }
    }

    /// QEMU's name for the device.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PcieRootPort => "pcie-root-port",
            Self::PciePciBridge => "pcie-pci-bridge",
            Self::DmiToPciBridge => "i82801b11-bridge",
            Self::PciBridge => "pci-bridge",
        }
    }
}

/// Why the devices do not fit.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PciError {
    /// Two devices want one place.
    #[error("the PCI address {address} is taken by another device")]
    Taken {
        /// The address.
        address: PciAddress,
    },
    /// There is no such bus.
    #[error("there is no PCI bus for the address {address}")]
    NoBus {
        /// The address.
        address: PciAddress,
    },
    /// The bus has no such slot.
    #[error("the PCI address {address} is not a slot of a {model}")]
    NoSlot {
        /// The address.
        address: PciAddress,
        /// The model of the bus's controller.
        model: &'static str,
    },
    /// The bus does not take such a device.
    #[error("a device of this kind cannot sit at {address}, on a {model}")]
    WrongBus {
        /// The address.
        address: PciAddress,
        /// The model of the bus's controller.
        model: &'static str,
    },
    /// A device of the chipset has a fixed place.
    #[error("the {device} of this machine type is always at {expected}")]
    Fixed {
        /// The device.
        device: &'static str,
        /// Its place.
        expected: PciAddress,
    },
    /// Two virtual devices want one place.
    #[error("the register {register:#x} is taken by another device")]
    RegisterTaken {
        /// The register.
        register: u32,
    },
    /// No place is left.
    #[error("the machine has no free PCI slot left")]
    Full,
    /// An error of one device.
    #[error("cannot place the device {alias}")]
    Device {
        /// The device.
        alias: String,
        /// Why.
        source: Box<PciError>,
    },
}

/// Places every PCI device of `domain`, and what it has in the place of such devices.
pub fn assign(domain: &Domain) -> Result<Layout, PciError> {
    let mut layout = match domain.os.kind.pci_root() {
        Some(_) => on_buses(domain)?,
        None => Layout::default(),
    };
    let in_memory = devices::in_memory(domain).into_iter();
    layout
        .beside
        .extend(in_memory.map(|alias| (alias, Beside::Mmio)));
    let virtual_devices = vio::assign(domain)?.into_iter();
    let virtual_devices = virtual_devices.map(|(alias, register)| (alias, Beside::Vio(register)));
    layout.beside.extend(virtual_devices);
    Ok(layout)
}

fn on_buses(domain: &Domain) -> Result<Layout, PciError> {
    let given: Vec<Controller> = domain
        .devices
        .controllers
        .iter()
        .filter(|controller| controller.pci_model().is_some())
        .cloned()
        .collect();
    let models = |controllers: &[Controller]| -> Vec<(u32, PciModel)> {
        let model = |c: &Controller| Some((c.index, c.pci_model()?));
        controllers.iter().filter_map(model).collect()
    };
    // POWER would have another host bridge, not a bridge behind the first.
    let may_grow = domain.os.kind != MachineKind::Pseries;
    let mut buses = Buses::new(&models(&given), may_grow);
    place_all(domain, &given, &mut buses)?;
    let only_root = given.iter().all(|controller| controller.index == 0);
    if domain.os.kind.is_express() && only_root && buses.models().count() > 1 {
        // A port for a device to be plugged in later.
        buses.reserve_next(Connects::Pcie, 0)?;
    }
    let controllers = with_added(given, &buses);
    let mut buses = Buses::new(&models(&controllers), false);
    let places = place_all(domain, &controllers, &mut buses)?;
    Ok(Layout {
        bridges: bridges(&controllers, &places),
        places,
        beside: BTreeMap::new(),
    })
}

/// The next free place for a disk or card that is plugged into a machine that has `layout`.
pub fn free_place(domain: &Domain, layout: &Layout) -> Result<PciAddress, PciError> {
    let root = domain.os.kind.pci_root().ok_or(PciError::Full)?;
    let connects = match domain.os.kind.is_express() {
        true => Connects::Pcie,
        false => Connects::Pci,
    };
    let added = layout.bridges.iter();
    let added = added.map(|bridge| (u32::from(bridge.index), bridge.device.model()));
    let models: Vec<(u32, PciModel)> = [(0, root)].into_iter().chain(added).collect();
    let mut buses = Buses::new(&models, false);
    reserve_chipset(domain, &mut buses);
    for place in layout.places.values() {
        buses.mark_used(place.address);
    }
    buses.reserve_next(connects, 0)
}

/// The controllers together with those of the buses that the first pass added.
fn with_added(mut controllers: Vec<Controller>, buses: &Buses) -> Vec<Controller> {
    for (index, model) in (0u32..).zip(buses.models()) {
        if controllers
            .iter()
            .all(|controller| controller.index != index)
        {
            let kind = ControllerKind::Pci {
                model,
                chassis: None,
                port: None,
                chassis_number: None,
            };
            controllers.push(Controller {
                alias: format!("pci.{index}"),
                ..Controller::implied(kind, index)
            });
        }
    }
    controllers.sort_by_key(|controller| controller.index);
    controllers
}

type Places = BTreeMap<String, Place>;

fn place_all(
    domain: &Domain,
    controllers: &[Controller],
    buses: &mut Buses,
) -> Result<Places, PciError> {
    let devices = devices::devices(domain, controllers);
    let mut places = Places::new();
    for device in &devices {
        if let Some((name, expected)) = fixed_place(device.role) {
            if device.given.address.is_some_and(|given| given != expected) {
                let device = name;
                return Err(PciError::Fixed { device, expected });
            }
            put(
                &mut places,
                device,
                buses.reserve_builtin(expected.slot, expected.function),
            );
        }
    }
    reserve_chipset(domain, buses);
    for device in devices
        .iter()
        .filter(|device| fixed_place(device.role).is_none())
    {
        if let Some(address) = device.given.address {
            let address = buses
                .reserve(device.connects, address, Chosen::ByTemplate)
                .map_err(|error| about(device, error))?;
            put(&mut places, device, address);
        }
    }
    match domain.os.kind {
        // The graphics card takes the first slot after PIIX3.
        MachineKind::I440fx => primary_video(&devices, buses, &mut places, 2)?,
        MachineKind::Q35 => ich9(&devices, buses, &mut places)?,
        _ => {}
    }
    if domain.os.kind == MachineKind::I440fx && buses.may_grow() && buses.any_free() {
        // A slot for a bridge to be plugged in later, which the second pass leaves free.
        buses.reserve_next(Connects::Pci, 0)?;
    }
    for device in &devices {
        if places.contains_key(&device.alias) {
            continue;
        }
        let address =
            next(device, &devices, buses, &places).map_err(|error| about(device, error))?;
        put(&mut places, device, address);
    }
    mark_multifunction(&devices, &mut places);
    Ok(places)
}

/// The ISA bridge, and the power management or SMBus function beside it.
fn reserve_chipset(domain: &Domain, buses: &mut Buses) {
    let slot = match domain.os.kind {
        MachineKind::I440fx => 1,
        MachineKind::Q35 => 0x1f,
        _ => return,
    };
    for function in [0, 3] {
        buses.reserve_builtin(slot, function);
    }
}

fn about(device: &PciDevice, error: PciError) -> PciError {
    PciError::Device {
        alias: device.alias.clone(),
        source: Box::new(error),
    }
}

fn put(places: &mut Places, device: &PciDevice, address: PciAddress) {
    places.insert(
        device.alias.clone(),
        Place {
            address,
            multifunction: false,
        },
    );
}

/// The place of a device that is part of the chipset.
fn fixed_place(role: Role) -> Option<(&'static str, PciAddress)> {
    let at = |slot, function| PciAddress::new(0, slot).with_function(function);
    match role {
        Role::PrimaryIde => Some(("first IDE controller", at(1, 1))),
        Role::Piix3Usb => Some(("first PIIX3 USB controller", at(1, 2))),
        Role::PrimarySata => Some(("first SATA controller", at(0x1f, 2))),
        _ => None,
    }
}

/// The devices that have a usual place beside ICH9.
fn ich9(devices: &[PciDevice], buses: &mut Buses, places: &mut Places) -> Result<(), PciError> {
    for device in devices {
        let slots: &[u8] = match device.role {
            Role::Ich9Usb { function: 0, .. } => &[0x1d, 0x1a],
            Role::DmiBridge => &[0x1e],
            _ => continue,
        };
        let free = slots.iter().find(|slot| !buses.root_slot_used(**slot));
        if let Some(slot) = free
            && !places.contains_key(&device.alias)
        {
            put(places, device, buses.reserve_builtin(*slot, 0));
        }
    }
    primary_video(devices, buses, places, 1)?;
    let sound = devices
        .iter()
        .find(|d| d.role == Role::Ich9Sound && !places.contains_key(&d.alias));
    if let Some(sound) = sound
        && !buses.root_slot_used(0x1b)
    {
        put(places, sound, buses.reserve_builtin(0x1b, 0));
    }
    Ok(())
}

/// The firmware's graphics card is the first device after the chipset's.
fn primary_video(
    devices: &[PciDevice],
    buses: &mut Buses,
    places: &mut Places,
    slot: u8,
) -> Result<(), PciError> {
    let Some(video) = devices
        .iter()
        .find(|d| d.role == Role::PrimaryVideo && !places.contains_key(&d.alias))
    else {
        return Ok(());
    };
    let address = if buses.root_slot_used(slot) {
        buses
            .reserve_next(video.connects, 0)
            .map_err(|error| about(video, error))?
    } else {
        buses.reserve_builtin(slot, 0)
    };
    put(places, video, address);
    Ok(())
}

/// The next place for a device; the parts of a USB 2 controller share a slot.
fn next(
    device: &PciDevice,
    devices: &[PciDevice],
    buses: &mut Buses,
    places: &Places,
) -> Result<PciAddress, PciError> {
    let Role::Ich9Usb { index, function } = device.role else {
        return buses.reserve_next(device.connects, 0);
    };
    let same =
        |other: &&PciDevice| matches!(other.role, Role::Ich9Usb { index: i, .. } if i == index);
    let first = devices
        .iter()
        .filter(same)
        .find_map(|other| places.get(&other.alias));
    match first {
        Some(place) => {
            let address = place.address.with_function(function);
            buses.reserve(device.connects, address, Chosen::ByTemplate)
        }
        None => buses.reserve_next(device.connects, function),
    }
}

/// Function 0 of a slot says whether there are others.
fn mark_multifunction(devices: &[PciDevice], places: &mut Places) {
    let others: Vec<PciAddress> = places
        .values()
        .filter(|place| place.address.function != 0)
        .map(|place| place.address.with_function(0))
        .collect();
    for device in devices {
        let Some(place) = places.get_mut(&device.alias) else {
            continue;
        };
        let usual = matches!(device.role, Role::Ich9Usb { function: 0, .. })
            || others.contains(&place.address);
        place.multifunction = device.given.multifunction.unwrap_or(usual);
    }
}

fn bridges(controllers: &[Controller], places: &Places) -> Vec<Bridge> {
    let bridge = |controller: &Controller| {
        let ControllerKind::Pci {
            model,
            chassis,
            port,
            chassis_number,
        } = controller.kind
        else {
            return None;
        };
        let index = u8::try_from(controller.index).ok()?;
        let address = places.get(&controller.alias)?.address;
        let (device, chassis, port) = match model {
            PciModel::PciRoot | PciModel::PcieRoot => return None,
            PciModel::PcieRootPort => {
                let port = port.unwrap_or((address.slot << 3) | address.function);
                (BridgeDevice::PcieRootPort, chassis, Some(port))
            }
            PciModel::PcieToPciBridge => (BridgeDevice::PciePciBridge, None, None),
            PciModel::DmiToPciBridge => (BridgeDevice::DmiToPciBridge, None, None),
            PciModel::PciBridge => (BridgeDevice::PciBridge, chassis_number, None),
        };
        Some(Bridge {
            index,
            device,
            chassis: chassis.unwrap_or(index),
            port,
        })
    };
    controllers.iter().filter_map(bridge).collect()
}

fn write_address<S: Serializer>(address: &PciAddress, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(address)
}

fn read_address<'de, D: Deserializer<'de>>(from: D) -> Result<PciAddress, D::Error> {
    String::deserialize(from)?
        .parse()
        .map_err(serde::de::Error::custom)
}

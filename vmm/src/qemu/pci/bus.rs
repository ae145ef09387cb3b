//! The buses of a machine and what is free on them.

use super::PciError;
use crate::domain::{PciAddress, PciModel};

/// How a device connects, which decides the buses that take it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Connects {
    /// A conventional PCI device.
    Pci,
    /// A PCI Express device.
    Pcie,
    /// A device that stands for a part of the chipset, on the root bus only.
    Integrated,
    /// A root port, of which eight share a slot.
    RootPort,
    /// A bridge from Express to conventional PCI.
    PcieToPciBridge,
    /// A bridge from the Express root to conventional PCI.
    DmiToPciBridge,
    /// A bridge between conventional buses.
    PciBridge,
}

/// Who chose an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chosen {
    /// The template, which may put an Express device in a conventional slot and the reverse.
    ByTemplate,
    /// fvm: only buses that are meant for it.
    ByFvm,
}

#[derive(Debug, Clone)]
struct Bus {
    model: PciModel,
    accepts: &'static [Connects],
    /// Whether devices are put here without being told to.
    automatic: bool,
    first_slot: u8,
    last_slot: u8,
    /// A bit for each function in use, by slot.
    used: [u8; 32],
    /// Slots whose first device was a root port, so that others may join it.
    packed: [bool; 32],
}

impl Bus {
    fn new(model: PciModel) -> Self {
        use Connects::*;
        let (accepts, automatic, first_slot, last_slot): (&[Connects], _, _, _) = match model {
            PciModel::PciRoot => (&[Pci, Integrated, PciBridge], true, 1, 31),
            PciModel::PciBridge | PciModel::PcieToPciBridge => (&[Pci, PciBridge], true, 1, 31),
            PciModel::PcieRoot => (&[Pcie, Integrated, RootPort, DmiToPciBridge], false, 1, 31),
            PciModel::PcieRootPort => (&[Pcie, PcieToPciBridge], true, 0, 0),
            PciModel::DmiToPciBridge => (&[Pci, PciBridge], false, 0, 31),
        };
        Self {
            model,
            accepts,
            automatic,
            first_slot,
            last_slot,
            used: [0; 32],
            packed: [false; 32],
        }
    }

    fn takes(&self, device: Connects, chosen: Chosen) -> bool {
        let endpoint = |connects: &Connects| matches!(connects, Connects::Pci | Connects::Pcie);
        match chosen {
            Chosen::ByTemplate => {
                self.accepts.contains(&device)
                    || ((endpoint(&device) || device == Connects::PciBridge)
                        && self.accepts.iter().any(endpoint))
            }
            Chosen::ByFvm => {
                self.accepts.contains(&device) && (self.automatic || !endpoint(&device))
            }
        }
    }
}

/// All buses, by the index of their controllers.
#[derive(Debug, Clone)]
pub(super) struct Buses {
    buses: Vec<Bus>,
    /// Whether buses are added when a device finds no place.
    may_grow: bool,
}

impl Buses {
    /// The buses that the given controllers make; numbers between them get the usual model.
    pub(super) fn new(models: &[(u32, PciModel)], may_grow: bool) -> Self {
        let last = models.iter().map(|(index, _)| *index).max().unwrap_or(0);
        let express = models.contains(&(0, PciModel::PcieRoot));
        let usual = if express {
            PciModel::PcieRootPort
        } else {
            PciModel::PciBridge
        };
        let model_of = |index: u32| {
            let given = models.iter().find(|(number, _)| *number == index);
            given.map_or(usual, |(_, model)| *model)
        };
        Self {
            buses: (0..=last).map(|index| Bus::new(model_of(index))).collect(),
            may_grow,
        }
    }

    /// The models of all buses, also of those that were added.
    pub(super) fn models(&self) -> impl Iterator<Item = PciModel> {
        self.buses.iter().map(|bus| bus.model)
    }

    /// Whether buses are added when a device finds no place.
    pub(super) fn may_grow(&self) -> bool {
        self.may_grow
    }

    /// Whether any slot of any bus is free.
    pub(super) fn any_free(&self) -> bool {
        let free =
            |bus: &Bus| (bus.first_slot..=bus.last_slot).any(|s| bus.used[usize::from(s)] == 0);
        self.buses.iter().any(free)
    }

    /// Whether a slot of the root bus has a device.
    pub(super) fn root_slot_used(&self, slot: u8) -> bool {
        self.buses
            .first()
            .is_some_and(|bus| bus.used[usize::from(slot % 32)] != 0)
    }

    /// Takes a function of the root bus for a device that is part of the machine.
    pub(super) fn reserve_builtin(&mut self, slot: u8, function: u8) -> PciAddress {
        if let Some(root) = self.buses.first_mut() {
            root.used[usize::from(slot % 32)] |= 1 << (function % 8);
        }
        PciAddress::new(0, slot).with_function(function)
    }

    /// Takes an address that a device has.
    pub(super) fn mark_used(&mut self, address: PciAddress) {
        if let Some(bus) = self.buses.get_mut(usize::from(address.bus)) {
            bus.used[usize::from(address.slot % 32)] |= 1 << (address.function % 8);
        }
    }

    /// Takes the address that a device asks for.
    pub(super) fn reserve(
        &mut self,
        device: Connects,
        address: PciAddress,
        chosen: Chosen,
    ) -> Result<PciAddress, PciError> {
        let address = self.grow_to(device, address)?;
        let Some(bus) = self.buses.get_mut(usize::from(address.bus)) else {
            return Err(PciError::NoBus { address });
        };
        if !bus.takes(device, chosen) {
            return Err(PciError::WrongBus {
                address,
                model: bus.model.as_str(),
            });
        }
        if !(bus.first_slot..=bus.last_slot).contains(&address.slot) {
            return Err(PciError::NoSlot {
                address,
                model: bus.model.as_str(),
            });
        }
        let slot = usize::from(address.slot);
        if bus.used[slot] & (1 << address.function) != 0 {
            return Err(PciError::Taken { address });
        }
        if bus.used[slot] == 0 && device == Connects::RootPort {
            bus.packed[slot] = true;
        }
        bus.used[slot] |= 1 << address.function;
        Ok(address)
    }

    /// Takes the next free place: the first completely empty slot, function `function` of it.
    ///
    /// Root ports fill the eight functions of a slot that a root port began.
    pub(super) fn reserve_next(
        &mut self,
        device: Connects,
        function: u8,
    ) -> Result<PciAddress, PciError> {
        for (number, bus) in (0u8..).zip(&self.buses) {
            if !bus.takes(device, Chosen::ByFvm) {
                continue;
            }
            for slot in bus.first_slot..=bus.last_slot {
                let used = bus.used[usize::from(slot)];
                let joins = device == Connects::RootPort && bus.packed[usize::from(slot)];
                let function = match used {
                    0 => Some(function),
                    0xff => None,
                    _ if joins => Some(used.trailing_ones() as u8),
                    _ => None,
                };
                if let Some(function) = function {
                    let address = PciAddress::new(number, slot).with_function(function);
                    return self.reserve(device, address, Chosen::ByFvm);
                }
            }
        }
        let number = u8::try_from(self.buses.len()).map_err(|_| PciError::Full)?;
        let mut address = PciAddress::new(number, 0).with_function(function);
        address = self.grow_to(device, address)?;
        let bus = self
            .buses
            .get(usize::from(address.bus))
            .ok_or(PciError::Full)?;
        address.slot = bus.first_slot;
        self.reserve(device, address, Chosen::ByFvm)
    }

    /// Adds buses until the one of `address` is there, and returns the address, whose bus moves up
    /// by one when the first conventional bus of an Express machine needs a port of its own.
    fn grow_to(
        &mut self,
        device: Connects,
        mut address: PciAddress,
    ) -> Result<PciAddress, PciError> {
        let wanted = usize::from(address.bus) + 1;
        if wanted <= self.buses.len() || !self.may_grow {
            return Ok(address);
        }
        let model = match device {
            Connects::Pci => PciModel::PciBridge,
            Connects::Pcie | Connects::PcieToPciBridge => PciModel::PcieRootPort,
            _ => return Err(PciError::Full),
        };
        let mut missing = wanted - self.buses.len();
        let bridgeable = |bus: &Bus| bus.accepts.contains(&Connects::PciBridge);
        if device == Connects::Pci && !self.buses.iter().any(bridgeable) {
            if missing == 1 {
                missing += 1;
                address.bus = address.bus.checked_add(1).ok_or(PciError::Full)?;
            }
            let mut port = Bus::new(PciModel::PcieRootPort);
            // Kept for the bridge that is added with it.
            port.accepts = &[Connects::PcieToPciBridge];
            self.buses.push(port);
            self.buses.push(Bus::new(PciModel::PcieToPciBridge));
            missing -= 2;
        }
        self.buses.extend((0..missing).map(|_| Bus::new(model)));
        Ok(address)
    }
}

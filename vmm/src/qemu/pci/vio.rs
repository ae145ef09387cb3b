//! Registers of POWER's virtual devices, by libvirt's rules.

use super::PciError;
use crate::domain::{ControllerKind, Domain, NicModel, ScsiModel, SerialKind};
use std::collections::{BTreeMap, BTreeSet};

/// Where libvirt begins to look for a free register, for each kind of device, and how far apart they are.
const FIRST_NIC: u32 = 0x1000;
const FIRST_SCSI: u32 = 0x2000;
const FIRST_SERIAL: u32 = 0x3000_0000;
const STEP: u32 = 0x1000;

/// The registers of all virtual devices of `domain`, by their aliases.
pub(super) fn assign(domain: &Domain) -> Result<BTreeMap<String, u32>, PciError> {
    let devices = &domain.devices;
    let nics = devices.interfaces.iter();
    let nics = nics.filter(|nic| nic.model == NicModel::SpaprVlan);
    let nics = nics.map(|nic| (&nic.alias, nic.pci.vio, FIRST_NIC));
    let adapters = devices.controllers.iter().filter(|controller| {
        matches!(
            controller.kind,
            ControllerKind::Scsi {
                model: ScsiModel::IbmVscsi,
                ..
            }
        )
    });
    let adapters = adapters.map(|adapter| (&adapter.alias, adapter.pci.vio, FIRST_SCSI));
    let serials = devices.serials.iter();
    let serials = serials.filter(|_| SerialKind::of(domain.os.kind) == SerialKind::Vio);
    let serials = serials.map(|serial| (&serial.alias, serial.vio, FIRST_SERIAL));
    let all: Vec<_> = nics.chain(adapters).chain(serials).collect();
    let mut taken = BTreeSet::new();
    for register in all.iter().filter_map(|(_, given, _)| *given) {
        if !taken.insert(register) {
            return Err(PciError::RegisterTaken { register });
        }
    }
    let mut places = BTreeMap::new();
    for (alias, given, first) in all {
        let mut free = (first..u32::MAX).step_by(STEP as usize);
        let register = given.or_else(|| free.find(|register| !taken.contains(register)));
        let register = register.ok_or(PciError::Full)?;
        taken.insert(register);
        places.insert(alias.clone(), register);
    }
    Ok(places)
}

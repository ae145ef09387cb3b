//! What a machine type does not have.

use super::Elements;
use crate::domain::device::*;
use crate::domain::error::Result;
use crate::domain::model::Domain;
use crate::domain::os::MachineKind;

/// What only a PC's chipset has, by its path in the domain.
const PC_ALONE: [&str; 5] = [
    "pm",
    "features/vmport",
    "features/smm",
    "features/ioapic",
    "os/bios",
];

/// What only an x86 processor and machine has.
const X86_ALONE: [&str; 5] = [
    "features/hyperv",
    "features/kvm",
    "cpu/cache",
    "genid",
    "clock/timer",
];

/// Refuses what a machine of this type cannot have.
pub(super) fn limits(domain: &Domain, elements: &Elements) -> Result<()> {
    let kind = domain.os.kind;
    let is_x86 = kind.is_pc() || kind == MachineKind::Microvm;
    let first = |path: &str| domain.origin.at(&[path]).first().copied();
    let pc_alone = PC_ALONE.iter().filter(|_| !kind.is_pc());
    let x86_alone = X86_ALONE.iter().filter(|_| !is_x86);
    let power = ["sysinfo"].iter().filter(|_| kind == MachineKind::Pseries);
    let not_virt = ["features/gic"].iter();
    let not_virt = not_virt.filter(|_| kind != MachineKind::Virt);
    let missing = pc_alone.chain(x86_alone).chain(power).chain(not_virt);
    if let Some(id) = missing.copied().find_map(first) {
        return Err(elements.at(id).refuse("this machine type does not have it"));
    }
    firmware(domain, elements)?;
    devices(domain, elements)
}

/// How the machines other than PCs start.
fn firmware(domain: &Domain, elements: &Elements) -> Result<()> {
    let (os, acpi) = (&domain.os, domain.features.acpi);
    let message = match os.kind {
        MachineKind::Microvm if os.firmware.is_uefi() => {
            "a microvm starts from a <kernel> or by a BIOS of its own, not by UEFI"
        }
        MachineKind::Microvm if !acpi && os.kernel.is_none() => {
            "a microvm without <acpi/> in its <features> starts from a <kernel> only"
        }
        MachineKind::Virt if acpi && !os.firmware.is_uefi() => {
            "this machine type has <acpi/> with UEFI only: write <os firmware='efi'>"
        }
        MachineKind::Pseries if acpi => "this machine type has no ACPI: leave out <acpi/>",
        MachineKind::Pseries if os.firmware.is_uefi() => {
            "this machine type starts by its own firmware, not by UEFI"
        }
        _ => return Ok(()),
    };
    let os = domain.origin.at(&["os"]);
    let place = os.first().map(|id| elements.at(*id));
    Err(place.unwrap_or_default().refuse(message))
}

/// The devices that sit on a chipset.
fn devices(domain: &Domain, elements: &Elements) -> Result<()> {
    let (kind, devices) = (domain.os.kind, &domain.devices);
    let has_isa = kind.is_pc() || kind == MachineKind::Microvm;
    for panic in &devices.panics {
        let is_there = match panic.model {
            PanicModel::Isa | PanicModel::Hyperv => has_isa,
            PanicModel::Pvpanic => true,
            PanicModel::Pseries => kind == MachineKind::Pseries,
        };
        if !is_there {
            let place = elements.of(&panic.origin);
            return Err(place.refuse("this machine type does not have this panic device"));
        }
    }
    for watchdog in &devices.watchdogs {
        let is_there = match watchdog.model {
            WatchdogModel::I6300esb => true,
            WatchdogModel::Ib700 => has_isa,
            WatchdogModel::Itco => kind.is_pc(),
        };
        if !is_there {
            let place = elements.of(&watchdog.origin);
            return Err(place.refuse("this machine type does not have this watchdog"));
        }
    }
    for input in &devices.inputs {
        if input.bus == InputBus::Ps2 && !kind.is_pc() {
            let place = elements.of(&input.origin);
            return Err(place.refuse("this machine type has no PS/2: use bus='usb' or 'virtio'"));
        }
    }
    if let Some(tpm) = &devices.tpm {
        let place = elements.of(&tpm.origin);
        match kind {
            MachineKind::Virt if tpm.model != TpmModel::Tis => {
                return Err(place.refuse("this machine type takes a TPM of model tpm-tis only"));
            }
            MachineKind::Microvm | MachineKind::Pseries => {
                return Err(place.refuse("fvm has no TPM for this machine type"));
            }
            _ => {}
        }
    }
    Ok(())
}

//! What a VM was given and keeps: its machine type and where its PCI devices sit.
//!
//! A guest names its network cards by their slots and finds its drivers by the machine, so neither
//! may change under it: not with another QEMU, and not with another fvm that would choose otherwise.

use super::{
    Manager, cards,
    error::{Result, failed},
    host::Host,
    templates,
};
use crate::{
    api::{ApiError, ErrorKind},
    domain::{self, Additions, Domain, FurtherDisk, Macros},
    qemu::{
        pci::{self, Layout, Place},
        probe::Capabilities,
    },
    store::{DiskRow, VmRow},
};

/// Where the devices of a new VM sit.
pub(super) fn assigned(domain: &Domain) -> Result<Layout> {
    pci::assign(domain).map_err(|error| ApiError::from_error(ErrorKind::Usage, &error))
}

/// A layout as its VM's row keeps it.
pub(super) fn to_text(layout: &Layout) -> Result<String> {
    serde_json::to_string(layout).map_err(|error| failed("writing a PCI layout", &error))
}

/// Where the devices of a VM sit; `domain` is the VM's.
pub(super) fn layout(row: &VmRow, domain: &Domain) -> Result<Layout> {
    let mut layout = layout_in_row(row)?;
    // Disks that came later have their places in rows of their own.
    for disk in &domain.devices.disks {
        if let Some(address) = disk.pci.address {
            layout.places.entry(disk.alias.clone()).or_insert(Place {
                address,
                multifunction: false,
            });
        }
    }
    Ok(layout)
}

/// The same without the disks that came later.
pub(super) fn layout_in_row(row: &VmRow) -> Result<Layout> {
    serde_json::from_str(&row.layout).map_err(|error| {
        failed(
            format!("VM {}'s PCI layout in the store", row.number),
            &error,
        )
    })
}

/// What a VM was given beside its template.
pub(super) fn additions(row: &VmRow) -> Result<Additions> {
    let further = |disk: &DiskRow| {
        let place = disk.place.parse().map_err(|error: String| {
            ApiError::new(ErrorKind::Internal, format!("the state store: {error}"))
        })?;
        Ok(FurtherDisk {
            source: templates::disk_path(&row.link_of(disk)),
            target: disk.target.clone(),
            serial: disk.name.clone(),
            place,
        })
    };
    Ok(Additions {
        like: templates::disk_path(&row.name),
        disks: row.disks.iter().map(further).collect::<Result<_>>()?,
    })
}

/// The macros of a VM's template.
pub(super) fn macros(host: &Host, row: &VmRow) -> Result<Macros> {
    let number = host.host_number(row.number)?;
    Ok(templates::macros(
        &row.name,
        number,
        &row.image,
        &host.network.bridge,
    ))
}

/// A VM's domain, with what was chosen at its creation and what it was given since.
pub(super) fn domain(host: &Host, row: &VmRow) -> Result<Domain> {
    let loaded = domain::load_with(&row.template, &macros(host, row)?, &additions(row)?);
    let (mut domain, _) = loaded.map_err(|error| templates::refusal(&error))?;
    cards::put_in(&mut domain, row)?;
    // Set only if they were chosen: the template may say more than one number about each.
    if row.memory_mib != domain.memory_mib() {
        domain.set_memory_mib(row.memory_mib);
    }
    if row.cpus != domain.vcpus() {
        domain.set_vcpus(row.cpus);
    }
    templates::hold_on_write_errors(&mut domain, &row.name);
    Ok(domain)
}

/// The machine type that `wanted` stands for in this QEMU: `pc` is `pc-i440fx-10.0`.
pub(super) fn machine(qemu: &Capabilities, wanted: &str) -> Option<String> {
    qemu.machine(wanted).map(|machine| machine.name.clone())
}

impl Manager {
    /// The machine type of a VM, which it keeps from now on.
    pub(super) fn keep_machine(
        &self,
        row: &VmRow,
        domain: &Domain,
        qemu: &Capabilities,
    ) -> Result<Option<String>> {
        match &row.machine {
            Some(kept) if qemu.machine(kept).is_none() => Err(ApiError::new(
                ErrorKind::HostNotAble,
                format!(
                    "VM {} is a {kept}, which QEMU {} does not have any more",
                    row.number, qemu.version
                ),
            )
            .hint("a VM made anew gets a machine type of this QEMU")),
            Some(kept) => Ok(Some(kept.clone())),
            None => {
                // What this QEMU does not know, the arguments will refuse by name.
                let Some(machine) = machine(qemu, &domain.os.machine) else {
                    return Ok(None);
                };
                self.store.keep_machine(row.number, &machine)?;
                Ok(Some(machine))
            }
        }
    }
}

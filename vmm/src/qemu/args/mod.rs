//! The argument vector: a pure function of a domain and an assignment.
//!
//! Options are written in the form that QEMU 7.2 to 10 all take; devices, block nodes and the
//! network in JSON, so that no value can break out of its place. A file for each family.

mod character;
mod controller;
mod cpu;
mod disk;
mod display;
mod later;
mod machine;
mod network;
mod other;
#[cfg(test)]
mod tests;
mod vector;

pub use character::chardev_id;
pub use disk::{disk_node_name, hot_plugged};
pub use network::{PluggedCard, netdev_id, plugged_card};

use super::assignment::Assignment;
use super::pci::{Beside, Layout};
use crate::domain::{Domain, PciAddress};
use thiserror::Error;
pub use vector::{Argument, CommandLine};

/// Why there are no arguments for a domain.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ArgumentError {
    /// The QEMU does not know the machine type.
    #[error("QEMU {version} does not know the machine type {machine}")]
    UnknownMachine {
        /// The machine type.
        machine: String,
        /// The version.
        version: String,
    },
    /// More processors than the machine type can have.
    #[error("the machine type {machine} has at most {most} processors, not {wanted}")]
    TooManyVcpus {
        /// The machine type.
        machine: String,
        /// What was asked for.
        wanted: u32,
        /// What it can have.
        most: u32,
    },
    /// The QEMU was built without the device.
    #[error("QEMU {version} has no device {device}, which {alias} needs")]
    NoDevice {
        /// The device's type.
        device: String,
        /// The device of the template.
        alias: String,
        /// The version.
        version: String,
    },
    /// The assignment does not say where the device sits.
    #[error("no PCI address was assigned to {alias}")]
    NoAddress {
        /// The device.
        alias: String,
    },
    /// The assignment does not say what the disk is.
    #[error("nothing was assigned to the disk {target}")]
    NoDisk {
        /// The disk.
        target: String,
    },
    /// The assignment does not say what the interface is joined to.
    #[error("nothing was assigned to the network interface {alias}")]
    NoNic {
        /// The interface.
        alias: String,
    },
    /// A UEFI machine without firmware.
    #[error("no firmware was assigned to a UEFI machine")]
    NoFirmware,
    /// A TPM without a socket to what emulates it.
    #[error("nothing was assigned to {alias}")]
    NoTpm {
        /// The device.
        alias: String,
    },
    /// A vsock without its context id.
    #[error("no context id was assigned to {alias}")]
    NoContextId {
        /// The device.
        alias: String,
    },
}

/// The arguments for QEMU, without its own name.
pub fn arguments(domain: &Domain, assignment: &Assignment) -> Result<Vec<String>, ArgumentError> {
    command_line(domain, assignment).map(CommandLine::into_vector)
}

/// The same arguments, each with the elements of the template that it says.
pub fn command_line(
    domain: &Domain,
    assignment: &Assignment,
) -> Result<CommandLine, ArgumentError> {
    let mut builder = Builder {
        domain,
        given: assignment,
        vector: CommandLine::default(),
    };
    builder.identity();
    builder.machine()?;
    builder.cpu();
    builder.memory();
    builder.tables();
    builder.monitors();
    builder.clock();
    builder.lifecycle();
    builder.boot();
    builder.iommu()?;
    builder.bridges()?;
    builder.controllers()?;
    builder.hubs()?;
    builder.disks()?;
    builder.interfaces()?;
    builder.serial_lines();
    builder.virtio_ports();
    builder.inputs()?;
    builder.redirects()?;
    builder.screens()?;
    builder.sounds()?;
    builder.watchdogs()?;
    builder.balloon()?;
    builder.rngs()?;
    builder.panics()?;
    builder.vsock()?;
    builder.tpm()?;
    builder.confinement();
    builder.acted_on_later();
    builder.as_they_are();
    Ok(builder.vector)
}

/// Arguments that are being built; each family adds its own.
struct Builder<'b> {
    domain: &'b Domain,
    given: &'b Assignment,
    vector: CommandLine,
}

type JsonObject = serde_json::Map<String, serde_json::Value>;

impl Builder<'_> {
    /// Adds a device, which this QEMU must have.
    fn device(&mut self, properties: JsonObject) -> Result<&mut Argument, ArgumentError> {
        let text = |name: &str| {
            let value = properties.get(name).and_then(|value| value.as_str());
            value.unwrap_or_default().to_owned()
        };
        let (device, qemu) = (text("driver"), &self.given.qemu);
        if !qemu.devices.is_empty() && !qemu.has_device(&device) {
            return Err(ArgumentError::NoDevice {
                device,
                alias: text("id"),
                version: qemu.version.to_string(),
            });
        }
        Ok(self.vector.json("-device", properties))
    }

    /// Adds a device that has a place on the PCI bus.
    fn pci_device(
        &mut self,
        alias: &str,
        mut properties: JsonObject,
    ) -> Result<&mut Argument, ArgumentError> {
        properties.insert("id".to_owned(), alias.into());
        place(self.domain, &self.given.layout, &mut properties, alias)?;
        self.device(properties)
    }
}

/// Puts a PCI device in its place; in memory it has another name and no place.
fn place(
    domain: &Domain,
    layout: &Layout,
    properties: &mut JsonObject,
    alias: &str,
) -> Result<(), ArgumentError> {
    match layout.beside.get(alias) {
        None => {}
        Some(Beside::Vio(register)) => {
            properties.insert("reg".to_owned(), (*register).into());
            return Ok(());
        }
        Some(Beside::Mmio) => {
            let driver = properties.get("driver").and_then(|driver| driver.as_str());
            let name = driver.and_then(|driver| driver.strip_suffix("-pci"));
            let driver = name.map(|name| format!("{name}-device"));
            insert(properties, "driver", driver);
            return Ok(());
        }
    }
    let place = layout.places.get(alias);
    let place = place.ok_or_else(|| ArgumentError::NoAddress {
        alias: alias.to_owned(),
    })?;
    let PciAddress {
        bus,
        slot,
        function,
    } = place.address;
    let bus = match bus {
        0 if domain.os.kind.is_express() => "pcie.0".to_owned(),
        number => format!("pci.{number}"),
    };
    properties.insert("bus".to_owned(), bus.into());
    let address = match function {
        0 => format!("{slot:#x}"),
        function => format!("{slot:#x}.{function:#x}"),
    };
    properties.insert("addr".to_owned(), address.into());
    if place.multifunction {
        properties.insert("multifunction".to_owned(), true.into());
    }
    Ok(())
}

/// A JSON object, as `serde_json::json!` makes it.
macro_rules! object {
    ($($content:tt)*) => {
        match serde_json::json!({ $($content)* }) {
            serde_json::Value::Object(object) => object,
            _ => serde_json::Map::new(),
        }
    };
}
use object;

/// Inserts a property if there is a value for it.
fn insert(properties: &mut JsonObject, name: &str, value: Option<impl Into<serde_json::Value>>) {
    if let Some(value) = value {
        properties.insert(name.to_owned(), value.into());
    }
}

/// `on` or `off`, as QEMU writes switches.
fn on_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

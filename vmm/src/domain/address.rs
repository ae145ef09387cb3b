//! Where a device sits: PCI, drive, USB and virtio-serial addresses.

use super::error::{Result, TemplateError};
use super::node::Node;
use super::xml::Element;
use std::fmt;
use std::str::FromStr;

/// A place on a PCI bus; buses are numbered by the index of the controller that makes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciAddress {
    /// The index of the PCI controller.
    pub bus: u8,
    /// The slot, 0 to 31.
    pub slot: u8,
    /// The function, 0 to 7.
    pub function: u8,
}

impl PciAddress {
    /// Function 0 of a slot.
    pub fn new(bus: u8, slot: u8) -> Self {
        Self {
            bus,
            slot,
            function: 0,
        }
    }

    /// Another function of the same slot.
    pub fn with_function(self, function: u8) -> Self {
        Self { function, ..self }
    }

    /// The element that says it.
    pub(crate) fn element(self) -> Element {
        Element::new("address")
            .with("type", "pci")
            .with("domain", "0x0000")
            .with("bus", format!("{:#04x}", self.bus))
            .with("slot", format!("{:#04x}", self.slot))
            .with("function", format!("{:#x}", self.function))
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}:{:02x}.{}", self.bus, self.slot, self.function)
    }
}

impl FromStr for PciAddress {
    type Err = String;

    /// Reads the form that `Display` writes: `bus:slot.function`, the first two in hex.
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let parse = || {
            let (bus, rest) = text.split_once(':')?;
            let (slot, function) = rest.split_once('.')?;
            let address = Self {
                bus: u8::from_str_radix(bus, 16).ok()?,
                slot: u8::from_str_radix(slot, 16).ok()?,
                function: function.parse().ok()?,
            };
            (address.slot < 32 && address.function < 8).then_some(address)
        };
        parse().ok_or_else(|| format!("{text:?} is not a PCI address like 00:02.0"))
    }
}

/// What a template says of the place of a device: on a PCI bus, or where machines have devices beside it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PciPlace {
    /// The address, if the template fixes it.
    pub address: Option<PciAddress>,
    /// Whether the slot is said to have several functions.
    pub multifunction: Option<bool>,
    /// Whether a virtio device is in memory instead, at a place that QEMU chooses.
    pub mmio: bool,
    /// The register of a virtual device of POWER, if the template fixes it.
    pub vio: Option<u32>,
}

/// A disk's place on a controller.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DriveAddress {
    /// The controller's index.
    pub controller: u32,
    /// The bus on the controller.
    pub bus: u32,
    /// The SCSI target.
    pub target: u32,
    /// The unit (the LUN of SCSI).
    pub unit: u32,
}

impl DriveAddress {
    /// The element that says it.
    pub(crate) fn element(self) -> Element {
        Element::new("address")
            .with("type", "drive")
            .with("controller", self.controller)
            .with("bus", self.bus)
            .with("target", self.target)
            .with("unit", self.unit)
    }
}

/// A USB device's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsbAddress {
    /// The controller's index.
    pub bus: u32,
    /// The port, dotted behind hubs.
    pub port: String,
}

/// A port of a virtio-serial controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VirtioSerialAddress {
    /// The controller's index.
    pub controller: u32,
    /// The port, from 1 (0 is kept for the first console).
    pub port: u32,
}

/// Reads `<address type='pci'>` of `device`, or what other machines have in its place.
pub(crate) fn pci(device: &Node<'_>) -> Result<PciPlace> {
    let place = device.child("address", |node| {
        let kind = node.need("type")?;
        match kind.str() {
            "pci" => {}
            "virtio-mmio" => {
                return Ok(PciPlace {
                    mmio: true,
                    ..PciPlace::default()
                });
            }
            "spapr-vio" => {
                return Ok(PciPlace {
                    vio: Some(vio_register(node)?),
                    ..PciPlace::default()
                });
            }
            _ => {
                return Err(kind.refuse_with(
                    format!(
                        "fvm does not support the address type {:?} here",
                        kind.str()
                    ),
                    "supported values here: pci, virtio-mmio, spapr-vio",
                ));
            }
        }
        if let Some(domain) = node.attr("domain") {
            domain.address(0)?;
        }
        let part = |name: &str, max: u32| -> Result<Option<u8>> {
            match node.attr(name) {
                None => Ok(None),
                Some(value) => {
                    let number = value.address(max)?;
                    Ok(Some(
                        u8::try_from(number).map_err(|e| value.refuse(e.to_string()))?,
                    ))
                }
            }
        };
        let (bus, slot, function) = (part("bus", 255)?, part("slot", 31)?, part("function", 7)?);
        let multifunction = node.attr("multifunction").map(|v| v.on_off()).transpose()?;
        // `<address type='pci'/>` alone asks for an address to be chosen.
        let address = match (bus, slot, function) {
            (None, None, None) => None,
            (bus, Some(slot), function) => Some(PciAddress {
                bus: bus.unwrap_or(0),
                slot,
                function: function.unwrap_or(0),
            }),
            _ => return Err(node.refuse("a PCI address needs a slot")),
        };
        Ok(PciPlace {
            address,
            multifunction,
            ..PciPlace::default()
        })
    })?;
    Ok(place.unwrap_or_default())
}

/// Reads the register of an `<address type='spapr-vio'>`.
pub(crate) fn vio_register(address: &Node<'_>) -> Result<u32> {
    address.need("reg")?.address(u32::MAX)
}

/// Reads `<address type='drive'>` of `device`.
pub(crate) fn drive(device: &Node<'_>) -> Result<Option<DriveAddress>> {
    device.child("address", |node| {
        node.need("type")?.expect("drive")?;
        let part = |name: &str, max: u32| node.attr(name).map_or(Ok(0), |value| value.address(max));
        Ok(DriveAddress {
            controller: part("controller", 255)?,
            bus: part("bus", 1)?,
            target: part("target", 255)?,
            unit: part("unit", 16383)?,
        })
    })
}

/// Reads `<address type='usb'>` of `device`.
pub(crate) fn usb(device: &Node<'_>) -> Result<Option<UsbAddress>> {
    device.child("address", |node| {
        node.need("type")?.expect("usb")?;
        let bus = node.attr("bus").map_or(Ok(0), |value| value.address(255))?;
        let port = node.need("port")?;
        if !is_usb_port(port.str()) {
            return Err(port.refuse("a USB port is written like 1 or 1.2"));
        }
        Ok(UsbAddress {
            bus,
            port: port.str().to_owned(),
        })
    })
}

fn is_usb_port(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    parts.len() <= 4
        && parts
            .iter()
            .all(|part| matches!(part.parse::<u8>(), Ok(1..=15)) && !part.starts_with('+'))
}

/// Reads `<address type='virtio-serial'>` of `device`.
pub(crate) fn virtio_serial(
    device: &Node<'_>,
) -> std::result::Result<Option<VirtioSerialAddress>, TemplateError> {
    device.child("address", |node| {
        node.need("type")?.expect("virtio-serial")?;
        if let Some(bus) = node.attr("bus") {
            bus.address(0)?;
        }
        Ok(VirtioSerialAddress {
            controller: node
                .attr("controller")
                .map_or(Ok(0), |value| value.address(255))?,
            port: node.need("port")?.address(30)?,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pci_address_is_read_as_it_is_written() {
        let address = PciAddress::new(0x1f, 0x1d).with_function(7);
        assert_eq!(address.to_string(), "1f:1d.7");
        assert_eq!(address.to_string().parse(), Ok(address));
        for wrong in ["", "00:20.0", "00:02.8", "00.2", "0:0:0.0"] {
            assert!(wrong.parse::<PciAddress>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn usb_ports() {
        assert!(is_usb_port("1") && is_usb_port("1.2.3.4"));
        assert!(!is_usb_port("") && !is_usb_port("0") && !is_usb_port("1..2") && !is_usb_port("x"));
    }
}

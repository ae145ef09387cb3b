//! What a VM was given beside its template: elements that are put into the template before it is read, so
//! that they mean the same as if they had stood there.

use super::address::{DriveAddress, PciAddress};
use super::xml::Element;
use std::fmt;
use std::str::FromStr;

/// What a VM was given beside its template.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Additions {
    /// The source of the disk whose caching and the like the further disks share.
    pub like: String,
    /// The further disks.
    pub disks: Vec<FurtherDisk>,
}

/// A disk beside those of the template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FurtherDisk {
    /// The block device.
    pub source: String,
    /// The name that orders the disks: `sdb`, `vdc`.
    pub target: String,
    /// The serial number that the guest reads.
    pub serial: String,
    /// Where it sits.
    pub place: FurtherPlace,
}

/// Where a further disk sits, which also says how it is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FurtherPlace {
    /// A virtio disk, in a PCI slot.
    Pci(PciAddress),
    /// A unit of a virtio-scsi controller.
    Scsi {
        /// The controller's index.
        controller: u32,
        /// The unit, of bus 0 and target 0.
        unit: u32,
    },
}

impl fmt::Display for FurtherPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pci(address) => address.fmt(f),
            Self::Scsi { controller, unit } => write!(f, "scsi{controller}:{unit}"),
        }
    }
}

impl FromStr for FurtherPlace {
    type Err = String;

    /// Reads the form that `Display` writes.
    fn from_str(text: &str) -> Result<Self, String> {
        let Some(scsi) = text.strip_prefix("scsi") else {
            return text.parse().map(Self::Pci);
        };
        let parse = || {
            let (controller, unit) = scsi.split_once(':')?;
            Some(Self::Scsi {
                controller: controller.parse().ok()?,
                unit: unit.parse().ok()?,
            })
        };
        parse().ok_or_else(|| format!("{text:?} is not a place like scsi0:1"))
    }
}

impl FurtherPlace {
    /// The word for how it is attached.
    pub fn bus(self) -> &'static str {
        match self {
            Self::Pci(_) => "virtio",
            Self::Scsi { .. } => "scsi",
        }
    }
}

impl Additions {
    /// Puts them into the tree of a template.
    pub(crate) fn put_into(&self, root: &mut Element) {
        if self.disks.is_empty() {
            return;
        }
        let devices = &mut root.child_mut("devices").children;
        let is_disk = |element: &&Element| element.name == "disk";
        let driver = devices
            .iter()
            .filter(is_disk)
            .find(|disk| child_attribute(disk, "source", "dev") == Some(&self.like))
            .and_then(|disk| disk.children.iter().find(|child| child.name == "driver"))
            .cloned();
        let last = devices.iter().rposition(|element| element.name == "disk");
        let position = last.map_or(devices.len(), |last| last + 1);
        let further = self.disks.iter().map(|disk| disk.element(driver.clone()));
        devices.splice(position..position, further);
    }
}

fn child_attribute<'e>(element: &'e Element, child: &str, name: &str) -> Option<&'e str> {
    let mut children = element.children.iter();
    children.find(|one| one.name == child)?.attribute(name)
}

impl FurtherDisk {
    fn element(&self, driver: Option<Element>) -> Element {
        let mut disk = Element::new("disk")
            .with("type", "block")
            .with("device", "disk");
        disk.children.extend(driver.map(|mut driver| {
            // Those of a virtio disk alone; the rest goes for every disk.
            driver
                .attributes
                .retain(|(name, _)| !matches!(name.as_str(), "queues" | "iothread"));
            driver
        }));
        let bus = self.place.bus();
        let mut serial = Element::new("serial");
        serial.text.clone_from(&self.serial);
        disk.children.extend([
            Element::new("source").with("dev", &self.source),
            Element::new("target")
                .with("dev", &self.target)
                .with("bus", bus),
            serial,
            match self.place {
                FurtherPlace::Pci(address) => address.element(),
                FurtherPlace::Scsi { controller, unit } => DriveAddress {
                    controller,
                    unit,
                    ..DriveAddress::default()
                }
                .element(),
            },
        ]);
        disk
    }
}

#[cfg(test)]
mod tests {
    use super::super::{DiskBus, Macros, load_with};
    use super::*;

    const LINUX: &str = include_str!("../../../templates/linux.xml");

    fn disk(target: &str, place: FurtherPlace) -> FurtherDisk {
        FurtherDisk {
            source: format!("/dev/vg/vm:{target}"),
            target: target.to_owned(),
            serial: format!("serial-{target}"),
            place,
        }
    }

    #[test]
    fn a_place_is_read_as_it_is_written() {
        for place in [
            FurtherPlace::Pci(PciAddress::new(0, 8)),
            FurtherPlace::Scsi {
                controller: 1,
                unit: 12,
            },
        ] {
            assert_eq!(place.to_string().parse(), Ok(place));
        }
        for wrong in ["", "scsi", "scsi0", "scsi0:x", "00:20.0"] {
            assert!(wrong.parse::<FurtherPlace>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn further_disks_stand_behind_the_template_s_and_share_its_caching() {
        let macros = Macros::new("vm", "vg", "fvm0", 42, "image");
        let additions = Additions {
            like: "/dev/vg/vm".to_owned(),
            disks: vec![
                disk("vda", FurtherPlace::Pci(PciAddress::new(0, 9))),
                disk(
                    "sdb",
                    FurtherPlace::Scsi {
                        controller: 0,
                        unit: 3,
                    },
                ),
            ],
        };
        let (domain, _) = load_with(LINUX, &macros, &additions).expect("good");
        let [main, virtio, scsi] = &domain.devices.disks[..] else {
            panic!("not three disks");
        };
        assert_eq!(main.boot_index, Some(1));
        assert_eq!(virtio.pci.address, Some(PciAddress::new(0, 9)));
        assert_eq!(virtio.alias, "virtio-disk0");
        assert_eq!(
            (scsi.bus, scsi.alias.as_str()),
            (DiskBus::Scsi, "scsi0-0-0-3")
        );
        for disk in [virtio, scsi] {
            assert_eq!(disk.boot_index, None);
            assert_eq!((disk.cache, disk.io), (main.cache, main.io));
            assert_eq!(disk.discard, Some(true));
        }
        assert_eq!(scsi.serial.as_deref(), Some("serial-sdb"));
    }
}

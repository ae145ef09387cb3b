//! Completion: what a template leaves open and libvirt would fill in.
//!
//! Controllers that the machine has or that disks and channels need, drive and port addresses,
//! the boot order, and the aliases that become QEMU's ids. PCI addresses come later (`qemu::pci`).

mod aliases;
mod controllers;
mod drives;
mod machine;
mod ports;
mod transport;
mod usb;

pub(crate) use aliases::virtio_alias;

use super::device::{self, *};
use super::error::{Result, TemplateError};
use super::model::Domain;
use super::node::Node;
use super::origin::{self, ElementId, Origin};
use super::os::{BootDevice, MachineKind};
use super::xml::Element;
use std::collections::BTreeSet;

/// What reading learnt and the finished model does not keep.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    pub(crate) domain: Place,
    /// The place of each disk.
    pub(crate) disks: Vec<Place>,
    pub(crate) controllers: Vec<device::TemplateController>,
    pub(crate) balloon_given: bool,
    pub(crate) video_given: bool,
}

/// Where an element stands, for errors that only show when all is read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Place {
    path: String,
    line: u32,
}

impl Place {
    pub(crate) fn of(node: &Node<'_>) -> Self {
        Self {
            path: node.path().to_owned(),
            line: node.line(),
        }
    }

    fn refuse(&self, message: impl Into<String>) -> TemplateError {
        TemplateError {
            path: self.path.clone(),
            line: self.line,
            message: message.into(),
            hint: None,
        }
    }
}

/// The places of all elements, by their numbers.
struct Elements(Vec<Place>);

impl Elements {
    fn of_template(root: &Element) -> Self {
        let all = origin::elements_of(root).into_iter();
        let place = |element: origin::TemplateElement| Place {
            path: element.path,
            line: element.line,
        };
        Self(all.map(place).collect())
    }

    fn at(&self, id: ElementId) -> Place {
        self.0.get(id.0 as usize).cloned().unwrap_or_default()
    }

    /// The place of what has this origin: its own element, or the first that asked for it.
    fn of(&self, origin: &Origin) -> Place {
        self.at(origin.all().first().copied().unwrap_or(ElementId(0)))
    }
}

/// Fills in all that follows from the rest.
pub(crate) fn complete(domain: &mut Domain, draft: Draft, template: &Element) -> Result<()> {
    let elements = Elements::of_template(template);
    machine::limits(domain, &elements)?;
    controllers::given_controllers(domain, draft.controllers)?;
    controllers::machine_controllers(domain);
    if !draft.balloon_given && domain.os.kind != MachineKind::Virt {
        domain.devices.balloon = Some(Balloon {
            alias: String::new(),
            origin: Origin::default(),
            autodeflate: None,
            free_page_reporting: None,
            stats_period_s: None,
            pci: Default::default(),
        });
    }
    default_video(domain, draft.video_given);
    consoles(domain, &draft.domain, &elements)?;
    iothreads(domain, &draft.domain)?;
    iommu(domain, &draft.domain)?;
    drives::drive_addresses(domain, &draft.disks)?;
    controllers::needed_controllers(domain);
    transport::transports(domain, &elements)?;
    ports::virtio_serial_ports(domain, &draft.domain)?;
    usb::usb_ports(domain, &draft.domain)?;
    boot_order(domain, &draft.domain)?;
    aliases::aliases(domain);
    Ok(())
}

/// A screen needs a card; the primary card comes first.
fn default_video(domain: &mut Domain, given: bool) {
    let devices = &mut domain.devices;
    if !given && !devices.graphics.is_empty() {
        let screens = devices.graphics.iter().flat_map(|g| g.origin.at(&[""]));
        devices.videos.push(Video {
            alias: String::new(),
            origin: Origin::default().with(screens),
            model: VideoModel::Cirrus,
            primary: true,
            vram_kib: None,
            ram_kib: None,
            vgamem_kib: None,
            heads: None,
            pci: Default::default(),
        });
    }
    if let Some(primary) = devices.videos.iter().position(|video| video.primary) {
        devices.videos[..=primary].rotate_right(1);
    }
    for (position, video) in devices.videos.iter_mut().enumerate() {
        video.primary = position == 0;
    }
}

/// A console on a serial line is that line's other name, and makes the line if there is none.
fn consoles(domain: &mut Domain, place: &Place, elements: &Elements) -> Result<()> {
    let kind = SerialKind::of(domain.os.kind);
    let devices = &mut domain.devices;
    if devices.serials.is_empty()
        && let Some(console) = devices
            .consoles
            .iter()
            .find(|c| c.target == ConsoleTarget::Serial)
    {
        devices.serials.push(Serial {
            alias: String::new(),
            origin: console.origin.clone(),
            backend: console.backend,
            port: 0,
            kind: None,
            vio: None,
        });
    }
    devices
        .consoles
        .retain(|console| console.target == ConsoleTarget::Virtio);
    for position in 0..devices.serials.len() {
        if devices.serials[position].port == u32::MAX {
            let free = (0..).find(|port| devices.serials.iter().all(|s| s.port != *port));
            devices.serials[position].port = free.unwrap_or(0);
        }
    }
    devices.serials.sort_by_key(|serial| serial.port);
    let ports: BTreeSet<u32> = devices.serials.iter().map(|serial| serial.port).collect();
    if ports.len() < devices.serials.len() || ports.last().is_some_and(|last| *last > 3) {
        return Err(place.refuse("a machine has up to four serial lines, each with its own port"));
    }
    if let (SerialKind::System, Some(second)) = (kind, devices.serials.get(1)) {
        let place = elements.of(&second.origin);
        return Err(place.refuse("this machine type has one serial line"));
    }
    let other = |serial: &&Serial| {
        serial.kind.is_some_and(|given| given != kind)
            || (serial.vio.is_some() && kind != SerialKind::Vio)
    };
    if let Some(serial) = devices.serials.iter().find(other) {
        let place = elements.of(&serial.origin);
        return Err(place.refuse("this machine type has serial lines of another kind"));
    }
    Ok(())
}

/// A thread must be there to be given something.
fn iothreads(domain: &Domain, place: &Place) -> Result<()> {
    let disks = domain.devices.disks.iter().filter_map(|disk| disk.iothread);
    let controllers = domain
        .devices
        .controllers
        .iter()
        .filter_map(|c| match c.kind {
            ControllerKind::Scsi { iothread, .. } => iothread,
            _ => None,
        });
    match disks
        .chain(controllers)
        .find(|number| !(1..=domain.iothreads).contains(number))
    {
        Some(number) => {
            let count = domain.iothreads;
            Err(place.refuse(format!(
                "there is no iothread {number}: <iothreads> says {count}"
            )))
        }
        None => Ok(()),
    }
}

/// What Intel's IOMMU needs.
fn iommu(domain: &Domain, place: &Place) -> Result<()> {
    let Some(iommu) = &domain.devices.iommu else {
        return Ok(());
    };
    if domain.os.kind != MachineKind::Q35 {
        return Err(place.refuse("an IOMMU needs the machine type q35"));
    }
    let remaps = iommu.interrupt_remapping == Some(true) || iommu.extended_interrupts == Some(true);
    if remaps && domain.features.split_irqchip != Some(true) {
        let mut error = place.refuse("interrupt remapping needs an IOAPIC outside the kernel");
        error.hint = Some("add <ioapic driver='qemu'/> to <features>".to_owned());
        return Err(error);
    }
    Ok(())
}

/// Turns `<boot dev=…>` into the order of the first device of each class.
fn boot_order(domain: &mut Domain, place: &Place) -> Result<()> {
    let devices = &mut domain.devices;
    let disks = devices.disks.iter().filter_map(|disk| disk.boot_index);
    let nics = devices.interfaces.iter().filter_map(|nic| nic.boot_index);
    let redirects = devices.redirects.iter().filter_map(|r| r.boot_index);
    let given: Vec<u32> = disks.chain(nics).chain(redirects).collect();
    if !given.is_empty() {
        if !domain.os.boot.is_empty() {
            return Err(
                place.refuse("devices with <boot order=…> and <os><boot dev=…> exclude each other")
            );
        }
        let different: BTreeSet<u32> = given.iter().copied().collect();
        if different.len() < given.len() {
            return Err(place.refuse("two devices have the same place in the boot order"));
        }
        return Ok(());
    }
    if domain.os.boot.is_empty() {
        domain.os.boot.push(BootDevice::Disk);
    }
    let said = domain.origin.at(&["os/boot"]);
    for (position, class) in (1u32..).zip(&domain.os.boot) {
        let kind = match class {
            BootDevice::Disk => DiskDevice::Disk,
            BootDevice::Cdrom => DiskDevice::Cdrom,
            BootDevice::Floppy => DiskDevice::Floppy,
            BootDevice::Network => {
                if let Some(nic) = devices.interfaces.first_mut() {
                    nic.origin.add(said.get(position as usize - 1).copied());
                    nic.boot_index.get_or_insert(position);
                }
                continue;
            }
        };
        if let Some(disk) = devices.disks.iter_mut().find(|disk| disk.device == kind) {
            disk.origin.add(said.get(position as usize - 1).copied());
            disk.boot_index.get_or_insert(position);
        }
    }
    Ok(())
}

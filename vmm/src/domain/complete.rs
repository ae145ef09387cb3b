//! Completion: what a template leaves open and libvirt would fill in.
//!
//! Controllers that the machine has or that disks and channels need, drive and port addresses,
//! the boot order, and the aliases that become QEMU's ids. PCI addresses come later (`qemu::pci`).

use super::address::{DriveAddress, UsbAddress, VirtioSerialAddress};
use super::device::{self, *};
use super::error::{Result, TemplateError};
use super::model::Domain;
use super::node::Node;
use super::os::{BootDevice, MachineKind};
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

/// Fills in all that follows from the rest.
pub(crate) fn complete(domain: &mut Domain, draft: Draft) -> Result<()> {
    given_controllers(domain, draft.controllers)?;
    machine_controllers(domain);
    if !draft.balloon_given {
        domain.devices.balloon = Some(Balloon {
            alias: String::new(),
            autodeflate: None,
            free_page_reporting: None,
            stats_period_s: None,
            pci: Default::default(),
        });
    }
    default_video(domain, draft.video_given);
    consoles(domain, &draft.domain)?;
    iothreads(domain, &draft.domain)?;
    drive_addresses(domain, &draft.disks)?;
    needed_controllers(domain);
    virtio_serial_ports(domain, &draft.domain)?;
    usb_ports(domain, &draft.domain)?;
    boot_order(domain, &draft.domain)?;
    aliases(domain);
    Ok(())
}

/// The template's controllers, with the indexes and models it left to the machine.
fn given_controllers(domain: &mut Domain, given: Vec<device::TemplateController>) -> Result<()> {
    let mut taken: BTreeSet<(&'static str, u32)> = given
        .iter()
        .filter(|c| !c.choose_index)
        .map(|c| (c.controller.kind.word(), c.controller.index))
        .collect();
    for mut template in given {
        let word = template.controller.kind.word();
        if template.choose_index {
            let free = (0..=255).find(|index| !taken.contains(&(word, *index)));
            template.controller.index = free.unwrap_or(255);
            taken.insert((word, template.controller.index));
        }
        if template.choose_model
            && let ControllerKind::Usb { model, .. } = &mut template.controller.kind
        {
            *model = Some(default_usb(domain.os.kind));
        }
        let refuse = |message: String| TemplateError {
            path: template.path.clone(),
            line: template.line,
            message,
            hint: None,
        };
        let same = domain.devices.controllers.iter().any(|other| {
            other.kind.word() == word
                && other.index == template.controller.index
                // The functions of one USB 2 controller share their index.
                && !(is_ich9_usb(other) && is_ich9_usb(&template.controller))
        });
        if same {
            let index = template.controller.index;
            return Err(refuse(format!(
                "the {word} controller {index} is given twice"
            )));
        }
        if let Some(model) = template.controller.pci_model() {
            let express = domain.os.kind == MachineKind::Q35;
            let fits = match model {
                PciModel::PciRoot => !express && template.controller.index == 0,
                PciModel::PcieRoot => express && template.controller.index == 0,
                PciModel::PcieRootPort | PciModel::PcieToPciBridge | PciModel::DmiToPciBridge => {
                    express
                }
                PciModel::PciBridge => true,
            };
            if !fits {
                return Err(refuse(format!(
                    "{} does not exist at index {} of this machine type",
                    model.as_str(),
                    template.controller.index
                )));
            }
        }
        insert(&mut domain.devices.controllers, template.controller);
    }
    Ok(())
}

fn is_ich9_usb(controller: &Controller) -> bool {
    matches!(
        controller.usb_model(),
        Some(UsbModel::Ich9Ehci1 | UsbModel::Ich9Uhci1 | UsbModel::Ich9Uhci2 | UsbModel::Ich9Uhci3)
    )
}

fn default_usb(kind: MachineKind) -> UsbModel {
    match kind {
        MachineKind::I440fx => UsbModel::Piix3Uhci,
        MachineKind::Q35 => UsbModel::QemuXhci,
    }
}

/// Keeps controllers of a type together, ordered by index; the order decides addresses.
fn insert(controllers: &mut Vec<Controller>, new: Controller) {
    let word = new.kind.word();
    let position = controllers
        .iter()
        .rposition(|other| other.kind.word() == word && other.index <= new.index)
        .map(|last| last + 1)
        .or_else(|| {
            controllers
                .iter()
                .position(|other| other.kind.word() == word)
        });
    controllers.insert(position.unwrap_or(controllers.len()), new);
}

fn add_missing(domain: &mut Domain, kind: ControllerKind, index: u32) {
    let there = domain
        .devices
        .controllers
        .iter()
        .any(|c| c.kind.word() == kind.word() && c.index == index);
    if !there {
        insert(
            &mut domain.devices.controllers,
            Controller::implied(kind, index),
        );
    }
}

/// What the machine type has by itself.
fn machine_controllers(domain: &mut Domain) {
    let usb = ControllerKind::Usb {
        model: Some(default_usb(domain.os.kind)),
        ports: None,
        companion_port: None,
    };
    add_missing(domain, usb, 0);
    let root = match domain.os.kind {
        MachineKind::I440fx => PciModel::PciRoot,
        MachineKind::Q35 => {
            add_missing(domain, ControllerKind::Sata, 0);
            PciModel::PcieRoot
        }
    };
    let root = ControllerKind::Pci {
        model: root,
        chassis: None,
        port: None,
        chassis_number: None,
    };
    add_missing(domain, root, 0);
}

/// A screen needs a card; the primary card comes first.
fn default_video(domain: &mut Domain, given: bool) {
    let devices = &mut domain.devices;
    if !given && !devices.graphics.is_empty() {
        devices.videos.push(Video {
            alias: String::new(),
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
fn consoles(domain: &mut Domain, place: &Place) -> Result<()> {
    let devices = &mut domain.devices;
    if devices.serials.is_empty()
        && let Some(console) = devices
            .consoles
            .iter()
            .find(|c| c.target == ConsoleTarget::Serial)
    {
        devices.serials.push(Serial {
            alias: String::new(),
            backend: console.backend,
            port: 0,
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

/// Where a target's name puts a disk if the template does not say.
fn default_drive(bus: DiskBus, target: &str) -> Option<DriveAddress> {
    let index = device::target_index(target)?;
    let at = |controller, bus, unit| DriveAddress {
        controller,
        bus,
        target: 0,
        unit,
    };
    match bus {
        DiskBus::Scsi => Some(at(index / 7, 0, index % 7)),
        DiskBus::Ide => Some(at(index / 4, index % 4 / 2, index % 2)),
        DiskBus::Sata => Some(at(index / 6, 0, index % 6)),
        DiskBus::Fdc => Some(at(index / 2, 0, index % 2)),
        DiskBus::Nvme => Some(at(index, 0, device::nvme_namespace(target).unwrap_or(0))),
        DiskBus::Virtio | DiskBus::Usb => None,
    }
}

fn drive_addresses(domain: &mut Domain, places: &[Place]) -> Result<()> {
    let mut targets = BTreeSet::new();
    let mut drives = BTreeSet::new();
    let kind = domain.os.kind;
    let controllers = &domain.devices.controllers;
    for (disk, place) in domain.devices.disks.iter_mut().zip(places) {
        if !targets.insert(disk.target.clone()) {
            return Err(place.refuse(format!("the target {:?} is given twice", disk.target)));
        }
        if disk.drive.is_none() {
            disk.drive = default_drive(disk.bus, &disk.target);
        }
        let Some(drive) = disk.drive else { continue };
        let (indexes, units) = match disk.bus {
            DiskBus::Ide => (1, 2),
            DiskBus::Fdc => (1, 2),
            DiskBus::Sata => (256, 6),
            _ => (256, 16384),
        };
        if drive.controller >= indexes || drive.unit >= units {
            return Err(place.refuse(format!(
                "there is no unit {} on bus {} of {} controller {}",
                drive.unit,
                drive.bus,
                disk.bus.as_str(),
                drive.controller
            )));
        }
        if disk.bus == DiskBus::Scsi
            && let Some((word, most)) = scsi_limit(controllers, drive)
        {
            return Err(place.refuse(format!("a {word} controller has units up to {most} only")));
        }
        if disk.bus == DiskBus::Ide && kind == MachineKind::Q35 {
            let mut error = place.refuse("a q35 machine has no IDE controller");
            error.hint = Some("use bus='sata'".to_owned());
            return Err(error);
        }
        if !drives.insert((disk.bus.as_str(), drive)) {
            return Err(place.refuse("another disk has the same place on the controller"));
        }
    }
    Ok(())
}

/// The greatest unit of a SCSI adapter, if the drive's is beyond it.
fn scsi_limit(controllers: &[Controller], drive: DriveAddress) -> Option<(&'static str, u32)> {
    let model = controllers
        .iter()
        .find_map(|controller| match controller.kind {
            ControllerKind::Scsi { model, .. } if controller.index == drive.controller => {
                Some(model)
            }
            _ => None,
        });
    let model = model.unwrap_or(ScsiModel::LsiLogic);
    let most = match model {
        ScsiModel::VirtioScsi => 16383,
        ScsiModel::LsiSas1078 => 255,
        // The adapter is a target itself.
        ScsiModel::LsiLogic | ScsiModel::Am53C974 | ScsiModel::Dc390 => 6,
        ScsiModel::LsiSas1068 => 1,
        ScsiModel::VmPvScsi => 0,
    };
    (drive.unit > most).then_some((model.as_str(), most))
}

/// The controllers that disks and channels sit on.
fn needed_controllers(domain: &mut Domain) {
    for bus in [
        DiskBus::Ide,
        DiskBus::Scsi,
        DiskBus::Fdc,
        DiskBus::Sata,
        DiskBus::Nvme,
    ] {
        let last = domain
            .devices
            .disks
            .iter()
            .filter(|disk| disk.bus == bus)
            .filter_map(|disk| disk.drive)
            .map(|drive| drive.controller)
            .max();
        let kind = match bus {
            DiskBus::Ide => ControllerKind::Ide,
            DiskBus::Fdc => ControllerKind::Fdc,
            DiskBus::Sata => ControllerKind::Sata,
            DiskBus::Nvme => ControllerKind::Nvme,
            _ => ControllerKind::Scsi {
                model: ScsiModel::LsiLogic,
                queues: None,
                iothread: None,
            },
        };
        for index in 0..last.map_or(0, |last| last + 1) {
            add_missing(domain, kind, index);
        }
    }
    let devices = &domain.devices;
    if !devices.channels.is_empty() || !devices.consoles.is_empty() {
        let addresses = devices.channels.iter().map(|c| c.address);
        let addresses = addresses.chain(devices.consoles.iter().map(|c| c.address));
        let last = addresses.flatten().map(|a| a.controller).max().unwrap_or(0);
        let kind = ControllerKind::VirtioSerial {
            ports: None,
            vectors: None,
        };
        for index in 0..=last {
            add_missing(domain, kind, index);
        }
    }
}

/// Ports of channels and virtio consoles: consoles may have port 0, channels start at 1.
fn virtio_serial_ports(domain: &mut Domain, place: &Place) -> Result<()> {
    let devices = &mut domain.devices;
    let given = devices.channels.iter().map(|c| c.address);
    let given = given
        .chain(devices.consoles.iter().map(|c| c.address))
        .flatten();
    let mut taken: BTreeSet<(u32, u32)> = BTreeSet::new();
    for address in given {
        if !taken.insert((address.controller, address.port)) {
            return Err(place.refuse("two virtio-serial ports have the same address"));
        }
    }
    let mut choose = |first: u32| -> Result<VirtioSerialAddress> {
        let port = (first..31)
            .find(|port| taken.insert((0, *port)))
            .ok_or_else(|| place.refuse("the virtio-serial controller has no free port"))?;
        Ok(VirtioSerialAddress {
            controller: 0,
            port,
        })
    };
    for channel in &mut devices.channels {
        if channel.address.is_none() {
            channel.address = Some(choose(1)?);
        }
    }
    for console in &mut devices.consoles {
        if console.address.is_none() {
            console.address = Some(choose(0)?);
        }
    }
    Ok(())
}

/// Ports on the first USB controller, in libvirt's order: disks, inputs, sound.
fn usb_ports(domain: &mut Domain, place: &Place) -> Result<()> {
    let has_usb = domain
        .devices
        .controllers
        .iter()
        .any(|c| c.usb_model().is_some());
    let devices = &mut domain.devices;
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
        .filter(|s| s.model == SoundModel::Usb)
        .map(|s| &mut s.usb);
    let mut places: Vec<&mut Option<UsbAddress>> = disks.chain(inputs).chain(sounds).collect();
    if places.is_empty() {
        return Ok(());
    }
    if !has_usb {
        return Err(place.refuse("a USB device needs a USB controller"));
    }
    let mut taken: BTreeSet<String> = BTreeSet::new();
    for given in places.iter().filter_map(|place| place.as_ref()) {
        if given.bus == 0 && !taken.insert(given.port.clone()) {
            return Err(place.refuse(format!("the USB port {} is given twice", given.port)));
        }
    }
    for open in places.iter_mut().filter(|place| place.is_none()) {
        let port = (1..=15)
            .map(|port: u32| port.to_string())
            .find(|port| taken.insert(port.clone()))
            .ok_or_else(|| place.refuse("the USB controller has no free port"))?;
        **open = Some(UsbAddress { bus: 0, port });
    }
    Ok(())
}

/// Turns `<boot dev=…>` into the order of the first device of each class.
fn boot_order(domain: &mut Domain, place: &Place) -> Result<()> {
    let devices = &mut domain.devices;
    let disks = devices.disks.iter().filter_map(|disk| disk.boot_index);
    let nics = devices.interfaces.iter().filter_map(|nic| nic.boot_index);
    let given: Vec<u32> = disks.chain(nics).collect();
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
    for (position, class) in (1u32..).zip(&domain.os.boot) {
        let kind = match class {
            BootDevice::Disk => DiskDevice::Disk,
            BootDevice::Cdrom => DiskDevice::Cdrom,
            BootDevice::Floppy => DiskDevice::Floppy,
            BootDevice::Network => {
                if let Some(nic) = devices.interfaces.first_mut() {
                    nic.boot_index.get_or_insert(position);
                }
                continue;
            }
        };
        if let Some(disk) = devices.disks.iter_mut().find(|disk| disk.device == kind) {
            disk.boot_index.get_or_insert(position);
        }
    }
    Ok(())
}

/// libvirt's names for the devices.
fn aliases(domain: &mut Domain) {
    let kind = domain.os.kind;
    let devices = &mut domain.devices;
    let is_lsi = |controller: &&Controller| {
        matches!(
            controller.kind,
            ControllerKind::Scsi {
                model: ScsiModel::LsiLogic,
                ..
            }
        )
    };
    let lsi: BTreeSet<u32> = devices
        .controllers
        .iter()
        .filter(is_lsi)
        .map(|c| c.index)
        .collect();
    for disk in &mut devices.disks {
        let index = device::target_index(&disk.target).unwrap_or(0);
        let drive = disk.drive.unwrap_or_default();
        let DriveAddress {
            controller,
            bus,
            target,
            unit,
        } = drive;
        disk.alias = match disk.bus {
            DiskBus::Virtio => format!("virtio-disk{index}"),
            DiskBus::Usb => format!("usb-disk{index}"),
            // The LSI adapter's units are targets: one number less.
            DiskBus::Scsi if lsi.contains(&controller) => format!("scsi{controller}-{bus}-{unit}"),
            DiskBus::Scsi => format!("scsi{controller}-{bus}-{target}-{unit}"),
            other => format!("{}{controller}-{bus}-{unit}", other.as_str()),
        };
    }
    let mut usb_seen = BTreeSet::new();
    for controller in &mut devices.controllers {
        let index = controller.index;
        controller.alias = match &controller.kind {
            ControllerKind::Usb { .. } => {
                let base = if index == 0 {
                    "usb".to_owned()
                } else {
                    format!("usb{index}")
                };
                // Companions share the index; each has its own id all the same.
                match usb_seen.insert(base.clone()) {
                    true => base,
                    false => format!(
                        "{base}-{}",
                        controller.usb_model().map_or("", UsbModel::as_str)
                    ),
                }
            }
            ControllerKind::Ide if index == 0 => "ide".to_owned(),
            ControllerKind::Sata if index == 0 && kind == MachineKind::Q35 => "ide".to_owned(),
            ControllerKind::Pci {
                model: PciModel::PciRoot,
                ..
            } => "pci".to_owned(),
            ControllerKind::Pci {
                model: PciModel::PcieRoot,
                ..
            } => "pcie".to_owned(),
            ControllerKind::Pci { .. } => format!("pci.{index}"),
            other => format!("{}{index}", other.word()),
        };
    }
    number("net", devices.interfaces.iter_mut().map(|d| &mut d.alias));
    for serial in &mut devices.serials {
        serial.alias = format!("serial{}", serial.port);
    }
    // Console 0 is the first serial line's other name when there is one.
    let first = usize::from(!devices.serials.is_empty());
    for (position, console) in devices.consoles.iter_mut().enumerate() {
        console.alias = format!("console{}", position + first);
    }
    number("channel", devices.channels.iter_mut().map(|d| &mut d.alias));
    number("input", devices.inputs.iter_mut().map(|d| &mut d.alias));
    number("video", devices.videos.iter_mut().map(|d| &mut d.alias));
    number("sound", devices.sounds.iter_mut().map(|d| &mut d.alias));
    number("balloon", devices.balloon.iter_mut().map(|d| &mut d.alias));
    number("rng", devices.rngs.iter_mut().map(|d| &mut d.alias));
    number(
        "watchdog",
        devices.watchdogs.iter_mut().map(|d| &mut d.alias),
    );
    number("panic", devices.panics.iter_mut().map(|d| &mut d.alias));
    number("vsock", devices.vsock.iter_mut().map(|d| &mut d.alias));
}

fn number<'a>(prefix: &str, aliases: impl Iterator<Item = &'a mut String>) {
    for (position, alias) in aliases.enumerate() {
        *alias = format!("{prefix}{position}");
    }
}

//! The whole domain, and what the rest of fvm asks of it.

use super::clock::{self, Clock};
use super::complete::{Draft, Place};
use super::cpu::{self, Cpu};
use super::device::{self, *};
use super::error::Result;
use super::features::{self, Features};
use super::memory::{self, Memory};
use super::node::{Node, Value};
use super::origin::{ElementId, Origin};
use super::os::{self, Os};
use super::smbios::{self, FirmwareEntry, SmbiosTable};
use super::system::{self, Lifecycle, Power, Vcpus};
use super::tuning::{self, Tuning};
use std::collections::BTreeSet;

/// A machine as its template describes it, completed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain {
    /// The name.
    pub name: String,
    /// The identity that the template gives; without one fvm makes it.
    pub uuid: Option<String>,
    /// Memory.
    pub memory: Memory,
    /// Processors.
    pub vcpus: Vcpus,
    /// Machine type, firmware, what is booted.
    pub os: Os,
    /// Machine features.
    pub features: Features,
    /// The processor.
    pub cpu: Cpu,
    /// SMBIOS tables that the template fills in.
    pub smbios: Vec<SmbiosTable>,
    /// Entries of the firmware configuration device.
    pub firmware_entries: Vec<FirmwareEntry>,
    /// The identity by which the guest notices that it was cloned.
    pub generation_id: Option<GenerationId>,
    /// Clock and timers.
    pub clock: Clock,
    /// What happens at power-off, reboot and crash.
    pub lifecycle: Lifecycle,
    /// Sleep states.
    pub power: Power,
    /// Which of the host's processors serve it, and how much of them.
    pub tuning: Tuning,
    /// The number of threads that disks and controllers may be given to, numbered from 1.
    pub iothreads: u32,
    /// Devices.
    pub devices: Devices,
    /// Further arguments for QEMU, as they are.
    pub qemu_arguments: Vec<String>,
    /// Where all of it stands in the template.
    pub origin: Origin,
    /// The elements that change nothing in the guest.
    pub ignored: BTreeSet<ElementId>,
}

/// An identity that changes when the machine's state is copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GenerationId {
    /// Another one at every start.
    New,
    /// This one.
    Fixed(String),
}

/// The devices of a machine, each family in the order of the template.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Devices {
    /// Disks and drives.
    pub disks: Vec<Disk>,
    /// Controllers, also those that follow from other devices.
    pub controllers: Vec<Controller>,
    /// Network interfaces.
    pub interfaces: Vec<Interface>,
    /// Serial lines.
    pub serials: Vec<Serial>,
    /// Consoles that are not a serial line's other name.
    pub consoles: Vec<Console>,
    /// Channels.
    pub channels: Vec<Channel>,
    /// USB hubs.
    pub hubs: Vec<Hub>,
    /// The IOMMU.
    pub iommu: Option<Iommu>,
    /// Input devices.
    pub inputs: Vec<Input>,
    /// USB devices of viewers.
    pub redirects: Vec<Redirect>,
    /// Screens.
    pub graphics: Vec<Graphics>,
    /// Graphics cards, the primary one first.
    pub videos: Vec<Video>,
    /// Sound cards.
    pub sounds: Vec<Sound>,
    /// The balloon.
    pub balloon: Option<Balloon>,
    /// Sources of randomness.
    pub rngs: Vec<Rng>,
    /// Watchdogs.
    pub watchdogs: Vec<Watchdog>,
    /// Panic notifiers.
    pub panics: Vec<Panic>,
    /// The socket to the host.
    pub vsock: Option<Vsock>,
    /// The trusted platform module.
    pub tpm: Option<Tpm>,
}

impl Devices {
    /// Where the device with this alias stands in the template, of devices on the PCI bus.
    pub(crate) fn origin_of(&self, alias: &str) -> Option<&Origin> {
        let controllers = self.controllers.iter().map(|d| (&d.alias, &d.origin));
        let all = controllers
            .chain(self.disks.iter().map(|d| (&d.alias, &d.origin)))
            .chain(self.interfaces.iter().map(|d| (&d.alias, &d.origin)))
            .chain(self.inputs.iter().map(|d| (&d.alias, &d.origin)))
            .chain(self.videos.iter().map(|d| (&d.alias, &d.origin)))
            .chain(self.sounds.iter().map(|d| (&d.alias, &d.origin)))
            .chain(self.balloon.iter().map(|d| (&d.alias, &d.origin)))
            .chain(self.rngs.iter().map(|d| (&d.alias, &d.origin)))
            .chain(self.watchdogs.iter().map(|d| (&d.alias, &d.origin)))
            .chain(self.panics.iter().map(|d| (&d.alias, &d.origin)))
            .chain(self.vsock.iter().map(|d| (&d.alias, &d.origin)))
            .chain(self.iommu.iter().map(|d| (&d.alias, &d.origin)));
        let mut all = all;
        all.find(|(other, _)| *other == alias).map(|(_, o)| o)
    }
}

impl Domain {
    /// The memory that the machine is built with, in MiB.
    pub fn memory_mib(&self) -> u64 {
        self.memory.total_kib / 1024
    }

    /// What the balloon is to be set to after the start, in bytes, if less than all memory.
    pub fn balloon_bytes(&self) -> Option<u64> {
        let smaller = self.memory.current_kib < self.memory.total_kib;
        (smaller && self.devices.balloon.is_some()).then_some(self.memory.current_kib * 1024)
    }

    /// Gives the machine another amount of memory, all of it for the guest; nodes are dropped.
    pub fn set_memory_mib(&mut self, mib: u64) {
        self.memory.nodes.clear();
        self.memory.total_kib = mib.saturating_mul(1024);
        self.memory.current_kib = self.memory.total_kib;
    }

    /// The number of processors at the start.
    pub fn vcpus(&self) -> u32 {
        self.vcpus.current
    }

    /// Gives the machine another number of processors; a topology and nodes that no longer fit are
    /// dropped.
    pub fn set_vcpus(&mut self, count: u32) {
        let count = count.max(1);
        if self.vcpus.max != count {
            self.cpu.topology = None;
            self.memory.nodes.clear();
        }
        self.vcpus = Vcpus {
            max: count,
            current: count,
        };
    }

    /// The disk whose source is the block device `path`: the VM's main disk, for its own path.
    pub fn disk_at(&self, path: &str) -> Option<&Disk> {
        self.devices
            .disks
            .iter()
            .find(|disk| matches!(&disk.source, DiskSource::Block(source) if source == path))
    }
}

/// Reads `<domain>`.
pub(crate) fn read(node: &Node<'_>) -> Result<(Domain, Draft)> {
    node.ignore_namespaces();
    if let Some(kind) = node.attr("type") {
        // Which of the two is used depends on the host, and the user is told.
        kind.choice(&[("kvm", ()), ("qemu", ())])?;
    }
    node.ignore_attr("id");
    for name in ["title", "description", "metadata"] {
        node.ignore_children(name);
    }
    if node.has("seclabel") {
        node.ignore_children("seclabel");
        node.warn("seclabel is not used: every VM runs as a user of its own, confined by seccomp");
    }
    let name = node.need_child("name", |name| name_of(&name.text()))?;
    let uuid = node
        .child_text("uuid")?
        .map(|value| uuid(&value))
        .transpose()?;
    let (vcpus, cpuset) = system::vcpus(node)?;
    node.child("resource", |resource| {
        if resource.child_text("partition")?.is_some() {
            resource.warn("fvm puts every VM into a cgroup of its own; the partition is not used");
        }
        Ok(())
    })?;
    let iothreads = match node.child_text("iothreads")? {
        None => 0,
        Some(value) => match value.number()? {
            count @ 0..=64 => count,
            _ => return Err(value.refuse("at most 64 threads")),
        },
    };
    let os = os::read(node)?;
    let (cpu, nodes) = cpu::read(node, vcpus.max)?;
    let mut memory = memory::read(node)?;
    if !nodes.is_empty() {
        memory.total_kib = nodes.iter().map(|node| node.memory_kib).sum();
        memory.current_kib = memory.current_kib.min(memory.total_kib);
        memory.nodes = nodes;
    }
    let (smbios, firmware_entries) = smbios::read(node, os.smbios)?;
    let mut draft = Draft::default();
    let domain = Domain {
        name,
        uuid,
        memory,
        vcpus,
        smbios,
        firmware_entries,
        generation_id: node.child("genid", generation_id)?,
        os,
        features: features::read(node)?,
        cpu,
        clock: clock::read(node)?,
        lifecycle: system::lifecycle(node)?,
        power: system::power(node)?,
        tuning: tuning::read(node, vcpus, cpuset, iothreads)?,
        iothreads,
        devices: node
            .child("devices", |devices| read_devices(devices, &mut draft))?
            .unwrap_or_default(),
        qemu_arguments: qemu_arguments(node)?,
        origin: node.origin(),
        ignored: BTreeSet::new(),
    };
    draft.domain = Place::of(node);
    Ok((domain, draft))
}

fn read_devices(node: &Node<'_>, draft: &mut Draft) -> Result<Devices> {
    if node.child_text("emulator")?.is_some() {
        node.warn("fvm runs the QEMU that its own configuration names; <emulator> is not used");
    }
    let disks = node.each("disk", |disk| {
        draft.disks.push(Place::of(disk));
        device::disk(disk)
    })?;
    draft.controllers = node.each("controller", device::controller)?;
    let balloon = node.child("memballoon", device::balloon)?;
    draft.balloon_given = balloon.is_some();
    node.each("audio", device::audio)?;
    node.ignore_children("audio");
    let videos = node.each("video", device::video)?;
    draft.video_given = !videos.is_empty();
    Ok(Devices {
        disks,
        controllers: Vec::new(),
        interfaces: node.each("interface", device::interface)?,
        serials: node.each("serial", device::serial)?,
        consoles: node.each("console", device::console)?,
        channels: node.each("channel", device::channel)?,
        hubs: node.each("hub", device::hub)?,
        iommu: node.child("iommu", device::iommu)?,
        inputs: node.each("input", device::input)?,
        redirects: node.each("redirdev", device::redirect)?,
        graphics: node.each("graphics", device::graphics)?,
        videos: videos.into_iter().flatten().collect(),
        sounds: node.each("sound", device::sound)?,
        balloon: balloon.flatten(),
        rngs: node.each("rng", device::rng)?,
        watchdogs: node.each("watchdog", device::watchdog)?,
        panics: node.each("panic", device::panic)?,
        vsock: node.child("vsock", device::vsock)?,
        tpm: node.child("tpm", device::tpm)?,
    })
}

/// Reads libvirt's extension for options that it does not know.
fn qemu_arguments(node: &Node<'_>) -> Result<Vec<String>> {
    let arguments = node.child("qemu:commandline", |commandline| {
        commandline.each("qemu:arg", |argument| argument.need("value")?.non_empty())
    })?;
    Ok(arguments.unwrap_or_default())
}

fn generation_id(node: &Node<'_>) -> Result<GenerationId> {
    let text = node.text();
    match text.str() {
        "" => Ok(GenerationId::New),
        _ => uuid(&text).map(GenerationId::Fixed),
    }
}

fn name_of(value: &Value<'_>) -> Result<String> {
    let name = value.non_empty()?;
    if name.len() > 128 || name.contains('/') || name.chars().any(char::is_control) {
        return Err(value.refuse("a name has at most 128 bytes, no `/` and no line breaks"));
    }
    Ok(name)
}

/// A UUID in its usual form, in lower case.
fn uuid(value: &Value<'_>) -> Result<String> {
    let digits: String = value.str().chars().filter(|c| *c != '-').collect();
    if digits.len() != 32 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(value.refuse("not a UUID"));
    }
    let digits = digits.to_ascii_lowercase();
    Ok(format!(
        "{}-{}-{}-{}-{}",
        &digits[..8],
        &digits[8..12],
        &digits[12..16],
        &digits[16..20],
        &digits[20..]
    ))
}

//! Reading `<disk>`: what may stand there, and what cannot be combined.

use super::disk::*;
use super::limits;
use crate::domain::address::{self, PciPlace};
use crate::domain::error::Result;
use crate::domain::node::Node;

/// Reads `<disk>`.
pub(crate) fn disk(node: &Node<'_>) -> Result<Disk> {
    let device = match node.attr("device") {
        None => DiskDevice::Disk,
        Some(value) => value.choice(DiskDevice::WORDS)?,
    };
    let source = source(node, device)?;
    let (target, bus, tray_open, removable, rotation_rate) = node.need_child("target", target)?;
    match (device, bus) {
        (DiskDevice::Floppy, DiskBus::Fdc) => {}
        (DiskDevice::Floppy, _) => return Err(node.refuse("a floppy drive needs bus='fdc'")),
        (_, DiskBus::Fdc) => return Err(node.refuse("bus='fdc' is for floppy drives")),
        (DiskDevice::Cdrom, DiskBus::Virtio | DiskBus::Nvme) => {
            return Err(node.refuse("a CD-ROM drive needs bus='scsi', 'sata', 'ide' or 'usb'"));
        }
        _ => {}
    }
    let mut disk = Disk {
        alias: String::new(),
        origin: node.origin(),
        device,
        source,
        bus,
        target,
        cache: None,
        io: None,
        discard: None,
        detect_zeroes: None,
        error_policy: None,
        read_error_policy: None,
        queues: None,
        iothread: None,
        boot_index: boot_order(node)?,
        serial: node
            .child_text("serial")?
            .map(|v| v.non_empty())
            .transpose()?,
        wwn: wwn(node)?,
        vendor: scsi_text(node, "vendor", 8)?,
        product: scsi_text(node, "product", 16)?,
        rotation_rate,
        logical_block_size: None,
        physical_block_size: None,
        limits: node.child("iotune", limits::limits)?,
        read_only: node.flag("readonly")? || device == DiskDevice::Cdrom,
        shareable: node.flag("shareable")?,
        removable,
        tray_open,
        drive: None,
        pci: PciPlace::default(),
        usb: None,
    };
    driver(node, &mut disk)?;
    node.child("blockio", |blockio| {
        disk.logical_block_size = block_size(blockio, "logical_block_size")?;
        disk.physical_block_size = block_size(blockio, "physical_block_size")?;
        Ok(())
    })?;
    match bus {
        DiskBus::Virtio => disk.pci = address::pci(node)?,
        DiskBus::Usb => disk.usb = address::usb(node)?,
        _ => disk.drive = address::drive(node)?,
    }
    check(node, &disk)?;
    node.ignore_children("alias");
    Ok(disk)
}

fn source(node: &Node<'_>, device: DiskDevice) -> Result<DiskSource> {
    let kind = match node.attr("type") {
        None => "file",
        Some(value) => {
            value.choice(&[("block", "block"), ("file", "file"), ("volume", "volume")])?
        }
    };
    // An empty backing chain is what libvirt writes for a raw disk.
    node.child("backingStore", |_| Ok(()))?;
    let source = node.child("source", |source| {
        source.ignore_attr("index");
        let path = |name: &str| -> Result<Option<String>> {
            let Some(value) = source.attr(name) else {
                return Ok(None);
            };
            let path = value.non_empty()?;
            if !path.starts_with('/') || path.split('/').any(|part| part == "..") {
                return Err(value.refuse("must be an absolute path without `..`"));
            }
            Ok(Some(path))
        };
        match kind {
            "block" => Ok(path("dev")?.map(DiskSource::Block)),
            "file" => Ok(path("file")?.map(DiskSource::File)),
            _ => Ok(Some(DiskSource::Volume {
                pool: source.need("pool")?.non_empty()?,
                volume: source.need("volume")?.non_empty()?,
            })),
        }
    })?;
    match source.flatten() {
        Some(source) => Ok(source),
        None if device == DiskDevice::Disk => {
            Err(node.refuse("a disk needs a source; only drives can be empty"))
        }
        None => Ok(DiskSource::Empty),
    }
}

type Target = (String, DiskBus, bool, Option<bool>, Option<u32>);

fn target(node: &Node<'_>) -> Result<Target> {
    let dev = node.need("dev")?;
    let name = dev.str();
    let (prefix, default_bus) = match name.get(..2) {
        Some("sd") => ("sd", DiskBus::Scsi),
        Some("vd") => ("vd", DiskBus::Virtio),
        Some("hd") => ("hd", DiskBus::Ide),
        Some("fd") => ("fd", DiskBus::Fdc),
        Some("nv") => ("nvme", DiskBus::Nvme),
        _ => {
            return Err(dev.refuse_with(
                format!("{name:?} is not a name for a disk"),
                "names are sda…, vda…, hda…, fda…, nvme0n1…",
            ));
        }
    };
    let bus = match node.attr("bus") {
        None => default_bus,
        Some(value) => value.choice(DiskBus::WORDS)?,
    };
    if target_index(name).is_none() || (prefix == "nvme" && nvme_namespace(name).is_none()) {
        return Err(dev.refuse(format!("{name:?} is not {prefix} with letters after it")));
    }
    let tray_open = match node.attr("tray") {
        None => false,
        Some(value) => value.choice(&[("open", true), ("closed", false)])?,
    };
    Ok((
        name.to_owned(),
        bus,
        tray_open,
        node.attr("removable").map(|v| v.on_off()).transpose()?,
        node.attr("rotation_rate").map(|v| v.number()).transpose()?,
    ))
}

/// The namespace that an NVMe disk's name stands for, from 0: 1 for `nvme0n2`.
pub(crate) fn nvme_namespace(name: &str) -> Option<u32> {
    let (_, number) = name.strip_prefix("nvme")?.split_once('n')?;
    number
        .parse()
        .ok()
        .filter(|number| (1..=256).contains(number))
        .map(|number: u32| number - 1)
}

/// The position that a target's name stands for: 0 for `sda`, 26 for `sdaa`, 1 for `nvme1n1`.
pub(crate) fn target_index(name: &str) -> Option<u32> {
    if let Some(rest) = name.strip_prefix("nvme") {
        let digits = rest.split_once('n').map_or(rest, |(digits, _)| digits);
        return digits.parse().ok().filter(|number| *number < 256);
    }
    let letters = name.get(2..)?;
    if letters.is_empty() || letters.len() > 3 {
        return None;
    }
    letters
        .bytes()
        .try_fold(0u32, |index, letter| {
            letter
                .is_ascii_lowercase()
                .then(|| index * 26 + u32::from(letter - b'a') + 1)
        })
        .map(|index| index - 1)
}

/// The target with this prefix that stands for a position: `vdaa` for 26.
pub(crate) fn target_name(prefix: &str, index: u32) -> String {
    let mut letters = Vec::new();
    let mut rest = index + 1;
    while rest > 0 {
        letters.push(char::from(b'a' + ((rest - 1) % 26) as u8));
        rest = (rest - 1) / 26;
    }
    prefix.chars().chain(letters.into_iter().rev()).collect()
}

fn driver(node: &Node<'_>, disk: &mut Disk) -> Result<()> {
    node.child("driver", |driver| {
        if let Some(name) = driver.attr("name") {
            name.expect("qemu")?;
        }
        if let Some(format) = driver.attr("type") {
            format.choice(&[("raw", ())]).map_err(|mut error| {
                error.hint =
                    Some("fvm's disks are raw; convert the image when importing it".to_owned());
                error
            })?;
        }
        disk.cache = match driver.attr("cache") {
            None => None,
            Some(value) if value.str() == "default" => None,
            Some(value) => Some(value.choice(Cache::WORDS)?),
        };
        let io = driver.attr("io");
        disk.io = io
            .as_ref()
            .map(|value| value.choice(IoMode::WORDS))
            .transpose()?;
        if let (Some(io), Some(IoMode::Native)) = (&io, disk.io)
            && !matches!(disk.cache, Some(Cache::None | Cache::Directsync))
        {
            return Err(io.refuse_with(
                "io='native' works only past the host's page cache",
                "add cache='none', or leave io out",
            ));
        }
        disk.discard = driver
            .attr("discard")
            .map(|value| value.choice(&[("unmap", true), ("ignore", false)]))
            .transpose()?;
        disk.detect_zeroes = driver
            .attr("detect_zeroes")
            .map(|value| value.choice(&[("off", "off"), ("on", "on"), ("unmap", "unmap")]))
            .transpose()?;
        disk.error_policy = driver
            .attr("error_policy")
            .map(|value| value.choice(ErrorPolicy::WORDS))
            .transpose()?;
        disk.read_error_policy = driver
            .attr("rerror_policy")
            .map(|value| {
                value.choice(&[
                    ("stop", ErrorPolicy::Stop),
                    ("report", ErrorPolicy::Report),
                    ("ignore", ErrorPolicy::Ignore),
                ])
            })
            .transpose()?;
        if disk.bus == DiskBus::Virtio {
            disk.queues = driver.attr("queues").map(|v| v.number()).transpose()?;
            disk.iothread = driver.attr("iothread").map(|v| v.number()).transpose()?;
        }
        Ok(())
    })?;
    Ok(())
}

fn block_size(node: &Node<'_>, name: &str) -> Result<Option<u32>> {
    let Some(value) = node.attr(name) else {
        return Ok(None);
    };
    let size: u32 = value.number()?;
    if !size.is_power_of_two() || !(512..=2 << 20).contains(&size) {
        return Err(value.refuse("must be a power of two from 512 to 2 MiB"));
    }
    Ok(Some(size))
}

/// Reads `<boot order=…>` of a device.
pub(crate) fn boot_order(node: &Node<'_>) -> Result<Option<u32>> {
    node.child("boot", |boot| {
        let order = boot.need("order")?;
        match order.number()? {
            0 => Err(order.refuse("the boot order counts from 1")),
            number => Ok(number),
        }
    })
}

fn wwn(node: &Node<'_>) -> Result<Option<String>> {
    let Some(value) = node.child_text("wwn")? else {
        return Ok(None);
    };
    let text = value.str().strip_prefix("0x").unwrap_or(value.str());
    if text.len() != 16 || !text.chars().all(|c| c.is_ascii_hexdigit()) {
        return Err(value.refuse("a world wide name has sixteen hexadecimal digits"));
    }
    Ok(Some(text.to_owned()))
}

fn scsi_text(node: &Node<'_>, name: &str, longest: usize) -> Result<Option<String>> {
    let Some(value) = node.child_text(name)? else {
        return Ok(None);
    };
    let printable = value
        .str()
        .chars()
        .all(|c| c.is_ascii_graphic() || c == ' ');
    if value.str().is_empty() || value.str().len() > longest || !printable {
        return Err(value.refuse(format!("must be 1 to {longest} printable ASCII characters")));
    }
    Ok(Some(value.str().to_owned()))
}

/// What cannot be combined.
fn check(node: &Node<'_>, disk: &Disk) -> Result<()> {
    if disk.bus != DiskBus::Scsi && (disk.vendor.is_some() || disk.product.is_some()) {
        return Err(node.refuse("vendor and product are for SCSI disks"));
    }
    if disk.wwn.is_some() && !matches!(disk.bus, DiskBus::Scsi | DiskBus::Ide | DiskBus::Sata) {
        return Err(node.refuse("a world wide name is for SCSI, IDE and SATA disks"));
    }
    let rotates = matches!(disk.bus, DiskBus::Scsi | DiskBus::Ide | DiskBus::Sata);
    if disk.rotation_rate.is_some() && !rotates {
        return Err(node.refuse("rotation_rate is for SCSI, IDE and SATA disks"));
    }
    if disk.tray_open && disk.device == DiskDevice::Disk {
        return Err(node.refuse("only drives have a tray"));
    }
    if disk.removable.is_some() && !matches!(disk.bus, DiskBus::Usb | DiskBus::Scsi) {
        return Err(node.refuse("removable is for USB and SCSI disks"));
    }
    if disk.read_only
        && disk.device == DiskDevice::Disk
        && matches!(disk.bus, DiskBus::Ide | DiskBus::Sata)
    {
        return Err(node.refuse("an IDE or SATA disk cannot be read-only"));
    }
    if let Some(serial) = &disk.serial {
        let plain = |c: char| c.is_ascii_alphanumeric() || " -_.+".contains(c);
        if !serial.chars().all(plain) {
            return Err(node.refuse("a serial has only letters, digits, space, `-`, `_`, `.`, `+`"));
        }
    }
    if disk.bus == DiskBus::Nvme && disk.serial.is_none() {
        return Err(node.refuse("an NVMe disk needs a <serial>"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{target_index, target_name};

    #[test]
    fn targets_count_like_the_kernel() {
        assert_eq!(target_index("sda"), Some(0));
        assert_eq!(target_index("vdz"), Some(25));
        assert_eq!(target_index("hdaa"), Some(26));
        assert_eq!(target_index("nvme1n1"), Some(1));
        for index in [0, 25, 26, 701, 702, 18_277] {
            assert_eq!(target_index(&target_name("vd", index)), Some(index));
        }
        for wrong in ["sd", "sdA", "sd1", "vdaaaa", "nvme", "nvmexn1", "s"] {
            assert_eq!(target_index(wrong), None, "{wrong}");
        }
    }
}

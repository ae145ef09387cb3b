//! Disks and drives: the block node and the device on it.

use super::{ArgumentError, Builder, JsonObject, insert, object, place};
use crate::domain::{
    Cache, ControllerKind, Disk, DiskBus, DiskDevice, DiskSource, Domain, DriveAddress,
    ErrorPolicy, IoMode, MachineKind, SAID_ELSEWHERE, ScsiModel,
};
use crate::qemu::{assignment::DiskBacking, pci::Layout};
use serde_json::Value;

/// The name by which QMP knows the content of the disk with this target.
pub fn disk_node_name(target: &str) -> String {
    format!("disk-{target}")
}

/// What QMP's `blockdev-add` and `device_add` are told of a virtio or SCSI disk: as at a start.
pub fn hot_plugged(
    domain: &Domain,
    layout: &Layout,
    disk: &Disk,
    backing: &DiskBacking,
) -> Result<(Value, Value), ArgumentError> {
    let mut device = match disk.bus {
        DiskBus::Scsi => scsi_place(domain, disk),
        _ => virtio_place(domain, layout, disk)?,
    };
    let name = disk_node_name(&disk.target);
    let node = node(disk, backing, &name);
    guest_properties(&mut device, disk, Some(name));
    Ok((node.into(), device.into()))
}

/// The parts of a disk that say what is in it or how fast it is, not what the guest sees.
const CONTENTS: [&str; 4] = ["source", "backingStore", "readonly", "iotune"];

/// The parts of an NVMe disk that its controller says: the serial number and the place in the boot order.
pub(super) const NVME_CONTROLLER: [&str; 3] = ["serial", "boot", SAID_ELSEWHERE];

impl Builder<'_> {
    pub(super) fn disks(&mut self) -> Result<(), ArgumentError> {
        let domain = self.domain;
        for disk in &domain.devices.disks {
            let node = self.block_node(disk)?;
            self.disk_device(disk, node)?;
        }
        Ok(())
    }

    /// Adds the block node of a disk and returns its name; an empty drive has none.
    fn block_node(&mut self, disk: &Disk) -> Result<Option<String>, ArgumentError> {
        if disk.tray_open {
            return Ok(None);
        }
        let Some(backing) = self.given.disks.get(&disk.target) else {
            return match disk.source {
                DiskSource::Empty => Ok(None),
                _ => Err(ArgumentError::NoDisk {
                    target: disk.target.clone(),
                }),
            };
        };
        let name = disk_node_name(&disk.target);
        let node = node(disk, backing, &name);
        let origins = disk
            .origin
            .at(&["", "driver", "source", "target", "readonly"]);
        self.vector.json("-blockdev", node).because(origins);
        Ok(Some(name))
    }

    fn disk_device(&mut self, disk: &Disk, node: Option<String>) -> Result<(), ArgumentError> {
        let mut properties = match disk.bus {
            DiskBus::Scsi => scsi_place(self.domain, disk),
            DiskBus::Ide | DiskBus::Sata => self.ata_place(disk),
            DiskBus::Fdc => {
                let unit = disk.drive.unwrap_or_default().unit;
                object! {"driver": "floppy", "unit": unit}
            }
            DiskBus::Usb => {
                let mut properties = object! {"driver": "usb-storage", "removable": false};
                self.usb_place(&mut properties, disk.usb.as_ref());
                properties
            }
            DiskBus::Virtio => virtio_place(self.domain, &self.given.layout, disk)?,
            DiskBus::Nvme => return self.nvme(disk, node),
        };
        guest_properties(&mut properties, disk, node);
        let mut origins = disk.origin.without(&CONTENTS);
        if disk.device != DiskDevice::Disk {
            // The guest sees whether there is a medium in a drive.
            origins.extend(disk.origin.at(&["source"]));
        }
        self.device(properties)?.because(origins);
        Ok(())
    }

    fn ata_place(&self, disk: &Disk) -> JsonObject {
        let drive = disk.drive.unwrap_or_default();
        let driver = if disk.device == DiskDevice::Cdrom {
            "ide-cd"
        } else {
            "ide-hd"
        };
        if disk.bus == DiskBus::Ide {
            return object! {
                "driver": driver,
                "bus": format!("ide.{}", drive.bus),
                "unit": drive.unit,
            };
        }
        let bus = match (drive.controller, self.domain.os.kind) {
            (0, MachineKind::Q35) => format!("ide.{}", drive.unit),
            (controller, _) => format!("sata{controller}.{}", drive.unit),
        };
        object! {"driver": driver, "bus": bus}
    }

    /// An NVMe disk is a namespace of its controller.
    fn nvme(&mut self, disk: &Disk, node: Option<String>) -> Result<(), ArgumentError> {
        let drive = disk.drive.unwrap_or_default();
        let mut namespace = object! {
            "driver": "nvme-ns",
            "id": disk.alias,
            "bus": format!("nvme{}", drive.controller),
            "nsid": drive.unit + 1,
            // QEMU would choose another one at every start.
            "uuid": namespace_uuid(&self.given.uuid, drive),
        };
        insert(&mut namespace, "drive", node);
        block_sizes(&mut namespace, disk);
        let not_here = [&CONTENTS[..], &NVME_CONTROLLER].concat();
        self.device(namespace)?
            .because(disk.origin.without(&not_here));
        Ok(())
    }
}

/// A block node on the backing.
fn node(disk: &Disk, backing: &DiskBacking, name: &str) -> JsonObject {
    let driver = if backing.is_block_device {
        "host_device"
    } else {
        "file"
    };
    let mut node = object! {
        "driver": driver,
        "node-name": name,
        "filename": backing.path,
        "read-only": disk.read_only,
    };
    insert(&mut node, "aio", disk.io.map(IoMode::as_str));
    let discard = disk
        .discard
        .map(|unmap| if unmap { "unmap" } else { "ignore" });
    insert(&mut node, "discard", discard);
    insert(&mut node, "detect-zeroes", disk.detect_zeroes);
    if let Some(cache) = disk.cache {
        let cache = object! {"direct": disk.is_direct(), "no-flush": cache == Cache::Unsafe};
        insert(&mut node, "cache", Some(cache));
    }
    node
}

fn virtio_place(
    domain: &Domain,
    layout: &Layout,
    disk: &Disk,
) -> Result<JsonObject, ArgumentError> {
    let mut properties = object! {"driver": "virtio-blk-pci"};
    insert(&mut properties, "num-queues", disk.queues);
    insert(
        &mut properties,
        "iothread",
        disk.iothread.map(|n| format!("iothread{n}")),
    );
    place(domain, layout, &mut properties, &disk.alias)?;
    Ok(properties)
}

fn scsi_place(domain: &Domain, disk: &Disk) -> JsonObject {
    let drive = disk.drive.unwrap_or_default();
    let model = domain
        .devices
        .controllers
        .iter()
        .find_map(|c| match c.kind {
            ControllerKind::Scsi { model, .. } if c.index == drive.controller => Some(model),
            _ => None,
        });
    let mut properties = object! {
        "driver": if disk.device == DiskDevice::Cdrom { "scsi-cd" } else { "scsi-hd" },
        "bus": format!("scsi{}.{}", drive.controller, drive.bus),
        // Without it QEMU would show the name of the node in /dev/disk/by-id.
        "device_id": match &disk.serial {
            Some(serial) => serial.clone(),
            None => format!("drive-{}", disk.alias),
        },
    };
    match model {
        Some(ScsiModel::LsiLogic | ScsiModel::Am53C974 | ScsiModel::Dc390) => {
            insert(&mut properties, "scsi-id", Some(drive.unit));
        }
        _ => {
            insert(&mut properties, "channel", Some(0));
            insert(&mut properties, "scsi-id", Some(drive.target));
            insert(&mut properties, "lun", Some(drive.unit));
        }
    }
    properties
}

/// What the guest sees of a disk, and its node if it has one.
fn guest_properties(properties: &mut JsonObject, disk: &Disk, node: Option<String>) {
    insert(properties, "id", Some(disk.alias.as_str()));
    insert(properties, "bootindex", disk.boot_index);
    insert(properties, "serial", disk.serial.as_deref());
    insert(properties, "removable", disk.removable);
    insert(properties, "rotation_rate", disk.rotation_rate);
    insert(properties, "vendor", disk.vendor.as_deref());
    insert(properties, "product", disk.product.as_deref());
    let wwn = disk
        .wwn
        .as_deref()
        .and_then(|wwn| u64::from_str_radix(wwn, 16).ok());
    insert(properties, "wwn", wwn);
    block_sizes(properties, disk);
    if let Some(node) = node {
        properties.insert("drive".to_owned(), node.into());
        let hard_disk = disk.device == DiskDevice::Disk;
        if disk.shareable && hard_disk {
            insert(properties, "share-rw", Some(true));
        }
        if let Some(cache) = disk.cache {
            let through = matches!(cache, Cache::Writethrough | Cache::Directsync);
            insert(
                properties,
                "write-cache",
                Some(if through { "off" } else { "on" }),
            );
        }
    }
    let write_errors = disk.error_policy.map(|policy| policy.qemu());
    // Reading cannot meet a full disk.
    let for_both = disk
        .error_policy
        .filter(|policy| *policy != ErrorPolicy::Enospace);
    let read_errors = disk
        .read_error_policy
        .or(for_both)
        .map(|policy| policy.qemu());
    insert(properties, "werror", write_errors);
    insert(properties, "rerror", read_errors);
}

/// An identity for a namespace that follows from the VM's and is no other namespace's.
fn namespace_uuid(vm: &str, drive: DriveAddress) -> String {
    let mut bytes = uuid::Uuid::parse_str(vm).unwrap_or_default().into_bytes();
    for (byte, number) in bytes[12..]
        .iter_mut()
        .zip([drive.controller, drive.unit + 1])
    {
        *byte ^= u8::try_from(number % 256).unwrap_or_default();
    }
    uuid::Uuid::from_bytes(bytes).to_string()
}

fn block_sizes(properties: &mut JsonObject, disk: &Disk) {
    insert(properties, "logical_block_size", disk.logical_block_size);
    insert(properties, "physical_block_size", disk.physical_block_size);
}

//! Disks, CD-ROM and floppy drives.

use super::limits::IoLimits;
use crate::domain::address::{DriveAddress, PciPlace, UsbAddress};
use crate::domain::node::words;
use crate::domain::origin::Origin;

words! {
    /// What the guest sees.
    pub enum DiskDevice {
        /// A disk.
        Disk = "disk",
        /// A CD-ROM drive.
        Cdrom = "cdrom",
        /// A floppy drive.
        Floppy = "floppy",
    }
}

words! {
    /// How the disk is attached.
    pub enum DiskBus {
        /// A unit of a SCSI controller.
        Scsi = "scsi",
        /// A virtio block device.
        Virtio = "virtio",
        /// A unit of the IDE controller.
        Ide = "ide",
        /// A unit of an AHCI controller.
        Sata = "sata",
        /// USB storage.
        Usb = "usb",
        /// A unit of the floppy controller.
        Fdc = "fdc",
        /// A namespace of an NVMe controller.
        Nvme = "nvme",
    }
}

words! {
    /// How the host caches the disk.
    pub enum Cache {
        /// Past the host's page cache.
        None = "none",
        /// In the page cache, flushed when the guest asks.
        Writeback = "writeback",
        /// In the page cache, flushed at every write.
        Writethrough = "writethrough",
        /// Past the page cache, flushed at every write.
        Directsync = "directsync",
        /// In the page cache, never flushed.
        Unsafe = "unsafe",
    }
}

words! {
    /// How QEMU does input and output.
    pub enum IoMode {
        /// A pool of threads.
        Threads = "threads",
        /// Linux AIO, which needs direct access.
        Native = "native",
        /// io_uring.
        IoUring = "io_uring",
    }
}

words! {
    /// What happens at an error of the disk.
    pub enum ErrorPolicy {
        /// The VM is paused.
        Stop = "stop",
        /// The guest is told.
        Report = "report",
        /// Nothing.
        Ignore = "ignore",
        /// The VM is paused when the disk is full, otherwise the guest is told.
        Enospace = "enospace",
    }
}

impl ErrorPolicy {
    /// QEMU's word for it.
    pub fn qemu(self) -> &'static str {
        match self {
            Self::Enospace => "enospc",
            other => other.as_str(),
        }
    }
}

/// Where the contents are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskSource {
    /// An empty drive.
    Empty,
    /// A block device.
    Block(String),
    /// A regular file.
    File(String),
    /// A volume of a pool that fvm manages.
    Volume {
        /// The pool.
        pool: String,
        /// The volume.
        volume: String,
    },
}

/// A disk or drive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// The device's id in QEMU.
    pub alias: String,
    /// Where it stands in the template.
    pub origin: Origin,
    /// What the guest sees.
    pub device: DiskDevice,
    /// Where the contents are.
    pub source: DiskSource,
    /// How it is attached.
    pub bus: DiskBus,
    /// The name that orders the disks: `sda`, `vdb`, `hdc`.
    pub target: String,
    /// How the host caches it.
    pub cache: Option<Cache>,
    /// How QEMU does input and output.
    pub io: Option<IoMode>,
    /// Whether what the guest discards is given back; `None` leaves it to QEMU.
    pub discard: Option<bool>,
    /// Whether zeroes that the guest writes become holes: `off`, `on` or `unmap`.
    pub detect_zeroes: Option<&'static str>,
    /// What happens at a write error.
    pub error_policy: Option<ErrorPolicy>,
    /// What happens at a read error, if it is something else.
    pub read_error_policy: Option<ErrorPolicy>,
    /// The number of queues of a virtio disk.
    pub queues: Option<u32>,
    /// The index of the thread that serves a virtio disk.
    pub iothread: Option<u32>,
    /// The place in the boot order, from 1.
    pub boot_index: Option<u32>,
    /// The serial number that the guest reads.
    pub serial: Option<String>,
    /// The world wide name, sixteen hexadecimal digits.
    pub wwn: Option<String>,
    /// The vendor that a SCSI disk reports.
    pub vendor: Option<String>,
    /// The product that a SCSI disk reports.
    pub product: Option<String>,
    /// The revolutions per minute that the disk reports; 1 for one without moving parts.
    pub rotation_rate: Option<u32>,
    /// The logical block size in bytes.
    pub logical_block_size: Option<u32>,
    /// The physical block size in bytes.
    pub physical_block_size: Option<u32>,
    /// How much may be read and written.
    pub limits: Option<IoLimits>,
    /// Whether the guest may not write.
    pub read_only: bool,
    /// Whether several VMs write to it.
    pub shareable: bool,
    /// Whether the medium of a USB or SCSI disk can be removed.
    pub removable: Option<bool>,
    /// Whether the tray is open at the start, so that there is no medium in it.
    pub tray_open: bool,
    /// The place on a controller, of the buses that have one.
    pub drive: Option<DriveAddress>,
    /// The place on the PCI bus, of a virtio disk.
    pub pci: PciPlace,
    /// The place on the USB bus, of a USB disk.
    pub usb: Option<UsbAddress>,
}

impl Disk {
    /// Whether the host's page cache is passed by.
    pub fn is_direct(&self) -> bool {
        matches!(self.cache, Some(Cache::None | Cache::Directsync))
    }
}

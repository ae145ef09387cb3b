//! Disks: further ones, their sizes, and giving back what they do not need.

use super::{DiskName, ImageName, VmNumber, VmSet};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// How a further disk is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskBus {
    /// As a virtio block device, in a PCI slot of its own.
    Virtio,
    /// As a unit of the VM's virtio-scsi controller.
    Scsi,
}

impl fmt::Display for DiskBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Virtio => "virtio",
            Self::Scsi => "scsi",
        })
    }
}

/// Why a text is no bus.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a further disk is on `virtio` or `scsi`")]
pub struct InvalidDiskBus;

impl FromStr for DiskBus {
    type Err = InvalidDiskBus;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "virtio" => Ok(Self::Virtio),
            "scsi" => Ok(Self::Scsi),
            _ => Err(InvalidDiskBus),
        }
    }
}

/// Gives VMs a further disk; each by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddDisks {
    /// The numbers.
    pub vms: VmSet,
    /// Its name; without it, `disk1` or the next that is free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<DiskName>,
    /// Its size; without it, the image's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// The image that it is a snapshot of; without it, it is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageName>,
    /// How it is attached; without it, as the VM's own disk is, if that is possible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bus: Option<DiskBus>,
}

/// Takes the further disk of a name away from VMs, with what is on it; each by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedDisks {
    /// The numbers.
    pub vms: VmSet,
    /// The disk's name.
    pub name: DiskName,
}

/// A further disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskReport {
    /// The VM.
    pub vm: VmNumber,
    /// Its name, which the guest reads as its serial number.
    pub name: DiskName,
    /// How it is attached.
    pub bus: DiskBus,
    /// The name that orders the disks in the domain XML, `vdb`; the guest may call it otherwise.
    pub target: String,
    /// Where it sits for its life: `00:08.0` of PCI, `scsi0:1`.
    pub place: String,
    /// Its size in bytes.
    pub disk_bytes: u64,
    /// The image that it was made of, if it was, even if that has been removed since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Seconds since 1970-01-01 UTC.
    pub created_at_s: u64,
}

/// Further disks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskList {
    /// `REPORT_VERSION`.
    pub version: u32,
    /// By VM, the oldest first.
    pub disks: Vec<DiskReport>,
}

/// The size that a disk, or the pool, is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskSize {
    /// So many bytes.
    To(u64),
    /// So many bytes more than it has.
    By(u64),
}

impl DiskSize {
    /// The bytes that a disk of `now` bytes would have; `None` if that is no number of bytes.
    pub fn of(self, now: u64) -> Option<u64> {
        match self {
            Self::To(bytes) => Some(bytes),
            Self::By(bytes) => now.checked_add(bytes),
        }
    }
}

/// Makes the disks of VMs longer, or shorter if that is allowed; each by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResizeVms {
    /// The numbers.
    pub vms: VmSet,
    /// How large.
    pub size: DiskSize,
    /// A disk may be made shorter: what lies behind its new end is lost.
    #[serde(default)]
    pub shrink: bool,
}

/// Gives back what the disks of VMs hold without need; each by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompactVms {
    /// The numbers.
    pub vms: VmSet,
    /// Of stopped VMs, only what is all zero, also where `virt-sparsify` is installed.
    #[serde(default)]
    pub zeros_only: bool,
}

/// Gives back what an image's disk holds without need.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompactImage {
    /// Only what is all zero, also where `virt-sparsify` is installed. The content stays the same.
    #[serde(default)]
    pub zeros_only: bool,
}

/// How it was found out what a disk does not need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CompactMethod {
    /// The running guest discarded what its file systems do not use.
    Trim,
    /// The disk was read, and what was all zero was discarded.
    Scan,
    /// `virt-sparsify` discarded what the file systems do not use; then as `Scan`.
    Sparsify,
}

/// What became of one disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compacted {
    /// How.
    pub method: CompactMethod,
    /// Bytes that the disk had mapped before, those shared with the image and with snapshots included.
    pub before_bytes: u64,
    /// The same after.
    pub after_bytes: u64,
}

impl Compacted {
    /// Bytes that it holds no longer. A guest that writes meanwhile may have taken more than it gave.
    pub fn freed_bytes(&self) -> u64 {
        self.before_bytes.saturating_sub(self.after_bytes)
    }
}

/// What became of an image's disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageCompacted {
    /// `REPORT_VERSION`.
    pub version: u32,
    /// The image.
    pub name: ImageName,
    /// Its disk.
    #[serde(flatten)]
    pub disk: Compacted,
}

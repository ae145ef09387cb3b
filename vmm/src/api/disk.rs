//! Disks: their sizes, and giving back what they do not need.

use super::{ImageName, VmSet};
use serde::{Deserialize, Serialize};

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

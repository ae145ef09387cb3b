//! Disks: their sizes, and giving back what they do not need.

use super::VmSet;
use serde::{Deserialize, Serialize};

/// The size that a disk is to have.
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

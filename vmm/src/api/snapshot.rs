//! Snapshots of VMs' disks; not of further ones.

use super::{SnapshotName, VmNumber, VmSet};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Takes a snapshot of the disk of each VM, all at one point in time: all of them, or none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateSnapshots {
    /// The numbers.
    pub vms: VmSet,
    /// Their name; without it, one is made of the time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<SnapshotName>,
    /// Also of VMs that have further disks, which the snapshots do not hold; otherwise those are refused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub main_disk_only: bool,
}

/// Restores the disk of each VM from its snapshot of this name, or deletes that snapshot; each by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedSnapshots {
    /// The numbers.
    pub vms: VmSet,
    /// The snapshots' name.
    pub name: SnapshotName,
}

/// In which state a snapshot caught its guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Consistency {
    /// The VM was not running: the disk is as the guest left it.
    Stopped,
    /// The guest had written everything out and held its file systems still.
    Frozen,
    /// The VM was running without holding still: the disk is as after a power cut.
    Crash,
}

impl fmt::Display for Consistency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Stopped => "stopped",
            Self::Frozen => "frozen",
            Self::Crash => "crash",
        })
    }
}

/// One snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotReport {
    /// The VM.
    pub vm: VmNumber,
    /// Its name among the VM's snapshots.
    pub name: SnapshotName,
    /// When it was made: seconds since 1970-01-01 UTC.
    pub created_at_s: u64,
    /// How it caught the guest.
    pub consistency: Consistency,
    /// The disk's size in bytes at that time.
    pub disk_bytes: u64,
    /// Bytes of it that are not empty, those shared with the image, the VM and other snapshots included;
    /// missing where a daemon died before it had looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_bytes: Option<u64>,
}

/// Snapshots, of one VM or of all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotList {
    /// `REPORT_VERSION`.
    pub version: u32,
    /// By VM, oldest first.
    pub snapshots: Vec<SnapshotReport>,
}

//! The pool: how it is, making it larger, checking and repairing it, and what takes its space.

use super::{Change, DiskSize, ImageName, VmName, VmNumber, VmSet};
use serde::{Deserialize, Serialize};

/// Where a part of the pool lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolBacking {
    /// The file or block device.
    pub path: String,
    /// True for a block device, false for a file of fvm's own.
    pub is_device: bool,
}

/// How full something is, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fill {
    /// All of it.
    pub bytes: u64,
    /// Taken.
    pub used_bytes: u64,
    /// Taken, in percent, rounded up; 100 only if nothing is left.
    pub used_percent: u8,
}

/// A loop device under the pool, as the kernel reports it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoopReport {
    /// Its node, `/dev/loop0`.
    pub device: String,
    /// The file behind it.
    pub file: String,
    /// Whether I/O goes past the page cache.
    pub direct_io: bool,
    /// Whether it goes with its last user.
    pub autoclear: bool,
}

/// The file system below a pool in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFileSystem {
    /// How full it is.
    #[serde(flatten)]
    pub fill: Fill,
    /// What the pool's sparse data file takes of it so far.
    pub pool_bytes: u64,
}

/// The limits that the configuration sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolLimits {
    /// New VMs and images are refused above this.
    pub watermark_percent: u8,
    /// A pool in a file is extended by itself once it is this full.
    pub extend_at_percent: u8,
    /// By so much of its size.
    pub extend_by_percent: u16,
    /// Until it has so many bytes; absent if it is never extended by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extend_limit_bytes: Option<u64>,
}

/// The pool as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActivePool {
    /// Room for blocks of volumes.
    pub data: Fill,
    /// Room for the kernel's notes about them.
    pub metadata: Fill,
    /// The last transaction it holds.
    pub transaction_id: u64,
    /// `read-write`, `read-only`, `out of data space` or `failed`.
    pub mode: String,
    /// It must not be used before it has been checked.
    pub needs_check: bool,
    /// Somebody holds a metadata snapshot: a check or a listing is going on.
    pub has_metadata_snapshot: bool,
    /// Loop devices under it; none where it lies on block devices.
    pub loops: Vec<LoopReport>,
}

/// Everything about the pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolStatusReport {
    /// `REPORT_VERSION`.
    pub version: u32,
    /// `ok`, or what is wrong with it, in words.
    pub health: String,
    /// What to do about that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Where its data lie.
    pub data: PoolBacking,
    /// Where its metadata lie.
    pub metadata: PoolBacking,
    /// Where a repair writes to.
    pub spare: PoolBacking,
    /// Its size for data as it is recorded.
    pub data_bytes: u64,
    /// Bytes of a chunk, the unit of allocation.
    pub chunk_bytes: u64,
    /// The last transaction that fvm's store holds.
    pub store_transaction_id: u64,
    /// The pool as the kernel has it; absent if it is not active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<ActivePool>,
    /// The file system below it, if its data are a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_file_system: Option<HostFileSystem>,
    /// What the configuration says; absent if that cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<PoolLimits>,
}

/// Makes the pool larger while it is in use. Only root may ask.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExtendPool {
    /// Its new size; may be left out for a pool on a block device, which is used whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<DiskSize>,
}

/// What an extension did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtendReport {
    /// `REPORT_VERSION`.
    pub version: u32,
    /// Room for data before.
    pub old_data_bytes: u64,
    /// Room for data now.
    pub data_bytes: u64,
    /// Room for metadata before.
    pub old_metadata_bytes: u64,
    /// Room for metadata now.
    pub metadata_bytes: u64,
    /// VMs that had been paused because the pool was full and go on now.
    pub resumed: Vec<VmNumber>,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolCheckReport {
    /// `REPORT_VERSION`.
    pub version: u32,
    /// True if there is nothing in `findings`.
    pub sound: bool,
    /// Volumes that store and pool both have.
    pub volumes: u32,
    /// What is wrong, a sentence each.
    pub findings: Vec<String>,
}

/// Checks the pool's metadata and repairs them if need be. Only root may ask, while no VM runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepairPool {
    /// Go on although volumes are lost, or may be in an older state.
    #[serde(default)]
    pub accept_loss: bool,
}

/// What a repair did, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairReport {
    /// `REPORT_VERSION`.
    pub version: u32,
    /// Each step.
    pub changes: Vec<Change>,
    /// VMs whose disks could not be saved.
    pub lost_vms: Vec<VmNumber>,
    /// Images that could not be saved.
    pub lost_images: Vec<String>,
}

/// Asks what VMs and images take of the pool.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskUsageRequest {
    /// Only these VMs, and the images they were made of; without it, everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vms: Option<VmSet>,
}

/// What a volume takes of the pool, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeSpace {
    /// The size that its user sees.
    pub size_bytes: u64,
    /// Its chunks that are mapped, shared or not.
    pub mapped_bytes: u64,
    /// Those of them that nobody else has: what deleting it gives back.
    pub exclusive_bytes: u64,
    /// Those of them that others have as well: a VM shares them with its image, and with the other VMs made
    /// of it.
    pub shared_bytes: u64,
}

/// What a VM takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmUsage {
    /// Its number.
    pub vm: VmNumber,
    /// Its name.
    pub name: VmName,
    /// The image it was made of.
    pub image: String,
    /// The user who made it.
    pub owner_uid: u32,
    /// What its disk takes.
    #[serde(flatten)]
    pub space: VolumeSpace,
}

/// What an image takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageUsage {
    /// Its name.
    pub image: ImageName,
    /// The user who imported it.
    pub owner_uid: u32,
    /// What it takes.
    #[serde(flatten)]
    pub space: VolumeSpace,
}

/// What a user's VMs and images take together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerUsage {
    /// The user.
    pub owner_uid: u32,
    /// How many VMs.
    pub vms: u32,
    /// How many images.
    pub images: u32,
    /// The sum of what is exclusive to each: deleting all of them gives back at least that.
    pub exclusive_bytes: u64,
}

/// What takes the pool's space.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskUsageReport {
    /// `REPORT_VERSION`.
    pub version: u32,
    /// All of the pool.
    pub pool: Fill,
    /// By number.
    pub vms: Vec<VmUsage>,
    /// By name.
    pub images: Vec<ImageUsage>,
    /// Those of the VMs and images above, who has most first.
    pub owners: Vec<OwnerUsage>,
}

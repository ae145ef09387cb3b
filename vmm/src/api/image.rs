//! Images: golden disks that VMs are snapshots of.

use super::ImageName;
use serde::{Deserialize, Serialize};

/// What an import says before its blocks: the header of a block stream (`super::stream`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportHeader {
    /// The disk's size in bytes; without it, the size of what is imported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// The name of a shipped template, or the XML itself; without it, `linux`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
}

/// One image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageReport {
    /// `REPORT_VERSION`.
    pub version: u32,
    /// Its name.
    pub name: ImageName,
    /// The disk's size in bytes.
    pub size_bytes: u64,
    /// Bytes of it that are not all zero, in 64 KiB blocks: what was written at import.
    pub data_bytes: u64,
    /// The sparse digest of its content at import (`blake3:…`, see `super::stream::SparseDigest`).
    pub digest: String,
    /// The user who imported it.
    pub owner_uid: u32,
    /// When it was imported: seconds since 1970-01-01 UTC.
    pub imported_at_s: u64,
    /// How many VMs were made of it and are still there.
    pub vms: u32,
}

/// All images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageList {
    /// `REPORT_VERSION`.
    pub version: u32,
    /// By name.
    pub images: Vec<ImageReport>,
}

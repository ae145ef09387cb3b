//! Images: golden disks that VMs are snapshots of.

use super::{DiskSize, ImageName};
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

/// What an export says before its blocks: the header of a block stream (`super::stream`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportHeader {
    /// `REPORT_VERSION`.
    pub version: u32,
    /// The disk's size in bytes, which is that of the content.
    pub size_bytes: u64,
    /// Bytes that will be read, at most: what of the disk is mapped.
    pub mapped_bytes: u64,
}

/// Has an image read as a whole and compared with what is known of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifyImage {
    /// Compute the SHA-512 of each part of 1 GiB as well.
    #[serde(default)]
    pub checksums: bool,
}

/// The SHA-512 of one part of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartChecksum {
    /// Which: part 0 begins at the start, each is 1 GiB long but for the last, which may be shorter.
    pub part: u32,
    /// 128 hexadecimal digits, in small letters.
    pub sha512: String,
}

/// What an image was found to hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyReport {
    /// `REPORT_VERSION`.
    pub version: u32,
    /// The image.
    pub name: ImageName,
    /// The disk's size in bytes.
    pub size_bytes: u64,
    /// The digest that is kept of it; none if it was changed since by a base VM that never ended in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// The digest of what the pool holds.
    pub found: String,
    /// The checksums of its parts, if they were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<PartChecksum>,
}

/// Gives an image's disk another size; VMs made of it before keep theirs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResizeImage {
    /// The size.
    pub size: DiskSize,
    /// Allow it to get smaller, by which everything behind its new end is lost.
    #[serde(default)]
    pub shrink: bool,
}

/// Gives an image another name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenameImage {
    /// The new name.
    pub name: ImageName,
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
    /// The sparse digest of the whole disk (`blake3:…`, see `super::stream::SparseDigest`); none while a base VM
    /// may change it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The user who imported it.
    pub owner_uid: u32,
    /// When it was imported: seconds since 1970-01-01 UTC.
    pub imported_at_s: u64,
    /// When it was last changed since: seconds since 1970-01-01 UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_at_s: Option<u64>,
    /// How many VMs were made of it and are still there.
    pub vms: u32,
    /// True while there is a base VM, which edits it.
    #[serde(default)]
    pub has_base_vm: bool,
}

/// All images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageList {
    /// `REPORT_VERSION`.
    pub version: u32,
    /// By name.
    pub images: Vec<ImageReport>,
}

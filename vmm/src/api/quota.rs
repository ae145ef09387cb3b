//! What users have, and what they may have.

use serde::{Deserialize, Serialize};

/// How much of something a user has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    /// What the user has.
    pub used: u64,
    /// What the user may have, if that is limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

/// What one user has and may have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserQuota {
    /// The user.
    pub uid: u32,
    /// The user's name, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// VMs.
    pub vms: Quota,
    /// Memory of VMs that run, in bytes.
    pub memory_bytes: Quota,
    /// Disks of VMs in bytes, as large as their guests see them.
    pub disk_bytes: Quota,
}

/// What users have and may have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaReport {
    /// `REPORT_VERSION`.
    pub version: u32,
    /// By uid.
    pub users: Vec<UserQuota>,
}

//! Profiles: an image together with how VMs are made of it, under one name.

use super::{ImageName, ProfileName};
use serde::{Deserialize, Serialize};
use std::fmt;

/// When a hook is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookKind {
    /// After a VM was made.
    Create,
    /// After a VM was deleted.
    Delete,
}

impl HookKind {
    /// Its name in the store and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Delete => "delete",
        }
    }
}

impl fmt::Display for HookKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The longest script of a hook, in bytes.
pub const MAX_HOOK_BYTES: usize = 1 << 20;

/// A script that belongs to a profile. `fvmd` only keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hook {
    /// When it is run.
    pub when: HookKind,
    /// The script itself, at most [`MAX_HOOK_BYTES`].
    pub script: String,
}

/// Makes a profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateProfile {
    /// The image that VMs are made of.
    pub image: ImageName,
    /// The name of a shipped template, or the XML itself; without it, the image's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Memory in MiB instead of the template's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u64>,
    /// Virtual processors instead of the template's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<u32>,
    /// At most one for each occasion.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<Hook>,
}

/// One profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileReport {
    /// `REPORT_VERSION`.
    pub version: u32,
    /// Its name.
    pub name: ProfileName,
    /// The image that VMs are made of.
    pub image: ImageName,
    /// The XML of its own template, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Memory in MiB, if it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u64>,
    /// Virtual processors, if it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<u32>,
    /// Its hooks.
    pub hooks: Vec<Hook>,
    /// The user who made it.
    pub owner_uid: u32,
}

/// All profiles.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileList {
    /// `REPORT_VERSION`.
    pub version: u32,
    /// By name.
    pub profiles: Vec<ProfileReport>,
}

//! How long VMs are kept: the time to live that they are given, renewed, and brought back after.

use super::VmSet;
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

/// What a VM may be given to live, in seconds: a minute to ten years.
pub const TTL_S: RangeInclusive<u64> = 60..=315_360_000;

/// How long a VM is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifetime {
    /// What it was given when it was made or last renewed, in seconds.
    pub ttl_s: u64,
    /// When it expires, or once it has expired, when it is deleted for good: seconds since 1970-01-01 UTC.
    pub ends_at_s: u64,
    /// True in the last tenth of its time to live, at most in the last day: whoever uses it is warned.
    pub ends_soon: bool,
}

/// What a VM is given to live from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ttl {
    /// As much as it was given last.
    Same,
    /// It is kept until somebody deletes it.
    Forever,
    /// So many seconds.
    Seconds(u64),
}

/// Gives VMs another time to live, which begins now; each by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewVms {
    /// The numbers.
    pub vms: VmSet,
    /// How much.
    pub ttl: Ttl,
}

/// Brings VMs back that have expired, with the time to live that they had; each by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UndeleteVms {
    /// The numbers.
    pub vms: VmSet,
}

//! The host: setting it up, and what it has.

use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// Sets the host up, or brings it back to what is configured. Only root may ask.
///
/// What is not given keeps its present value; on a new host, the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InitRequest {
    /// Only say what would change.
    #[serde(default)]
    pub dry_run: bool,
    /// Size of a file-backed pool in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool_bytes: Option<u64>,
    /// A block device for the pool's data instead of a sparse file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_device: Option<String>,
    /// A block device for the pool's metadata.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata_device: Option<String>,
    /// The subnet of the network `fvm0`, `192.168.22.0/24`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet: Option<String>,
}

/// One thing that was looked at, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// What it is about, such as `pool` or `bridge fvm0`.
    pub what: String,
    /// How it stands now, in words.
    pub state: String,
    /// True if this call changed it (with `dry_run`: would change it).
    pub changed: bool,
}

/// What `init` found and did, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitReport {
    /// `REPORT_VERSION`.
    pub version: u32,
    /// Each thing looked at.
    pub changes: Vec<Change>,
}

/// What `init --remove` took away, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveReport {
    /// `REPORT_VERSION`.
    pub version: u32,
    /// Each thing looked at.
    pub changes: Vec<Change>,
}

/// The thin pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolReport {
    /// Where its data lies: a file or a block device.
    pub data_path: String,
    /// Capacity for data in bytes.
    pub data_bytes: u64,
    /// Data bytes that are mapped.
    pub data_used_bytes: u64,
    /// Capacity for metadata in bytes.
    pub metadata_bytes: u64,
    /// Metadata bytes in use.
    pub metadata_used_bytes: u64,
    /// Bytes of a chunk, the unit of allocation.
    pub chunk_bytes: u64,
    /// The transaction id of the last acknowledged operation.
    pub transaction_id: u64,
    /// `ok`, or what is wrong with it.
    pub health: String,
}

/// The network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkReport {
    /// Its name, which is also the bridge's.
    pub name: String,
    /// The subnet, `192.168.22.0/24`.
    pub subnet: String,
    /// The host's address on it.
    pub gateway: Ipv4Addr,
    /// The lowest number a VM may have.
    pub first_number: u32,
    /// The highest number a VM may have.
    pub last_number: u32,
    /// Why the gateway serves no DNS to guests, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns_trouble: Option<String>,
}

/// Whether the processor's virtualisation can be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvmReport {
    /// True if a guest ran on it in the self-test.
    pub works: bool,
    /// What the self-test found, in words.
    pub detail: String,
    /// What KVM offers, if it works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offers: Option<KvmOffers>,
}

/// What the host's KVM offers (linux/kvm.h).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvmOffers {
    /// The version of its interface.
    pub api_version: u32,
    /// The most virtual processors of one VM.
    pub max_vcpus: u32,
    /// How many of them are advisable.
    pub recommended_vcpus: u32,
    /// The most pieces that a VM's memory can have.
    pub memory_slots: u32,
    /// Whether a guest's time stamp counter can run at another speed than the host's.
    pub tsc_scaling: bool,
    /// Whether guests have timers by the time stamp counter.
    pub tsc_deadline: bool,
    /// Whether guests may have more than 255 processors.
    pub x2apic: bool,
    /// Whether guests may themselves use KVM, if the kernel tells.
    pub nested: Option<bool>,
}

/// The host as fvm sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostReport {
    /// `REPORT_VERSION`.
    pub version: u32,
    /// The daemon's version.
    pub daemon_version: String,
    /// False until `fvm init` has been run.
    pub initialised: bool,
    /// Why the host cannot do its work although it is initialised, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// The pool, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<PoolReport>,
    /// The network, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkReport>,
    /// KVM, as the last self-test found it.
    pub kvm: KvmReport,
    /// The names of the shipped templates.
    pub templates: Vec<String>,
}

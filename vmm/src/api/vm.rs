//! VMs: what can be asked of them and what is said of them.

use super::{ApiError, DiskReport, GroupName, ImageName, Lifetime, Note, VmName, VmNumber, VmSet};
use serde::{Deserialize, Serialize};
use std::{fmt, net::Ipv4Addr};

/// The longest user data of cloud-init, in bytes: what one cloud and another allow.
pub const MAX_USER_DATA_BYTES: usize = 16 * 1024;
/// The longest public keys for cloud-init, in bytes: all of them together, one on a line.
pub const MAX_SSH_KEYS_BYTES: usize = 8 * 1024;

/// Makes VMs as writable snapshots of an image: all of them, or none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateVms {
    /// The image, or a profile, which says the image and whatever is not said here.
    pub image: ImageName,
    /// The numbers.
    pub vms: VmSet,
    /// The name of a shipped template, or the XML itself; without it, the image's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Memory in MiB instead of the template's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u64>,
    /// Virtual processors instead of the template's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<u32>,
    /// The group that they are made into, which may have VMs already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupName>,
    /// How long they are kept, in seconds within `TTL_S`; without it, until somebody deletes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_s: Option<u64>,
    /// What cloud-init in the guests is to do, in one of its forms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_data: Option<String>,
    /// Public keys of SSH that cloud-init is to let in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ssh_keys: Vec<String>,
}

/// Starts VMs; each by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartVms {
    /// The numbers.
    pub vms: VmSet,
}

/// How a VM is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "how")]
pub enum StopMode {
    /// Power off at once.
    Hard,
    /// Press the ACPI power button and wait.
    Graceful {
        /// How long the guest has, in seconds.
        timeout_s: u32,
        /// Power off what has not shut down by then.
        #[serde(default)]
        cut_power: bool,
    },
}

/// Stops VMs; each by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopVms {
    /// The numbers.
    pub vms: VmSet,
    /// Hard or graceful.
    pub mode: StopMode,
    /// Also VMs of others, where the host lets only owners do this; for root alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
}

/// Deletes VMs with all that is theirs; running ones are stopped hard. Each by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteVms {
    /// The numbers.
    pub vms: VmSet,
    /// Also VMs of others, where the host lets only owners do this; for root alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
}

/// Where a VM is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VmState {
    /// Not running; its last run, if any, ended as asked.
    Stopped,
    /// QEMU is being launched.
    Starting,
    /// The guest's processors run.
    Running,
    /// QEMU is there, but the guest is held (`VmReport::cause` says why).
    Paused,
    /// It was asked to end.
    Stopping,
    /// Not running; its last run ended in a way nobody asked for.
    Crashed,
    /// Its time to live is over: it is kept, stopped, until `Lifetime::ends_at_s`, and can be brought back.
    Expired,
    /// It is being deleted; a delete that failed half-way can be repeated.
    Deleting,
}

impl VmState {
    /// True if QEMU is there, or is being launched.
    pub fn is_active(self) -> bool {
        match self {
            Self::Starting | Self::Running | Self::Paused | Self::Stopping => true,
            Self::Stopped | Self::Crashed | Self::Expired | Self::Deleting => false,
        }
    }
}

impl fmt::Display for VmState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Stopped => "stopped",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopping => "stopping",
            Self::Crashed => "crashed",
            Self::Expired => "expired",
            Self::Deleting => "deleting",
        })
    }
}

/// One network card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NicReport {
    /// Its place among the VM's cards, from 0.
    pub card: u32,
    /// Its MAC address, `52:54:00:12:34:56`.
    pub mac: String,
    /// The network it is on.
    pub network: String,
    /// The tap on the host while the VM runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tap: Option<String>,
    /// The address that DHCP gives it: the VM's on that network, if it is the first card there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Ipv4Addr>,
}

/// One VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmReport {
    /// `REPORT_VERSION`.
    pub version: u32,
    /// Its number.
    pub number: VmNumber,
    /// Its name, `fvm-<image>-<number>`; `/dev/fvm/<name>` is its disk.
    pub name: VmName,
    /// Its UUID as the guest sees it.
    pub uuid: String,
    /// The image it was made of, even if that has been removed since.
    pub image: String,
    /// The profile it was made by, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// The user who made it.
    pub owner_uid: u32,
    /// The group it was made into, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupName>,
    /// Where it is in its life.
    pub state: VmState,
    /// Why it is paused or crashed, or that it is emulated; in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// The address of the first network card that has one: always the subnet's base plus its number.
    pub address: Ipv4Addr,
    /// Its network cards.
    pub nics: Vec<NicReport>,
    /// Its disk's size in bytes.
    pub disk_bytes: u64,
    /// Its disk's device-mapper node while it is active, `/dev/dm-3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_device: Option<String>,
    /// Its disks beside that one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<DiskReport>,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Virtual processors.
    pub cpus: u32,
    /// QEMU's process id while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// `kvm`, or `tcg` for emulation, while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accelerator: Option<String>,
    /// When it was created: seconds since 1970-01-01 UTC.
    pub created_at_s: u64,
    /// How long it is kept, if it was given a time to live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<Lifetime>,
    /// When somebody last did something with it: made, started, stopped or resized it, looked at its console or asked
    /// for it by number (as `fvm info` and `fvm ssh` do); exact to an hour.
    #[serde(default)]
    pub used_at_s: u64,
    /// What its people say of it; empty if nothing.
    #[serde(default)]
    pub note: Note,
    /// When QEMU was started, while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at_s: Option<u64>,
}

/// All VMs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmList {
    /// `REPORT_VERSION`.
    pub version: u32,
    /// By number.
    pub vms: Vec<VmReport>,
}

/// What a missing report is read as, whatever its type.
fn none<R>() -> Option<R> {
    None
}

/// What a batch was to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// `CreateVms`
    Create,
    /// `StartVms`
    Start,
    /// `StopVms`
    Stop,
    /// `DeleteVms`
    Delete,
    /// `ResizeVms`
    Resize,
    /// `CompactVms`
    Compact,
    /// `AddDisks`
    AddDisk,
    /// `NamedDisks`, to take them away
    RemoveDisk,
    /// `CreateSnapshots`
    Snapshot,
    /// `NamedSnapshots`, to restore from them
    Restore,
    /// `NamedSnapshots`, to delete them
    DeleteSnapshot,
    /// `NoteVms`
    Note,
    /// `RenewVms`
    Renew,
    /// `UndeleteVms`
    Undelete,
    /// `ControlVms`, to pause
    Pause,
    /// `ControlVms`, to resume
    Resume,
    /// `ControlVms`, to reset
    Reset,
    /// `ControlVms`, to plug the cable in or out
    Link,
    /// `ControlVms`, to press keys
    SendKey,
}

/// What became of one VM of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmOutcome<R = VmReport> {
    /// Its number.
    pub vm: VmNumber,
    /// The VM after the operation, or as it was before it was deleted, or what else the operation is about; none
    /// where there is none.
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    pub report: Option<R>,
    /// Why it failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ApiError>,
}

/// The end of a batch: one outcome for each VM, by number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchReport<R = VmReport> {
    /// `REPORT_VERSION`.
    pub version: u32,
    /// What was to be done.
    pub action: Action,
    /// By number.
    pub outcomes: Vec<VmOutcome<R>>,
}

/// One DHCP exchange on a VM's port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DhcpExchange {
    /// When: milliseconds since 1970-01-01 UTC.
    pub at_ms: u64,
    /// What came in, such as `REQUEST 192.168.22.9`.
    pub asked: String,
    /// What went out, such as `NAK`, or why nothing did.
    pub answered: String,
}

/// How far a VM has come with booting, and what to blame if it does not get further.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootReport {
    /// `REPORT_VERSION`.
    pub version: u32,
    /// The VM.
    pub vm: VmReport,
    /// The last DHCP exchanges on its port since it was started, oldest first.
    pub dhcp: Vec<DhcpExchange>,
    /// True once it has been given its address by an ACK since it was started.
    pub has_lease: bool,
    /// The last lines of its serial console, without control characters, oldest first.
    pub console_tail: Vec<String>,
}

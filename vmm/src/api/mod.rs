//! What `fvm` and `fvmd` say to each other: requests, reports, events and errors.
//!
//! Owns the serde types of the HTTP API (`routes` has the paths), the block stream of an image
//! upload (`stream`) and the checked names and numbers that both sides use. It does no I/O, and the
//! CLI sees nothing else of this crate.

mod agent;
pub mod console;
mod control;
mod disk;
mod doctor;
mod error;
mod forward;
mod host;
mod image;
mod lifetime;
mod names;
mod net;
mod network;
mod note;
mod numbers;
mod pool;
mod profile;
mod quota;
pub mod routes;
mod snapshot;
pub mod stream;
mod template;
mod terminal_text;
mod vm;
mod wire;

pub use agent::{AgentAnswer, AgentReport, AskAgent, GuestExit, GuestInterface};
pub use control::{Chord, Control, ControlVms, InvalidChord, QmpAnswer, QmpCommand};
pub use disk::{
    AddDisks, CompactImage, CompactMethod, CompactVms, Compacted, DiskBus, DiskList, DiskReport,
    DiskSize, ImageCompacted, InvalidDiskBus, NamedDisks, ResizeVms,
};
pub use doctor::{DoctorReport, Finding, Level};
pub use error::{ApiError, ErrorKind};
pub use forward::{AddForward, ForwardList, ForwardPlan, ForwardReport, InvalidForward, NetPort};
pub use host::{
    Change, HostReport, InitReport, InitRequest, KvmOffers, KvmReport, NetworkReport, PoolReport,
    RemoveReport,
};
pub use image::{
    ExportHeader, ImageList, ImageReport, ImportHeader, PartChecksum, RenameImage, ResizeImage,
    VerifyImage, VerifyReport,
};
pub use lifetime::{Lifetime, RenewVms, TTL_S, Ttl, UndeleteVms};
pub use names::{
    DiskName, GroupName, ImageName, InvalidName, NetworkName, ProfileName, SnapshotName, VmName,
};
pub use net::{LeaseList, LeaseReport, LeaseTimes, NetMessage, NetProtocol, TraceReport};
pub use network::{
    AddNic, CreateNetwork, InvalidMode, NetList, NetReport, NetworkCard, NetworkMode, RemoveNic,
};
pub use note::{InvalidNote, MAX_NOTE_CHARS, Note, NoteVms};
pub use numbers::{InvalidVmSet, VmNumber, VmSet};
pub use pool::{
    ActivePool, DiskUsageReport, DiskUsageRequest, ExtendPool, ExtendReport, Fill, HostFileSystem,
    ImageUsage, LoopReport, OwnerUsage, PoolBacking, PoolCheckReport, PoolLimits, PoolStatusReport,
    RepairPool, RepairReport, VmUsage, VolumeSpace,
};
pub use profile::{CreateProfile, Hook, HookKind, MAX_HOOK_BYTES, ProfileList, ProfileReport};
pub use quota::{Quota, QuotaReport, UserQuota};
pub use snapshot::{Consistency, CreateSnapshots, NamedSnapshots, SnapshotList, SnapshotReport};
pub use template::{
    ElementReport, InvalidQemuVersion, LookAtTemplate, PublishTemplate, PublishedTemplate,
    QemuOption, QemuVersion, TemplateArguments, TemplateCheck, TemplateExplanation, TemplateList,
    TemplateSummary, TemplateText, TemplateWarning, VmXml,
};
pub use terminal_text::without_control;
pub use vm::{
    Action, BatchReport, BootReport, CreateVms, DeleteVms, DhcpExchange, MAX_SSH_KEYS_BYTES,
    MAX_USER_DATA_BYTES, NicReport, StartVms, StopMode, StopVms, VmList, VmOutcome, VmReport,
    VmState,
};
pub use wire::{Event, Line};

/// The version that every report carries; it changes when a field changes its meaning or goes.
pub const REPORT_VERSION: u32 = 1;

/// The argument with which `fvmd` looks at the host without being its daemon; prints a `DoctorReport` as JSON.
pub const DOCTOR_ARGUMENT: &str = "doctor";

/// Where `fvmd` listens unless told otherwise.
pub const SOCKET_PATH: &str = "/run/fvm/fvm.sock";

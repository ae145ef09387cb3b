//! The paths of the API.
//!
//! | method and path | body | answer |
//! |---|---|---|
//! | `GET /v1/host` | | `HostReport` |
//! | `POST /v1/host/init` | `InitRequest` | lines, `InitReport` |
//! | `POST /v1/host/remove` | | lines, `RemoveReport` |
//! | `GET /v1/pool` | | `PoolStatusReport` |
//! | `POST /v1/pool/extend` | `ExtendPool` | lines, `ExtendReport` |
//! | `POST /v1/pool/check` | | lines, `PoolCheckReport` |
//! | `POST /v1/pool/repair` | `RepairPool` | lines, `RepairReport` |
//! | `POST /v1/pool/usage` | `DiskUsageRequest` | lines, `DiskUsageReport` |
//! | `GET /v1/images` | | `ImageList` |
//! | `POST /v1/images/{name}` | a block stream, see `stream` | lines, `ImageReport` |
//! | `GET /v1/images/{name}` | | `ImageReport` |
//! | `DELETE /v1/images/{name}` | | lines, `ImageReport` of what was removed |
//! | `GET /v1/images/{name}/content` | | a block stream |
//! | `POST /v1/images/{name}/verify` | `VerifyImage` | lines, `VerifyReport` |
//! | `POST /v1/images/{name}/resize` | `ResizeImage` | lines, `ImageReport` |
//! | `POST /v1/images/{name}/rename` | `RenameImage` | lines, `ImageReport` |
//! | `GET /v1/profiles` | | `ProfileList` |
//! | `GET /v1/profiles/{name}` | | `ProfileReport` |
//! | `POST /v1/profiles/{name}` | `CreateProfile` | lines, `ProfileReport` |
//! | `DELETE /v1/profiles/{name}` | | lines, `ProfileReport` of what was deleted |
//! | `POST /v1/images/{name}/compact` | `CompactImage` | lines, `ImageCompacted` |
//! | `GET /v1/snapshots`, `GET /v1/vms/{number}/snapshots` | | `SnapshotList` |
//! | `POST /v1/snapshots/create`, `restore`, `delete` | `CreateSnapshots`, `NamedSnapshots` | lines, `BatchReport` of `SnapshotReport`; of `VmReport` for `restore` |
//! | `GET /v1/disks`, `GET /v1/vms/{number}/disks` | | `DiskList` |
//! | `POST /v1/disks/add`, `remove` | `AddDisks`, `NamedDisks` | lines, `BatchReport` of `DiskReport` |
//! | `POST /v1/vms/compact` | `CompactVms` | lines, `BatchReport` of `Compacted` |
//! | `GET /v1/templates` | | `TemplateList` |
//! | `GET /v1/templates/{name}` | | `TemplateText` |
//! | `POST /v1/templates/{name}/published` | `PublishTemplate` | lines, `PublishedTemplate` |
//! | `DELETE /v1/templates/{name}/published` | | lines, `PublishedTemplate` |
//! | `POST /v1/templates/check` | `LookAtTemplate` | lines, `TemplateCheck` |
//! | `POST /v1/templates/arguments` | `LookAtTemplate` | lines, `TemplateArguments` |
//! | `POST /v1/templates/explain` | `LookAtTemplate` | lines, `TemplateExplanation` |
//! | `GET /v1/vms` | | `VmList` |
//! | `GET /v1/vms/{number}` | | `VmReport` |
//! | `GET /v1/vms/{number}/content` | | a block stream: its disk as it is now |
//! | `GET /v1/vms/{number}/xml` | | `VmXml` |
//! | `GET /v1/vms/{number}/boot` | | `BootReport` |
//! | `GET /v1/vms/{number}/trace` | | `TraceReport` |
//! | `GET /v1/quotas`, `GET /v1/quotas/{user}` | | `QuotaReport` |
//! | `GET /v1/forwards` | | `ForwardList` |
//! | `POST /v1/forwards/add`, `delete` | `AddForward`, `NetPort` | lines, `ForwardReport` |
//! | `GET /v1/networks` | | `NetList` |
//! | `GET /v1/networks/{name}` | | `NetReport` |
//! | `POST /v1/networks/{name}` | `CreateNetwork` | lines, `NetReport` |
//! | `DELETE /v1/networks/{name}` | | lines, `NetReport` of what was deleted |
//! | `POST /v1/nics/add`, `remove` | `AddNic`, `RemoveNic` | lines, `VmReport` |
//! | `GET /v1/net/leases` | | `LeaseList` |
//! | `GET /v1/vms/{number}/console?…` (`Upgrade: fvm-console`) | `console::ConsoleQuery` | what is typed to the daemon, `console` frames back |
//! | `GET /v1/vms/{number}/log?…` | `console::LogQuery` | the log, as it is |
//! | `GET /v1/vms/{number}/screenshot` | | a PNG |
//! | `POST /v1/vms/{number}/agent` | `AskAgent` | lines, `AgentReport` |
//! | `POST /v1/vms/{number}/qmp` | `QmpCommand` | lines, `QmpAnswer` |
//! | `POST /v1/vms/control` | `ControlVms` | lines, `BatchReport` |
//! | `GET /v1/vms/{number}/disk` (`Upgrade: fvm-disk`) | | while the connection is open, its owner has its disk at `/dev/fvm/NAME` |
//! | `POST /v1/vms/create`, `start`, `stop`, `delete`, `resize`, `note`, `renew`, `undelete` | `CreateVms`, … | lines, `BatchReport` |
//!
//! "Lines" are `Line` values, one a line. Where a request cannot be begun at all, the response has the
//! error's HTTP status and an `ApiError` as its body instead.

use super::{
    ImageName, NetworkName, ProfileName, VmNumber,
    console::{ConsoleQuery, LogQuery, LogSource},
};

/// `HostReport`
pub const HOST: &str = "/v1/host";
/// `InitRequest` → `InitReport`
pub const INIT: &str = "/v1/host/init";
/// `DoctorReport`
pub const DOCTOR: &str = "/v1/host/doctor";
/// → `RemoveReport`
pub const REMOVE: &str = "/v1/host/remove";
/// `PoolStatusReport`
pub const POOL: &str = "/v1/pool";
/// `ExtendPool` → `ExtendReport`
pub const POOL_EXTEND: &str = "/v1/pool/extend";
/// → `PoolCheckReport`
pub const POOL_CHECK: &str = "/v1/pool/check";
/// `RepairPool` → `RepairReport`
pub const POOL_REPAIR: &str = "/v1/pool/repair";
/// `DiskUsageRequest` → `DiskUsageReport`
pub const POOL_USAGE: &str = "/v1/pool/usage";
/// `ImageList`
pub const IMAGES: &str = "/v1/images";
/// `ProfileList`
pub const PROFILES: &str = "/v1/profiles";
/// `TemplateList`
pub const TEMPLATES: &str = "/v1/templates";
/// `LookAtTemplate` → `TemplateCheck`
pub const CHECK_TEMPLATE: &str = "/v1/templates/check";
/// `LookAtTemplate` → `TemplateArguments`
pub const TEMPLATE_ARGUMENTS: &str = "/v1/templates/arguments";
/// `LookAtTemplate` → `TemplateExplanation`
pub const EXPLAIN_TEMPLATE: &str = "/v1/templates/explain";
/// `VmList`
pub const VMS: &str = "/v1/vms";
/// `CreateVms` → `BatchReport`
pub const CREATE: &str = "/v1/vms/create";
/// `StartVms` → `BatchReport`
pub const START: &str = "/v1/vms/start";
/// `StopVms` → `BatchReport`
pub const STOP: &str = "/v1/vms/stop";
/// `ControlVms` → `BatchReport`
pub const CONTROL: &str = "/v1/vms/control";
/// `DeleteVms` → `BatchReport`
pub const DELETE: &str = "/v1/vms/delete";
/// `RenewVms` → `BatchReport`
pub const RENEW: &str = "/v1/vms/renew";
/// `UndeleteVms` → `BatchReport`
pub const UNDELETE: &str = "/v1/vms/undelete";
/// `ResizeVms` → `BatchReport`
pub const RESIZE: &str = "/v1/vms/resize";
/// `NoteVms` → `BatchReport`
pub const NOTE: &str = "/v1/vms/note";
/// `CompactVms` → `BatchReport<Compacted>`
pub const COMPACT: &str = "/v1/vms/compact";
/// `DiskList`
pub const DISKS: &str = "/v1/disks";
/// `AddDisks` → `BatchReport<DiskReport>`
pub const ADD_DISKS: &str = "/v1/disks/add";
/// `NamedDisks` → `BatchReport<DiskReport>`
pub const REMOVE_DISKS: &str = "/v1/disks/remove";
/// `SnapshotList`
pub const SNAPSHOTS: &str = "/v1/snapshots";
/// `CreateSnapshots` → `BatchReport<SnapshotReport>`
pub const CREATE_SNAPSHOTS: &str = "/v1/snapshots/create";
/// `NamedSnapshots` → `BatchReport`
pub const RESTORE_SNAPSHOTS: &str = "/v1/snapshots/restore";
/// `NamedSnapshots` → `BatchReport<SnapshotReport>`
pub const DELETE_SNAPSHOTS: &str = "/v1/snapshots/delete";
/// `ForwardList`
pub const FORWARDS: &str = "/v1/forwards";
/// `AddForward` → `ForwardReport`
pub const ADD_FORWARD: &str = "/v1/forwards/add";
/// `NetPort` → `ForwardReport` of what was deleted
pub const DELETE_FORWARD: &str = "/v1/forwards/delete";
/// `QuotaReport`
pub const QUOTAS: &str = "/v1/quotas";
/// `AddNic` → `VmReport`
pub const ADD_NIC: &str = "/v1/nics/add";
/// `RemoveNic` → `VmReport`
pub const REMOVE_NIC: &str = "/v1/nics/remove";
/// `NetList`
pub const NETWORKS: &str = "/v1/networks";
/// `LeaseList`
pub const LEASES: &str = "/v1/net/leases";
/// The protocol named in the `Upgrade` header of a console request.
pub const CONSOLE_PROTOCOL: &str = "fvm-console";

/// The protocol named in the `Upgrade` header of a request for a VM's disk. The client sends nothing and ends its side when
/// it is done; the other side ends when the disk is taken back, after an `ApiError` if that failed.
pub const DISK_PROTOCOL: &str = "fvm-disk";

/// One image: ask, import, remove.
pub fn image(name: &ImageName) -> String {
    format!("{IMAGES}/{name}")
}

/// Has an image's disk give back what it does not need.
pub fn compact_image(name: &ImageName) -> String {
    format!("{IMAGES}/{name}/compact")
}

/// The further disks of one VM.
pub fn disks(number: VmNumber) -> String {
    format!("{VMS}/{number}/disks")
}

/// The snapshots of one VM.
pub fn snapshots(number: VmNumber) -> String {
    format!("{VMS}/{number}/snapshots")
}

/// What an image holds.
pub fn image_content(name: &ImageName) -> String {
    format!("{IMAGES}/{name}/content")
}

/// `VerifyImage` → `VerifyReport`
pub fn verify_image(name: &ImageName) -> String {
    format!("{IMAGES}/{name}/verify")
}

/// `ResizeImage` → `ImageReport`
pub fn resize_image(name: &ImageName) -> String {
    format!("{IMAGES}/{name}/resize")
}

/// `RenameImage` → `ImageReport`
pub fn rename_image(name: &ImageName) -> String {
    format!("{IMAGES}/{name}/rename")
}

/// One profile: ask, make, delete.
pub fn profile(name: &ProfileName) -> String {
    format!("{PROFILES}/{name}")
}

/// What one user has and may have.
pub fn quota(user: &str) -> String {
    format!("{QUOTAS}/{user}")
}

/// One network: ask, make, delete.
pub fn network(name: &NetworkName) -> String {
    format!("{NETWORKS}/{name}")
}

/// What a VM's disk holds.
pub fn vm_content(number: VmNumber) -> String {
    format!("{VMS}/{number}/content")
}

/// One VM.
pub fn vm(number: VmNumber) -> String {
    format!("{VMS}/{number}")
}

/// One template: ask, publish, take back.
pub fn template(name: &str) -> String {
    format!("{TEMPLATES}/{name}")
}

/// That root has published it: make it so, end it.
pub fn published_template(name: &str) -> String {
    format!("{TEMPLATES}/{name}/published")
}

/// A VM's domain XML.
pub fn xml(number: VmNumber) -> String {
    format!("{VMS}/{number}/xml")
}

/// How far a VM has come with booting.
pub fn boot(number: VmNumber) -> String {
    format!("{VMS}/{number}/boot")
}

/// What a VM's screen shows.
pub fn screenshot(number: VmNumber) -> String {
    format!("{VMS}/{number}/screenshot")
}

/// `AskAgent` → `AgentReport`
pub fn agent(number: VmNumber) -> String {
    format!("{VMS}/{number}/agent")
}

/// `QmpCommand` → `QmpAnswer`
pub fn qmp(number: VmNumber) -> String {
    format!("{VMS}/{number}/qmp")
}

/// What was said on a VM's port.
pub fn trace(number: VmNumber) -> String {
    format!("{VMS}/{number}/trace")
}

/// A VM's serial console.
pub fn console(number: VmNumber, query: &ConsoleQuery) -> String {
    let position = query.position.map(|at| format!("&position={at}"));
    let position = position.unwrap_or_default();
    format!("{VMS}/{number}/console?take={}{position}", query.take)
}

/// A log of a VM.
pub fn log(number: VmNumber, query: &LogQuery) -> String {
    let source = match query.source {
        LogSource::Console => "console",
        LogSource::Qemu => "qemu",
    };
    let lines = query.lines.map(|lines| format!("&lines={lines}"));
    let lines = lines.unwrap_or_default();
    format!(
        "{VMS}/{number}/log?source={source}&follow={}{lines}",
        query.follow
    )
}

/// A VM's disk, lent to its owner.
pub fn disk(number: VmNumber) -> String {
    format!("{VMS}/{number}/disk")
}

//! The commands, one file each: their arguments, and what they do with them.

pub(crate) mod agent;
pub(crate) mod compact;
pub(crate) mod connect;
pub(crate) mod console;
pub(crate) mod control;
pub(crate) mod copy;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod disk;
pub(crate) mod disk_usage;
pub(crate) mod doctor;
pub(crate) mod dumpxml;
mod each;
pub(crate) mod exec;
pub(crate) mod export;
pub(crate) mod forward;
pub(crate) mod generate;
pub(crate) mod image;
mod image_check;
mod import;
pub(crate) mod info;
pub(crate) mod init;
pub(crate) mod inventory;
pub(crate) mod keydist;
pub(crate) mod lab;
pub(crate) mod list;
pub(crate) mod log;
pub(crate) mod net;
mod network;
pub(crate) mod nic;
pub(crate) mod note;
pub(crate) mod pool;
pub(crate) mod profile;
pub(crate) mod qmp;
pub(crate) mod quota;
pub(crate) mod renew;
pub(crate) mod resize;
pub(crate) mod screenshot;
pub(crate) mod snapshot;
pub(crate) mod ssh;
pub(crate) mod ssh_config;
pub(crate) mod start;
pub(crate) mod status;
pub(crate) mod stop;
pub(crate) mod template;
pub(crate) mod virsh;

use crate::{
    args::Command,
    client::Client,
    exit::{CommandResult, Exit},
    output::Output,
    quantity::rough_duration,
};
use fvm_vmm::api::{Action, BatchReport, Event, VmReport};
use serde::{Serialize, de::DeserializeOwned};

/// What every command works with.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    /// The way to `fvmd`.
    pub(crate) client: Client,
    /// The way to the user.
    pub(crate) out: &'a Output,
}

impl Context<'_> {
    /// Has a batch done and returns its report, showing events meanwhile; `what` says what takes time.
    async fn batch(
        &self,
        path: &str,
        request: &impl Serialize,
        what: &str,
    ) -> Result<BatchReport, fvm_vmm::api::ApiError> {
        self.out.busy(what);
        let mut tell = |event| self.out.event(&event);
        let report = self.client.post(path, request, &mut tell).await;
        self.out.settled();
        let report: BatchReport = report?;
        let done = report
            .outcomes
            .iter()
            .filter(|outcome| outcome.error.is_none());
        if report.action != Action::Delete {
            done.filter_map(|outcome| outcome.report.as_ref())
                .for_each(|vm| self.warn_of_end(vm));
        }
        Ok(report)
    }

    /// Tells whoever does something with a VM that it expires soon.
    fn warn_of_end(&self, vm: &VmReport) {
        if let Some(lifetime) = vm.lifetime.as_ref().filter(|lifetime| lifetime.ends_soon) {
            self.out.event(&Event {
                vm: Some(vm.number),
                warning: true,
                text: format!(
                    "expires in {}; `fvm renew {}` gives it {} again",
                    rough_duration(self.out.until(lifetime.ends_at_s)),
                    vm.number,
                    rough_duration(lifetime.ttl_s)
                ),
            });
        }
    }

    /// Has a batch done whose reports are not about the VMs as such: each is told by `line`.
    async fn batch_of<R: Serialize + DeserializeOwned>(
        &self,
        path: &str,
        request: &impl Serialize,
        what: &str,
        line: impl Fn(&R) -> String,
    ) -> CommandResult {
        self.out.busy(what);
        let mut tell = |event| self.out.event(&event);
        let report = self.client.post(path, request, &mut tell).await;
        self.out.settled();
        let report: BatchReport<R> = report?;
        self.out.batch_of(&report, line);
        Ok(Exit::of_batch(&report))
    }

    /// The same as [`Self::batch`], shows the report and returns the exit status.
    async fn whole_batch(&self, path: &str, request: &impl Serialize, what: &str) -> CommandResult {
        let report = self.batch(path, request, what).await?;
        self.out.batch(&report);
        Ok(Exit::of_batch(&report))
    }
}

impl Command {
    /// Runs the command to its end.
    pub(crate) async fn run(self, context: &Context<'_>) -> CommandResult {
        match self {
            Self::Init(command) => command.run(context).await,
            Self::Status(command) => command.run(context).await,
            Self::Doctor(command) => command.run(context).await,
            Self::Pool(command) => command.run(context).await,
            Self::DiskUsage(command) => command.run(context).await,
            Self::Image(command) => command.run(context).await,
            Self::Profile(command) => command.run(context).await,
            Self::Export(command) => command.run(context).await,
            Self::Create(command) => command.run(context).await,
            Self::Start(command) => command.run(context).await,
            Self::Stop(command) => command.run(context).await,
            Self::Up(command) => command.run(context).await,
            Self::Down(command) => command.run(context).await,
            Self::Diff(command) => command.run(context).await,
            Self::Delete(command) => command.run(context).await,
            Self::Quota(command) => command.run(context).await,
            Self::Renew(command) => command.run(context).await,
            Self::Undelete(command) => command.run(context).await,
            Self::Note(command) => command.run(context).await,
            Self::Pause(command) => command.run(context).await,
            Self::Resume(command) => command.run(context).await,
            Self::Reset(command) => command.run(context).await,
            Self::Link(command) => command.run(context).await,
            Self::SendKey(command) => command.run(context).await,
            Self::Screenshot(command) => command.run(context).await,
            Self::Qmp(command) => command.run(context).await,
            Self::Resize(command) => command.run(context).await,
            Self::Disk(command) => command.run(context).await,
            Self::Snapshot(command) => command.run(context).await,
            Self::Compact(command) => command.run(context).await,
            Self::List(command) => command.run(context).await,
            Self::Info(command) => command.run(context).await,
            Self::Dumpxml(command) => command.run(context).await,
            Self::Template(command) => command.run(context).await,
            Self::Forward(command) => command.run(context).await,
            Self::Net(command) => command.run(context).await,
            Self::Nic(command) => command.run(context).await,
            Self::Log(command) => command.run(context).await,
            Self::Console(command) => command.run(context).await,
            Self::Agent(command) => command.run(context).await,
            Self::Exec(command) => command.run(context).await,
            Self::SshConfig(command) => command.run(context).await,
            Self::Inventory(command) => command.run(context).await,
            Self::Connect(command) => command.run(context).await,
            Self::Generate(command) => command.run(context).await,
            Self::Ssh(command) => command.run(context).await,
            Self::Scp(command) => command.run(context).await,
            Self::Rsync(command) => command.run(context).await,
            Self::Virsh(command) => command.run(context).await,
            Self::Keydist(command) => command.run(context).await,
        }
    }
}

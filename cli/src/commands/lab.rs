//! `fvm up`, `fvm down`, `fvm diff`: VMs as a lab file wants them.

use super::{Context, create::make, delete::delete, start::wait_for_all};
use crate::{
    exit::{CommandResult, Exit},
    lab_file::{Entry, Lab},
    output::{LabBatches, LabChange, LabReport, LabVm},
    quantity::{Bytes, Seconds},
    seed, template,
    wait::Goal,
};
use fvm_vmm::api::{
    ApiError, BatchReport, CreateVms, DeleteVms, ErrorKind, NoteVms, REPORT_VERSION, StartVms,
    UndeleteVms, VmList, VmReport, VmSet, VmState, routes,
};
use std::path::PathBuf;

/// Arguments of `fvm up`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Makes the VMs of the lab file that are not there, brings back those that have expired, and starts those that are to run and \
do not. What is there already as the file wants it is left alone, so it can be run again at any time. If a VM is there that \
differs from what the file says, nothing is done.

Examples:
  fvm diff lab.toml
  fvm up lab.toml --wait ssh")]
pub(crate) struct Up {
    /// The lab file (see docs/lab-file.md)
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Wait until each VM that is started has got this far
    #[arg(short, long, value_name = "GOAL")]
    wait: Option<Goal>,
    /// How long to wait at most
    #[arg(long, value_name = "TIME", default_value = "120s", requires = "wait")]
    timeout: Seconds,
}

/// Arguments of `fvm down`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Deletes the VMs of the lab file, without a question. If a VM is there that differs from what the file says, nothing is done: \
it may be somebody else's.

Examples:
  fvm down lab.toml")]
pub(crate) struct Down {
    /// The lab file (see docs/lab-file.md)
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Arguments of `fvm diff`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Shows each VM of the lab file, and what `fvm up` would do: create, undelete, start, or nothing. A VM that is there and differs \
from what the file says keeps `fvm up` and `fvm down` from doing anything.

Examples:
  fvm diff lab.toml
  fvm diff lab.toml --json | jq '.vms[] | select(.change != \"none\")'")]
pub(crate) struct Diff {
    /// The lab file (see docs/lab-file.md)
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

impl Diff {
    pub(super) async fn run(self, context: &Context<'_>) -> CommandResult {
        let lab = Lab::read(&self.file)?;
        let report = compare(context, &lab).await?;
        context.out.report(&report);
        Ok(Exit::DONE)
    }
}

impl Up {
    pub(super) async fn run(self, context: &Context<'_>) -> CommandResult {
        let lab = Lab::read(&self.file)?;
        // What is wrong with files that it names is told before anything is made.
        let requests = lab.entries.iter().map(|entry| request(&lab, entry));
        let requests: Vec<CreateVms> = requests.collect::<Result<_, _>>()?;
        let report = compare(context, &lab).await?;
        refuse_differing(&report)?;
        let mut done = Vec::new();
        for (request, entry) in requests.into_iter().zip(&lab.entries) {
            let missing =
                |vm: &LabVm| vm.change == LabChange::Create && entry.vms.numbers().contains(&vm.vm);
            if let Some(vms) = chosen(&report, missing) {
                let request = CreateVms { vms, ..request };
                let made = make(context, &request, None, true).await?;
                tell(context, &mut done, made);
                if let Some(note) = entry.kind.note.clone() {
                    let vms = request.vms;
                    let noted = NoteVms { vms, note };
                    let what = "writing notes";
                    let noted = context.batch(routes::NOTE, &noted, what).await?;
                    tell(context, &mut done, noted);
                }
            }
        }
        if let Some(vms) = chosen(&report, |vm| vm.change == LabChange::Undelete) {
            let what = format!("bringing {vms} back");
            let request = UndeleteVms { vms };
            let back = context.batch(routes::UNDELETE, &request, &what).await?;
            tell(context, &mut done, back);
        }
        if let Some(vms) = chosen(&report, |vm| vm.starts) {
            let what = format!("starting {vms}");
            let request = StartVms { vms };
            let mut started = context.batch(routes::START, &request, &what).await?;
            match self.wait {
                Some(goal) => {
                    wait_for_all(context, &mut started, goal, self.timeout).await;
                    done.push(started);
                }
                None => tell(context, &mut done, started),
            }
        }
        Ok(end(context, done))
    }
}

impl Down {
    pub(super) async fn run(self, context: &Context<'_>) -> CommandResult {
        let lab = Lab::read(&self.file)?;
        let report = compare(context, &lab).await?;
        refuse_differing(&report)?;
        let mut done = Vec::new();
        if let Some(vms) = chosen(&report, |vm| vm.change != LabChange::Create) {
            let request = DeleteVms { vms, force: false };
            let gone = delete(context, &request, None, true).await?;
            tell(context, &mut done, gone);
        }
        Ok(end(context, done))
    }
}

/// What has to be done with each VM of a lab.
async fn compare(context: &Context<'_>, lab: &Lab) -> Result<LabReport, ApiError> {
    let list: VmList = context.client.get(routes::VMS).await?;
    let mut vms = Vec::new();
    for entry in &lab.entries {
        for &number in entry.vms.numbers() {
            let there = list.vms.iter().find(|vm| vm.number == number);
            let differs = there.map_or_else(Vec::new, |vm| differences(lab, entry, vm));
            let starts = entry.kind.start && there.is_none_or(|vm| !vm.state.is_active());
            let change = match there.map(|vm| vm.state) {
                _ if !differs.is_empty() => LabChange::Differs,
                None => LabChange::Create,
                Some(VmState::Expired) => LabChange::Undelete,
                Some(_) if starts => LabChange::Start,
                Some(_) => LabChange::None,
            };
            vms.push(LabVm {
                vm: number,
                change,
                starts: starts && change != LabChange::Differs,
                differs,
            });
        }
    }
    vms.sort_by_key(|vm| vm.vm);
    Ok(LabReport {
        version: REPORT_VERSION,
        vms,
    })
}

/// How a VM that is there is not as the file says, in words.
fn differences(lab: &Lab, entry: &Entry, vm: &VmReport) -> Vec<String> {
    let kind = &entry.kind;
    let mut differs = Vec::new();
    let mut compare = |what: &str, is: &str, wanted: Option<String>| {
        if let Some(wanted) = wanted.filter(|wanted| wanted != is) {
            differs.push(format!("{what} is {is}, not {wanted}"));
        }
    };
    let made_of = vm.profile.as_deref().unwrap_or(&vm.image);
    compare("image", made_of, Some(kind.image.to_string()));
    let mib = |mib: u64| Bytes(mib.saturating_mul(1 << 20)).to_string();
    compare("memory", &mib(vm.memory_mib), kind.memory.map(mib));
    compare(
        "cpus",
        &vm.cpus.to_string(),
        kind.cpus.map(|cpus| cpus.to_string()),
    );
    let group = vm.group.as_ref().map_or("none", |group| group.as_str());
    compare("group", group, lab.group.as_ref().map(ToString::to_string));
    differs
}

/// Keeps hands off VMs that may be somebody else's.
fn refuse_differing(report: &LabReport) -> Result<(), ApiError> {
    let Some(vms) = chosen(report, |vm| vm.change == LabChange::Differs) else {
        return Ok(());
    };
    let mut error = ApiError::new(
        ErrorKind::Refused,
        format!("VM {vms} differs from what the lab file says"),
    )
    .hint(format!(
        "nothing was done: change the file, or `fvm delete {vms}` first"
    ));
    for vm in &report.vms {
        for difference in &vm.differs {
            error = error.detail(format!("{}: {difference}", vm.vm));
        }
    }
    Err(error)
}

/// Those VMs of a lab that something applies to, if there are any.
fn chosen(report: &LabReport, applies: impl Fn(&LabVm) -> bool) -> Option<VmSet> {
    let vms = report.vms.iter().filter(|vm| applies(vm));
    VmSet::try_from(vms.map(|vm| vm.vm).collect::<Vec<_>>()).ok()
}

/// The request that makes all VMs of an entry.
fn request(lab: &Lab, entry: &Entry) -> Result<CreateVms, ApiError> {
    let kind = &entry.kind;
    Ok(CreateVms {
        image: kind.image.clone(),
        vms: entry.vms.clone(),
        template: template::to_send(kind.template.clone())?,
        memory_mib: kind.memory,
        cpus: kind.cpus,
        group: lab.group.clone(),
        ttl_s: kind.ttl,
        user_data: seed::user_data(kind.user_data.as_deref())?,
        ssh_keys: seed::keys(&kind.ssh_keys)?,
    })
}

/// Shows what a step has done; as JSON, all steps are shown at the end.
fn tell(context: &Context<'_>, done: &mut Vec<BatchReport>, step: BatchReport) {
    if !context.out.json() {
        context.out.batch(&step);
    }
    done.push(step);
}

/// The end of all steps: their JSON, and the first status that is not that of success.
fn end(context: &Context<'_>, steps: Vec<BatchReport>) -> Exit {
    let mut statuses = steps.iter().map(Exit::of_batch);
    let worst = statuses.find(|status| *status != Exit::DONE);
    if steps.is_empty() && !context.out.json() {
        context.out.note("all is as the lab file says");
    }
    context.out.json_report(&LabBatches {
        version: REPORT_VERSION,
        batches: steps,
    });
    worst.unwrap_or(Exit::DONE)
}

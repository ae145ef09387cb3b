//! `fvm doctor`

use super::Context;
use crate::exit::{CommandResult, Exit};
use fvm_vmm::api::{
    ApiError, DOCTOR_ARGUMENT, DoctorReport, ErrorKind, Finding, Level, REPORT_VERSION, routes,
};
use std::{env, path::PathBuf, process::Command};

/// Arguments of `fvm doctor`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Looks at everything that fvm needs of this host and changes nothing: kernel, KVM, QEMU, firewall, units, sockets, \
pool, and what may be left over. Below what is not well stands what mends it. When fvmd does not answer, what can be \
seen without it is looked at all the same; more of it as root.

Exit status 0 if all is well, 1 if there are warnings, 5 if something keeps VMs from running.

Examples:
  fvm doctor
  fvm doctor --json | jq -r '.findings[] | select(.level != \"ok\") | .fix'")]
pub(crate) struct Doctor {}

impl Doctor {
    pub(super) async fn run(self, context: &Context<'_>) -> CommandResult {
        context.out.busy("looking at this host");
        let report = match context.client.get(routes::DOCTOR).await {
            Ok(report) => report,
            // What there is to see here says nothing of another host.
            Err(error) if context.client.remote().is_some() => return Err(error.into()),
            Err(error) => without_daemon(error.into()),
        };
        context.out.settled();
        context.out.report(&report);
        Ok(match report.worst() {
            Level::Ok => Exit::DONE,
            Level::Warning => Exit::of(ErrorKind::Failed),
            Level::Error => Exit::of(ErrorKind::HostNotAble),
        })
    }
}

/// What there is to say although fvmd did not answer.
fn without_daemon(error: ApiError) -> DoctorReport {
    let mut finding = Finding::error("fvmd", error.message);
    finding.fix = error.hint;
    let mut findings = vec![finding];
    match look() {
        Ok(report) => findings.extend(report.findings),
        Err(why) => findings.push(Finding::warning(
            "this host",
            format!("not looked at: {why}"),
        )),
    }
    DoctorReport {
        version: REPORT_VERSION,
        findings,
    }
}

/// Has the program fvmd look at the host, as the calling user; it is no daemon then.
fn look() -> Result<DoctorReport, String> {
    let program = daemon_program().ok_or("the program fvmd is not installed next to this fvm")?;
    let output = Command::new(&program)
        .arg(DOCTOR_ARGUMENT)
        .output()
        .map_err(|error| format!("cannot run {}: {error}", program.display()))?;
    serde_json::from_slice(&output.stdout).map_err(|_| {
        let said = String::from_utf8_lossy(&output.stderr);
        format!("{} {DOCTOR_ARGUMENT}: {}", program.display(), said.trim())
    })
}

/// `PREFIX/sbin/fvmd` for this `PREFIX/bin/fvm`.
fn daemon_program() -> Option<PathBuf> {
    let prefix = env::current_exe().ok()?.parent()?.parent()?.to_owned();
    let program = prefix.join("sbin/fvmd");
    program.is_file().then_some(program)
}

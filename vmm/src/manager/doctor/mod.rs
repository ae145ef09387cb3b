//! `doctor`: everything on the host that fvm needs, looked at without changing anything.
//!
//! What any process can see is looked at by [`look_at_host`], which also works where no daemon does; what only
//! the daemon knows of — pool, `fvm-netd`, what is left over — is added by [`Manager::doctor`].

mod kernel;
mod network;
mod own;
mod service;
mod virtualization;

use super::{
    Manager,
    error::Result,
    host::{self, KvmCache},
    launch::QemuCache,
};
use crate::{
    api::{ApiError, DoctorReport, ErrorKind, Finding, REPORT_VERSION},
    paths::Paths,
};
use nix::unistd::geteuid;
use std::path::Path;

/// What every look needs to know.
struct Looking<'l> {
    /// `/`, but for tests.
    root: &'l Path,
    paths: &'l Paths,
    kvm: &'l KvmCache,
    qemu: &'l QemuCache,
}

impl Looking<'_> {
    fn findings(&self) -> Vec<Finding> {
        let mut findings = kernel::findings(self.root);
        findings.extend(virtualization::findings(self));
        findings.extend(network::findings(self.root));
        findings.extend(service::findings(self.paths));
        findings
    }
}

/// What can be seen without a daemon; the sign that something was not looked at is a warning.
pub fn look_at_host(paths: &Paths) -> DoctorReport {
    let looking = Looking {
        root: Path::new("/"),
        paths,
        kvm: &KvmCache::default(),
        qemu: &QemuCache::default(),
    };
    let mut findings = looking.findings();
    if !geteuid().is_root() {
        findings.push(
            Finding::warning("firewall", "not looked at: only root can read its rules")
                .fix("sudo fvm doctor"),
        );
    }
    findings.push(
        Finding::warning(
            "pool",
            "not looked at, nor fvm-netd and what may be left over: only a running fvmd knows of them",
        )
        .fix("start fvmd, then `fvm doctor` again"),
    );
    DoctorReport {
        version: REPORT_VERSION,
        findings,
    }
}

impl Manager {
    /// Looks at everything; what cannot be looked at is a finding too.
    ///
    /// # Errors
    /// Never, so far.
    pub fn doctor(&self) -> Result<DoctorReport> {
        let looking = Looking {
            root: Path::new("/"),
            paths: &self.paths,
            kvm: &self.kvm,
            qemu: &self.qemu,
        };
        let mut findings = vec![Finding::ok(
            "fvmd",
            format!("version {} answers", env!("CARGO_PKG_VERSION")),
        )];
        findings.extend(looking.findings());
        findings.extend(self.own_findings());
        Ok(DoctorReport {
            version: REPORT_VERSION,
            findings,
        })
    }
}

/// A finding from an error: what it says, and what it says to do.
fn from_error(what: &str, error: &ApiError) -> Finding {
    let finding = match error.kind {
        ErrorKind::NotFound => Finding::warning(what, &error.message),
        _ => Finding::error(what, &error.message),
    };
    match &error.hint {
        Some(hint) => finding.fix(hint),
        None => finding,
    }
}

/// The words for KVM's state, which `fvm status` uses too.
fn kvm_words(health: &crate::kvm::KvmHealth) -> String {
    host::describe(health)
}

//! What has to be done with the VMs of a lab.

use super::{Look, Show};
use crate::output::{
    style::Tone,
    table::{Table, cell, number},
};
use fvm_vmm::api::{BatchReport, VmNumber};
use serde::Serialize;

/// What `fvm up` does with a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LabChange {
    /// Nothing: it is as the file says.
    None,
    /// It is not there.
    Create,
    /// It has expired.
    Undelete,
    /// It does not run.
    Start,
    /// Nothing: it is not the VM that the file means.
    Differs,
}

/// One VM of a lab.
#[derive(Debug, Serialize)]
pub(crate) struct LabVm {
    /// Its number.
    pub(crate) vm: VmNumber,
    /// What is done with it.
    pub(crate) change: LabChange,
    /// It is started, at the end.
    pub(crate) starts: bool,
    /// How it differs from what the file says, in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) differs: Vec<String>,
}

/// The VMs of a lab file, by number.
#[derive(Debug, Serialize)]
pub(crate) struct LabReport {
    /// `REPORT_VERSION`.
    pub(crate) version: u32,
    /// By number.
    pub(crate) vms: Vec<LabVm>,
}

/// What `fvm up` or `fvm down` did, step by step.
#[derive(Debug, Serialize)]
pub(crate) struct LabBatches {
    /// `REPORT_VERSION`.
    pub(crate) version: u32,
    /// In the order in which they were done.
    pub(crate) batches: Vec<BatchReport>,
}

impl Show for LabReport {
    fn show(&self, look: &Look) -> String {
        let mut table = Table::new(["VM", "CHANGE", ""]);
        for vm in &self.vms {
            let (words, tone) = match (vm.change, vm.starts) {
                (LabChange::None, _) => ("none", Tone::Dim),
                (LabChange::Create, false) => ("create", Tone::Good),
                (LabChange::Create, true) => ("create, start", Tone::Good),
                (LabChange::Undelete, false) => ("undelete", Tone::Good),
                (LabChange::Undelete, true) => ("undelete, start", Tone::Good),
                (LabChange::Start, _) => ("start", Tone::Good),
                (LabChange::Differs, _) => ("differs", Tone::Bad),
            };
            table.row([
                number(vm.vm),
                cell(words).tone(tone),
                cell(vm.differs.join("; ")),
            ]);
        }
        table.show(look.palette)
    }
}

//! A line in the journal for everything that anybody changes, or tries to: who, what, on what, with which result.

use crate::{
    api::{
        AddDisks, AddForward, AddNic, AgentReport, ApiError, BatchReport, CompactImage, CompactVms,
        ControlVms, CreateNetwork, CreateProfile, CreateSnapshots, CreateVms, DeleteVms,
        ExtendPool, ExtendReport, ForwardReport, ImageCompacted, ImageReport, InitReport,
        InitRequest, NamedDisks, NamedSnapshots, NetPort, NetReport, NoteVms, ProfileReport,
        PublishedTemplate, QmpAnswer, RemoveNic, RemoveReport, RenameImage, RenewVms, RepairPool,
        RepairReport, ResizeImage, ResizeVms, StartVms, StopVms, UndeleteVms, VerifyImage,
        VerifyReport, VmReport,
    },
    manager::{Caller, user_name},
};

/// A request that changes something.
pub(super) trait Concerns {
    /// What it is about, such as `VM 42-44`.
    fn what(&self) -> String;
}

macro_rules! concerns {
    ($($request:ty: $words:expr;)*) => {
        $(impl Concerns for $request {
            fn what(&self) -> String {
                let words: fn(&Self) -> String = $words;
                words(self)
            }
        })*
    };
}

concerns! {
    InitRequest: |_| "this host".to_owned();
    ExtendPool: |_| "this host".to_owned();
    RepairPool: |_| "this host".to_owned();
    CreateVms: |this| format!("VM {} of {}", this.vms, this.image);
    StartVms: |this| format!("VM {}", this.vms);
    StopVms: |this| format!("VM {}", this.vms);
    DeleteVms: |this| format!("VM {}", this.vms);
    ResizeVms: |this| format!("VM {}", this.vms);
    CompactImage: |_| String::new();
    CompactVms: |this| format!("VM {}", this.vms);
    AddDisks: |this| match &this.name {
        Some(name) => format!("VM {}, {name}", this.vms),
        None => format!("VM {}", this.vms),
    };
    NamedDisks: |this| format!("VM {}, {}", this.vms, this.name);
    ControlVms: |this| format!("{} VM {}", this.control.word(), this.vms);
    NoteVms: |this| format!("VM {}", this.vms);
    RenewVms: |this| format!("VM {}", this.vms);
    UndeleteVms: |this| format!("VM {}", this.vms);
    AddForward: |this| {
        let udp = this.udp;
        let port = this.host_port.get();
        format!("{} to port {} of VM {}", NetPort { udp, port }, this.vm_port, this.vm)
    };
    NetPort: |this| this.to_string();
    AddNic: |this| format!("VM {}", this.vm);
    RemoveNic: |this| format!("{} of VM {}", this.card, this.vm);
    CreateSnapshots: |this| format!("VM {}", this.vms);
    NamedSnapshots: |this| format!("VM {}, {}", this.vms, this.name);
    VerifyImage: |_| String::new();
    ResizeImage: |_| String::new();
    RenameImage: |this| format!("to {}", this.name);
    CreateProfile: |this| format!("of {}", this.image);
    CreateNetwork: |this| this.mode.to_string();
}

/// What came of a request, part by part where its parts have outcomes of their own.
pub(super) trait Ended {
    /// Each part that failed, with its error, and how many went well; `None` for what has no parts.
    fn failures(&self) -> Option<(usize, Vec<(String, &ApiError)>)> {
        None
    }
}

impl Ended for () {}

impl<R> Ended for BatchReport<R> {
    fn failures(&self) -> Option<(usize, Vec<(String, &ApiError)>)> {
        let failed: Vec<_> = self
            .outcomes
            .iter()
            .filter_map(|outcome| Some((outcome.vm.to_string(), outcome.error.as_ref()?)))
            .collect();
        Some((self.outcomes.len() - failed.len(), failed))
    }
}

macro_rules! whole {
    ($($report:ty),*) => { $(impl Ended for $report {})* };
}

whole!(
    AgentReport,
    ForwardReport,
    InitReport,
    RemoveReport,
    RepairReport,
    ImageReport,
    ImageCompacted,
    NetReport,
    ProfileReport,
    PublishedTemplate,
    QmpAnswer,
    VerifyReport,
    VmReport,
    ExtendReport
);

/// Writes the line and hands the result on; `words` say what was to be done.
pub(super) fn recorded<R: Ended>(
    caller: Caller,
    words: &str,
    result: Result<R, ApiError>,
) -> Result<R, ApiError> {
    let user = user_name(caller.uid);
    tracing::info!(
        uid = caller.uid,
        "audit: {user}: {}: {}",
        words.trim_end().escape_debug(),
        outcome(&result).escape_debug()
    );
    result
}

fn outcome<R: Ended>(result: &Result<R, ApiError>) -> String {
    let error = |error: &ApiError| format!("{:?}: {}", error.kind, error.message);
    match result {
        Err(failed) => error(failed),
        Ok(report) => match report.failures() {
            None => "done".to_owned(),
            Some((_, failed)) if failed.is_empty() => "done".to_owned(),
            Some((done, failed)) => {
                let parts: Vec<String> = failed
                    .iter()
                    .map(|(part, why)| format!("{part}: {}", error(why)))
                    .collect();
                format!("{done} done, {} not: {}", failed.len(), parts.join("; "))
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Action, ErrorKind, REPORT_VERSION, VmOutcome};

    #[test]
    fn what_failed_is_told_part_by_part() {
        let part = |vm: u32, error| VmOutcome::<()> {
            vm: vm.into(),
            report: None,
            error,
        };
        let refusal = ApiError::new(ErrorKind::Refused, "VM 43 is not yours");
        let report = |outcomes| {
            Ok(BatchReport {
                version: REPORT_VERSION,
                action: Action::Stop,
                outcomes,
            })
        };
        assert_eq!(outcome(&report(vec![part(42, None)])), "done");
        assert_eq!(
            outcome(&report(vec![
                part(42, None),
                part(43, Some(refusal.clone()))
            ])),
            "1 done, 1 not: 43: Refused: VM 43 is not yours"
        );
        assert_eq!(
            outcome::<BatchReport>(&Err(refusal)),
            "Refused: VM 43 is not yours"
        );
    }
}

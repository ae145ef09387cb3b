//! Disks: sizes, snapshots, compacting.

use crate::{
    batch::asked,
    daemon::{Daemon, json, lines},
    fixtures::{batch, success, vm},
};
use fvm_vmm::api::{
    Action, ApiError, BatchReport, Consistency, DiskSize, ErrorKind, NamedSnapshots,
    REPORT_VERSION, ResizeVms, SnapshotList, SnapshotReport, VmOutcome, VmState,
};
use hyper::Method;

#[test]
fn resize_asks_for_what_was_typed() {
    let (request, requests) = asked::<ResizeVms>(Action::Resize, &["resize", "42", "44-45", "+5G"]);
    let expected = ResizeVms {
        vms: "42,44-45".parse().unwrap(),
        size: DiskSize::By(5 << 30),
        shrink: false,
    };
    assert_eq!(
        (request, requests.as_slice()),
        (expected, &["POST /v1/vms/resize".to_owned()][..])
    );
    let command = ["resize", "42", "1G", "--shrink", "--yes"];
    let (request, _) = asked::<ResizeVms>(Action::Resize, &command);
    assert_eq!(
        (request.size, request.shrink),
        (DiskSize::To(1 << 30), true)
    );
}

/// The disk has 2 GiB: nothing is asked of the daemon but how large it is.
#[test]
fn a_disk_does_not_get_smaller_unless_somebody_says_yes() {
    let daemon = Daemon::new(|request| async move {
        if request.method() == Method::GET {
            json(&vm(42, VmState::Stopped))
        } else {
            lines(&[], Ok(batch(Action::Resize, vec![success(42)])))
        }
    });
    let ran = daemon.run(&["resize", "42", "1G", "--shrink"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (2, ""));
    assert!(ran.stderr.contains("--yes"), "{}", ran.stderr);
    assert_eq!(daemon.requests(), ["GET /v1/vms/42"]);
    // What gets larger is no question.
    let ran = daemon.run(&["resize", "42", "3G", "--shrink"]);
    assert_eq!(
        (ran.status, ran.stdout.as_str()),
        (0, "42  resized  2.0 GiB\n")
    );
    assert_eq!(daemon.run(&["resize", "42", "1G", "--yes"]).status, 2);
}

fn snapshot(number: u32, consistency: Consistency) -> SnapshotReport {
    SnapshotReport {
        vm: number.into(),
        name: "before".parse().unwrap(),
        created_at_s: 1_700_000_000,
        consistency,
        disk_bytes: 2 << 30,
        data_bytes: Some(61 << 20),
    }
}

#[test]
fn each_snapshot_has_a_line_that_says_how_it_caught_the_guest() {
    let outcome = |number: u32, report, error| VmOutcome {
        vm: number.into(),
        report,
        error,
    };
    let report = BatchReport {
        version: REPORT_VERSION,
        action: Action::Snapshot,
        outcomes: vec![
            outcome(42, Some(snapshot(42, Consistency::Frozen)), None),
            outcome(43, Some(snapshot(43, Consistency::Crash)), None),
            outcome(44, None, Some(ApiError::new(ErrorKind::Refused, "no"))),
        ],
    };
    let daemon = Daemon::reports(report.clone());
    let ran = daemon.run(&["snapshot", "create", "42-44", "before"]);
    assert_eq!(ran.status, 4);
    assert_eq!(
        ran.stdout,
        "42  snapshot  before  its file systems were held still\n43  snapshot  before  as after a power cut\n"
    );
    assert_eq!(ran.stderr, "error: 44: no\n");
    let ran = daemon.run(&["snapshot", "create", "42-44", "before", "--json"]);
    let read: BatchReport<SnapshotReport> = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((ran.status, read), (4, report));
    assert_eq!(daemon.requests()[0], "POST /v1/snapshots/create");
}

#[test]
fn a_restore_names_its_snapshot() {
    let restore = ["snapshot", "restore", "42,43", "before"];
    let (request, requests) = asked::<NamedSnapshots>(Action::Restore, &restore);
    assert_eq!(request.vms.to_string(), "42-43");
    assert_eq!(request.name.as_str(), "before");
    assert_eq!(requests, ["POST /v1/snapshots/restore"]);
}

#[test]
fn the_list_is_of_one_vm_or_of_all() {
    let daemon = Daemon::always(|| {
        json(&SnapshotList {
            version: REPORT_VERSION,
            snapshots: vec![snapshot(42, Consistency::Stopped)],
        })
    });
    let ran = daemon.run(&["snapshot", "list"]);
    assert!(
        ran.stdout.contains("before") && ran.stdout.contains("stopped"),
        "{}",
        ran.stdout
    );
    assert_eq!(daemon.run(&["snapshot", "list", "42"]).status, 0);
    assert_eq!(daemon.run(&["snapshot", "create", "42", "a/b"]).status, 2);
    assert_eq!(
        daemon.requests(),
        ["GET /v1/snapshots", "GET /v1/vms/42/snapshots"]
    );
}

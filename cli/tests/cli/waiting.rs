//! `start --wait`: until it is there, or with the cause.

use crate::{
    daemon::{Daemon, json, lines, refusal},
    fixtures::{batch, boot, failure, success},
};
use fvm_vmm::api::{Action, ApiError, BatchReport, BootReport, DhcpExchange, ErrorKind, VmState};
use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

/// A daemon whose VMs start, and boot as `boots` says: it gets the number and how often it was asked.
fn booting(
    vms: Vec<u32>,
    boots: impl Fn(u32, u32) -> Result<BootReport, ApiError> + Send + Sync + 'static,
) -> Daemon {
    let asked = Arc::new(AtomicU32::new(0));
    Daemon::new(move |request| {
        let path = request.uri().path().to_owned();
        let answer = match path
            .strip_prefix("/v1/vms/")
            .and_then(|p| p.strip_suffix("/boot"))
        {
            Some(number) => {
                let count = asked.fetch_add(1, Ordering::Relaxed);
                match boots(number.parse().unwrap(), count) {
                    Ok(report) => json(&report),
                    Err(error) => refusal(&error),
                }
            }
            None => {
                let outcomes = vms.iter().map(|&vm| success(vm)).collect();
                lines(&[], Ok(batch(Action::Start, outcomes)))
            }
        };
        std::future::ready(answer)
    })
}

fn exchange(at_ms: u64, asked: &str, answered: &str) -> DhcpExchange {
    DhcpExchange {
        at_ms: 1_700_000_000_000 + at_ms,
        asked: asked.to_owned(),
        answered: answered.to_owned(),
    }
}

#[test]
fn a_lease_that_comes_is_told_with_its_time() {
    let daemon = booting(vec![42, 43], |number, count| {
        Ok(BootReport {
            has_lease: count > 4,
            ..boot(number, VmState::Running)
        })
    });
    let ran = daemon.run(&["start", "42,43", "--wait", "lease"]);
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
    let mut lines: Vec<_> = ran.stdout.lines().collect();
    lines.sort_unstable();
    assert!(
        lines[0].starts_with("42  started  127.0.22.42  lease after "),
        "{ran:?}"
    );
    assert!(
        lines[1].starts_with("43  started  127.0.22.43  lease after "),
        "{ran:?}"
    );
}

#[test]
fn no_dhcp_request_at_all_is_a_cause() {
    let daemon = booting(vec![42], |number, _| {
        Ok(BootReport {
            console_tail: vec!["Kernel panic - not syncing".to_owned()],
            ..boot(number, VmState::Running)
        })
    });
    let ran = daemon.run(&["start", "42", "--wait", "ssh", "--timeout", "1s"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (1, ""));
    assert_eq!(
        ran.stderr,
        "error: VM 42 has sent no DHCP request within 1 s\n  \
         DHCP: nothing\n  \
         console: Kernel panic - not syncing\n\
         hint: it goes on running: look at it with `fvm console 42`\n"
    );
}

#[test]
fn a_request_without_an_address_is_another() {
    let daemon = booting(vec![42], |number, _| {
        Ok(BootReport {
            dhcp: vec![
                exchange(2_100, "DISCOVER", "OFFER 127.0.22.42"),
                exchange(62_000, "REQUEST 10.0.0.9\u{1b}[2J", "NAK"),
            ],
            ..boot(number, VmState::Running)
        })
    });
    let ran = daemon.run(&["start", "42", "--wait", "lease", "--timeout", "1s"]);
    assert_eq!(ran.status, 1);
    assert_eq!(
        ran.stderr,
        "error: VM 42 has asked for its address, but not got it within 1 s\n  \
         DHCP after 2.1 s: DISCOVER -> OFFER 127.0.22.42\n  \
         DHCP after 62 s: REQUEST 10.0.0.9\u{fffd}[2J -> NAK\n  \
         console: nothing printed\n\
         hint: it goes on running: look at it with `fvm console 42`\n"
    );
}

#[test]
fn a_crash_ends_the_waiting_at_once() {
    let daemon = booting(vec![42], |number, count| {
        let mut report = boot(
            number,
            [VmState::Running, VmState::Crashed][count.min(1) as usize],
        );
        report.vm.cause = (count > 0).then(|| "QEMU was killed by signal 9".to_owned());
        Ok(report)
    });
    let ran = daemon.run(&["start", "42", "--wait", "ssh", "--timeout", "1h"]);
    assert_eq!(ran.status, 1);
    let start = "error: VM 42 crashed before ssh answered: QEMU was killed by signal 9\n";
    assert!(ran.stderr.starts_with(start), "{ran:?}");
}

#[test]
fn so_does_a_stop_and_a_delete() {
    let daemon = booting(vec![42], |number, _| Ok(boot(number, VmState::Stopped)));
    let ran = daemon.run(&["start", "42", "--wait", "ssh", "--timeout", "1h"]);
    assert!(
        ran.stderr
            .starts_with("error: VM 42 stopped before ssh answered\n"),
        "{ran:?}"
    );
    let daemon = booting(vec![42], |_, _| {
        Err(ApiError::new(ErrorKind::NotFound, "there is no VM 42"))
    });
    let ran = daemon.run(&["start", "42", "--wait", "ssh", "--timeout", "1h"]);
    assert_eq!(ran.status, 3);
    assert_eq!(ran.stderr, "error: there is no VM 42\n");
}

#[test]
fn what_did_not_start_is_not_waited_for() {
    let daemon = Daemon::always(|| {
        let outcomes = vec![failure(42, ErrorKind::Refused, "VM 42 runs already")];
        lines(&[], Ok(batch(Action::Start, outcomes)))
    });
    let ran = daemon.run(&["start", "42", "--wait", "ssh", "--timeout", "1h"]);
    assert_eq!(ran.status, 4);
    assert!(
        ran.stderr.starts_with("error: VM 42 runs already\n"),
        "{ran:?}"
    );
    assert_eq!(daemon.requests(), ["POST /v1/vms/start"]);
}

#[test]
fn json_has_the_outcome_of_the_waiting() {
    let daemon = booting(vec![42, 43], |number, _| {
        Ok(BootReport {
            has_lease: number == 42,
            ..boot(number, VmState::Running)
        })
    });
    let ran = daemon.run(&[
        "start",
        "42-43",
        "--wait",
        "lease",
        "--timeout",
        "1s",
        "--json",
    ]);
    assert_eq!((ran.status, ran.stderr.as_str()), (1, ""));
    let report: BatchReport = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(report.outcomes[0].error, None);
    let error = report.outcomes[1].error.as_ref().unwrap();
    assert_eq!(error.kind, ErrorKind::Failed);
    // It did start: what is known of it is still there.
    assert!(report.outcomes[1].report.is_some());
}

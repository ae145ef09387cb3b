//! `fvm doctor`: its exit status is that of the worst finding, and it works without a daemon.

use crate::{
    daemon::{Daemon, json},
    run::run,
};
use fvm_vmm::api::{DoctorReport, Finding, Level, REPORT_VERSION};

fn daemon(findings: Vec<Finding>) -> Daemon {
    let report = DoctorReport {
        version: REPORT_VERSION,
        findings,
    };
    Daemon::always(move || json(&report))
}

#[test]
fn the_exit_status_is_that_of_the_worst_finding() {
    let ok = Finding::ok("KVM", "works");
    let warning = Finding::warning("pool", "90 % used").fix("fvm compact 42");
    let error = Finding::error("module tun", "is not loaded").fix("sudo modprobe tun");
    for (findings, status) in [
        (vec![ok.clone()], 0),
        (vec![ok.clone(), warning.clone()], 1),
        (vec![error, warning, ok], 5),
    ] {
        let daemon = daemon(findings.clone());
        let ran = daemon.run(&["doctor"]);
        assert_eq!(ran.status, status, "{ran:?}");
        for finding in &findings {
            assert!(ran.stdout.contains(&finding.state), "{ran:?}");
            let fix = finding.fix.as_deref().unwrap_or_default();
            assert!(ran.stdout.contains(fix), "{ran:?}");
        }
        let ran = daemon.run(&["doctor", "--json"]);
        assert_eq!(ran.status, status, "{ran:?}");
        let report: DoctorReport = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!(report.findings, findings);
        assert_eq!(daemon.requests()[0], "GET /v1/host/doctor");
    }
}

#[test]
fn without_a_daemon_that_is_the_first_finding() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("none.sock");
    let ran = run(&socket, &["doctor", "--json"]);
    assert_eq!(ran.status, 5, "{ran:?}");
    let report: DoctorReport = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(report.findings[0].what, "fvmd");
    assert_eq!(report.findings[0].level, Level::Error);
    assert!(report.findings[0].state.contains("none.sock"), "{report:?}");
    assert!(report.findings.len() > 1, "{report:?}");
}

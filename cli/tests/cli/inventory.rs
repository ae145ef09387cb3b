//! VMs for ssh and for Ansible, and lists that are watched.

use crate::{
    daemon::{Daemon, json},
    fixtures::vm,
    run::status_of,
};
use fvm_vmm::api::{REPORT_VERSION, VmList, VmReport, VmState};
use serde_json::Value;
use std::{
    io::{BufRead, BufReader},
    process::Stdio,
    sync::atomic::{AtomicU32, Ordering},
};

fn vms() -> Vec<VmReport> {
    vec![
        vm(42, VmState::Running),
        vm(43, VmState::Stopped),
        VmReport {
            image: "Fedora-40.1".into(),
            profile: Some("web".into()),
            ..vm(50, VmState::Running)
        },
    ]
}

fn daemon() -> Daemon {
    Daemon::always(|| {
        json(&VmList {
            version: REPORT_VERSION,
            vms: vms(),
        })
    })
}

fn inventory(arguments: &[&str]) -> Value {
    let ran = daemon().run(&[&["inventory"], arguments].concat());
    assert_eq!(ran.status, 0, "{ran:?}");
    serde_json::from_str(&ran.stdout).unwrap()
}

#[test]
fn ansible_finds_running_vms_in_groups() {
    let all = inventory(&["--list", "-i", "/id"]);
    assert_eq!(all["fvm"]["hosts"], serde_json::json!(["fvm-42", "fvm-50"]));
    assert_eq!(all["image_debian"]["hosts"], serde_json::json!(["fvm-42"]));
    assert_eq!(all["image_Fedora_40_1"]["hosts"][0], "fvm-50");
    assert_eq!(all["profile_web"]["hosts"][0], "fvm-50");
    let one = &all["_meta"]["hostvars"]["fvm-42"];
    assert_eq!(one["ansible_host"], "127.0.22.42");
    assert_eq!(one["ansible_ssh_private_key_file"], "/id");
    assert_eq!(&inventory(&["--host", "fvm-42", "-i", "/id"]), one);
    assert_eq!(inventory(&["--host", "fvm-99"]), serde_json::json!({}));
    let more = inventory(&["--list", "--all"]);
    assert_eq!(more["_meta"]["hostvars"]["fvm-43"]["fvm_state"], "stopped");
    assert_eq!(daemon().run(&["inventory"]).status, 2);
}

#[test]
fn ssh_reads_what_is_written_for_it() {
    let daemon = daemon();
    let ran = daemon.run(&["ssh-config", "-l", "admin", "-i", "/a key"]);
    assert_eq!(ran.status, 0, "{ran:?}");
    let file = daemon.dir().join("config");
    std::fs::write(&file, &ran.stdout).unwrap();
    // As ssh itself understands it, where there is one.
    if let Ok(output) = std::process::Command::new("ssh")
        .arg("-G")
        .arg("-F")
        .arg(&file)
        .arg("fvm-debian-43")
        .output()
    {
        let text = String::from_utf8(output.stdout).unwrap();
        for line in ["hostname 127.0.22.43", "user admin", "identityfile /a key"] {
            assert!(text.lines().any(|l| l == line), "{line}: {text}");
        }
    }
    let ran = daemon.run(&["ssh-config", "42"]);
    assert!(
        ran.stdout.contains("Host fvm-42 fvm-debian-42\n"),
        "{ran:?}"
    );
    assert!(!ran.stdout.contains("fvm-43"), "{ran:?}");
    assert_eq!(daemon.run(&["ssh-config", "99"]).status, 3);
}

#[test]
fn a_list_that_is_watched_is_shown_again_when_it_changes() {
    let asked = AtomicU32::new(0);
    let daemon = Daemon::always(move || {
        // The same twice, then another.
        let state = match asked.fetch_add(1, Ordering::Relaxed) {
            0 | 1 => VmState::Stopped,
            _ => VmState::Crashed,
        };
        json(&VmList {
            version: REPORT_VERSION,
            vms: vec![vm(42, state)],
        })
    });
    let mut child = daemon
        .fvm(&["list", "--watch", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut state = || {
        let list: VmList = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        list.vms[0].state
    };
    assert_eq!((state(), state()), (VmState::Stopped, VmState::Crashed));
    child.kill().unwrap();
    assert_eq!(status_of(child), -1);
}

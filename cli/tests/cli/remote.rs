//! Commands that call OpenSSH's programs: what they are called with. Stand-ins print that.

use crate::{
    daemon::{Daemon, json, lines},
    fixtures::{batch, success, vm},
    run::Ran,
};
use fvm_vmm::api::{Action, REPORT_VERSION, VmList, VmOutcome, VmState};
use std::{fs, os::unix::fs::PermissionsExt, path::Path};

/// Puts a shell script into the directory as a program.
fn program(directory: &Path, name: &str, script: &str) {
    let path = directory.join(name);
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A daemon whose VMs run, but for those from 90 on.
fn vms() -> Daemon {
    Daemon::new(|request| {
        let number = request.uri().path().rsplit('/').next().unwrap();
        let number = number.parse().unwrap();
        let state = match number {
            90.. => VmState::Stopped,
            _ => VmState::Running,
        };
        std::future::ready(json(&vm(number, state)))
    })
}

/// Runs a command with these programs before all others in PATH.
fn run_with(daemon: &Daemon, programs: &Path, command: &[&str]) -> Ran {
    let path = format!("{}:/usr/bin:/bin", programs.display());
    let mut fvm = daemon.fvm(command);
    fvm.env("PATH", path).env("HOME", programs);
    Ran::of(fvm)
}

const SAY: &str = "for word; do echo \"<$word>\"; done";

#[test]
fn scp_gets_the_address_for_vm() {
    let daemon = vms();
    program(daemon.dir(), "scp", SAY);
    let ran = run_with(&daemon, daemon.dir(), &["scp", "42", "a b", "vm:/root/"]);
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
    let tail = "<-r>\n<-->\n<a b>\n<root@127.0.22.42:/root/>\n";
    assert!(ran.stdout.ends_with(tail), "{ran:?}");
    assert!(ran.stdout.contains("<StrictHostKeyChecking=no>"), "{ran:?}");
    let command = ["scp", "-l", "ann", "42", "vm:x", "."];
    let ran = run_with(&daemon, daemon.dir(), &command);
    assert!(
        ran.stdout.ends_with("<ann@127.0.22.42:x>\n<.>\n"),
        "{ran:?}"
    );
}

#[test]
fn several_vms_copy_side_by_side_and_one_failure_is_the_status() {
    let daemon = vms();
    // Each waits for the other, so one after the other would never end.
    let script = "for last; do :; done; touch \"$HOME/$last\"
        until [ -e \"$HOME/log-42\" ] && [ -e \"$HOME/log-43\" ]; do sleep 0.01; done
        echo \"got $last\"; case $last in *43) echo no >&2; exit 7;; esac";
    program(daemon.dir(), "scp", script);
    let ran = run_with(&daemon, daemon.dir(), &["scp", "42 43", "vm:log", "log-{}"]);
    assert_eq!(ran.status, 1, "{ran:?}");
    assert_eq!(
        ran.stdout,
        "42: got log-42\n42: done\n43: got log-43\n43: no\n43: ended with 7\n"
    );
    let command = ["scp", "42,43", "vm:log", "log-{}", "--json"];
    // What follows the paths is a path, so the option stands before.
    assert_eq!(run_with(&daemon, daemon.dir(), &command).status, 2);
    let command = ["--json", "scp", "42,43", "vm:log", "log-{}"];
    let ran = run_with(&daemon, daemon.dir(), &command);
    let report: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(report["runs"][1]["status"], 7, "{report}");
}

#[test]
fn rsync_goes_through_ssh_with_the_same_options() {
    let daemon = vms();
    program(daemon.dir(), "rsync", SAY);
    let command = ["rsync", "42", "--", "--delete", "src/", "vm:/srv/"];
    let ran = run_with(&daemon, daemon.dir(), &command);
    assert_eq!(ran.status, 0, "{ran:?}");
    let tail = "<--delete>\n<src/>\n<root@127.0.22.42:/srv/>\n";
    assert!(ran.stdout.ends_with(tail), "{ran:?}");
    let through = "<-e>\n<ssh '-o' 'StrictHostKeyChecking=no' ";
    assert!(ran.stdout.contains(through), "{ran:?}");
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let daemon = vms();
    let refused: [(&[&str], i32, &str); 7] = [
        (
            &["scp", "42", "a", "b"],
            2,
            "none of these paths is in the VM",
        ),
        (&["scp", "42", "vm:a"], 2, "PATH"),
        (&["scp", "42,43", "vm:a", "b"], 2, "the same place"),
        (&["scp", "90", "a", "vm:b"], 4, "VM 90 is not running"),
        (&["ssh", "42,43"], 2, "several VMs"),
        (&["start", "42,43", "ssh"], 2, "several VMs"),
        (&["start", "42", "console", "--json"], 2, "no JSON"),
    ];
    for (command, status, why) in refused {
        let ran = run_with(&daemon, daemon.dir(), command);
        assert_eq!(ran.status, status, "{command:?}: {ran:?}");
        assert!(ran.stderr.contains(why), "{command:?}: {ran:?}");
        assert_eq!(ran.stdout, "", "{command:?}");
    }
}

#[test]
fn a_missing_program_is_named() {
    let daemon = vms();
    let mut fvm = daemon.fvm(&["rsync", "42", "a", "vm:b"]);
    fvm.env("PATH", daemon.dir());
    let ran = Ran::of(fvm);
    assert_eq!(ran.status, 5, "{ran:?}");
    assert!(ran.stderr.contains("apt install rsync"), "{ran:?}");
}

#[test]
fn a_script_gets_the_address() {
    let daemon = vms();
    program(daemon.dir(), "set-up", "echo \"at $1\"; exit 3");
    let script = daemon.dir().join("set-up");
    let script = script.to_str().unwrap();
    let ran = daemon.run(&["ssh", "42", "--script", script]);
    assert_eq!((ran.status, ran.stdout.as_str()), (3, "at 127.0.22.42\n"));
    let ran = daemon.run(&["ssh", "42,43", "--script", script]);
    assert_eq!(ran.status, 1);
    assert!(ran.stdout.contains("43: at 127.0.22.43\n"), "{ran:?}");
}

#[test]
fn fast_vms_names_are_links_to_the_same_program() {
    let daemon = vms();
    program(daemon.dir(), "set-up", "echo \"at $1\"");
    let link = daemon.dir().join("fast-vm");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_fvm"), &link).unwrap();
    let mut command = std::process::Command::new(&link);
    let script = daemon.dir().join("set-up");
    command
        .args(["ssh", "42"])
        .arg(script)
        .env("FVM_SOCKET", daemon.socket());
    let ran = Ran::of(command);
    assert_eq!((ran.status, ran.stdout.as_str()), (0, "at 127.0.22.42\n"));
}

#[test]
fn the_list_can_be_of_those_that_run_and_short() {
    let list = VmList {
        version: REPORT_VERSION,
        vms: vec![
            vm(42, VmState::Running),
            vm(43, VmState::Stopped),
            vm(44, VmState::Paused),
            vm(45, VmState::Crashed),
        ],
    };
    let daemon = Daemon::always(move || json(&list));
    let listed = |command: &[&str]| daemon.run(command).stdout;
    assert_eq!(listed(&["list", "active", "short"]), "42\n44\n");
    assert_eq!(
        listed(&["list", "--state", "inactive", "--short"]),
        "43\n45\n"
    );
    assert_eq!(listed(&["list", "all", "short"]), "42\n43\n44\n45\n");
    let json = listed(&["list", "active", "--json"]);
    let list: VmList = serde_json::from_str(&json).unwrap();
    assert_eq!(list.vms.len(), 2);
}

#[test]
fn a_deleted_vms_host_keys_are_forgotten() {
    let daemon = Daemon::new(|request| {
        let is_list = request.method() == "GET";
        let answer = if is_list {
            json(&VmList {
                version: REPORT_VERSION,
                vms: vec![vm(42, VmState::Stopped), vm(43, VmState::Stopped)],
            })
        } else {
            let failed = VmOutcome {
                error: Some(fvm_vmm::api::ApiError::new(
                    fvm_vmm::api::ErrorKind::Refused,
                    "VM 43 is not yours",
                )),
                ..success(43)
            };
            lines(&[], Ok(batch(Action::Delete, vec![success(42), failed])))
        };
        std::future::ready(answer)
    });
    let hosts = daemon.dir().join(".ssh/known_hosts");
    fs::create_dir(daemon.dir().join(".ssh")).unwrap();
    fs::write(&hosts, "127.0.22.42 ssh-rsa A\n127.0.22.43 ssh-rsa B\n").unwrap();
    let ran = run_with(&daemon, daemon.dir(), &["delete", "42,43"]);
    assert_eq!(ran.status, 4, "{ran:?}");
    assert_eq!(
        fs::read_to_string(&hosts).unwrap(),
        "127.0.22.43 ssh-rsa B\n"
    );
}

//! `fvm --host`: everything through an `ssh`, which is one of the test's own here.

use crate::{
    daemon::{Daemon, json, lines},
    fixtures::{batch, success, vm},
    run::Ran,
};
use fvm_vmm::api::{Action, Event, REPORT_VERSION, VmList, VmState};
use std::{fs, os::unix::fs::PermissionsExt, path::Path};

/// Puts an `ssh` into a folder of the test and returns the search path that finds it, and this `fvm`.
pub(crate) fn with_ssh(dir: &Path, script: &str) -> String {
    let bin = dir.join("bin");
    fs::create_dir_all(&bin).unwrap();
    let program = bin.join("ssh");
    fs::write(&program, format!("#!/bin/sh\n{script}")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let fvm = Path::new(env!("CARGO_BIN_EXE_fvm")).parent().unwrap();
    format!("{}:{}:/usr/bin:/bin", bin.display(), fvm.display())
}

/// Runs what is to be run on the other host here, after noting for whom.
const TO_ITSELF: &str = r#"
echo "$@" >> "$(dirname "$0")/asked"
while [ "$1" != -- ]; do shift; done
shift 2
exec "$@"
"#;

fn run(daemon: &Daemon, ssh: &str, arguments: &[&str]) -> Ran {
    let path = with_ssh(daemon.dir(), ssh);
    let mut command = daemon.fvm(arguments);
    command.env("PATH", path);
    Ran::of(command)
}

#[test]
fn questions_and_operations_go_through_ssh() {
    let daemon = Daemon::new(|request| {
        let answer = if request.method() == "GET" {
            json(&VmList {
                version: REPORT_VERSION,
                vms: vec![vm(42, VmState::Running)],
            })
        } else {
            let told = Event {
                vm: None,
                warning: true,
                text: "the pool is nearly full".into(),
            };
            lines(&[told], Ok(batch(Action::Delete, vec![success(42)])))
        };
        std::future::ready(answer)
    });
    let host = "--host=ssh://ann@lab.example:2222";
    let ran = run(&daemon, TO_ITSELF, &[host, "list", "--short"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (0, "42\n"), "{ran:?}");
    let ran = run(&daemon, TO_ITSELF, &["delete", "42", host]);
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(ran.stdout.starts_with("42  deleted"), "{ran:?}");
    assert!(ran.stderr.contains("nearly full"), "{ran:?}");
    assert_eq!(daemon.requests(), ["GET /v1/vms", "POST /v1/vms/delete"]);
    let asked = fs::read_to_string(daemon.dir().join("bin/asked")).unwrap();
    for line in asked.lines() {
        assert!(
            line.ends_with("-l ann -p 2222 -- lab.example fvm connect"),
            "{line}"
        );
    }
}

#[test]
fn a_vm_is_logged_in_to_by_way_of_its_host() {
    let daemon = Daemon::always(|| json(&vm(42, VmState::Running)));
    let ssh = format!("case \"$*\" in *'fvm connect') {TO_ITSELF} ;; *) echo \"ssh $*\" ;; esac");
    let ran = run(
        &daemon,
        &ssh,
        &["--host", "ssh://ann@lab", "ssh", "42", "uptime"],
    );
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(
        ran.stdout
            .ends_with("-J ann@lab -l root -- 127.0.22.42 uptime\n"),
        "{ran:?}"
    );
}

#[test]
fn every_way_not_to_get_there_is_told() {
    let daemon = Daemon::always(|| json(&vm(42, VmState::Running)));
    for (ssh, arguments, status, words) in [
        (
            "exit 255",
            ["--host=ssh://lab", "list"],
            5,
            "ssh did not get to lab",
        ),
        ("exit 127", ["--host=ssh://lab", "list"], 5, "no fvm on lab"),
        ("exit 4", ["--host=ssh://lab", "list"], 4, "group fvm"),
        ("exit 0", ["--host=lab", "list"], 2, "ssh://user@host"),
        ("exit 0", ["--host=ssh://-x", "list"], 2, "ssh://user@host"),
        ("exit 0", ["--host=ssh://lab", "init"], 2, "ssh lab"),
    ] {
        let ran = run(&daemon, ssh, &arguments);
        assert_eq!(ran.status, status, "{ran:?}");
        assert!(ran.stderr.contains(words), "{words}: {ran:?}");
        assert_eq!(ran.stdout, "");
    }
    assert!(daemon.requests().is_empty());
}

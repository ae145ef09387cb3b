//! Reports as text and as JSON.

use crate::{
    daemon::{Daemon, json},
    fixtures::{image, new_host, vm},
    run::Ran,
};
use fvm_vmm::api::{
    HostReport, ImageList, NetMessage, NetProtocol, REPORT_VERSION, TraceReport, VmList, VmReport,
    VmState,
};
use std::{
    io::{BufRead, BufReader},
    process::Stdio,
    sync::atomic::{AtomicU64, Ordering},
};

#[test]
fn text_and_json_come_from_the_same_report() {
    let list = VmList {
        version: REPORT_VERSION,
        vms: vec![vm(42, VmState::Stopped), vm(43, VmState::Crashed)],
    };
    let sent = list.clone();
    let daemon = Daemon::always(move || json(&sent));
    let ran = daemon.run(&["list", "--json"]);
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
    assert_eq!(serde_json::from_str::<VmList>(&ran.stdout).unwrap(), list);
    assert_eq!(ran.stdout.lines().count(), 1);
    let ran = daemon.run(&["list"]);
    assert_eq!(
        ran.stdout,
        "\
VM  IMAGE   STATE    ADDRESS       MEMORY  CPUS     DISK  OWNER  GROUP  UPTIME  IDLE  LEFT  NOTE
42  debian  stopped  127.0.22.42  512 MiB     1  2.0 GiB  root                    0d        mail
43  debian  crashed  127.0.22.43  512 MiB     1  2.0 GiB  root                    0d        mail
"
    );
    assert_eq!(daemon.requests(), ["GET /v1/vms", "GET /v1/vms"]);
}

#[test]
fn info_is_of_one_vm() {
    let daemon = Daemon::always(|| json(&vm(42, VmState::Running)));
    let ran = daemon.run(&["info", "42"]);
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(ran.stdout.contains("address  127.0.22.42\n"), "{ran:?}");
    let ran = daemon.run(&["info", "42", "--json"]);
    let read: VmReport = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(read, vm(42, VmState::Running));
    assert_eq!(daemon.requests()[0], "GET /v1/vms/42");
}

#[test]
fn images_are_listed() {
    let list = ImageList {
        version: REPORT_VERSION,
        images: vec![image("debian")],
    };
    let daemon = Daemon::always(move || json(&list));
    let ran = daemon.run(&["image", "list"]);
    assert!(ran.stdout.contains("debian  2.0 GiB  61 MiB"), "{ran:?}");
    assert_eq!(daemon.requests(), ["GET /v1/images"]);
}

#[test]
fn status_says_by_its_exit_whether_the_host_is_able() {
    let cases = [
        (new_host(), 5, "run `sudo fvm init`"),
        (
            HostReport {
                initialised: true,
                ..new_host()
            },
            0,
            "ready",
        ),
        (
            HostReport {
                initialised: true,
                trouble: Some("the pool is full".to_owned()),
                ..new_host()
            },
            5,
            "the pool is full",
        ),
    ];
    for (host, status, text) in cases {
        let daemon = Daemon::always(move || json(&host));
        let ran = daemon.run(&["status"]);
        assert_eq!(ran.status, status, "{ran:?}");
        assert!(ran.stdout.contains(text), "{ran:?}");
    }
}

#[test]
fn ssh_becomes_ssh() {
    let daemon = Daemon::always(|| json(&vm(42, VmState::Running)));
    // A client of the test's own, found first in the PATH.
    let ssh = daemon.dir().join("ssh");
    std::fs::write(&ssh, "#!/bin/sh\nprintf '%s\\n' \"$@\"\nexit 77\n").unwrap();
    std::fs::set_permissions(&ssh, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut command = daemon.fvm(&["ssh", "-l", "admin", "42", "--", "uname", "-a"]);
    command.env("PATH", daemon.dir());
    let ran = Ran::of(command);
    assert_eq!(ran.status, 77);
    let arguments = ran.stdout;
    let tail = "-l\nadmin\n--\n127.0.22.42\nuname\n-a\n";
    assert!(arguments.ends_with(tail), "{arguments}");
    assert!(
        arguments.contains("StrictHostKeyChecking=no"),
        "{arguments}"
    );
}

#[test]
fn ssh_to_a_vm_that_does_not_run_says_so() {
    let daemon = Daemon::always(|| json(&vm(42, VmState::Stopped)));
    let ran = daemon.run(&["ssh", "42", "uname"]);
    assert_eq!(ran.status, 4);
    assert_eq!(
        ran.stderr,
        "error: VM 42 is not running, it is stopped\n\
         hint: start it with `fvm start 42 --wait ssh`\n"
    );
}

#[test]
fn a_host_without_ssh_is_told_so() {
    let daemon = Daemon::always(|| json(&vm(42, VmState::Running)));
    let mut command = daemon.fvm(&["ssh", "42"]);
    command.env("PATH", "/nowhere");
    let ran = Ran::of(command);
    assert_eq!(ran.status, 5);
    assert!(ran.stderr.contains("there is no program ssh"), "{ran:?}");
}

#[test]
fn a_trace_is_followed_until_nobody_reads_it() {
    // One more message each time it is asked for.
    let asked = AtomicU64::new(0);
    let daemon = Daemon::always(move || {
        let messages = (1..=asked.fetch_add(1, Ordering::Relaxed)).map(|number| NetMessage {
            number,
            at_ms: 1_800_000_000_000 + number,
            protocol: NetProtocol::Dhcp,
            asked: "DISCOVER".to_owned(),
            answered: "OFFER 127.0.22.42".to_owned(),
        });
        json(&TraceReport {
            version: REPORT_VERSION,
            vm: 42.into(),
            state: VmState::Running,
            served: true,
            messages: messages.collect(),
        })
    });
    let mut command = daemon.fvm(&["net", "trace", "42", "--json"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let reader = BufReader::new(child.stdout.take().unwrap());
    let numbers: Vec<u64> = reader
        .lines()
        .take(3)
        .map(|line| {
            serde_json::from_str::<NetMessage>(&line.unwrap())
                .unwrap()
                .number
        })
        .collect();
    assert_eq!(numbers, [1, 2, 3], "each once, in order");
    // The reader is gone: the next message has nowhere to go, and that is the end.
    assert_eq!(crate::run::status_of(child), 0);
    assert_eq!(daemon.requests()[0], "GET /v1/vms/42/trace");
}

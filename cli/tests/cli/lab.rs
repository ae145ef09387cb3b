//! Lab files: what is wanted, what is there, and what is done.

use crate::{
    daemon::{Daemon, json, lines, read_json},
    fixtures::{batch, success, vm},
};
use fvm_vmm::api::{Action, REPORT_VERSION, VmList, VmReport, VmState};
use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
};

/// A host with these VMs; what is asked for is kept.
fn host(vms: Vec<VmReport>) -> (Daemon, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&asked);
    let daemon = Daemon::new(move |request| {
        let (kept, vms) = (Arc::clone(&kept), vms.clone());
        async move {
            let path = request.uri().path().to_owned();
            if request.method() == "GET" && path == "/v1/vms" {
                let version = REPORT_VERSION;
                return json(&VmList { version, vms });
            }
            let (action, verb) = match path.rsplit('/').next() {
                Some("create") => (Action::Create, "create"),
                Some("start") => (Action::Start, "start"),
                Some("note") => (Action::Note, "note"),
                Some("undelete") => (Action::Undelete, "undelete"),
                Some("delete") => (Action::Delete, "delete"),
                other => panic!("{other:?} was asked for"),
            };
            let request: serde_json::Value = read_json(request).await;
            kept.lock()
                .unwrap()
                .push(format!("{verb} {}", request["vms"]));
            let numbers = request["vms"].as_array().unwrap().iter();
            let done = numbers.map(|number| success(number.as_u64().unwrap() as u32));
            lines(&[], Ok(batch(action, done.collect())))
        }
    });
    (daemon, asked)
}

fn write(daemon: &Daemon, text: &str) -> PathBuf {
    let path = daemon.dir().join("lab.toml");
    std::fs::write(&path, text).unwrap();
    path
}

const LAB: &str = "group = 'web'
[[vm]]
numbers = '42-44'
image = 'debian'
memory = '512M'
note = 'the lab'
[[vm]]
numbers = 45
image = 'debian'
start = false
";

fn there(number: u32, state: VmState) -> VmReport {
    VmReport {
        group: Some("web".parse().unwrap()),
        ..vm(number, state)
    }
}

#[test]
fn up_does_what_diff_shows_and_no_more() {
    let (daemon, asked) = host(vec![
        there(42, VmState::Running),
        there(43, VmState::Expired),
        there(50, VmState::Stopped),
    ]);
    let file = write(&daemon, LAB);
    let file = file.to_str().unwrap();
    let ran = daemon.run(&["diff", file]);
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
    assert_eq!(
        ran.stdout,
        "\
VM  CHANGE
42  none
43  undelete, start
44  create, start
45  create
"
    );
    assert_eq!(*asked.lock().unwrap(), [] as [&str; 0]);
    let ran = daemon.run(&["up", file, "--json"]);
    assert_eq!(ran.status, 0, "{ran:?}");
    let steps: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(steps["batches"].as_array().unwrap().len(), 5);
    assert_eq!(
        *asked.lock().unwrap(),
        [
            "create [44]",
            "note [44]",
            "create [45]",
            "undelete [43]",
            "start [43,44]"
        ]
    );
}

#[test]
fn up_of_what_is_there_does_nothing_and_down_deletes_it() {
    let mut vms: Vec<VmReport> = (42..45)
        .map(|number| there(number, VmState::Running))
        .collect();
    vms.push(there(45, VmState::Stopped));
    let (daemon, asked) = host(vms);
    let file = write(&daemon, LAB);
    let ran = daemon.run(&["up", file.to_str().unwrap()]);
    assert_eq!((ran.status, ran.stdout.as_str()), (0, ""));
    assert_eq!(ran.stderr, "all is as the lab file says\n");
    assert_eq!(*asked.lock().unwrap(), [] as [&str; 0]);
    let ran = daemon.run(&["down", file.to_str().unwrap()]);
    assert_eq!(ran.status, 0, "{ran:?}");
    assert_eq!(*asked.lock().unwrap(), ["delete [42,43,44,45]"]);
}

#[test]
fn a_vm_that_is_not_the_one_meant_is_left_alone() {
    let other = VmReport {
        memory_mib: 1024,
        ..vm(43, VmState::Running)
    };
    let (daemon, asked) = host(vec![there(42, VmState::Stopped), other]);
    let file = write(&daemon, LAB);
    let file = file.to_str().unwrap();
    let words = "43  differs        memory is 1.0 GiB, not 512 MiB; group is none, not web";
    let ran = daemon.run(&["diff", file]);
    assert!(ran.stdout.contains(words), "{ran:?}");
    for command in ["up", "down"] {
        let ran = daemon.run(&[command, file]);
        assert_eq!(ran.status, 4, "{ran:?}");
        assert!(ran.stderr.contains("group is none, not web"), "{ran:?}");
    }
    assert_eq!(*asked.lock().unwrap(), [] as [&str; 0]);
}

#[test]
fn a_mistake_is_told_with_its_place_and_nobody_is_asked() {
    let daemon = Daemon::always(|| unreachable!());
    let file = write(
        &daemon,
        "[[vm]]\nnumbers = 42\nimage = 'debian'\nmemry = 1\n",
    );
    let ran = daemon.run(&["up", file.to_str().unwrap()]);
    assert_eq!(ran.status, 2, "{ran:?}");
    assert!(
        ran.stderr.contains("lab.toml, line 4: ") && ran.stderr.contains("memry"),
        "{ran:?}"
    );
    let ran = daemon.run(&["down", "/nowhere/lab.toml"]);
    assert_eq!(ran.status, 3, "{ran:?}");
    assert_eq!(daemon.requests(), [] as [&str; 0]);
}

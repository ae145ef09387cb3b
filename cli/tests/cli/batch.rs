//! Commands for several VMs at once.

use crate::{
    daemon::{Daemon, json, lines, read_json, whole},
    fixtures::{batch, failure, success, vm},
    run::Ran,
};
use fvm_vmm::api::{
    Action, BatchReport, Control, ControlVms, CreateVms, DeleteVms, ErrorKind, Event, Lifetime,
    NoteVms, REPORT_VERSION, RenewVms, StopMode, StopVms, Ttl, UndeleteVms, VmList, VmOutcome,
    VmReport, VmState,
};
use hyper::StatusCode;
use std::sync::{Arc, Mutex};

#[test]
fn each_vm_has_a_line_and_the_status_is_that_of_the_failures() {
    let report = batch(
        Action::Create,
        vec![
            success(42),
            failure(43, ErrorKind::Refused, "number 43 is taken"),
            success(44),
        ],
    );
    let ran = Daemon::reports(report.clone()).run(&["create", "debian", "42-44"]);
    assert_eq!(ran.status, 4);
    assert_eq!(
        ran.stdout,
        "42  created  fvm-debian-42  127.0.22.42\n44  created  fvm-debian-44  127.0.22.44\n"
    );
    assert_eq!(
        ran.stderr,
        "error: 43: number 43 is taken\nhint: try something else\n"
    );
    let ran = Daemon::reports(report.clone()).run(&["create", "debian", "42-44", "--json"]);
    assert_eq!((ran.status, ran.stderr.as_str()), (4, ""));
    let read: BatchReport = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(read, report);
}

#[test]
fn failures_of_several_kinds_are_status_1() {
    let report = batch(
        Action::Delete,
        vec![
            failure(42, ErrorKind::NotFound, "there is no VM 42"),
            failure(43, ErrorKind::Refused, "VM 43 is not yours"),
        ],
    );
    assert_eq!(
        Daemon::reports(report).run(&["delete", "42", "43"]).status,
        1
    );
}

#[test]
fn what_is_deleted_has_no_report() {
    let gone = VmOutcome {
        report: None,
        ..success(42)
    };
    let daemon = Daemon::reports(batch(Action::Delete, vec![gone]));
    let ran = daemon.run(&["delete", "42"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (0, "42  deleted\n"));
    assert_eq!(daemon.requests(), ["POST /v1/vms/delete"]);
}

/// Runs a command and returns what it asked for.
pub(crate) fn asked<T: serde::de::DeserializeOwned + Send + 'static>(
    action: Action,
    command: &[&str],
) -> (T, Vec<String>) {
    let asked = Arc::new(Mutex::new(None));
    let kept = Arc::clone(&asked);
    let daemon = Daemon::new(move |request| {
        let kept = Arc::clone(&kept);
        async move {
            let request = read_json(request).await;
            *kept.lock().unwrap() = Some(request);
            lines(&[], Ok(batch(action, vec![success(42)])))
        }
    });
    let ran = daemon.run(command);
    assert_eq!(ran.status, 0, "{ran:?}");
    let asked = asked.lock().unwrap().take().unwrap();
    (asked, daemon.requests())
}

#[test]
fn create_asks_for_what_was_typed() {
    let dir = tempfile::tempdir().unwrap();
    let template = dir.path().join("mine.xml");
    std::fs::write(&template, "<domain/>").unwrap();
    let template = template.to_str().unwrap();
    let [user_data, keys] = ["user-data", "keys.pub"].map(|name| dir.path().join(name));
    std::fs::write(&user_data, "#cloud-config\n").unwrap();
    std::fs::write(&keys, "# mine\n\nssh-ed25519 AAAA ann\r\n ssh-rsa BBBB\n").unwrap();
    let [user_data, keys] = [&user_data, &keys].map(|path| path.to_str().unwrap());
    let command = [
        "create",
        "debian",
        "42,44",
        "43",
        "-m",
        "2G",
        "--cpus",
        "3",
        "--group",
        "web",
        "--ttl",
        "8h",
        "-t",
        template,
        "--user-data",
        user_data,
        "--ssh-key",
        keys,
    ];
    let (asked, requests) = asked::<CreateVms>(Action::Create, &command);
    assert_eq!(
        asked,
        CreateVms {
            image: "debian".parse().unwrap(),
            vms: "42-44".parse().unwrap(),
            template: Some("<domain/>".to_owned()),
            memory_mib: Some(2048),
            cpus: Some(3),
            group: Some("web".parse().unwrap()),
            ttl_s: Some(28_800),
            user_data: Some("#cloud-config\n".to_owned()),
            ssh_keys: vec!["ssh-ed25519 AAAA ann".to_owned(), "ssh-rsa BBBB".to_owned()],
        }
    );
    assert_eq!(requests, ["POST /v1/vms/create"]);
}

#[test]
fn stop_is_hard_unless_it_is_graceful() {
    let mode = |command: &[&str]| asked::<StopVms>(Action::Stop, command).0.mode;
    assert_eq!(mode(&["stop", "42"]), StopMode::Hard);
    assert_eq!(
        mode(&["stop", "42", "--graceful"]),
        StopMode::Graceful {
            timeout_s: 60,
            cut_power: false
        }
    );
    assert_eq!(
        mode(&["stop", "42", "-g", "--timeout", "2m"]),
        StopMode::Graceful {
            timeout_s: 120,
            cut_power: false
        }
    );
    assert_eq!(
        mode(&["stop", "42", "-g", "--cut-power"]),
        StopMode::Graceful {
            timeout_s: 60,
            cut_power: true
        }
    );
}

#[test]
fn buttons_and_keys_are_for_several_vms() {
    let control = |action, command: &[&str]| {
        let (request, asked): (ControlVms, _) = asked(action, command);
        assert_eq!(asked, ["POST /v1/vms/control"]);
        (request.vms.numbers().len(), request.control)
    };
    assert_eq!(
        control(Action::Pause, &["pause", "42-44", "50"]),
        (4, Control::Pause)
    );
    assert_eq!(
        control(Action::Resume, &["resume", "42"]),
        (1, Control::Resume)
    );
    assert_eq!(
        control(Action::Reset, &["reset", "42"]),
        (1, Control::Reset)
    );
    assert_eq!(
        control(Action::Link, &["link", "42,43", "down"]),
        (
            2,
            Control::Link {
                up: false,
                card: None
            }
        )
    );
    assert_eq!(
        control(Action::Link, &["link", "42", "up", "--card", "1"]),
        (
            1,
            Control::Link {
                up: true,
                card: Some(1)
            }
        )
    );
    let chords = ["ctrl-alt-delete", "ret"].map(|chord| chord.parse().unwrap());
    assert_eq!(
        control(
            Action::SendKey,
            &["send-key", "42,43", "Ctrl+Alt+Del", "enter"]
        ),
        (
            2,
            Control::SendKey {
                chords: chords.into()
            }
        )
    );
}

#[test]
fn what_is_not_there_is_wrong_usage() {
    for (command, word) in [
        (["send-key", "42", "hyper"], "no key 'hyper'"),
        (["link", "42", "sideways"], "up, down"),
    ] {
        let ran = Daemon::always(|| unreachable!()).run(&command);
        assert_eq!(ran.status, 2, "{ran:?}");
        assert!(ran.stderr.contains(word), "{ran:?}");
    }
}

#[test]
fn a_picture_is_written_once() {
    let daemon = Daemon::always(|| whole(StatusCode::OK, "PNG"));
    let path = daemon.dir().join("screen.png");
    let file = path.to_str().unwrap();
    let ran = daemon.run(&["screenshot", "42", file]);
    assert_eq!(ran.status, 0, "{ran:?}");
    assert_eq!(std::fs::read(&path).unwrap(), b"PNG");
    assert_eq!(daemon.requests(), ["GET /v1/vms/42/screenshot"]);
    std::fs::write(&path, "mine, and longer").unwrap();
    let ran = daemon.run(&["screenshot", "42", file]);
    assert_eq!(ran.status, 2, "{ran:?}");
    assert!(ran.stderr.contains("--force"), "{ran:?}");
    assert_eq!(std::fs::read(&path).unwrap(), b"mine, and longer");
    assert_eq!(daemon.run(&["screenshot", "42", file, "--force"]).status, 0);
    assert_eq!(std::fs::read(&path).unwrap(), b"PNG");
}

#[test]
fn a_time_to_live_is_renewed_as_typed_and_undone_by_number() {
    let ttl = |command: &[&str]| {
        let (asked, requests) = asked::<RenewVms>(Action::Renew, command);
        assert_eq!(requests, ["POST /v1/vms/renew"]);
        asked.ttl
    };
    assert_eq!(ttl(&["renew", "42"]), Ttl::Same);
    assert_eq!(ttl(&["renew", "42", "--ttl", "2d"]), Ttl::Seconds(172_800));
    assert_eq!(ttl(&["renew", "42", "--forever"]), Ttl::Forever);
    let (asked, requests) = asked::<UndeleteVms>(Action::Undelete, &["undelete", "42,44"]);
    assert_eq!(
        (asked.vms.to_string(), requests),
        ("42,44".to_owned(), vec!["POST /v1/vms/undelete".to_owned()])
    );
    let ran = Daemon::always(|| unreachable!()).run(&["renew", "42", "--ttl", "8"]);
    assert_eq!(ran.status, 2, "{ran:?}");
    assert!(ran.stderr.contains("30m, 8h, 7d, 2w"), "{ran:?}");
}

#[test]
fn a_group_stands_for_its_vms() {
    let grouped = |number, group: Option<&str>| VmReport {
        group: group.map(|group| group.parse().unwrap()),
        ..vm(number, VmState::Running)
    };
    let list = VmList {
        version: REPORT_VERSION,
        vms: vec![
            grouped(42, Some("web")),
            grouped(43, None),
            grouped(44, Some("web")),
            grouped(45, Some("db")),
        ],
    };
    let asked = Arc::new(Mutex::new(None));
    let kept = Arc::clone(&asked);
    let daemon = Daemon::new(move |request| {
        let (kept, list) = (Arc::clone(&kept), list.clone());
        async move {
            if request.method() == "GET" {
                return json(&list);
            }
            let request: serde_json::Value = read_json(request).await;
            *kept.lock().unwrap() = Some(request["vms"].clone());
            lines(&[], Ok(batch(Action::Stop, vec![success(42)])))
        }
    });
    for (command, numbers) in [
        (vec!["stop", "@web"], serde_json::json!([42, 44])),
        (vec!["start", "@web", "42"], serde_json::json!([42, 44])),
        (
            vec!["pause", "43", "@web", "@db"],
            serde_json::json!([42, 43, 44, 45]),
        ),
        (
            vec!["snapshot", "restore", "@db", "s"],
            serde_json::json!([45]),
        ),
        (vec!["note", "@db", "mine"], serde_json::json!([45])),
        (vec!["link", "@web", "up"], serde_json::json!([42, 44])),
        (vec!["delete", "@db"], serde_json::json!([45])),
    ] {
        let ran = daemon.run(&command);
        assert_eq!(ran.status, 0, "{command:?}: {ran:?}");
        assert_eq!(asked.lock().unwrap().take(), Some(numbers), "{command:?}");
    }
    let ran = daemon.run(&["list", "--group", "web", "--short"]);
    assert_eq!(ran.stdout, "42\n44\n");
    let ran = daemon.run(&["stop", "@none"]);
    assert_eq!(ran.status, 3, "{ran:?}");
    assert!(ran.stderr.contains("no VM in the group 'none'"), "{ran:?}");
    assert_eq!(asked.lock().unwrap().take(), None);
    for command in [
        vec!["stop"],
        vec!["stop", "@"],
        vec!["create", "debian", "@web"],
    ] {
        let ran = daemon.run(&command);
        assert_eq!(ran.status, 2, "{command:?}: {ran:?}");
    }
}

#[test]
fn whoever_uses_a_vm_that_expires_soon_is_told() {
    let mut started = success(42);
    started.report.as_mut().unwrap().lifetime = Some(Lifetime {
        ttl_s: 28_800,
        ends_at_s: 0,
        ends_soon: true,
    });
    let warning = "warning: 42: expires in 0s; `fvm renew 42` gives it 8h 0m again\n";
    let daemon = Daemon::reports(batch(Action::Start, vec![started.clone()]));
    let ran = daemon.run(&["start", "42"]);
    assert_eq!((ran.status, ran.stderr.as_str()), (0, warning));
    // One that is gone needs no warning.
    let daemon = Daemon::reports(batch(Action::Delete, vec![started]));
    assert_eq!(daemon.run(&["delete", "42"]).stderr, "");
}

#[test]
fn force_is_asked_for_by_word_only() {
    assert!(!asked::<StopVms>(Action::Stop, &["stop", "42"]).0.force);
    assert!(
        asked::<StopVms>(Action::Stop, &["stop", "42", "--force"])
            .0
            .force
    );
    let delete = ["delete", "--force", "42"];
    assert!(asked::<DeleteVms>(Action::Delete, &delete).0.force);
}

#[test]
fn a_note_is_taken_in_every_spelling() {
    let note = |command: &[&str]| {
        let (asked, requests) = asked::<NoteVms>(Action::Note, command);
        assert_eq!(requests, ["POST /v1/vms/note"]);
        (asked.vms.to_string(), asked.note.to_string())
    };
    let said = |vms: &str, text: &str| (vms.to_owned(), text.to_owned());
    assert_eq!(
        note(&["note", "42", "mail", "server, -ask Ann"]),
        said("42", "mail server, -ask Ann")
    );
    assert_eq!(note(&["edit_note", "41 42", "x"]), said("41-42", "x"));
    assert_eq!(note(&["edit-note", "42", ""]), said("42", ""));
    let daemon = Daemon::always(|| panic!("nothing is to be asked"));
    for (command, why) in [
        (vec!["note", "42", "a\nb"], "control character"),
        (vec!["note", "41,42"], "several VMs"),
    ] {
        let ran = daemon.run(&command);
        assert_eq!(ran.status, 2, "{ran:?}");
        assert!(ran.stderr.contains(why), "{ran:?}");
    }
}

#[test]
fn a_note_without_a_text_is_what_the_editor_leaves() {
    let asked = Arc::new(Mutex::new(None));
    let kept = Arc::clone(&asked);
    let daemon = Daemon::new(move |request| {
        let kept = Arc::clone(&kept);
        async move {
            if request.method() == "GET" {
                return json(&vm(42, VmState::Stopped));
            }
            let request: NoteVms = read_json(request).await;
            *kept.lock().unwrap() = Some(request.note.to_string());
            lines(&[], Ok(batch(Action::Note, vec![success(42)])))
        }
    });
    let edit = |editor: &str| {
        let mut command = daemon.fvm(&["note", "42"]);
        Ran::of({
            command.env("EDITOR", editor);
            command
        })
    };
    let ran = edit("sed -i s/mail/web/");
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
    assert_eq!(asked.lock().unwrap().take().as_deref(), Some("web"));
    let ran = edit("false");
    assert_eq!(ran.status, 1);
    assert!(ran.stderr.contains("nothing was changed"), "{ran:?}");
    assert_eq!(asked.lock().unwrap().take(), None);
}

fn with_events() -> Daemon {
    let event = |warning, text: &str| Event {
        vm: Some(42.into()),
        warning,
        text: text.to_owned(),
    };
    Daemon::always(move || {
        let events = [
            event(false, "the disk is made"),
            event(true, "/dev/kvm is missing: emulated"),
        ];
        lines(&events, Ok(batch(Action::Start, vec![success(42)])))
    })
}

#[test]
fn warnings_are_always_seen_and_steps_on_request() {
    let daemon = with_events();
    let warning = "warning: 42: /dev/kvm is missing: emulated\n";
    let ran = daemon.run(&["start", "42"]);
    assert_eq!((ran.status, ran.stderr.as_str()), (0, warning));
    assert_eq!(ran.stdout, "42  started  127.0.22.42\n");
    let ran = daemon.run(&["start", "42", "--json"]);
    assert_eq!((ran.status, ran.stderr.as_str()), (0, warning));
    let ran = daemon.run(&["start", "42", "--verbose"]);
    assert_eq!(ran.stderr, format!("42: the disk is made\n{warning}"));
}

//! What goes wrong between `fvm` and the daemon, and on the user's side of it.

use crate::{
    daemon::{Daemon, json, refusal, whole},
    fixtures::vm,
    run::{Ran, fvm, run},
};
use fvm_vmm::api::{ApiError, ErrorKind, REPORT_VERSION, VmList, VmState};
use hyper::StatusCode;
use std::{
    fs::{self, File, Permissions},
    io::{Read, Write},
    os::unix::{
        fs::PermissionsExt,
        net::{UnixListener, UnixStream},
        process::CommandExt,
    },
    path::Path,
    process::Stdio,
};

/// A server that says the same bytes to everyone, whatever they ask, and hangs up.
fn says(dir: &Path, bytes: &'static [u8]) -> std::path::PathBuf {
    let socket = dir.join("fvm.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection: UnixStream = connection.unwrap();
            let mut request = [0; 4096];
            let _ = connection.read(&mut request);
            let _ = connection.write_all(bytes);
        }
    });
    socket
}

fn told(ran: &Ran, status: i32, error: &str, hint: &str) {
    assert_eq!(ran.status, status, "{ran:?}");
    assert!(ran.stderr.contains(error), "{ran:?}");
    assert!(ran.stderr.contains(hint), "{ran:?}");
    assert_eq!(ran.stdout, "", "{ran:?}");
}

#[test]
fn no_daemon_is_status_5() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("fvm.sock");
    let hint = "is --socket or FVM_SOCKET right?";
    told(
        &run(&socket, &["list"]),
        5,
        "error: no fvmd listens on /",
        hint,
    );
    // A socket that nobody listens on any more.
    drop(UnixListener::bind(&socket).unwrap());
    told(
        &run(&socket, &["list"]),
        5,
        "error: no fvmd listens on /",
        hint,
    );
    told(
        &run(&socket, &["delete", "42"]),
        5,
        "Connection refused",
        hint,
    );
}

#[test]
fn a_user_outside_the_group_is_status_4() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    let socket = dir.path().join("fvm.sock");
    let _listener = UnixListener::bind(&socket).unwrap();
    fs::set_permissions(&socket, Permissions::from_mode(0o600)).unwrap();
    // The program itself may lie where others cannot go.
    let program = dir.path().join("fvm");
    fs::copy(env!("CARGO_BIN_EXE_fvm"), &program).unwrap();
    let mut command = std::process::Command::new(&program);
    command.env("FVM_SOCKET", &socket).arg("list");
    if nix::unistd::Uid::effective().is_root() {
        command.uid(65534).gid(65534);
    } else {
        fs::set_permissions(&socket, Permissions::from_mode(0o000)).unwrap();
    }
    let ran = Ran::of(command);
    told(
        &ran,
        4,
        "error: you are not allowed to use /",
        "sudo usermod -aG fvm USER",
    );
}

#[test]
fn every_kind_of_error_has_its_status() {
    for (kind, status) in [
        (ErrorKind::Failed, 1),
        (ErrorKind::Usage, 2),
        (ErrorKind::NotFound, 3),
        (ErrorKind::Refused, 4),
        (ErrorKind::HostNotAble, 5),
        (ErrorKind::Internal, 70),
    ] {
        let error = ApiError::new(kind, "it did not work")
            .detail("one thing was left")
            .hint("type something else");
        let daemon = Daemon::always(move || refusal(&error));
        for command in [
            &["list"][..],
            &["info", "42"],
            &["delete", "42"],
            &["status"],
        ] {
            let ran = daemon.run(command);
            assert_eq!(ran.status, status, "{ran:?}");
            assert_eq!(
                ran.stderr,
                "error: it did not work\n  one thing was left\nhint: type something else\n"
            );
        }
    }
}

#[test]
fn errors_are_json_for_those_who_want_json() {
    let error = ApiError::new(ErrorKind::NotFound, "there is no VM 42").hint("`fvm list`");
    let sent = error.clone();
    let daemon = Daemon::always(move || refusal(&sent));
    let ran = daemon.run(&["--json", "info", "42"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (3, ""));
    let read: ApiError = serde_json::from_str(&ran.stderr).unwrap();
    assert_eq!(read, error);
}

#[test]
fn nothing_in_an_error_reaches_the_terminal_as_a_command() {
    let error = ApiError::new(ErrorKind::Failed, "console: \u{1b}]0;title\u{7}\r\u{9b}2J");
    let daemon = Daemon::always(move || refusal(&error));
    let ran = daemon.run(&["list"]);
    let expected = "error: console: \u{fffd}]0;title\u{fffd}\u{fffd}\u{fffd}2J\n";
    assert_eq!(ran.stderr, expected);
}

#[test]
fn a_stream_cut_before_its_end_tells_that_nothing_is_known() {
    const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let event = b"22\r\n{\"event\":{\"text\":\"disk made\"}}   \n\r\n";
    let half = b"8\r\n{\"report\r\n";
    for bytes in [
        b"".to_vec(),
        b"HTTP/1.1 200 O".to_vec(),
        HEAD.to_vec(),
        [HEAD, event].concat(),
        // Cut in a chunk, in a line, and after a body that ends in order but without a report.
        [HEAD, event, b"40\r\n{\"rep"].concat(),
        [HEAD, event, half, b"0\r\n\r\n"].concat(),
        [HEAD, event, b"0\r\n\r\n"].concat(),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let socket = says(dir.path(), bytes.leak());
        let ran = run(&socket, &["delete", "42"]);
        told(
            &ran,
            1,
            "error: fvmd went away before it answered",
            "nothing is known of the outcome: look with `fvm list`",
        );
        let ran = run(&socket, &["list"]);
        assert!([1, 5].contains(&ran.status), "{ran:?}");
        assert!(!ran.stderr.contains("outcome"), "{ran:?}");
    }
}

#[test]
fn another_version_or_another_server_is_status_5() {
    let hint = "of different versions";
    let text = format!("{{\"version\":{},\"vms\":[]}}", REPORT_VERSION + 1);
    let daemon = Daemon::always(move || whole(StatusCode::OK, text.clone()));
    let error = "error: fvmd answers with reports of version 2";
    told(&daemon.run(&["list"]), 5, error, hint);

    let daemon = Daemon::always(|| whole(StatusCode::NOT_FOUND, "no such page"));
    let error = "error: fvmd answered /v1/vms with HTTP status 404 and no reason";
    told(&daemon.run(&["list"]), 5, error, hint);

    let daemon = Daemon::always(|| whole(StatusCode::OK, "<html>"));
    let error = "error: the answer of fvmd to /v1/vms makes no sense";
    told(&daemon.run(&["list"]), 5, error, hint);

    let daemon = Daemon::always(|| whole(StatusCode::OK, "<html>\n"));
    let error = "error: the answer of fvmd to /v1/vms/stop makes no sense";
    told(&daemon.run(&["stop", "42"]), 5, error, hint);
}

#[test]
fn wrong_usage_is_status_2() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("fvm.sock");
    for (command, error) in [
        (&["start"][..], "<NUM>"),
        (&["start", "x"], "'x' is not a VM number"),
        (&["start", "59-50"], "runs backwards"),
        (&["start", "42", "--timeout", "5s"], "--wait"),
        (&["start", "42", "--wait", "boot"], "lease"),
        (&["stop", "42", "--timeout", "5s"], "--graceful"),
        (&["console", "42,43"], "this command takes one"),
        (&["create", "no/image", "42"], "not a valid image name"),
        (
            &["create", "debian", "42", "--memory", "1K"],
            "amount of memory",
        ),
        (&["create", "debian", "42", "--cpus", "0"], "--cpus"),
        (&["image", "import", "a", "b", "--size", "6"], "add a unit"),
        (&["destroy", "42"], "unrecognized subcommand"),
    ] {
        told(&run(&socket, command), 2, error, "--help");
    }
}

#[test]
fn help_and_version_are_results() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("fvm.sock");
    let ran = run(&socket, &["--version"]);
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
    assert_eq!(ran.stdout, format!("fvm {}\n", env!("CARGO_PKG_VERSION")));
    let ran = run(&socket, &["start", "--help"]);
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
    assert!(ran.stdout.contains("fvm start 42 --wait ssh"), "{ran:?}");
}

fn many_vms() -> Daemon {
    let vms = (20..220)
        .map(|number| vm(number, VmState::Stopped))
        .collect();
    let list = VmList {
        version: REPORT_VERSION,
        vms,
    };
    Daemon::always(move || json(&list))
}

#[test]
fn a_reader_that_goes_away_ends_nothing_but_the_output() {
    let daemon = many_vms();
    let (reader, writer) = nix::unistd::pipe().unwrap();
    drop(reader);
    let mut command = daemon.fvm(&["list"]);
    command.stdout(writer);
    let ran = Ran::of(command);
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
}

#[test]
fn results_that_cannot_be_written_are_a_failure() {
    let daemon = many_vms();
    for command in [&["list"][..], &["list", "--json"]] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut command = daemon.fvm(command);
        command.stdout(full);
        let ran = Ran::of(command);
        assert_eq!(ran.status, 1, "{ran:?}");
        assert!(ran.stderr.contains("No space left on device"), "{ran:?}");
    }
}

#[test]
fn standard_error_may_be_closed() {
    let dir = tempfile::tempdir().unwrap();
    let (reader, writer) = nix::unistd::pipe().unwrap();
    drop(reader);
    let status = fvm(&dir.path().join("fvm.sock"), &["list"])
        .stdout(Stdio::null())
        .stderr(writer)
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(5));
}

//! `fvm init`: who may, what it asks, what it asks the daemon for.

use crate::{
    daemon::{Answer, Daemon, json, lines, read_json},
    fixtures::new_host,
    run::Ran,
    terminal::Terminal,
};
use fvm_vmm::api::{Change, InitReport, InitRequest, REPORT_VERSION, RemoveReport, routes};
use hyper::{Request, body::Incoming};
use std::{
    process::Command,
    sync::{Arc, Mutex},
};

type Asked = Arc<Mutex<Vec<InitRequest>>>;

/// A host that would get a pool and a bridge, and what it was asked for.
fn host() -> (Daemon, Asked) {
    let asked = Asked::default();
    let kept = Arc::clone(&asked);
    let daemon = Daemon::new(move |request| answer(request, Arc::clone(&kept)));
    (daemon, asked)
}

fn changes(size: u64) -> Vec<Change> {
    vec![
        Change {
            what: "pool".to_owned(),
            state: format!("{} GiB", size >> 30),
            changed: true,
        },
        Change {
            what: "bridge fvm0".to_owned(),
            state: "192.168.22.1/24".to_owned(),
            changed: false,
        },
    ]
}

async fn answer(request: Request<Incoming>, asked: Asked) -> Answer {
    match request.uri().path() {
        routes::HOST => json(&new_host()),
        routes::INIT => {
            let request: InitRequest = read_json(request).await;
            let changes = changes(request.pool_bytes.unwrap_or(20 << 30));
            asked.lock().unwrap().push(request);
            lines(
                &[],
                Ok(InitReport {
                    version: REPORT_VERSION,
                    changes,
                }),
            )
        }
        routes::REMOVE => lines(
            &[],
            Ok(RemoveReport {
                version: REPORT_VERSION,
                changes: changes(20 << 30),
            }),
        ),
        other => panic!("{other} was asked for"),
    }
}

/// The command as root, or as root of a user namespace: it is only about who is asking.
fn as_root(daemon: &Daemon, arguments: &[&str]) -> Command {
    let command = daemon.fvm(&[&["init"], arguments].concat());
    if nix::unistd::Uid::effective().is_root() {
        return command;
    }
    let mut inside = Command::new("unshare");
    inside.args(["--map-root-user", "--user", "--"]);
    inside.arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        if let Some(value) = value {
            inside.env(key, value);
        }
    }
    inside
}

fn run(daemon: &Daemon, arguments: &[&str]) -> Ran {
    let mut command = as_root(daemon, arguments);
    command.stdin(std::process::Stdio::null());
    Ran::of(command)
}

#[test]
fn yes_asks_nothing_and_shows_what_changed() {
    let (daemon, asked) = host();
    let ran = run(
        &daemon,
        &["--yes", "--size", "50G", "--subnet", "10.1.0.0/16"],
    );
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
    assert_eq!(
        ran.stdout,
        "changed  pool         50 GiB\nok       bridge fvm0  192.168.22.1/24\n"
    );
    let request = InitRequest {
        pool_bytes: Some(50 << 30),
        subnet: Some("10.1.0.0/16".to_owned()),
        ..InitRequest::default()
    };
    assert_eq!(*asked.lock().unwrap(), [request]);
}

#[test]
fn a_dry_run_only_looks() {
    let (daemon, asked) = host();
    let ran = run(
        &daemon,
        &[
            "--dry-run",
            "--data",
            "disk1",
            "--meta",
            "/dev/disk2",
            "--json",
        ],
    );
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
    let report: InitReport = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(report.changes, changes(20 << 30));
    let asked = asked.lock().unwrap();
    let here = std::env::current_dir().unwrap().join("disk1");
    assert!(asked[0].dry_run);
    assert_eq!(asked[0].data_device.as_deref(), here.to_str());
    assert_eq!(asked[0].metadata_device.as_deref(), Some("/dev/disk2"));
}

#[test]
fn nothing_is_changed_unasked() {
    let (daemon, _) = host();
    for (arguments, hint) in [
        (&[][..], "add --yes to go on without questions"),
        (&["--remove"], "add --yes to remove without questions"),
    ] {
        let ran = run(&daemon, arguments);
        assert_eq!(ran.status, 2, "{ran:?}");
        assert!(ran.stderr.contains(hint), "{ran:?}");
    }
    assert!(daemon.requests().is_empty());
}

#[test]
fn only_root_may() {
    let (daemon, _) = host();
    let program = daemon.dir().join("fvm");
    std::fs::copy(env!("CARGO_BIN_EXE_fvm"), &program).unwrap();
    std::fs::set_permissions(
        daemon.dir(),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    let mut command = Command::new(program);
    command
        .args(["init", "--yes"])
        .env("FVM_SOCKET", daemon.socket());
    if nix::unistd::Uid::effective().is_root() {
        std::os::unix::process::CommandExt::uid(&mut command, 65534);
    }
    let ran = Ran::of(command);
    assert_eq!(ran.status, 4);
    assert_eq!(
        ran.stderr,
        "error: only root may set up or remove fvm on this host\nhint: use sudo\n"
    );
    assert!(daemon.requests().is_empty());
}

#[test]
fn on_a_terminal_it_shows_asks_and_then_changes() {
    let (daemon, asked) = host();
    let mut terminal = Terminal::start(as_root(&daemon, &[]));
    terminal.shows("20 GiB");
    terminal.shows("Size of the pool, such as 50G [as shown above]: ");
    terminal.press(b"7 apples\n");
    terminal.shows("'7 apples' is not a size");
    terminal.press(b"50G\n");
    terminal.shows("50 GiB");
    terminal.shows("Change this? [y/N] ");
    terminal.press(b"y\n");
    assert_eq!(terminal.end(), 0);
    let asked = asked.lock().unwrap();
    let said: Vec<_> = asked.iter().map(|r| (r.dry_run, r.pool_bytes)).collect();
    let size = Some(50 << 30);
    assert_eq!(said, [(true, None), (true, size), (false, size)]);
}

#[test]
fn on_a_terminal_no_is_no() {
    for keys in [&b"\n\n"[..], b"\nn\n", b"\nyellow\n", b"\x04", b"\n\x04"] {
        let (daemon, asked) = host();
        let mut terminal = Terminal::start(as_root(&daemon, &[]));
        terminal.shows("Size of the pool");
        terminal.press(keys);
        assert_eq!(terminal.end(), 1);
        terminal.shows("nothing was changed");
        assert!(asked.lock().unwrap().iter().all(|request| request.dry_run));
    }
}

#[test]
fn removing_wants_the_whole_word() {
    let (daemon, _) = host();
    let mut terminal = Terminal::start(as_root(&daemon, &["--remove"]));
    terminal.shows("Type yes to go on: ");
    terminal.press(b"y\n");
    assert_eq!(terminal.end(), 1);
    assert!(daemon.requests().is_empty());
    let mut terminal = Terminal::start(as_root(&daemon, &["--remove"]));
    terminal.shows("Type yes to go on: ");
    terminal.press(b"yes\n");
    assert_eq!(terminal.end(), 0);
    assert_eq!(daemon.requests(), ["POST /v1/host/remove"]);
    let ran = run(&daemon, &["--remove", "--yes"]);
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(ran.stdout.starts_with("changed  pool "), "{ran:?}");
}

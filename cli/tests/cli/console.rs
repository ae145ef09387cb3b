//! The console: on a terminal, and in a script.

use crate::{
    daemon::{Answer, Daemon, json, refusal, whole},
    fixtures::vm,
    run::{Ran, status_of},
    terminal::{Terminal, until},
};
use fvm_vmm::api::{
    ApiError, ErrorKind, VmState,
    console::{ConsoleEvent, Typist, event_frame, output_frame},
    routes::CONSOLE_PROTOCOL,
};
use hyper::{Request, StatusCode, body::Incoming, header};
use hyper_util::rt::TokioIo;
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    io::Read,
    os::fd::AsFd,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
};

/// A guest: what it has read, and how to end it.
#[derive(Clone)]
struct Guest {
    typed: Arc<Mutex<Vec<u8>>>,
    /// What the viewer is told; `None` breaks the connection.
    tell: mpsc::UnboundedSender<Option<ConsoleEvent>>,
    told: Arc<tokio::sync::Mutex<mpsc::UnboundedReceiver<Option<ConsoleEvent>>>>,
    /// How each viewer asked for it.
    asked: Arc<Mutex<Vec<String>>>,
    /// It takes nothing of what is typed.
    deaf: bool,
    /// It never stops printing.
    chatty: bool,
}

impl Default for Guest {
    fn default() -> Self {
        let (tell, told) = mpsc::unbounded_channel();
        Self {
            typed: Arc::default(),
            tell,
            told: Arc::new(told.into()),
            asked: Arc::default(),
            deaf: false,
            chatty: false,
        }
    }
}

const REPLAY: &[u8] = b"login: \xff\x1b[1m";
/// Where the replay begins.
const POSITION: u64 = 1000;

impl Guest {
    fn daemon(&self) -> Daemon {
        let guest = self.clone();
        Daemon::new(move |request| guest.clone().answer(request))
    }

    fn tells(&self, event: ConsoleEvent) {
        self.tell.send(Some(event)).unwrap();
    }

    async fn answer(self, request: Request<Incoming>) -> Answer {
        if !request.uri().path().ends_with("/console") {
            return json(&vm(42, VmState::Stopped));
        }
        assert_eq!(request.uri().path(), "/v1/vms/42/console");
        assert_eq!(request.headers()[header::UPGRADE], CONSOLE_PROTOCOL);
        let query = request.uri().query().unwrap_or_default().to_owned();
        self.asked.lock().unwrap().push(query);
        tokio::spawn(async move {
            let upgraded = hyper::upgrade::on(request).await.unwrap();
            self.talk(TokioIo::new(upgraded)).await;
        });
        let mut answer = whole(StatusCode::SWITCHING_PROTOCOLS, "");
        let headers = answer.headers_mut();
        headers.insert(header::CONNECTION, "Upgrade".parse().unwrap());
        headers.insert(header::UPGRADE, CONSOLE_PROTOCOL.parse().unwrap());
        answer
    }

    async fn talk(self, line: TokioIo<hyper::upgrade::Upgraded>) {
        let (mut keys, mut line) = tokio::io::split(line);
        let attached = ConsoleEvent::Attached {
            position: POSITION,
            typist: None,
        };
        line.write_all(&event_frame(&attached)).await.unwrap();
        line.write_all(&output_frame(REPLAY)).await.unwrap();
        let mut buffer = [0; 1024];
        let chat = output_frame(&[b'.'; 4096]);
        let mut told = self.told.lock().await;
        loop {
            tokio::select! {
                event = told.recv() => match event.flatten() {
                    Some(event) => line.write_all(&event_frame(&event)).await.unwrap(),
                    None => return,
                },
                written = line.write_all(&chat), if self.chatty => {
                    if written.is_err() {
                        return;
                    }
                }
                read = keys.read(&mut buffer), if !self.deaf => match read {
                    Ok(bytes @ 1..) => {
                        self.typed.lock().unwrap().extend_from_slice(&buffer[..bytes]);
                        if line.write_all(&output_frame(b"<heard>")).await.is_err() {
                            return;
                        }
                    }
                    _ => return,
                },
            }
        }
    }

    fn heard(&self, what: &[u8]) -> bool {
        *self.typed.lock().unwrap() == what
    }
}

/// The console on a terminal, raw and with the replay on it.
fn opened(daemon: &Daemon) -> Terminal {
    let terminal = Terminal::start(daemon.fvm(&["console", "42"]));
    terminal.shows("^] leaves it");
    terminal.shows("login: ");
    assert!(terminal.is_raw());
    terminal
}

#[test]
fn keys_go_to_the_guest_until_the_one_that_leaves() {
    let guest = Guest::default();
    let daemon = guest.daemon();
    let mut terminal = opened(&daemon);
    // What would end or stop a program, or be held back until the end of a line, without raw mode.
    terminal.press(b"\x03\x1a\x04\x11a");
    until("the guest has read the keys", || {
        guest.heard(b"\x03\x1a\x04\x11a")
    });
    terminal.shows("<heard>");
    terminal.press(b"bye\x1dnot this");
    assert_eq!(terminal.end(), 0);
    assert!(!terminal.is_raw());
    assert!(!terminal.text().contains("bye"), "it was echoed");
    assert!(!guest.typed.lock().unwrap().ends_with(b"not this"));
}

#[test]
fn the_end_of_the_vm_ends_the_console() {
    let guest = Guest::default();
    let daemon = guest.daemon();
    let mut terminal = opened(&daemon);
    guest.tells(ConsoleEvent::Ended);
    assert_eq!(terminal.end(), 0);
    terminal.shows("the console of VM 42 is closed: stopped");
    assert!(!terminal.is_raw());
}

#[test]
fn the_terminal_is_as_before_after_every_signal() {
    for (signal, status) in [
        (Signal::SIGTERM, 143),
        (Signal::SIGINT, 130),
        (Signal::SIGHUP, 129),
        (Signal::SIGQUIT, 131),
    ] {
        let daemon = Guest::default().daemon();
        let mut terminal = opened(&daemon);
        terminal.signal(signal);
        assert_eq!(terminal.end(), status, "{signal}");
        assert!(!terminal.is_raw(), "{signal}");
    }
}

#[test]
fn a_stopped_console_gives_the_terminal_back_meanwhile() {
    let guest = Guest::default();
    let daemon = guest.daemon();
    let mut terminal = opened(&daemon);
    terminal.signal(Signal::SIGTSTP);
    until("stopped", || terminal.state() == 'T');
    assert!(!terminal.is_raw());
    terminal.signal(Signal::SIGCONT);
    until("raw again", || terminal.is_raw());
    terminal.press(b"x");
    until("the guest has read the key", || guest.heard(b"x"));
    terminal.press(b"\x1d");
    assert_eq!(terminal.end(), 0);
}

#[test]
fn a_guest_that_does_not_read_keeps_nobody_from_leaving() {
    let guest = Guest {
        deaf: true,
        ..Guest::default()
    };
    let daemon = guest.daemon();
    let mut terminal = opened(&daemon);
    for _ in 0..2000 {
        terminal.press(&[b'x'; 1024]);
    }
    terminal.press(b"\x1d");
    assert_eq!(terminal.end(), 0);
    assert!(!terminal.is_raw());
}

#[test]
fn a_terminal_may_change_its_size() {
    let guest = Guest::default();
    let daemon = guest.daemon();
    let mut terminal = opened(&daemon);
    terminal.signal(Signal::SIGWINCH);
    terminal.press(b"x");
    until("the guest has read the key", || guest.heard(b"x"));
    assert!(terminal.is_raw());
    terminal.press(b"\x1d");
    assert_eq!(terminal.end(), 0);
}

fn root(you: bool) -> Option<Typist> {
    let user = "root".to_owned();
    Some(Typist { user, you })
}

#[test]
fn who_loses_the_keyboard_is_told() {
    let guest = Guest::default();
    let daemon = guest.daemon();
    let mut terminal = opened(&daemon);
    guest.tells(ConsoleEvent::Typist { typist: root(true) });
    guest.tells(ConsoleEvent::Typist {
        typist: root(false),
    });
    terminal.shows("root has taken the keyboard over");
    let error = ApiError::new(ErrorKind::Refused, "root types on the console of VM 42")
        .hint("`fvm console 42 --take` takes the keyboard over");
    guest.tells(ConsoleEvent::Refused { error });
    terminal.shows("--take");
    guest.tells(ConsoleEvent::Typist { typist: None });
    terminal.shows("the keyboard is free");
    terminal.press(b"\x1d");
    assert_eq!(terminal.end(), 0);
    assert_eq!(*guest.asked.lock().unwrap(), ["take=false"]);
}

#[test]
fn a_script_whose_input_is_refused_fails() {
    let guest = Guest::default();
    let daemon = guest.daemon();
    let error = ApiError::new(ErrorKind::Refused, "root types on the console of VM 42");
    guest.tells(ConsoleEvent::Refused { error });
    let ran = finish(daemon.fvm(&["console", "42", "--take"]));
    assert_eq!(ran.status, 4);
    assert!(ran.stderr.contains("root types on"), "{ran:?}");
    assert_eq!(*guest.asked.lock().unwrap(), ["take=true"]);
}

#[test]
fn a_daemon_that_comes_back_is_asked_for_what_was_missed() {
    let guest = Guest::default();
    let daemon = guest.daemon();
    let mut terminal = opened(&daemon);
    guest.tell.send(None).unwrap();
    terminal.shows("fvmd has gone away");
    terminal.shows("fvmd is back");
    terminal.press(b"x");
    until("the guest has read the key", || guest.heard(b"x"));
    let missed = POSITION + REPLAY.len() as u64;
    assert_eq!(
        *guest.asked.lock().unwrap(),
        [
            "take=false".to_owned(),
            format!("take=false&position={missed}")
        ]
    );
    terminal.press(b"\x1d");
    assert_eq!(terminal.end(), 0);
    assert!(!terminal.is_raw());
}

#[test]
fn a_daemon_that_stays_away_keeps_nobody_from_leaving() {
    let guest = Guest::default();
    let daemon = guest.daemon();
    let mut terminal = opened(&daemon);
    std::fs::remove_file(daemon.socket()).unwrap();
    guest.tell.send(None).unwrap();
    terminal.shows("fvmd has gone away");
    terminal.press(b"\x1d");
    assert_eq!(terminal.end(), 0);
    assert!(!terminal.is_raw());
}

#[test]
fn a_log_is_as_it_was_written_and_harmless_on_a_terminal() {
    let text = "\u{1b}[1mbooted\r\nlogin: ";
    let daemon = Daemon::always(move || whole(StatusCode::OK, text));
    let ran = daemon.run(&["log", "42", "--qemu", "--lines", "5"]);
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
    assert_eq!(ran.stdout, text);
    let mut terminal = Terminal::start(daemon.fvm(&["console", "42", "--log"]));
    assert_eq!(terminal.end(), 0);
    terminal.shows("booted\r\nlogin: \r\n");
    assert!(!terminal.text().contains('\u{1b}'));
    assert_eq!(daemon.requests(), ["GET /v1/vms/42/log"; 2]);
    assert_eq!(daemon.run(&["log", "42", "--json"]).status, 2);
}

#[test]
fn a_refusal_leaves_the_terminal_alone() {
    let error = ApiError::new(ErrorKind::Refused, "VM 42 is stopped and has no console");
    let daemon = Daemon::always(move || refusal(&error));
    let mut terminal = Terminal::start(daemon.fvm(&["console", "42"]));
    assert_eq!(terminal.end(), 4);
    terminal.shows("VM 42 is stopped and has no console");
    assert!(!terminal.is_raw());
}

fn finish(mut command: Command) -> Ran {
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    Ran::of(command)
}

#[test]
fn in_a_script_the_end_of_input_ends_nothing() {
    let guest = Guest::default();
    let daemon = guest.daemon();
    let mut child = daemon
        .fvm(&["console", "42"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut shown = vec![0; REPLAY.len()];
    stdout.read_exact(&mut shown).unwrap();
    // Bytes as they are, also those that are no text.
    assert_eq!(shown, REPLAY);
    assert_eq!(child.try_wait().unwrap(), None);
    guest.tells(ConsoleEvent::Ended);
    let ran = Ran::end_of(child);
    assert_eq!(ran.status, 0);
    assert_eq!(ran.stderr, "the console of VM 42 is closed: stopped\n");
}

#[test]
fn in_a_script_every_byte_of_input_goes_to_the_guest() {
    let guest = Guest::default();
    let daemon = guest.daemon();
    let input = daemon.dir().join("input");
    let typed: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    std::fs::write(&input, &typed).unwrap();
    let mut command = daemon.fvm(&["console", "42"]);
    command.stdin(std::fs::File::open(&input).unwrap());
    let child = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until("the guest has read the file", || guest.heard(&typed));
    guest.tells(ConsoleEvent::Ended);
    assert_eq!(status_of(child), 0);
}

#[test]
fn a_reader_that_has_seen_enough_ends_a_silent_console() {
    let daemon = Guest::default().daemon();
    let mut child = daemon
        .fvm(&["console", "42"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut shown = vec![0; REPLAY.len()];
    stdout.read_exact(&mut shown).unwrap();
    // The guest prints nothing more from here on.
    drop(stdout);
    assert_eq!(status_of(child), 0);
}

#[test]
fn a_reader_that_takes_its_time_holds_no_signal_up() {
    let guest = Guest {
        chatty: true,
        ..Guest::default()
    };
    let daemon = guest.daemon();
    // A pipe that nobody empties.
    let (reader, writer) = nix::unistd::pipe().unwrap();
    let child = daemon
        .fvm(&["console", "42"])
        .stdout(writer.try_clone().unwrap())
        .spawn()
        .unwrap();
    until("the pipe is full", || {
        let mut watched = [PollFd::new(writer.as_fd(), PollFlags::POLLOUT)];
        poll(&mut watched, PollTimeout::ZERO).unwrap() == 0
    });
    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
    assert_eq!(status_of(child), 143);
    drop(reader);
}

#[test]
fn a_full_disk_is_a_failure() {
    let daemon = Guest::default().daemon();
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let mut command = daemon.fvm(&["console", "42"]);
    command.stdout(full);
    let ran = Ran::of(command);
    assert_eq!(ran.status, 1, "{ran:?}");
    assert!(ran.stderr.contains("No space left on device"), "{ran:?}");
}

#[test]
fn a_script_leaves_when_its_time_is_over_or_its_reader_is_gone() {
    let daemon = Guest::default().daemon();
    let ran = finish(daemon.fvm(&["console", "42", "--timeout", "1s"]));
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
    let (reader, writer) = nix::unistd::pipe().unwrap();
    drop(reader);
    let child = daemon
        .fvm(&["console", "42"])
        .stdout(writer)
        .spawn()
        .unwrap();
    assert_eq!(status_of(child), 0);
}

//! A terminal with `fvm` on it.

use nix::{
    pty::openpty,
    sys::{
        signal::{Signal, kill},
        termios::{LocalFlags, tcgetattr},
    },
    unistd::Pid,
};
use std::{
    fs::File,
    io::{Read, Write},
    os::fd::OwnedFd,
    process::{Child, Command, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

/// How long anything may take that takes no time.
const LIMIT: Duration = Duration::from_secs(30);

/// Waits until `condition` holds; what it was for is in the message if it never does.
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < LIMIT, "still not: {what}");
        thread::yield_now();
    }
}

/// A terminal, the program on it, and what it has shown.
pub(crate) struct Terminal {
    keys: File,
    line: OwnedFd,
    shown: Arc<(Mutex<Vec<u8>>, Condvar)>,
    /// The program.
    pub(crate) child: Child,
}

impl Terminal {
    /// Starts a command with a terminal for all three streams.
    pub(crate) fn start(command: Command) -> Self {
        Self::start_with(command, |_| {})
    }

    /// The same; `change` replaces streams.
    pub(crate) fn start_with(mut command: Command, change: impl FnOnce(&mut Command)) -> Self {
        let pty = openpty(None, None).unwrap();
        let stream = || Stdio::from(pty.slave.try_clone().unwrap());
        command.stdin(stream()).stdout(stream()).stderr(stream());
        change(&mut command);
        let child = command.spawn().unwrap();
        let keys = File::from(pty.master);
        let mut screen = keys.try_clone().unwrap();
        let shown = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let shared = Arc::clone(&shown);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(bytes @ 1..) = screen.read(&mut buffer) {
                shared.0.lock().unwrap().extend_from_slice(&buffer[..bytes]);
                shared.1.notify_all();
            }
        });
        Self {
            keys,
            line: pty.slave,
            shown,
            child,
        }
    }

    /// Presses keys.
    pub(crate) fn press(&mut self, keys: &[u8]) {
        self.keys.write_all(keys).unwrap();
    }

    /// All that was shown so far.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.shown.0.lock().unwrap()).into_owned()
    }

    /// Waits until this text is shown.
    pub(crate) fn shows(&self, text: &str) {
        let (shown, changed) = &*self.shown;
        let missing = |shown: &mut Vec<u8>| !String::from_utf8_lossy(shown).contains(text);
        let (shown, timeout) = changed
            .wait_timeout_while(shown.lock().unwrap(), LIMIT, missing)
            .unwrap();
        let shown = String::from_utf8_lossy(&shown).into_owned();
        assert!(!timeout.timed_out(), "'{text}' is not in '{shown}'");
    }

    /// True if what is typed goes to the program as it is and is not echoed.
    pub(crate) fn is_raw(&self) -> bool {
        let flags = tcgetattr(&self.line).unwrap().local_flags;
        let cooked = LocalFlags::ECHO | LocalFlags::ICANON | LocalFlags::ISIG;
        assert!(
            flags.contains(cooked) || !flags.intersects(cooked),
            "neither raw nor as it was: {flags:?}"
        );
        !flags.contains(cooked)
    }

    /// Sends the program a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// The program's state as the kernel shows it: `S`, `T`, …
    pub(crate) fn state(&self) -> char {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let (_, rest) = stat.rsplit_once(") ").unwrap();
        rest.chars().next().unwrap()
    }

    /// Waits for the end of the program and returns its exit status.
    pub(crate) fn end(&mut self) -> i32 {
        let mut status = None;
        let child = &mut self.child;
        until("ended", || {
            status = child.try_wait().unwrap();
            status.is_some()
        });
        status.and_then(|status| status.code()).unwrap_or(-1)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Only a failed test leaves it running.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

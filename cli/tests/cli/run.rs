//! Running `fvm` and looking at what it printed.

use std::{
    io,
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

/// How long any command here may take: none waits for more than a second on purpose.
const LIMIT: Duration = Duration::from_secs(120);

/// What a run left behind.
#[derive(Debug)]
pub(crate) struct Ran {
    /// The exit status.
    pub(crate) status: i32,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
}

impl Ran {
    /// Runs a command to its end.
    pub(crate) fn of(mut command: Command) -> Self {
        bounded(move || command.output()).into()
    }

    /// Waits for the end of one that runs.
    pub(crate) fn end_of(child: Child) -> Self {
        bounded(move || child.wait_with_output()).into()
    }
}

/// Waits for the exit status of a command that runs.
pub(crate) fn status_of(mut child: Child) -> i32 {
    bounded(move || child.wait()).code().unwrap_or(-1)
}

/// Waits for the end of something that must end.
fn bounded<T: Send + 'static>(wait: impl FnOnce() -> io::Result<T> + Send + 'static) -> T {
    let (sender, ended) = mpsc::channel();
    thread::spawn(move || sender.send(wait()));
    let ended = ended.recv_timeout(LIMIT);
    ended.expect("the command did not end").unwrap()
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            status: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// `fvm` with arguments, for the daemon at `socket`; nothing on standard input.
pub(crate) fn fvm(socket: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fvm"));
    command
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("TERM", "xterm")
        .env("FVM_SOCKET", socket)
        .args(arguments)
        .stdin(Stdio::null());
    command
}

/// Runs it to its end.
pub(crate) fn run(socket: &Path, arguments: &[&str]) -> Ran {
    Ran::of(fvm(socket, arguments))
}

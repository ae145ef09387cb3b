//! Running `fvm` and looking at what it printed.

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

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
    fvm(socket, arguments).output().unwrap().into()
}

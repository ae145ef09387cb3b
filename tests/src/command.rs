//! Runs programs and turns a failure into an error that shows what they said.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Runs to the end and returns standard output; a failure carries the tail of everything that was printed.
pub(crate) fn output(command: &mut Command) -> Result<Vec<u8>> {
    let name = name_of(command);
    let done = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {name}"))?;
    if !done.status.success() {
        let mut said = String::from_utf8_lossy(&done.stdout).into_owned();
        said.push_str(&String::from_utf8_lossy(&done.stderr));
        bail!("{name} ended with {}:\n{}", done.status, tail(&said, 40));
    }
    Ok(done.stdout)
}

/// As [`output`], as text without the white space around it.
pub(crate) fn text(command: &mut Command) -> Result<String> {
    Ok(String::from_utf8_lossy(&output(command)?).trim().to_owned())
}

/// The last lines of a text.
pub(crate) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// True when a program of that name is in the PATH.
pub(crate) fn installed(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}

fn name_of(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args().take(3))
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}

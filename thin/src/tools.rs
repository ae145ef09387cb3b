//! The programs of thin-provisioning-tools, for what only they can do with a pool's metadata.
//!
//! Each is given a node of fvm's own and nothing that a user chose. What it says is kept short: it ends up in
//! a message.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::error::{Error, Result};

/// The most lines of a program's words that are kept, from the end: the last ones tell why.
const MAX_LINES: usize = 8;
/// The most characters of a line.
const MAX_LINE_CHARS: usize = 200;

/// What a program did.
#[derive(Debug)]
pub(crate) struct Ran {
    /// It ended with status 0.
    pub(crate) success: bool,
    /// What it printed as its result.
    pub(crate) output: String,
    /// What it said beside that.
    pub(crate) says: Vec<String>,
}

/// Runs one of the programs to its end.
pub(crate) fn run<S: AsRef<OsStr>>(program: &'static str, arguments: &[S]) -> Result<Ran> {
    let output = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .map_err(|source| Error::NoTool { program, source })?;
    Ok(Ran {
        success: output.status.success(),
        says: last_lines(&String::from_utf8_lossy(&output.stderr)),
        output: String::from_utf8_lossy(&output.stdout).into_owned(),
    })
}

/// Runs a program that has to succeed on a device; returns what it printed.
pub(crate) fn must<S: AsRef<OsStr>>(
    program: &'static str,
    arguments: &[S],
    device: &Path,
) -> Result<String> {
    let ran = run(program, arguments)?;
    if ran.success {
        return Ok(ran.output);
    }
    Err(Error::Tool {
        program,
        device: device.to_owned(),
        says: ran.says.join("; "),
    })
}

fn last_lines(text: &str) -> Vec<String> {
    let lines: Vec<String> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(|line| {
            let shown = line.chars().filter(|c| !c.is_control());
            shown.take(MAX_LINE_CHARS).collect()
        })
        .collect();
    lines[lines.len().saturating_sub(MAX_LINES)..].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_words_are_kept() {
        let text: String = (0..100).map(|n| format!("\x1b  line {n}\n\n")).collect();
        let lines = last_lines(&text);
        assert_eq!(lines.len(), MAX_LINES);
        assert_eq!(lines[MAX_LINES - 1].trim(), "line 99");
        assert_eq!(last_lines(&"x".repeat(1000))[0].len(), MAX_LINE_CHARS);
        assert!(last_lines("").is_empty());
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = run("fvm-no-such-program", &["x"]).unwrap_err();
        assert!(error.to_string().contains("fvm-no-such-program"), "{error}");
    }
}

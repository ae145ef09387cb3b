//! The user's editor.

use std::{
    env,
    ffi::OsString,
    io::{self, Write},
    process::{Command, ExitStatus},
};

/// What POSIX has everywhere.
const FALLBACK: &str = "vi";

/// Why a text could not be edited.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EditorError {
    /// The text cannot be handed over.
    #[error("cannot hand the text to an editor")]
    File(#[source] io::Error),
    /// The editor cannot be started.
    #[error("cannot start the editor {}", editor.display())]
    Start {
        /// What `$VISUAL` or `$EDITOR` says.
        editor: OsString,
        /// What the system said.
        source: io::Error,
    },
    /// It failed, so nobody knows what the user meant.
    #[error("the editor {} ended with {status}: nothing was changed", editor.display())]
    Failed {
        /// What `$VISUAL` or `$EDITOR` says.
        editor: OsString,
        /// How it ended.
        status: ExitStatus,
    },
    /// What it left behind is not text.
    #[error("what the editor left behind cannot be read")]
    Read(#[source] io::Error),
}

/// Has the user edit a text, and returns what it is afterwards.
pub(crate) fn edit(text: &str) -> Result<String, EditorError> {
    let editor = ["VISUAL", "EDITOR"]
        .iter()
        .filter_map(env::var_os)
        .find(|value| !value.is_empty())
        .unwrap_or_else(|| FALLBACK.into());
    let mut file = tempfile::Builder::new()
        .prefix("fvm-")
        .suffix(".txt")
        .tempfile()
        .map_err(EditorError::File)?;
    writeln!(file, "{text}").map_err(EditorError::File)?;
    // Through a shell, since the variable may have options in it (`code --wait`).
    let status = Command::new("sh")
        .arg("-c")
        .arg("exec $FVM_EDITOR \"$1\"")
        .arg("sh")
        .arg(file.path())
        .env("FVM_EDITOR", &editor)
        .status();
    let status = match status {
        Ok(status) => status,
        Err(source) => return Err(EditorError::Start { editor, source }),
    };
    if !status.success() {
        return Err(EditorError::Failed { editor, status });
    }
    // By name: editors put a new file in its place.
    std::fs::read_to_string(file.path()).map_err(EditorError::Read)
}

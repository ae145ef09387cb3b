//! Why a request had no answer, or not the one hoped for.

use fvm_vmm::api::{ApiError, REPORT_VERSION};
use std::{io, path::PathBuf, time::Duration};

/// What went wrong between `fvm` and `fvmd`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// There is no socket, or nobody listens on it.
    #[error("no fvmd listens on {}", socket.display())]
    NoDaemon {
        /// The socket.
        socket: PathBuf,
        /// What `connect` said.
        source: io::Error,
    },
    /// The socket is not for this user.
    #[error("you are not allowed to use {}", socket.display())]
    Denied {
        /// The socket.
        socket: PathBuf,
        /// What `connect` said.
        source: io::Error,
    },
    /// Any other failure to connect.
    #[error("cannot connect to {}", socket.display())]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// What `connect` said.
        source: io::Error,
    },
    /// `ssh` could not be run.
    #[error("cannot run ssh to {host}")]
    Ssh {
        /// The host.
        host: String,
        /// Why.
        source: io::Error,
    },
    /// `ssh`, or the `fvm` at its other end, failed; it has said why.
    #[error("{}", remote_words(host, *status))]
    Remote {
        /// The host.
        host: String,
        /// The exit status.
        status: i32,
    },
    /// The connection ended before the answer did.
    #[error("fvmd went away before it answered")]
    Cut {
        /// True if the request was to change something.
        changes: bool,
        /// What the connection said, if it said anything.
        source: Option<hyper::Error>,
    },
    /// A question that takes no time had no answer.
    #[error("fvmd did not answer GET {path} within {} s", limit.as_secs())]
    Silent {
        /// What was asked.
        path: String,
        /// How long was waited.
        limit: Duration,
    },
    /// The answer is not JSON, or not of the expected form.
    #[error("the answer of fvmd to {path} makes no sense")]
    Malformed {
        /// What was asked.
        path: String,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// A status without an explanation, or with one of a foreign form.
    #[error("fvmd answered {path} with HTTP status {status} and no reason")]
    Status {
        /// What was asked.
        path: String,
        /// The status.
        status: u16,
    },
    /// An answer longer than any real one.
    #[error("the answer of fvmd to {path} is longer than {limit} bytes")]
    Endless {
        /// What was asked.
        path: String,
        /// What is taken at most.
        limit: usize,
    },
    /// A report of another version.
    #[error(
        "fvmd answers with reports of version {theirs}, this fvm understands version {REPORT_VERSION}"
    )]
    Version {
        /// The version of the report.
        theirs: u64,
    },
    /// `fvmd` said no, and why.
    #[error(transparent)]
    Answer(#[from] ApiError),
}

/// What the exit status of an `ssh HOST fvm connect` means.
fn remote_words(host: &str, status: i32) -> String {
    match status {
        255 => format!("ssh did not get to {host}"),
        // What shells end with for a command that is not there.
        127 => format!("there is no fvm on {host}"),
        _ => format!("fvm on {host} did not get to its fvmd (exit status {status})"),
    }
}

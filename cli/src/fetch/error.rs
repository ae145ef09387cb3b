//! Why something could not be fetched.

use std::io;
use ureq::http::StatusCode;

/// What is wrong with a URL, or with what its server does.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    /// Neither http nor https.
    #[error("'{url}' is not a URL that fvm fetches: http and https only")]
    Scheme {
        /// As the user wrote it.
        url: String,
    },
    /// Not a URL at all.
    #[error("'{url}' is malformed")]
    Malformed {
        /// As the user wrote it.
        url: String,
        /// What the parser said.
        source: ureq::http::uri::InvalidUri,
    },
    /// No response.
    #[error("cannot fetch {url}")]
    Request {
        /// Without user and query.
        url: String,
        /// What the client said.
        source: Box<ureq::Error>,
    },
    /// A response other than the file.
    #[error("cannot fetch {url}: the server says {status}")]
    Status {
        /// Without user and query.
        url: String,
        /// What it says.
        status: StatusCode,
    },
    /// Redirected from https to http.
    #[error("{url} redirects to the unprotected {to}")]
    Unprotected {
        /// Without user and query.
        url: String,
        /// Without user and query.
        to: String,
    },
    /// More than a list of checksums can be.
    #[error("{url} is longer than {limit_kib} KiB")]
    TooLong {
        /// Without user and query.
        url: String,
        /// What is taken.
        limit_kib: u64,
    },
    /// Reading a response's body failed.
    #[error("the connection to {url} broke")]
    Read {
        /// Without user and query.
        url: String,
        /// What the client said.
        source: io::Error,
    },
    /// A broken connection that could not be resumed because nothing says whether the file is the same.
    #[error(
        "the connection broke, and the server says nothing by which a changed file could be told: it is not resumed"
    )]
    NotResumable {
        /// Why it broke.
        source: io::Error,
    },
    /// The server sends only all of it.
    #[error("the connection broke, and the server does not send the rest alone")]
    NoRanges {
        /// Why it broke.
        source: io::Error,
    },
    /// It broke again and again.
    #[error("the connection broke, and {attempts} attempts to resume it failed")]
    Broken {
        /// How many.
        attempts: u32,
        /// Why the last one did.
        source: io::Error,
    },
    /// The rest is that of another file.
    #[error("the file on the server changed while it was fetched")]
    Changed,
}

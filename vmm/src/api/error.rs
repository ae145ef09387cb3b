//! The one error that crosses the socket, and how its kind becomes an exit status.

use serde::{Deserialize, Serialize};

/// What sort of failure it was; decides the exit status and the HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The operation was tried and failed.
    Failed,
    /// The request made no sense: bad syntax, bad template, number out of range.
    Usage,
    /// What it names is not there.
    NotFound,
    /// It is there, but not yours, or its state or a limit forbids it.
    Refused,
    /// The host cannot do it: no pool, no daemon, a missing kernel feature.
    HostNotAble,
    /// A bug in fvm.
    Internal,
}

impl ErrorKind {
    /// The exit status of the CLI for this kind.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Refused => 4,
            Self::HostNotAble => 5,
            Self::Internal => 70,
        }
    }

    /// The HTTP status of a response that carries nothing but this error.
    pub fn http_status(self) -> u16 {
        match self {
            Self::Failed | Self::Internal => 500,
            Self::Usage => 400,
            Self::NotFound => 404,
            Self::Refused => 409,
            Self::HostNotAble => 503,
        }
    }
}

/// An error as the user sees it: what failed and why, what to type next, what was left behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// What sort of failure it was.
    pub kind: ErrorKind,
    /// What failed, on what, and why; one sentence without a full stop.
    pub message: String,
    /// What to do or type next, if there is something sensible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Further lines: the tail of a log, further failures of a teardown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
}

impl ApiError {
    /// An error without hint or details.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            hint: None,
            details: Vec::new(),
        }
    }

    /// An error of this kind whose message ends with the whole chain of causes of `error`.
    pub fn from_error(kind: ErrorKind, error: &dyn std::error::Error) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(inner) = cause {
            let text = inner.to_string();
            // A transparent wrapper would repeat its cause.
            if !message.ends_with(&text) {
                message.push_str(": ");
                message.push_str(&text);
            }
            cause = inner.source();
        }
        Self::new(kind, message)
    }

    /// The same with what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same with one further line of detail.
    #[must_use]
    pub fn detail(mut self, line: impl Into<String>) -> Self {
        self.details.push(line.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_follow_the_documented_rule() {
        let codes = [
            ErrorKind::Failed,
            ErrorKind::Usage,
            ErrorKind::NotFound,
            ErrorKind::Refused,
            ErrorKind::HostNotAble,
            ErrorKind::Internal,
        ]
        .map(ErrorKind::exit_code);
        assert_eq!(codes, [1, 2, 3, 4, 5, 70]);
    }

    #[test]
    fn the_chain_of_causes_is_told_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("opening the pool")]
        struct Outer(#[source] std::io::Error);
        let error = Outer(std::io::Error::other("no such device"));
        let api = ApiError::from_error(ErrorKind::Failed, &error);
        assert_eq!(api.message, "opening the pool: no such device");
    }
}

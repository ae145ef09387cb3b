//! How the errors of the mechanisms become what the user is told.

use crate::{
    api::{ApiError, ErrorKind},
    config::ConfigError,
    store::StoreError,
};
use std::{error::Error, io, path::Path};

/// What every operation of the manager ends with.
pub(super) type Result<T> = std::result::Result<T, ApiError>;

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let kind = match error {
            StoreError::OutOfThinIds | StoreError::TooNew { .. } => ErrorKind::HostNotAble,
            StoreError::Open { .. } | StoreError::Statement { .. } => ErrorKind::Failed,
        };
        Self::from_error(kind, &error)
    }
}

impl From<ConfigError> for ApiError {
    fn from(error: ConfigError) -> Self {
        Self::from_error(ErrorKind::HostNotAble, &error)
    }
}

/// A failure of the host to do something, told with its whole chain of causes.
pub(super) fn failed(what: impl AsRef<str>, error: &dyn Error) -> ApiError {
    let mut api = ApiError::from_error(ErrorKind::Failed, error);
    api.message = format!("{}: {}", what.as_ref(), api.message);
    api
}

/// A failure of a file operation.
pub(super) fn file(action: &str, path: &Path, error: &io::Error) -> ApiError {
    ApiError::new(
        ErrorKind::Failed,
        format!("{action} {}: {error}", path.display()),
    )
}

/// Goes on past failures and keeps them all, for teardowns.
#[derive(Debug, Default)]
pub(super) struct Failures(Vec<ApiError>);

impl Failures {
    /// Keeps the failure, if it is one.
    pub(super) fn keep<T>(&mut self, result: Result<T>) {
        self.0.extend(result.err());
    }

    /// The first failure, with the others as its details.
    pub(super) fn into_result(self) -> Result<()> {
        let mut failures = self.0.into_iter();
        let Some(mut first) = failures.next() else {
            return Ok(());
        };
        for further in failures {
            first.details.push(further.message);
            first.details.extend(further.details);
        }
        Err(first)
    }
}

//! The lines of a streamed response: one JSON value each, the last one the report or the error.

use super::{ApiError, VmNumber};
use serde::{Deserialize, Serialize};

/// Something worth telling while an operation runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The VM it is about, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm: Option<VmNumber>,
    /// True if the user must see it even where progress is not shown.
    #[serde(default)]
    pub warning: bool,
    /// One line for a person.
    pub text: String,
}

/// One line of a streamed response (`application/x-ndjson`).
///
/// A response is any number of `event` lines and then exactly one `report` or `error`. A stream that
/// ends without one was cut off: nothing is known of the outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line<R> {
    /// Progress or a warning.
    Event(Event),
    /// The end: what was done.
    Report(R),
    /// The end: why it was not done.
    Error(ApiError),
}

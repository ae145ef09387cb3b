//! What is wrong with a template, and where: a path, a line, a message, a way out.

use thiserror::Error;

/// A template that fvm refuses, naming the place and what may stand there instead.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{path} (line {line}): {message}")]
pub struct TemplateError {
    /// Where: `/domain/devices/disk[2]/driver/@queues`. A position is given where an element has
    /// siblings of its own name, counted from one.
    pub path: String,
    /// The line in the template, counted from one.
    pub line: u32,
    /// What is wrong.
    pub message: String,
    /// What fvm supports at this place, and the way around if there is one.
    pub hint: Option<String>,
}

/// Something that fvm accepts but acts on in its own way, which the user should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Where, as in [`TemplateError::path`].
    pub path: String,
    /// The line in the template, counted from one.
    pub line: u32,
    /// What fvm does instead.
    pub message: String,
}

impl std::fmt::Display for Warning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (line {}): {}", self.path, self.line, self.message)
    }
}

/// The result of reading a part of a template.
pub(crate) type Result<T> = std::result::Result<T, TemplateError>;

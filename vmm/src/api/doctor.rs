//! `doctor`: what on the host is as it should be, what is not, and the command that mends it.

use serde::{Deserialize, Serialize};

/// How well something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// As it should be.
    Ok,
    /// VMs run, but something is slower, missing or about to go wrong.
    Warning,
    /// VMs cannot be made, or run, or reached.
    Error,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What it is, such as `KVM` or `module tun`.
    pub what: String,
    /// How well it is.
    pub level: Level,
    /// How it stands, and why that is no good if it is none.
    pub state: String,
    /// The command, or what else mends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl Finding {
    fn new(level: Level, what: impl Into<String>, state: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            level,
            state: state.into(),
            fix: None,
        }
    }

    /// Something that is well.
    pub fn ok(what: impl Into<String>, state: impl Into<String>) -> Self {
        Self::new(Level::Ok, what, state)
    }

    /// Something worth a look.
    pub fn warning(what: impl Into<String>, state: impl Into<String>) -> Self {
        Self::new(Level::Warning, what, state)
    }

    /// Something that keeps fvm from its work.
    pub fn error(what: impl Into<String>, state: impl Into<String>) -> Self {
        Self::new(Level::Error, what, state)
    }

    /// The same with what mends it.
    #[must_use]
    pub fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }
}

/// The host, looked at from every side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoctorReport {
    /// `REPORT_VERSION`.
    pub version: u32,
    /// In an order that makes sense: what comes first is what the rest needs.
    pub findings: Vec<Finding>,
}

impl DoctorReport {
    /// The worst of all.
    pub fn worst(&self) -> Level {
        let levels = self.findings.iter().map(|finding| finding.level);
        levels.max().unwrap_or(Level::Ok)
    }
}

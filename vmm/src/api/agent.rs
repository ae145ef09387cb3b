//! What a guest's agent is asked, and what it answers: a guest's words, made printable and bounded.

use super::VmNumber;
use serde::{Deserialize, Serialize};

/// Asks the agent of a running VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "ask")]
pub enum AskAgent {
    /// Whether it is there.
    Ping,
    /// What its clock shows.
    Time,
    /// To set its clock by the host's.
    SetTime,
    /// Which network cards and addresses it has.
    Addresses,
    /// To run a program, as the agent's user, and to wait for its end.
    Exec {
        /// The program.
        program: String,
        /// Its arguments.
        #[serde(default)]
        arguments: Vec<String>,
        /// How long it may take.
        timeout_s: u32,
    },
}

impl AskAgent {
    /// The longest a program may be waited for.
    pub const MAX_TIMEOUT_S: u32 = 24 * 3600;
    /// The most bytes of a program's name and arguments.
    pub const MAX_COMMAND_BYTES: usize = 128 << 10;

    /// Its word, for the journal: arguments may be secrets.
    pub fn word(&self) -> String {
        match self {
            Self::Ping => "ping".to_owned(),
            Self::Time => "time".to_owned(),
            Self::SetTime => "set-time".to_owned(),
            Self::Addresses => "addresses".to_owned(),
            Self::Exec { program, .. } => format!("exec {program}"),
        }
    }
}

/// What a guest's agent answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentReport {
    /// `REPORT_VERSION`.
    pub version: u32,
    /// The VM.
    pub vm: VmNumber,
    /// The answer.
    pub answer: AgentAnswer,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "answer")]
pub enum AgentAnswer {
    /// It is there.
    Pong,
    /// The clocks.
    Time {
        /// The guest's: milliseconds since 1970-01-01 UTC.
        guest_ms: i64,
        /// How far it is ahead of the host's; negative if it is behind.
        ahead_ms: i64,
    },
    /// Its network cards.
    Addresses {
        /// One each.
        interfaces: Vec<GuestInterface>,
    },
    /// How a program ended.
    Ended(GuestExit),
}

/// A network card as a guest sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestInterface {
    /// Its name.
    pub name: String,
    /// Its MAC address, if it has one.
    pub mac: Option<String>,
    /// Its addresses.
    pub addresses: Vec<String>,
}

/// How a program in a guest ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestExit {
    /// Its exit status; none if a signal ended it.
    pub status: Option<i64>,
    /// The signal that ended it.
    pub signal: Option<i64>,
    /// What it printed; what is no UTF-8 is replaced.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
    /// The agent kept only part of it.
    pub truncated: bool,
}

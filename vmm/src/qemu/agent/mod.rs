//! The guest agent's protocol, by hand: JSON over a virtio port, as `qemu-ga` speaks it in the guest.
//!
//! All that comes through it a guest wrote: lines and their sum are bounded, every wait has an end, fields
//! that are not known are passed over, text is made printable. A connection begins with
//! `guest-sync-delimited`, which tells the answers to this client from what was left unread of an earlier
//! one; so each use makes a connection of its own, and neither a guest nor a daemon that starts anew is in
//! the way of the next. QEMU serves one client at a time.

mod commands;
#[cfg(test)]
mod tests;

pub use commands::{Exec, FreezeState, Interface, Trimmed};

use super::qmp::{connect_within, printable};
use serde_json::{Map, Value, json};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use thiserror::Error;

/// The longest line that is read. `guest-exec-status` returns up to 16 MiB of output; no more than this is
/// wanted of it.
const MAX_LINE: usize = 1 << 20;
/// The most bytes that are read for the sake of one answer, those of other answers included.
const MAX_READ: usize = 4 << 20;
/// The most characters of the guest's words in an error.
const MAX_WORDS: usize = 200;
/// What precedes the answer to `guest-sync-delimited`, and makes the agent forget what it was being sent
/// before: a byte that no UTF-8 text has.
const DELIMITER: u8 = 0xff;

/// Why a guest's agent could not be asked, or what it answered instead.
#[derive(Debug, Error)]
pub enum AgentError {
    /// Nobody listens.
    #[error("cannot connect to the guest agent's socket {}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The socket failed.
    #[error("the guest agent's socket failed during `{command}`")]
    Io {
        /// What was asked.
        command: String,
        /// Why.
        source: io::Error,
    },
    /// QEMU closed the connection.
    #[error("QEMU closed the guest agent's socket during `{command}`")]
    Closed {
        /// What was asked.
        command: String,
    },
    /// No answer in time.
    #[error("the guest agent did not answer `{command}` within {} ms", limit.as_millis())]
    Timeout {
        /// What was asked.
        command: String,
        /// The limit.
        limit: Duration,
    },
    /// An answer that is not the protocol's.
    #[error("the guest agent answered `{command}` with something that is not its protocol: {what}")]
    Malformed {
        /// What was asked.
        command: String,
        /// What came.
        what: String,
    },
    /// The agent refused.
    #[error("the guest agent refused `{command}`: {description}")]
    Refused {
        /// What was asked.
        command: String,
        /// The guest's words, made printable and bounded.
        description: String,
    },
}

type Result<T> = std::result::Result<T, AgentError>;

/// A connection to one guest's agent.
#[derive(Debug)]
pub struct Agent {
    stream: UnixStream,
    buffer: Vec<u8>,
}

impl Agent {
    /// Connects to the socket that QEMU has for the agent, and makes sure that the agent answers.
    pub fn connect(path: &Path, limit: Duration) -> Result<Self> {
        let stream = connect_within(path, limit).map_err(|source| AgentError::Connect {
            path: path.to_owned(),
            source,
        })?;
        Self::synchronise(stream, limit)
    }

    /// Takes over a connected socket: reads past all that was meant for an earlier client.
    pub fn synchronise(stream: UnixStream, limit: Duration) -> Result<Self> {
        let mut agent = Self {
            stream,
            buffer: Vec::new(),
        };
        let mut wait = Wait::new("guest-sync-delimited", limit);
        let id = mark();
        agent.send(&mut wait, Some(DELIMITER), json!({"id": id}))?;
        loop {
            agent.skip_to_delimiter(&mut wait)?;
            let line = agent.line(&mut wait)?;
            // What is no answer, or that to somebody else, is what was to be read past.
            let answer = serde_json::from_slice::<Value>(&line).unwrap_or_default();
            if answer["return"].as_u64() == Some(id) {
                return Ok(agent);
            }
        }
    }

    /// Takes what comes for answers without having synchronised, for fuzz targets alone.
    #[cfg(fuzzing)]
    pub fn unsynchronised(stream: UnixStream) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    /// Sends a command and returns what it returns.
    fn execute(&mut self, command: &str, arguments: Value, limit: Duration) -> Result<Value> {
        let mut wait = Wait::new(command, limit);
        self.send(&mut wait, None, arguments)?;
        let line = self.line(&mut wait)?;
        let mut answer: Map<String, Value> = match serde_json::from_slice(&line) {
            Ok(Value::Object(answer)) => answer,
            Ok(_) => return Err(wait.malformed("a line that is no object")),
            // Nesting has a bound of serde_json's own.
            Err(error) => return Err(wait.malformed(&error.to_string())),
        };
        if let Some(value) = answer.remove("return") {
            return Ok(value);
        }
        let description = answer
            .get("error")
            .and_then(|error| error.get("desc"))
            .and_then(Value::as_str)
            .ok_or_else(|| wait.malformed("neither a return nor an error"))?;
        Err(AgentError::Refused {
            command: command.to_owned(),
            description: printable(description, MAX_WORDS),
        })
    }

    fn send(&mut self, wait: &mut Wait<'_>, first: Option<u8>, arguments: Value) -> Result<()> {
        let mut line: Vec<u8> = first.into_iter().collect();
        let command = json!({"execute": wait.command, "arguments": arguments});
        line.extend_from_slice(command.to_string().as_bytes());
        line.push(b'\n');
        let left = wait.left()?;
        // A guest that does not read fills the buffers between.
        self.stream
            .set_write_timeout(Some(left))
            .and_then(|()| self.stream.write_all(&line))
            .map_err(|error| wait.io(error))
    }

    /// Reads on behind the next delimiter.
    fn skip_to_delimiter(&mut self, wait: &mut Wait<'_>) -> Result<()> {
        loop {
            if let Some(at) = self.buffer.iter().position(|byte| *byte == DELIMITER) {
                self.buffer.drain(..=at);
                return Ok(());
            }
            self.buffer.clear();
            self.read(wait)?;
        }
    }

    fn line(&mut self, wait: &mut Wait<'_>) -> Result<Vec<u8>> {
        let mut scanned = 0;
        loop {
            if let Some(end) = self.buffer[scanned..].iter().position(|b| *b == b'\n') {
                let rest = self.buffer.split_off(scanned + end + 1);
                return Ok(std::mem::replace(&mut self.buffer, rest));
            }
            scanned = self.buffer.len();
            if scanned > MAX_LINE {
                return Err(wait.malformed("a line of more than 1 MiB"));
            }
            self.read(wait)?;
        }
    }

    /// Takes in what has come, waiting until there is something.
    fn read(&mut self, wait: &mut Wait<'_>) -> Result<()> {
        let mut chunk = [0; 16 << 10];
        loop {
            let left = wait.left()?;
            let read = self
                .stream
                .set_read_timeout(Some(left))
                .and_then(|()| self.stream.read(&mut chunk));
            match read {
                Ok(0) => return Err(wait.closed()),
                Ok(count) => {
                    wait.count(count)?;
                    self.buffer.extend_from_slice(&chunk[..count]);
                    return Ok(());
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock
                    | io::ErrorKind::TimedOut
                    | io::ErrorKind::Interrupted => {}
                    io::ErrorKind::ConnectionReset => return Err(wait.closed()),
                    _ => return Err(wait.io(error)),
                },
            }
        }
    }
}

/// A number by which the answer to one synchronisation is known; 53 bits, which every JSON reader keeps.
fn mark() -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().0 >> 11
}

/// One bounded wait for the sake of one command.
struct Wait<'c> {
    command: &'c str,
    limit: Duration,
    end: Instant,
    read: usize,
}

impl<'c> Wait<'c> {
    fn new(command: &'c str, limit: Duration) -> Self {
        Self {
            command,
            limit,
            end: Instant::now() + limit,
            read: 0,
        }
    }

    /// The time that is left, which is more than nothing.
    fn left(&self) -> Result<Duration> {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(self.timeout());
        }
        Ok(left)
    }

    /// However fast it comes, there is an end to what is read.
    fn count(&mut self, bytes: usize) -> Result<()> {
        self.read += bytes;
        if self.read > MAX_READ {
            return Err(self.malformed("more than any answer has"));
        }
        Ok(())
    }

    fn timeout(&self) -> AgentError {
        AgentError::Timeout {
            command: self.command.to_owned(),
            limit: self.limit,
        }
    }

    fn closed(&self) -> AgentError {
        AgentError::Closed {
            command: self.command.to_owned(),
        }
    }

    fn io(&self, source: io::Error) -> AgentError {
        match source.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => self.timeout(),
            io::ErrorKind::BrokenPipe => self.closed(),
            _ => AgentError::Io {
                command: self.command.to_owned(),
                source,
            },
        }
    }

    fn malformed(&self, what: &str) -> AgentError {
        AgentError::Malformed {
            command: self.command.to_owned(),
            what: what.to_owned(),
        }
    }
}

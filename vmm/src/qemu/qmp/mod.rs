//! QEMU's control protocol, by hand: one JSON object a line over a Unix socket.
//!
//! What a QEMU says is hostile input, because its guest may have taken it over: lines are bounded,
//! every wait has an end, unknown events and fields are passed over, text is made printable. Events
//! that come while a reply is awaited are kept for [`Client::next_event`]; they are not replayed by
//! QEMU, so after connecting the status must be asked anew.

mod controls;
mod devices;
mod disks;
#[cfg(test)]
mod tests;
mod tuning;

use super::version::Version;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, sendmsg,
    setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;
use serde_json::{Map, Value, json};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use thiserror::Error;

/// The longest line that is read; the longest honest one, the list of machines, has some 100 kB.
const MAX_LINE: usize = 4 << 20;
/// The most events that are kept for later; the oldest go first.
const MAX_EVENTS: usize = 1024;
/// The most characters of QEMU's own words in an error.
const MAX_WORDS: usize = 400;

/// Why QEMU could not be asked, or what it answered instead.
#[derive(Debug, Error)]
pub enum QmpError {
    /// Nobody listens.
    #[error("cannot connect to QEMU's control socket {}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The socket failed.
    #[error("QEMU's control socket failed during `{command}`")]
    Io {
        /// What was asked.
        command: String,
        /// Why.
        source: io::Error,
    },
    /// QEMU closed the connection: it ended, or a newer client took its place.
    #[error("QEMU closed its control socket during `{command}`")]
    Closed {
        /// What was asked.
        command: String,
    },
    /// No answer in time.
    #[error("QEMU did not answer `{command}` within {} ms", limit.as_millis())]
    Timeout {
        /// What was asked.
        command: String,
        /// The limit.
        limit: Duration,
    },
    /// An answer that is not the protocol's.
    #[error("QEMU answered `{command}` with something that is not its protocol: {what}")]
    Malformed {
        /// What was asked.
        command: String,
        /// What came.
        what: String,
    },
    /// QEMU refused.
    #[error("QEMU refused `{command}`: {description}")]
    Refused {
        /// What was asked.
        command: String,
        /// QEMU's class of error, such as `GenericError`.
        class: String,
        /// QEMU's words, made printable and bounded.
        description: String,
    },
}

/// Something that QEMU reports by itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its name, such as `SHUTDOWN`.
    pub name: String,
    /// What it says.
    pub data: Value,
}

/// Whether the guest runs, as `query-status` tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// QEMU's word: `running`, `paused`, `prelaunch`, `shutdown`, `guest-panicked`, `io-error`…
    pub state: String,
    /// Whether the processors run.
    pub running: bool,
}

/// A connection to one of a QEMU's monitors.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    buffer: Vec<u8>,
    /// How much of the buffer is known to have no end of line.
    scanned: usize,
    events: VecDeque<Event>,
    version: Version,
    next_id: u64,
}

impl Client {
    /// Connects to the monitor that listens at `path`.
    pub fn connect(path: &Path, limit: Duration) -> Result<Self, QmpError> {
        let stream = connect_within(path, limit).map_err(|source| QmpError::Connect {
            path: path.to_owned(),
            source,
        })?;
        Self::handshake(stream, limit)
    }

    /// Takes over a connected socket: waits for the greeting and enters command mode.
    pub fn handshake(stream: UnixStream, limit: Duration) -> Result<Self, QmpError> {
        let mut client = Self {
            stream,
            buffer: Vec::new(),
            scanned: 0,
            events: VecDeque::new(),
            version: Version { major: 0, minor: 0 },
            next_id: 0,
        };
        let wait = Wait::new("the greeting", limit);
        let greeting = client.message(&wait)?.ok_or_else(|| wait.timeout())?;
        client.version =
            version(&greeting).ok_or_else(|| wait.malformed("a greeting without a version"))?;
        client.execute("qmp_capabilities", json!({}), limit)?;
        Ok(client)
    }

    /// The version that the greeting told.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Sends a command and returns what it returns.
    pub fn execute(
        &mut self,
        command: &str,
        arguments: Value,
        limit: Duration,
    ) -> Result<Value, QmpError> {
        self.execute_with(command, arguments, None, limit)
    }

    /// The same with a descriptor that QEMU is given.
    fn execute_with(
        &mut self,
        command: &str,
        arguments: Value,
        fd: Option<BorrowedFd<'_>>,
        limit: Duration,
    ) -> Result<Value, QmpError> {
        let wait = Wait::new(command, limit);
        self.next_id += 1;
        let id = self.next_id;
        let mut line = json!({"execute": command, "arguments": arguments, "id": id}).to_string();
        line.push('\n');
        self.stream
            .set_write_timeout(Some(wait.left()?))
            .map_err(|e| wait.io(e))?;
        self.send(line.as_bytes(), fd).map_err(|e| wait.io(e))?;
        loop {
            let mut message = self.message(&wait)?.ok_or_else(|| wait.timeout())?;
            if let Some(event) = event(&mut message) {
                self.keep(event);
                // However fast they come, the wait has its end.
                wait.left()?;
                continue;
            }
            if message.get("id").and_then(Value::as_u64) != Some(id) {
                // The late reply to a command whose wait had ended.
                wait.left()?;
                continue;
            }
            if let Some(value) = message.remove("return") {
                return Ok(value);
            }
            let error = message.get("error").and_then(Value::as_object);
            let error = error.ok_or_else(|| wait.malformed("neither a return nor an error"))?;
            let text = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default();
            return Err(QmpError::Refused {
                command: command.to_owned(),
                class: printable(text("class"), MAX_WORDS),
                description: printable(text("desc"), MAX_WORDS),
            });
        }
    }

    /// The next event, or `None` when the limit has passed without one.
    pub fn next_event(&mut self, limit: Duration) -> Result<Option<Event>, QmpError> {
        let wait = Wait::new("waiting for an event", limit);
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            match self.message(&wait)? {
                None => return Ok(None),
                Some(mut message) => match event(&mut message) {
                    Some(event) => self.keep(event),
                    None if wait.left().is_err() => return Ok(None),
                    None => {}
                },
            }
        }
    }

    /// Whether the guest runs.
    pub fn status(&mut self, limit: Duration) -> Result<Status, QmpError> {
        let command = "query-status";
        let reply = self.execute(command, json!({}), limit)?;
        let state = reply.get("status").and_then(Value::as_str);
        let running = reply.get("running").and_then(Value::as_bool);
        match (state, running) {
            (Some(state), Some(running)) => Ok(Status {
                state: printable(state, MAX_WORDS),
                running,
            }),
            _ => Err(Wait::new(command, limit).malformed("no status")),
        }
    }

    /// Whether a disk could not be written for lack of space (`true`) or for another reason (`false`);
    /// `None` if no disk has failed.
    pub fn disk_is_full(&mut self, limit: Duration) -> Result<Option<bool>, QmpError> {
        let reply = self.execute("query-block", json!({}), limit)?;
        let disks = reply.as_array().map(Vec::as_slice).unwrap_or_default();
        let failed = |status: &str| disks.iter().any(|disk| disk["io-status"] == status);
        Ok(match (failed("failed"), failed("nospace")) {
            (true, _) => Some(false),
            (false, true) => Some(true),
            (false, false) => None,
        })
    }

    /// Lets the guest run.
    pub fn cont(&mut self, limit: Duration) -> Result<(), QmpError> {
        self.execute("cont", json!({}), limit).map(drop)
    }

    /// Stops the guest's processors.
    pub fn stop(&mut self, limit: Duration) -> Result<(), QmpError> {
        self.execute("stop", json!({}), limit).map(drop)
    }

    /// Presses the guest's power button.
    pub fn system_powerdown(&mut self, limit: Duration) -> Result<(), QmpError> {
        self.execute("system_powerdown", json!({}), limit).map(drop)
    }

    /// Presses the guest's reset button.
    pub fn system_reset(&mut self, limit: Duration) -> Result<(), QmpError> {
        self.execute("system_reset", json!({}), limit).map(drop)
    }

    /// Ends QEMU, flushing the disks.
    pub fn quit(&mut self, limit: Duration) -> Result<(), QmpError> {
        match self.execute("quit", json!({}), limit) {
            // It may be gone before its answer is.
            Ok(_) | Err(QmpError::Closed { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Sets what the balloon leaves the guest.
    pub fn balloon(&mut self, bytes: u64, limit: Duration) -> Result<(), QmpError> {
        self.execute("balloon", json!({"value": bytes}), limit)
            .map(drop)
    }

    fn send(&mut self, line: &[u8], fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let Some(fd) = fd else {
            return self.stream.write_all(line);
        };
        // The descriptor goes with the first bytes; there may be more of these.
        let fds = [fd.as_raw_fd()];
        let sent = sendmsg::<()>(
            self.stream.as_raw_fd(),
            &[io::IoSlice::new(line)],
            &[ControlMessage::ScmRights(&fds)],
            MsgFlags::MSG_NOSIGNAL,
            None,
        )?;
        self.stream.write_all(&line[sent..])
    }

    fn keep(&mut self, event: Event) {
        if self.events.len() == MAX_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    /// The next message, or `None` when the wait ends first.
    fn message(&mut self, wait: &Wait<'_>) -> Result<Option<Map<String, Value>>, QmpError> {
        let Some(line) = self.line(wait)? else {
            return Ok(None);
        };
        match serde_json::from_slice(&line) {
            Ok(Value::Object(message)) => Ok(Some(message)),
            Ok(_) => Err(wait.malformed("a line that is no object")),
            Err(error) => Err(wait.malformed(&error.to_string())),
        }
    }

    fn line(&mut self, wait: &Wait<'_>) -> Result<Option<Vec<u8>>, QmpError> {
        loop {
            if let Some(end) = self.buffer[self.scanned..].iter().position(|b| *b == b'\n') {
                let rest = self.buffer.split_off(self.scanned + end + 1);
                self.scanned = 0;
                return Ok(Some(std::mem::replace(&mut self.buffer, rest)));
            }
            self.scanned = self.buffer.len();
            if self.buffer.len() > MAX_LINE {
                return Err(wait.malformed("a line without end"));
            }
            let Ok(left) = wait.left() else {
                return Ok(None);
            };
            self.stream
                .set_read_timeout(Some(left))
                .map_err(|e| wait.io(e))?;
            let mut chunk = [0; 16 << 10];
            match self.stream.read(&mut chunk) {
                Ok(0) => {
                    return Err(QmpError::Closed {
                        command: wait.command.to_owned(),
                    });
                }
                Ok(count) => self.buffer.extend_from_slice(&chunk[..count]),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock
                    | io::ErrorKind::TimedOut
                    | io::ErrorKind::Interrupted => {}
                    io::ErrorKind::ConnectionReset => {
                        return Err(QmpError::Closed {
                            command: wait.command.to_owned(),
                        });
                    }
                    _ => return Err(wait.io(error)),
                },
            }
        }
    }
}

/// One bounded wait for the sake of one command.
struct Wait<'c> {
    command: &'c str,
    limit: Duration,
    end: Instant,
}

impl<'c> Wait<'c> {
    fn new(command: &'c str, limit: Duration) -> Self {
        Self {
            command,
            limit,
            end: Instant::now() + limit,
        }
    }

    /// The time that is left, which is more than nothing.
    fn left(&self) -> Result<Duration, QmpError> {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(self.timeout());
        }
        Ok(left)
    }

    fn timeout(&self) -> QmpError {
        QmpError::Timeout {
            command: self.command.to_owned(),
            limit: self.limit,
        }
    }

    fn io(&self, source: io::Error) -> QmpError {
        match source.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => self.timeout(),
            io::ErrorKind::BrokenPipe => QmpError::Closed {
                command: self.command.to_owned(),
            },
            _ => QmpError::Io {
                command: self.command.to_owned(),
                source,
            },
        }
    }

    fn malformed(&self, what: &str) -> QmpError {
        QmpError::Malformed {
            command: self.command.to_owned(),
            what: what.to_owned(),
        }
    }
}

fn version(greeting: &Map<String, Value>) -> Option<Version> {
    let qemu = greeting.get("QMP")?.get("version")?.get("qemu")?;
    let number = |name: &str| qemu.get(name)?.as_u64()?.try_into().ok();
    Some(Version {
        major: number("major")?,
        minor: number("minor")?,
    })
}

fn event(message: &mut Map<String, Value>) -> Option<Event> {
    let name = message.get("event")?.as_str()?;
    let name = printable(name, MAX_WORDS);
    let data = message.remove("data").unwrap_or(Value::Null);
    Some(Event { name, data })
}

/// The first `longest` characters of `text`, with what is not printable replaced.
pub(crate) fn printable(text: &str, longest: usize) -> String {
    let printable = |c: char| {
        if c.is_control() && c != '\n' {
            '\u{fffd}'
        } else {
            c
        }
    };
    text.chars().take(longest).map(printable).collect()
}

/// Connects with a limit: a listener whose queue is full would otherwise block for ever.
pub(super) fn connect_within(path: &Path, limit: Duration) -> io::Result<UnixStream> {
    let fd = socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    let seconds = limit.as_secs().try_into().unwrap_or(i64::MAX);
    let micros = limit.subsec_micros().max(1).into();
    setsockopt(&fd, sockopt::SendTimeout, &TimeVal::new(seconds, micros))?;
    connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(UnixStream::from(fd))
}

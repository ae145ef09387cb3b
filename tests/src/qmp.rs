//! The few words of QEMU's monitor protocol that the lab speaks with its outer QEMU.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// A connection to a monitor.
pub(crate) struct Qmp {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
}

const ANSWER_LIMIT: Duration = Duration::from_secs(60);

impl Qmp {
    /// Connects to the socket `name` in `directory`, waiting for it to appear.
    ///
    /// The way goes through the open directory, since the path of a socket may have 107 bytes only.
    pub(crate) fn connect(directory: &Path, name: &str, limit: Duration) -> Result<Self> {
        let handle =
            File::open(directory).with_context(|| format!("opening {}", directory.display()))?;
        let path = format!("/proc/self/fd/{}/{name}", handle.as_raw_fd());
        let since = Instant::now();
        let stream = loop {
            match UnixStream::connect(&path) {
                Ok(stream) => break stream,
                Err(error) if since.elapsed() > limit => {
                    return Err(error).context("connecting to the monitor of the lab's QEMU");
                }
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        stream
            .set_read_timeout(Some(ANSWER_LIMIT))
            .context("bounding the monitor's answers")?;
        let writer = stream
            .try_clone()
            .context("duplicating the monitor's socket")?;
        let mut qmp = Self {
            reader: BufReader::new(stream),
            writer,
        };
        qmp.line()?; // the greeting
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Executes a command and returns its result.
    pub(crate) fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let request = json!({ "execute": command, "arguments": arguments });
        writeln!(self.writer, "{request}")
            .with_context(|| format!("sending {command} to the lab's QEMU"))?;
        loop {
            let mut answer = self.line()?;
            if let Some(error) = answer.get("error") {
                bail!("the lab's QEMU refused {command}: {error}");
            }
            if let Some(result) = answer.get_mut("return") {
                return Ok(result.take());
            }
        }
    }

    fn line(&mut self) -> Result<Value> {
        let mut line = String::new();
        let read = self
            .reader
            .read_line(&mut line)
            .context("reading from the lab's QEMU")?;
        if read == 0 {
            bail!("the lab's QEMU closed its monitor");
        }
        serde_json::from_str(&line).context("reading an answer of the lab's QEMU")
    }

    /// Waits for the migration under way to end.
    pub(crate) fn migrated(&mut self, limit: Duration) -> Result<()> {
        let since = Instant::now();
        loop {
            let state = self.execute("query-migrate", json!({}))?;
            match state["status"].as_str() {
                Some("completed") => return Ok(()),
                Some("failed") => bail!("saving or loading the lab host's state failed: {state}"),
                _ if since.elapsed() > limit => {
                    bail!("saving or loading the lab host's state does not end: {state}")
                }
                _ => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}

//! What the agent can be asked, each with the answer as a type (`qga/qapi-schema.json` of QEMU).

use super::{Agent, MAX_LINE, MAX_WORDS, Result, Wait};
use crate::qemu::qmp::printable;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The most entries of a list that are looked at: file systems, network cards, addresses.
const MAX_ENTRIES: usize = 256;

/// Whether the guest's file systems are held still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FreezeState {
    /// They are: nothing can be written on them.
    Frozen,
    /// They are not.
    Thawed,
}

/// What a trim did to one file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trimmed {
    /// Where it is mounted.
    pub path: String,
    /// Bytes that were discarded, or why none were.
    pub result: std::result::Result<u64, String>,
}

/// A network card as the guest sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name in the guest.
    pub name: String,
    /// Its MAC address, if it has one.
    pub mac: Option<String>,
    /// Its addresses.
    pub addresses: Vec<String>,
}

/// How a program in the guest ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exec {
    /// Its exit status; none if a signal ended it.
    pub status: Option<i64>,
    /// The signal that ended it.
    pub signal: Option<i64>,
    /// What it wrote on its standard output: any bytes, at most as many as one answer carries.
    pub output: Vec<u8>,
    /// The same of its standard error.
    pub errors: Vec<u8>,
    /// There was more.
    pub truncated: bool,
}

#[derive(Deserialize)]
struct TrimAnswer {
    paths: Vec<TrimPath>,
}

#[derive(Deserialize)]
struct TrimPath {
    path: String,
    trimmed: Option<u64>,
    error: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct InterfaceAnswer {
    name: String,
    hardware_address: Option<String>,
    #[serde(default)]
    ip_addresses: Vec<AddressAnswer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct AddressAnswer {
    ip_address: String,
}

#[derive(Deserialize)]
struct ExecAnswer {
    pid: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct ExecStatusAnswer {
    exited: bool,
    exitcode: Option<i64>,
    signal: Option<i64>,
    #[serde(default)]
    out_data: String,
    #[serde(default)]
    err_data: String,
    #[serde(default)]
    out_truncated: bool,
    #[serde(default)]
    err_truncated: bool,
}

impl Agent {
    /// Whether it is there.
    pub fn ping(&mut self, limit: Duration) -> Result<()> {
        self.execute("guest-ping", json!({}), limit).map(drop)
    }

    /// Writes the guest's file systems out and holds them still; how many there are.
    ///
    /// When this fails, some may be held still all the same: thaw in every case.
    pub fn freeze(&mut self, limit: Duration) -> Result<u64> {
        self.ask("guest-fsfreeze-freeze", json!({}), limit)
    }

    /// Lets the guest's file systems go on; how many were held still.
    pub fn thaw(&mut self, limit: Duration) -> Result<u64> {
        self.ask("guest-fsfreeze-thaw", json!({}), limit)
    }

    /// Whether the guest's file systems are held still.
    pub fn freeze_state(&mut self, limit: Duration) -> Result<FreezeState> {
        let command = "guest-fsfreeze-status";
        let state: String = self.ask(command, json!({}), limit)?;
        match state.as_str() {
            "frozen" => Ok(FreezeState::Frozen),
            "thawed" => Ok(FreezeState::Thawed),
            _ => Err(Wait::new(command, limit).malformed("an unknown state")),
        }
    }

    /// Has the guest discard what its file systems do not use.
    pub fn trim(&mut self, limit: Duration) -> Result<Vec<Trimmed>> {
        let answer: TrimAnswer = self.ask("guest-fstrim", json!({"minimum": 0}), limit)?;
        let trimmed = answer.paths.into_iter().take(MAX_ENTRIES);
        Ok(trimmed
            .map(|one| Trimmed {
                path: words(&one.path),
                result: match one.error {
                    Some(error) => Err(words(&error)),
                    None => Ok(one.trimmed.unwrap_or(0)),
                },
            })
            .collect())
    }

    /// What the guest's clock shows: nanoseconds since 1970-01-01 UTC.
    pub fn time(&mut self, limit: Duration) -> Result<i64> {
        self.ask("guest-get-time", json!({}), limit)
    }

    /// Sets the guest's clock.
    pub fn set_time(&mut self, now: SystemTime, limit: Duration) -> Result<()> {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let nanoseconds = i64::try_from(since.as_nanos()).unwrap_or(i64::MAX);
        self.execute("guest-set-time", json!({"time": nanoseconds}), limit)
            .map(drop)
    }

    /// The guest's network cards.
    pub fn interfaces(&mut self, limit: Duration) -> Result<Vec<Interface>> {
        let answer: Vec<InterfaceAnswer> =
            self.ask("guest-network-get-interfaces", json!({}), limit)?;
        let cards = answer.into_iter().take(MAX_ENTRIES);
        Ok(cards
            .map(|card| Interface {
                name: words(&card.name),
                mac: card.hardware_address.as_deref().map(words),
                addresses: card
                    .ip_addresses
                    .iter()
                    .take(MAX_ENTRIES)
                    .map(|address| words(&address.ip_address))
                    .collect(),
            })
            .collect())
    }

    /// Starts a program in the guest, as the agent's user; its process there.
    pub fn exec(&mut self, path: &str, arguments: &[String], limit: Duration) -> Result<i64> {
        let arguments = json!({"path": path, "arg": arguments, "capture-output": true});
        let started: ExecAnswer = self.ask("guest-exec", arguments, limit)?;
        Ok(started.pid)
    }

    /// How a program that was started has ended; the agent tells once. `None` if it has not yet.
    pub fn exec_status(&mut self, pid: i64, limit: Duration) -> Result<Option<Exec>> {
        let command = "guest-exec-status";
        let answer: ExecStatusAnswer = self.ask(command, json!({"pid": pid}), limit)?;
        if !answer.exited {
            return Ok(None);
        }
        let bytes = |data: &str| {
            base64(data.as_bytes())
                .ok_or_else(|| Wait::new(command, limit).malformed("output not in base64"))
        };
        Ok(Some(Exec {
            status: answer.exitcode,
            signal: answer.signal,
            output: bytes(&answer.out_data)?,
            errors: bytes(&answer.err_data)?,
            truncated: answer.out_truncated || answer.err_truncated,
        }))
    }

    /// Executes a command whose answer has a shape; what else is in it is passed over.
    fn ask<T: DeserializeOwned>(
        &mut self,
        command: &str,
        arguments: Value,
        limit: Duration,
    ) -> Result<T> {
        let answer = self.execute(command, arguments, limit)?;
        T::deserialize(answer).map_err(|error| {
            Wait::new(command, limit).malformed(&printable(&error.to_string(), MAX_WORDS))
        })
    }
}

/// The guest's words as they may be shown: on one line, and not too long.
fn words(text: &str) -> String {
    printable(text, MAX_WORDS).replace('\n', "\u{fffd}")
}

/// Reads base64 (RFC 4648, section 4), padded or not; `None` if it is none.
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    debug_assert!(text.len() <= MAX_LINE);
    let unpadded = match text {
        [rest @ .., b'=', b'='] | [rest @ .., b'='] => rest,
        all => all,
    };
    let (mut bits, mut count) = (0_u32, 0_u32);
    let mut bytes = Vec::with_capacity(unpadded.len() / 4 * 3 + 2);
    for &letter in unpadded {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xfff;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    // One letter alone is less than a byte.
    (count < 6).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_as_the_rfc_says() {
        // RFC 4648, section 10.
        for (text, bytes) in [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYg==", "foob"),
            ("Zm9vYmE=", "fooba"),
            ("Zm9vYmFy", "foobar"),
            ("Zm9vYmE", "fooba"),
        ] {
            assert_eq!(
                base64(text.as_bytes()).as_deref(),
                Some(bytes.as_bytes()),
                "{text}"
            );
        }
        assert_eq!(base64(b"+/+/"), Some(vec![0xfb, 0xff, 0xbf]));
        for wrong in ["Z", "Zm9vY", "Z m9", "Zm=9", "Zm9v\n", "\u{e4}"] {
            assert_eq!(base64(wrong.as_bytes()), None, "{wrong:?}");
        }
    }
}

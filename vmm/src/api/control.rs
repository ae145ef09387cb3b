//! The buttons, keys and cables of running VMs, their screens, and QEMU's own monitor.

use super::{VmNumber, VmSet};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Does something to running VMs; each by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlVms {
    /// The numbers.
    pub vms: VmSet,
    /// What.
    pub control: Control,
}

/// What is done to a running VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "what")]
pub enum Control {
    /// Its processors are stopped, where they are.
    Pause,
    /// They go on.
    Resume,
    /// Its reset button is pressed.
    Reset,
    /// The cables of its network cards are plugged in or out, until it is stopped.
    Link {
        /// In.
        up: bool,
        /// Only that of this card, counted from 0.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        card: Option<u32>,
    },
    /// Keys are pressed, one chord after the other.
    SendKey {
        /// The chords.
        chords: Vec<Chord>,
    },
}

impl Control {
    /// The command's word for it; not which keys, which may be a password.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Reset => "reset",
            Self::Link { up: true, .. } => "link up",
            Self::Link { up: false, .. } => "link down",
            Self::SendKey { .. } => "send-key",
        }
    }
}

/// Keys that are pressed together, `ctrl-alt-delete`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Chord(Vec<&'static str>);

impl Chord {
    /// Chords in one request: QEMU keeps 1024 events, two for each key.
    pub const MOST: usize = 64;
    /// Keys in one chord.
    const MOST_KEYS: usize = 8;

    /// The keys, by QEMU's names, in the order of pressing.
    pub fn keys(&self) -> &[&'static str] {
        &self.0
    }
}

/// Why a text is no chord.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidChord {
    /// There is no such key.
    #[error("there is no key '{}'", .0.escape_debug())]
    Unknown(String),
    /// None or too many.
    #[error("a chord is from 1 to {} keys", Chord::MOST_KEYS)]
    Count,
}

impl FromStr for Chord {
    type Err = InvalidChord;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let keys: Vec<&'static str> = text
            .split(['-', '+'])
            .map(|word| key(word).ok_or_else(|| InvalidChord::Unknown(word.to_owned())))
            .collect::<Result<_, _>>()?;
        match keys.len() {
            1..=Self::MOST_KEYS => Ok(Self(keys)),
            _ => Err(InvalidChord::Count),
        }
    }
}

impl TryFrom<String> for Chord {
    type Error = InvalidChord;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Chord> for String {
    fn from(chord: Chord) -> Self {
        chord.to_string()
    }
}

impl fmt::Display for Chord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.join("-"))
    }
}

/// QEMU's name of a key, for that name or for what is printed on the key.
fn key(word: &str) -> Option<&'static str> {
    let word = word.to_ascii_lowercase();
    let other = OTHER_NAMES.iter().find(|(other, _)| *other == word);
    let name = other.map_or(word.as_str(), |(_, name)| name);
    KEYS.iter().find(|key| **key == name).copied()
}

/// What else keys are called.
const OTHER_NAMES: [(&str, &str); 17] = [
    ("control", "ctrl"),
    ("enter", "ret"),
    ("return", "ret"),
    ("escape", "esc"),
    ("space", "spc"),
    ("del", "delete"),
    ("ins", "insert"),
    ("pageup", "pgup"),
    ("pagedown", "pgdn"),
    ("win", "meta_l"),
    ("super", "meta_l"),
    ("meta", "meta_l"),
    ("capslock", "caps_lock"),
    ("numlock", "num_lock"),
    ("altgr", "alt_r"),
    ("period", "dot"),
    ("printscreen", "print"),
];

/// The keys of a PC's keyboard (QEMU's `qapi/ui.json`, `QKeyCode`, without those of other keyboards).
#[rustfmt::skip]
const KEYS: [&str; 119] = [
    "shift", "shift_r", "alt", "alt_r", "ctrl", "ctrl_r", "meta_l", "meta_r", "menu", "esc",
    "1", "2", "3", "4", "5", "6", "7", "8", "9", "0", "minus", "equal", "backspace", "tab",
    "q", "w", "e", "r", "t", "y", "u", "i", "o", "p", "bracket_left", "bracket_right", "ret",
    "a", "s", "d", "f", "g", "h", "j", "k", "l", "semicolon", "apostrophe", "grave_accent", "backslash",
    "z", "x", "c", "v", "b", "n", "m", "comma", "dot", "slash", "asterisk", "spc", "caps_lock",
    "f1", "f2", "f3", "f4", "f5", "f6", "f7", "f8", "f9", "f10", "f11", "f12",
    "num_lock", "scroll_lock", "kp_divide", "kp_multiply", "kp_subtract", "kp_add", "kp_enter", "kp_decimal",
    "kp_0", "kp_1", "kp_2", "kp_3", "kp_4", "kp_5", "kp_6", "kp_7", "kp_8", "kp_9", "kp_comma", "kp_equals",
    "sysrq", "print", "pause", "less", "home", "end", "pgup", "pgdn", "up", "down", "left", "right",
    "insert", "delete", "power", "sleep", "wake", "compose", "audiomute", "volumeup", "volumedown",
    "ro", "henkan", "yen",
];

/// Asks QEMU itself something, past fvm; for root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QmpCommand {
    /// The command's name.
    pub execute: String,
    /// Its arguments.
    #[serde(default)]
    pub arguments: serde_json::Map<String, serde_json::Value>,
}

/// What QEMU answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QmpAnswer {
    /// `REPORT_VERSION`.
    pub version: u32,
    /// The VM.
    pub vm: VmNumber,
    /// What the command returned.
    pub answer: serde_json::Value,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_the_names_that_are_printed_on_them() {
        let keys = |text: &str| text.parse::<Chord>().map(|chord| chord.to_string());
        assert_eq!(keys("Ctrl-Alt-Del").as_deref(), Ok("ctrl-alt-delete"));
        assert_eq!(keys("control+alt+F1").as_deref(), Ok("ctrl-alt-f1"));
        assert_eq!(keys("enter").as_deref(), Ok("ret"));
        assert_eq!(keys("shift-a").as_deref(), Ok("shift-a"));
        for (_, name) in OTHER_NAMES {
            assert!(KEYS.contains(&name), "{name}");
        }
    }

    #[test]
    fn what_is_no_chord_is_told() {
        let refused = |text: &str| text.parse::<Chord>().expect_err(text).to_string();
        assert_eq!(refused("ctrl-any"), "there is no key 'any'");
        assert_eq!(refused("a--b"), "there is no key ''");
        assert!(refused("a-b-c-d-e-f-g-h-i").contains("1 to 8"));
        let read: Result<Chord, _> = serde_json::from_str("\"hyper\"");
        assert!(read.is_err(), "reading goes through the same check");
    }
}

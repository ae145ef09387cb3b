//! What people say of a VM.

use super::VmSet;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// The longest note, in characters: a line of a list.
pub const MAX_NOTE_CHARS: usize = 200;

/// Why a note was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidNote {
    /// It does not fit.
    #[error("the note has {0} characters: {MAX_NOTE_CHARS} are possible")]
    TooLong(usize),
    /// It would do something to the terminal of whoever lists it.
    #[error("the note has a control character in it: it is one line of plain text")]
    Control,
}

/// One line of text; empty for none. Blanks at its ends do not count.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Note(String);

impl Note {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Note {
    type Err = InvalidNote;
    fn from_str(text: &str) -> Result<Self, InvalidNote> {
        let text = text.trim();
        match text.chars().count() {
            long if long > MAX_NOTE_CHARS => Err(InvalidNote::TooLong(long)),
            _ if text.chars().any(char::is_control) => Err(InvalidNote::Control),
            _ => Ok(Self(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Note {
    type Error = InvalidNote;
    fn try_from(text: String) -> Result<Self, InvalidNote> {
        text.parse()
    }
}

impl From<Note> for String {
    fn from(note: Note) -> Self {
        note.0
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Says something of VMs; each by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoteVms {
    /// The numbers.
    pub vms: VmSet,
    /// What is said instead of what was said before.
    pub note: Note,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_one_line_of_bounded_length_on_every_way_in() {
        assert_eq!(
            "  mail server ".parse::<Note>().unwrap().as_str(),
            "mail server"
        );
        assert_eq!(" ".parse::<Note>(), Ok(Note::default()));
        assert!("é".repeat(MAX_NOTE_CHARS).parse::<Note>().is_ok());
        let long = "é".repeat(MAX_NOTE_CHARS + 1);
        for (bad, why) in [
            (long.as_str(), InvalidNote::TooLong(MAX_NOTE_CHARS + 1)),
            ("a\nb", InvalidNote::Control),
            ("a\u{1b}[2J", InvalidNote::Control),
        ] {
            assert_eq!(bad.parse::<Note>(), Err(why));
            let json = serde_json::to_string(bad).unwrap();
            assert!(serde_json::from_str::<Note>(&json).is_err(), "{bad:?}");
        }
    }
}

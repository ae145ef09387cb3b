//! What goes over a console's connection: what is typed to the daemon, as it is; from the daemon frames.
//!
//! A frame is a byte that says what it is, the length of the rest as four bytes in network order, and the rest.

use super::ApiError;
use serde::{Deserialize, Serialize};

/// The most bytes of a frame after its head.
pub const MAX_FRAME: usize = 64 << 10;
/// The bytes of a frame's head.
pub const HEAD: usize = 5;

/// How to attach to a console: the request's query.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsoleQuery {
    /// The keyboard is taken at once, from whoever has it.
    #[serde(default)]
    pub take: bool,
    /// Where to go on: [`ConsoleEvent::Attached`] has told where it began. Without it, with the recent past.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
}

/// Which log of a VM, and how much of it: the request's query.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogQuery {
    /// Whose words.
    pub source: LogSource,
    /// The last so many lines; without it, all that is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lines: Option<u64>,
    /// Also what is said from now on, until the VM ends.
    #[serde(default)]
    pub follow: bool,
}

/// Whose words are in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogSource {
    /// The guest's, on its serial line.
    Console,
    /// QEMU's.
    Qemu,
}

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// What the guest has printed.
    Output = 0,
    /// A [`ConsoleEvent`] as JSON.
    Event = 1,
}

/// What a viewer is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum ConsoleEvent {
    /// The first of all.
    Attached {
        /// How many bytes the guest has printed in this run before the output that follows.
        position: u64,
        /// Who has the keyboard.
        typist: Option<Typist>,
    },
    /// Somebody else has the keyboard now, or nobody.
    Typist {
        /// Who.
        typist: Option<Typist>,
    },
    /// What was typed did not reach the guest; told once for each typist.
    Refused {
        /// Why.
        error: ApiError,
    },
    /// The VM has ended.
    Ended,
}

/// Who has the keyboard of a console.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Typist {
    /// The user.
    pub user: String,
    /// It is the viewer who is told.
    pub you: bool,
}

/// Why bytes are no frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFrame {
    /// There is no such kind.
    #[error("a console's frame is of the unknown kind {0}")]
    Kind(u8),
    /// It is too long.
    #[error("a console's frame has {0} bytes, more than {MAX_FRAME}")]
    Length(u32),
}

/// The frame of what a guest has printed, at most [`MAX_FRAME`] bytes.
pub fn output_frame(bytes: &[u8]) -> Vec<u8> {
    frame(FrameKind::Output, bytes)
}

/// The frame of an event.
pub fn event_frame(event: &ConsoleEvent) -> Vec<u8> {
    // Our own types: what could fail is a map whose keys are not text, and there is none.
    frame(
        FrameKind::Event,
        &serde_json::to_vec(event).unwrap_or_default(),
    )
}

fn frame(kind: FrameKind, bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    [&[kind as u8], &length.to_be_bytes()[..], bytes].concat()
}

/// What a frame is and how many bytes follow, by its head.
///
/// # Errors
/// When it is of no kind or too long.
pub fn frame_head(head: [u8; HEAD]) -> Result<(FrameKind, usize), InvalidFrame> {
    let [kind, length @ ..] = head;
    let kind = match kind {
        0 => FrameKind::Output,
        1 => FrameKind::Event,
        other => return Err(InvalidFrame::Kind(other)),
    };
    let length = u32::from_be_bytes(length);
    match usize::try_from(length) {
        Ok(bytes @ ..=MAX_FRAME) => Ok((kind, bytes)),
        _ => Err(InvalidFrame::Length(length)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_has_its_length_in_its_head() {
        let bytes = output_frame(b"login: ");
        let head = bytes[..HEAD].try_into().unwrap();
        assert_eq!(frame_head(head), Ok((FrameKind::Output, 7)));
        assert_eq!(&bytes[HEAD..], b"login: ");
        let bytes = event_frame(&ConsoleEvent::Ended);
        assert_eq!(bytes[0], FrameKind::Event as u8);
        assert_eq!(&bytes[HEAD..], br#"{"event":"ended"}"#);
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        assert_eq!(frame_head([9, 0, 0, 0, 0]), Err(InvalidFrame::Kind(9)));
        let long = frame_head([0, 0xff, 0, 0, 0]);
        assert_eq!(long, Err(InvalidFrame::Length(0xff00_0000)));
    }
}

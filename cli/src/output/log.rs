//! A log on its way to standard output.

use super::text::plain;
use fvm_vmm::api::without_control;
use std::io::{self, IsTerminal};

/// A line that is longer is shown in parts.
const MAX_LINE: usize = 64 << 10;

/// What a log looks like: as it is in files and pipes; line by line, without what a terminal would obey, on one.
#[derive(Debug)]
pub(crate) struct LogText {
    is_terminal: bool,
    pending: Vec<u8>,
}

impl LogText {
    /// For what standard output is.
    pub(crate) fn for_stdout() -> Self {
        Self {
            is_terminal: io::stdout().is_terminal(),
            pending: Vec::new(),
        }
    }

    /// What can be shown now that these bytes have come.
    pub(crate) fn next(&mut self, bytes: &[u8]) -> Vec<u8> {
        if !self.is_terminal {
            return bytes.to_vec();
        }
        self.pending.extend_from_slice(bytes);
        let lines = self.pending.iter().rposition(|&byte| byte == b'\n');
        let whole = match lines {
            Some(last) => last + 1,
            None if self.pending.len() > MAX_LINE => self.pending.len(),
            None => 0,
        };
        let rest = self.pending.split_off(whole);
        shown(&std::mem::replace(&mut self.pending, rest))
    }

    /// The last line, which has no end.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut last = shown(&std::mem::take(&mut self.pending));
        if !last.is_empty() {
            last.push(b'\n');
        }
        last
    }
}

fn shown(bytes: &[u8]) -> Vec<u8> {
    harmless(bytes).into_bytes()
}

/// What a guest has printed, line by line, without what a terminal would obey.
pub(super) fn harmless(bytes: &[u8]) -> String {
    let text = without_control(bytes);
    let lines = text.split_inclusive('\n').map(|line| {
        let end = if line.ends_with('\n') { "\n" } else { "" };
        format!("{}{end}", plain(line.trim_end_matches('\n')))
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown_on(is_terminal: bool, pieces: &[&[u8]]) -> String {
        let mut text = LogText {
            is_terminal,
            pending: Vec::new(),
        };
        let mut all: Vec<u8> = pieces.iter().flat_map(|piece| text.next(piece)).collect();
        all.extend(text.rest());
        String::from_utf8(all).unwrap()
    }

    #[test]
    fn a_terminal_is_shown_text_and_a_file_has_bytes() {
        let pieces: [&[u8]; 3] = [b"\x1b[1mbo", b"ot\x1b[0m\r\nlog\xe2\x80", b"\xaein: "];
        assert_eq!(shown_on(true, &pieces), "boot\nlog\u{fffd}in: \n");
        let whole = String::from_utf8(pieces.concat()).unwrap();
        assert_eq!(shown_on(false, &pieces), whole);
    }
}

//! Tells the person who waits what is being made, how long that usually takes, and when it is done.
//!
//! Everything goes to standard error as whole lines, so that a script's own output on standard output stays clean and
//! lines of two processes do not mix.

use std::io::Write;
use std::time::Instant;

/// Parts of a first start, in the order in which they are made.
const PARTS: [&str; 7] = [
    "tools", "guests", "build", "package", "image", "boot", "install",
];

/// Writes one line to standard error, past the test harness's capture.
pub fn say(text: &str) {
    // Nobody is left to tell when standard error itself is closed.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// A part that is being made; says how long it took when it ends.
pub(crate) struct Step {
    label: String,
    since: Instant,
}

impl Step {
    /// Announces a part of the first start, `[2/7] what`.
    pub(crate) fn begin(part: &str, what: &str) -> Self {
        let label = match PARTS.iter().position(|name| *name == part) {
            Some(index) => format!("[{}/{}]", index + 1, PARTS.len()),
            None => format!("[{part}]"),
        };
        say(&format!("{label} {what} …"));
        Self {
            label,
            since: Instant::now(),
        }
    }

    /// Announces the end of the part.
    pub(crate) fn done(self) {
        say(&format!(
            "{} done in {:.1} s",
            self.label,
            self.since.elapsed().as_secs_f32()
        ));
    }
}

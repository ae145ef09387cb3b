//! The loop around a decoder: bytes in, content out, and exactly what went wrong if it did.
//!
//! Each decoder is driven by hand rather than through a `Read` adapter, because an adapter cannot tell
//! "cut off" from "followed by something else" from "damaged", and users can do something about each.

use super::meter::Metered;
use std::io::{self, Read};

/// What a step can see ahead of the end of the input: enough to tell what follows a complete member.
pub(super) const LOOKAHEAD_BYTES: usize = 16;
const INPUT_BYTES: usize = 256 * 1024;
/// Steps without any progress before a decoder is taken to be stuck; liblzma needs two to say so.
const MAX_IDLE_STEPS: u32 = 4;

/// What one step of a decoder did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    /// Bytes of input taken.
    pub(super) taken: usize,
    /// Bytes of content made.
    pub(super) made: usize,
    /// True at the end of a member, stream or frame: the input may end here.
    pub(super) complete: bool,
}

/// Why unpacking stopped.
#[derive(Debug)]
pub(super) enum Fault {
    /// Reading the input failed.
    Read(io::Error),
    /// What was read is wrong.
    Damaged(io::Error),
    /// The input ends inside a member.
    Truncated,
    /// What follows a complete member is none.
    Trailing,
    /// It would need more memory than this many bytes.
    Memory(u64),
}

impl Fault {
    /// Damage in words of our own.
    pub(super) fn damaged(text: &'static str) -> Self {
        Self::Damaged(io::Error::new(io::ErrorKind::InvalidData, text))
    }
}

/// One compression.
pub(super) trait Unpack {
    /// Takes some of `input` and makes some of `output`, which is never empty.
    ///
    /// `input` is at least [`LOOKAHEAD_BYTES`] long unless `last` says that no more will come.
    fn step(&mut self, input: &[u8], output: &mut [u8], last: bool) -> Result<Step, Fault>;
}

/// A compressed input on its way to its content.
pub(super) struct Unpacker<R> {
    input: Metered<R>,
    codec: Box<dyn Unpack>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// No more input will come.
    last: bool,
    /// The input may end here.
    complete: bool,
    /// Bytes of content made so far.
    content: u64,
}

impl<R: Read> Unpacker<R> {
    pub(super) fn new(input: Metered<R>, codec: Box<dyn Unpack>) -> Self {
        Self {
            input,
            codec,
            buffer: vec![0; INPUT_BYTES],
            start: 0,
            end: 0,
            last: false,
            complete: false,
            content: 0,
        }
    }

    /// Bytes of content made so far, also those before a fault.
    pub(super) fn content_bytes(&self) -> u64 {
        self.content
    }

    /// The input, of which nothing is left when all content has come.
    pub(super) fn into_input(self) -> Metered<R> {
        self.input
    }

    /// Fills `output` with content; less than that only at its end.
    pub(super) fn fill(&mut self, output: &mut [u8]) -> Result<usize, Fault> {
        let mut made = 0;
        let mut idle = 0;
        while made < output.len() {
            while self.end - self.start < LOOKAHEAD_BYTES && !self.last {
                self.read_more()?;
            }
            if self.last && self.start == self.end && self.complete {
                break;
            }
            let input = &self.buffer[self.start..self.end];
            let step = self.codec.step(input, &mut output[made..], self.last)?;
            self.start += step.taken;
            made += step.made;
            self.content += step.made as u64;
            self.complete = step.complete;
            idle = match (step.taken, step.made) {
                (0, 0) => idle + 1,
                _ => 0,
            };
            if idle > MAX_IDLE_STEPS {
                if self.last {
                    return Err(Fault::Truncated);
                }
                return Err(Fault::damaged("the decoder makes no progress"));
            }
            if idle > 0 && !self.last {
                self.read_more()?;
            }
        }
        Ok(made)
    }

    fn read_more(&mut self) -> Result<(), Fault> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.end < self.buffer.len() {
            let bytes = self
                .input
                .read(&mut self.buffer[self.end..])
                .map_err(Fault::Read)?;
            self.end += bytes;
            self.last = bytes == 0;
        }
        Ok(())
    }
}

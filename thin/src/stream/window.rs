//! One window's worth of content, in whole chunks, and the account of what was written. Pure.

use std::ops::Range;

use crate::units::Bytes;

use super::buffer::AlignedBuffer;
use super::digest::is_zero;

/// One window, and the largest write: a multiple of every chunk size.
pub(super) const WINDOW_BYTES: usize = 4 << 20;

/// What was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// Where, in ascending order, none touching the next: whole chunks, or less at the volume's end.
    pub ranges: Vec<Range<u64>>,
}

impl Written {
    /// How many bytes.
    pub fn bytes(&self) -> Bytes {
        Bytes(
            self.ranges
                .iter()
                .map(|range| range.end - range.start)
                .sum(),
        )
    }

    /// Sorts ranges, which do not overlap, and joins those that touch.
    pub(super) fn of(mut ranges: Vec<Range<u64>>) -> Self {
        ranges.sort_unstable_by_key(|range| range.start);
        let mut merged: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
        for range in ranges {
            match merged.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => merged.push(range),
            }
        }
        Self { ranges: merged }
    }
}

/// One window's worth of content, on its way to the volume.
#[derive(Debug)]
pub(super) struct Window {
    /// Where in the volume it begins.
    pub(super) offset: u64,
    pub(super) buffer: AlignedBuffer,
    /// Which of its chunks have been filled in.
    filled: Vec<bool>,
}

impl Window {
    /// An empty window; what the buffer holds does not matter.
    pub(super) fn new(offset: u64, buffer: AlignedBuffer, chunk: usize) -> Self {
        Self {
            offset,
            buffer,
            filled: vec![false; WINDOW_BYTES / chunk],
        }
    }

    /// Takes in bytes at a position of the window; the rest of a chunk begun here is zero.
    pub(super) fn fill(&mut self, at: usize, bytes: &[u8], chunk: usize) {
        let end = at + bytes.len();
        let buffer = self.buffer.bytes_mut();
        for index in at / chunk..end.div_ceil(chunk) {
            if !self.filled[index] {
                self.filled[index] = true;
                buffer[index * chunk..(index + 1) * chunk].fill(0);
            }
        }
        buffer[at..end].copy_from_slice(bytes);
    }

    /// Runs of chunks that hold anything but zeros, as positions in the buffer.
    pub(super) fn runs(&self, chunk: usize) -> Vec<Range<usize>> {
        let mut runs: Vec<Range<usize>> = Vec::new();
        for (index, bytes) in self.buffer.bytes().chunks(chunk).enumerate() {
            if !self.filled[index] || is_zero(bytes) {
                continue;
            }
            let range = index * chunk..(index + 1) * chunk;
            match runs.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => runs.push(range),
            }
        }
        runs
    }
}

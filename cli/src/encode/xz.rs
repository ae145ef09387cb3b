//! xz in several blocks, compressed side by side and fit to be unpacked so.

use super::{Encode, raw::Plain};
use liblzma::{
    stream::{Check, MtStreamBuilder},
    write::XzEncoder,
};
use std::{fs::File, io};

/// What all threads together may take, if one is enough for that.
const MEMORY_BYTES: u64 = 72 << 20;
/// The longest block, by which threads share the work.
const BLOCK_BYTES: u64 = 8 << 20;
const MAX_THREADS: usize = 8;

/// A stream of blocks.
pub(super) struct Xz {
    plain: Plain<XzEncoder<File>>,
}

impl Xz {
    pub(super) fn new(out: File, level: u32) -> io::Result<Self> {
        let builder = |threads: usize| {
            let mut builder = MtStreamBuilder::new();
            builder
                .threads(threads as u32)
                .preset(level)
                .block_size(BLOCK_BYTES)
                .check(Check::Crc64);
            builder
        };
        let wanted = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = (1..=wanted.min(MAX_THREADS))
            .rev()
            .find(|&threads| builder(threads).memusage() <= MEMORY_BYTES)
            .unwrap_or(1);
        let stream = builder(threads).encoder()?;
        Ok(Self {
            plain: Plain::new(XzEncoder::new_stream(out, stream)),
        })
    }
}

impl Encode for Xz {
    fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.plain.data(bytes)
    }

    fn zeros(&mut self, bytes: u64) -> io::Result<()> {
        self.plain.zeros(bytes)
    }

    fn finish(&mut self) -> io::Result<()> {
        self.plain.inner().try_finish()
    }
}

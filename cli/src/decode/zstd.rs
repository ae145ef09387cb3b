//! zstd (RFC 8878).

use super::{
    format::begins,
    unpack::{Fault, Step, Unpack},
};

const MAGIC: &[u8] = b"\x28\xb5\x2f\xfd";
/// What follows the first byte of a skippable frame, which is 0x50 to 0x5f.
const SKIPPABLE_MAGIC_TAIL: &[u8] = b"\x2a\x4d\x18";
/// The largest window of the format's own tool (`--long=31`), as a power of two.
const MAX_WINDOW_LOG: u32 = 31;

/// `ZSTD_getErrorName` of `ZSTD_error_frameParameter_windowTooLarge`; the error's code does not come through.
const TOO_LARGE: &str = "Frame requires too much memory for decoding";

/// Frames one after the other, skippable ones among them.
pub(super) struct Zstd {
    decoder: zstd::stream::raw::Decoder<'static>,
    /// True between frames.
    complete: bool,
    /// Frames that have ended.
    frames: u64,
    /// The most memory that a window may take, whatever a frame asks for.
    memory_bytes: u64,
}

impl Zstd {
    /// A decoder at the start of a file.
    pub(super) fn new(memory_bytes: u64) -> Result<Self, Fault> {
        let window_log = memory_bytes.max(1).ilog2().min(MAX_WINDOW_LOG);
        let mut decoder = zstd::stream::raw::Decoder::new().map_err(Fault::Damaged)?;
        decoder
            .set_parameter(zstd::stream::raw::DParameter::WindowLogMax(window_log))
            .map_err(Fault::Damaged)?;
        Ok(Self {
            decoder,
            complete: true,
            frames: 0,
            memory_bytes,
        })
    }
}

impl Unpack for Zstd {
    fn step(&mut self, input: &[u8], output: &mut [u8], _last: bool) -> Result<Step, Fault> {
        use zstd::stream::raw::Operation;
        if self.complete && input.is_empty() {
            return Ok(Step {
                taken: 0,
                made: 0,
                complete: true,
            });
        }
        if self.complete && self.frames > 0 && !begins_frame(input) {
            return Err(Fault::Trailing);
        }
        match self.decoder.run_on_buffers(input, output) {
            Ok(status) => {
                self.complete = status.remaining == 0;
                self.frames += u64::from(self.complete);
                Ok(Step {
                    taken: status.bytes_read,
                    made: status.bytes_written,
                    complete: self.complete,
                })
            }
            Err(error) if error.to_string() == TOO_LARGE => Err(Fault::Memory(self.memory_bytes)),
            Err(error) => Err(Fault::Damaged(error)),
        }
    }
}

/// True if a frame, skippable or not, may begin with `input`, however short.
fn begins_frame(input: &[u8]) -> bool {
    begins(input, MAGIC)
        || matches!(input, [0x50..=0x5f, rest @ ..] if begins(rest, SKIPPABLE_MAGIC_TAIL))
}

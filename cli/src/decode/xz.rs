//! xz.

use super::{
    format::begins,
    unpack::{Fault, Step, Unpack},
};

const MAGIC: &[u8] = b"\xfd7zXZ\0";
/// The most memory that unpacking may take in all, whatever the file asks for.
const MEMORY_BYTES: u64 = 2 << 30;
/// Above this, blocks are unpacked by fewer threads at a time.
const THREADING_BYTES: u64 = 512 << 20;
const TOO_MUCH: Fault = Fault::Memory(MEMORY_BYTES >> 20);

/// Streams one after the other, padded to multiples of four bytes, the blocks of each unpacked in
/// parallel where the file allows it.
pub(super) struct Xz {
    stream: liblzma::stream::Stream,
    /// Zeros since the last one ended; `None` inside a stream.
    padding: Option<u64>,
}

fn decoder() -> Result<liblzma::stream::Stream, Fault> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    liblzma::stream::MtStreamBuilder::new()
        .threads(threads.min(16) as u32)
        .memlimit_threading(THREADING_BYTES)
        .memlimit_stop(MEMORY_BYTES)
        .decoder()
        .map_err(|_| TOO_MUCH)
}

impl Xz {
    /// A decoder at the start of a file.
    pub(super) fn new() -> Result<Self, Fault> {
        Ok(Self {
            stream: decoder()?,
            padding: None,
        })
    }

    fn between(&mut self, input: &[u8], before: u64) -> Result<Step, Fault> {
        let zeros = input.iter().take_while(|&&byte| byte == 0).count();
        let padding = before + zeros as u64;
        let aligned = padding.is_multiple_of(4);
        self.padding = Some(padding);
        let next = &input[zeros..];
        if !next.is_empty() && (!aligned || zeros == 0) {
            if !aligned || !begins(next, MAGIC) {
                return Err(Fault::Trailing);
            }
            self.stream = decoder()?;
            self.padding = None;
        }
        Ok(Step {
            taken: zeros,
            made: 0,
            complete: zeros == input.len() && aligned,
        })
    }
}

impl Unpack for Xz {
    fn step(&mut self, input: &[u8], output: &mut [u8], last: bool) -> Result<Step, Fault> {
        use liblzma::stream::{Action, Error, Status};
        if let Some(before) = self.padding {
            return self.between(input, before);
        }
        let (in_before, out_before) = (self.stream.total_in(), self.stream.total_out());
        let action = if last { Action::Finish } else { Action::Run };
        let result = self.stream.process(input, output, action);
        let step = Step {
            taken: (self.stream.total_in() - in_before) as usize,
            made: (self.stream.total_out() - out_before) as usize,
            complete: false,
        };
        match result {
            Ok(Status::StreamEnd) => {
                self.padding = Some(0);
                Ok(Step {
                    complete: true,
                    ..step
                })
            }
            // No progress is not an error here: the caller sees it in the counts.
            Ok(_) => Ok(step),
            Err(Error::Mem | Error::MemLimit) => Err(TOO_MUCH),
            Err(error) => Err(Fault::Damaged(error.into())),
        }
    }
}

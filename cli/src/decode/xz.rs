//! xz.

use super::{
    format::begins,
    unpack::{Fault, Step, Unpack},
};

const MAGIC: &[u8] = b"\xfd7zXZ\0";
/// Streams one after the other, padded to multiples of four bytes, the blocks of each unpacked in
/// parallel where the file allows it.
pub(super) struct Xz {
    stream: liblzma::stream::Stream,
    /// Zeros since the last one ended; `None` inside a stream.
    padding: Option<u64>,
    /// The most memory that unpacking may take in all, whatever the file asks for.
    memory_bytes: u64,
}

fn decoder(memory_bytes: u64) -> Result<liblzma::stream::Stream, Fault> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    liblzma::stream::MtStreamBuilder::new()
        .threads(threads.min(16) as u32)
        // Above this, blocks are unpacked by fewer threads at a time.
        .memlimit_threading(memory_bytes)
        .memlimit_stop(memory_bytes)
        .decoder()
        .map_err(|_| Fault::Memory(memory_bytes))
}

impl Xz {
    /// A decoder at the start of a file.
    pub(super) fn new(memory_bytes: u64) -> Result<Self, Fault> {
        Ok(Self {
            stream: decoder(memory_bytes)?,
            padding: None,
            memory_bytes,
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
            self.stream = decoder(self.memory_bytes)?;
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
            Err(Error::Mem | Error::MemLimit) => Err(Fault::Memory(self.memory_bytes)),
            Err(error) => Err(Fault::Damaged(error.into())),
        }
    }
}

//! Raw images: files with holes, and streams.

use super::{
    DecodeError, Sink,
    unpack::{Fault, Step, Unpack},
};
use fvm_vmm::api::stream::BLOCK_BYTES;
use nix::{
    errno::Errno,
    unistd::{Whence, lseek},
};
use std::{fs::File, io, os::unix::fs::FileExt};

const READ_BYTES: usize = super::PIECE_BYTES;

/// Content as it comes, without any compression.
#[derive(Debug)]
pub(super) struct Plain;

impl Unpack for Plain {
    fn step(&mut self, input: &[u8], output: &mut [u8], last: bool) -> Result<Step, Fault> {
        let bytes = input.len().min(output.len());
        output[..bytes].copy_from_slice(&input[..bytes]);
        Ok(Step {
            taken: bytes,
            made: bytes,
            complete: last,
        })
    }
}

/// Reads a file or device of `size` bytes, leaving out its holes.
pub(super) fn read_file(
    file: &File,
    size: u64,
    name: &str,
    sink: &mut Sink<'_>,
) -> Result<(), DecodeError> {
    let mut buffer = vec![0; READ_BYTES];
    let mut at = 0;
    while at < size {
        let data = next_data(file, at, size);
        if skip_hole(sink, data.start - at) {
            sink.meter.add_input(data.start - at);
            at = data.start;
        }
        while at < data.end {
            let wanted = (data.end - at).min(buffer.len() as u64) as usize;
            let bytes =
                read_at(file, &mut buffer[..wanted], at).map_err(|source| DecodeError::Read {
                    name: name.to_owned(),
                    at,
                    source,
                })?;
            if bytes == 0 {
                return Err(DecodeError::Shrank {
                    name: name.to_owned(),
                    at,
                    size,
                });
            }
            sink.push(&buffer[..bytes])?;
            sink.meter.add_input(bytes as u64);
            at += bytes as u64;
        }
    }
    Ok(())
}

fn skip_hole(sink: &mut Sink<'_>, bytes: u64) -> bool {
    bytes > 0 && sink.skip(bytes)
}

fn read_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    loop {
        match file.read_at(buffer, at) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// The next part of a file that is not a hole, at or after `at`: it begins and ends on block boundaries,
/// or ends with the file. A file system that knows nothing of holes has one part.
fn next_data(file: &File, at: u64, size: u64) -> std::ops::Range<u64> {
    const BLOCK: u64 = BLOCK_BYTES as u64;
    let seek = |from: u64, whence| {
        let from = i64::try_from(from).map_err(|_| Errno::EOVERFLOW)?;
        lseek(file, from, whence).map(i64::cast_unsigned)
    };
    let start = match seek(at, Whence::SeekData) {
        Ok(start) => start.min(size),
        // Nothing but a hole up to the end.
        Err(Errno::ENXIO) => size,
        Err(_) => at,
    };
    // Only whole blocks can be skipped: begin in the block that has the data.
    let begin = (start - start % BLOCK).max(at);
    let end = match seek(start, Whence::SeekHole) {
        Ok(end) if end > start => end.next_multiple_of(BLOCK).min(size),
        _ => size,
    };
    begin..end
}

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
use std::{fs::File, io, ops::Range, os::unix::fs::FileExt};

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
    let shrank = |at| DecodeError::Shrank {
        name: name.to_owned(),
        at,
        size,
    };
    let mut at = 0;
    while at < size {
        let data = next_data(file, at, size).map_err(shrank)?;
        let hole = data.start - at;
        if hole > 0 && sink.skip(hole) {
            sink.meter.add_input(hole);
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
                return Err(shrank(at));
            }
            sink.push(&buffer[..bytes])?;
            sink.meter.add_input(bytes as u64);
            at += bytes as u64;
        }
    }
    Ok(())
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
///
/// A file that is shorter than `size` now is an error, with its present end: to the system, what lies
/// beyond the end looks as a hole does.
fn next_data(file: &File, at: u64, size: u64) -> Result<Range<u64>, u64> {
    const BLOCK: u64 = BLOCK_BYTES as u64;
    let seek = |from: u64, whence| {
        let from = i64::try_from(from).map_err(|_| Errno::EOVERFLOW)?;
        lseek(file, from, whence).map(i64::cast_unsigned)
    };
    let start = match seek(at, Whence::SeekData) {
        Ok(start) => start.min(size),
        // Nothing but a hole up to the end, wherever that is.
        Err(Errno::ENXIO) => match seek(0, Whence::SeekEnd) {
            Ok(end) if end < size => return Err(end),
            _ => size,
        },
        Err(_) => at,
    };
    // Only whole blocks can be skipped: begin in the block that has the data.
    let begin = (start - start % BLOCK).max(at);
    let end = match seek(start, Whence::SeekHole) {
        Ok(end) if end > start => end.next_multiple_of(BLOCK).min(size),
        _ => size,
    };
    Ok(begin..end)
}

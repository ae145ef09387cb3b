//! Image sources: from a file, a device or a pipe, raw or compressed, to a block stream.
//!
//! Runs in a thread of its own with a few MiB of memory besides what a decoder needs. An image is whatever
//! somebody has downloaded: nothing here trusts it, and it is unpacked in the user's process, not in
//! the daemon.

mod error;
mod format;
mod gzip;
mod raw;
mod source;
mod unpack;
mod xz;
mod zstd;

#[cfg(test)]
mod tests;

pub(crate) use error::DecodeError;
pub(crate) use format::Format;
pub(crate) use source::Source;

use fvm_vmm::api::{ImportHeader, stream::Encoder};
use source::{Input, Metered};
use std::{
    io::Read,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};
use unpack::{Fault, Unpack, Unpacker};

/// Content is handed on in pieces of about this size.
const PIECE_BYTES: usize = 1024 * 1024;

/// How far reading has come; written by the reading thread, read by whoever shows progress.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    input: AtomicU64,
    done: AtomicBool,
}

impl Meter {
    /// Bytes of the source that have been read or skipped.
    pub(crate) fn input(&self) -> u64 {
        self.input.load(Ordering::Relaxed)
    }

    /// True when all of it has been handed on.
    pub(crate) fn is_done(&self) -> bool {
        self.done.load(Ordering::Relaxed)
    }

    fn add_input(&self, bytes: u64) {
        self.input.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Reads a source to its end and hands its block stream, piece by piece, to `send`.
///
/// `send` returns false when nobody wants more. A failure leaves the stream without its end, which no
/// receiver takes for a whole one.
pub(crate) fn encode(
    source: Source,
    header: &ImportHeader,
    meter: &Arc<Meter>,
    send: &mut dyn FnMut(Vec<u8>) -> bool,
) -> Result<(), DecodeError> {
    let (encoder, out) = Encoder::new(header);
    let mut sink = Sink {
        encoder,
        out,
        meter,
        send,
    };
    match source.input {
        Input::Seekable(file) if source.format == Format::Raw => {
            raw::read_file(&file, source.size.unwrap_or(0), &source.name, &mut sink)?;
        }
        Input::Seekable(file) => {
            let input = Metered::new(file, Arc::clone(meter));
            read_stream(input, source.format, &source.name, &mut sink)?;
        }
        Input::Stream(stream) => {
            let input = Metered::new(stream, Arc::clone(meter));
            read_stream(input, source.format, &source.name, &mut sink)?;
        }
    }
    sink.finish()
}

/// The encoder, and where its output goes.
struct Sink<'a> {
    encoder: Encoder,
    out: Vec<u8>,
    meter: &'a Meter,
    send: &'a mut dyn FnMut(Vec<u8>) -> bool,
}

impl Sink<'_> {
    fn push(&mut self, content: &[u8]) -> Result<(), DecodeError> {
        self.encoder.push(content, &mut self.out);
        if self.out.len() >= PIECE_BYTES {
            let piece = std::mem::replace(&mut self.out, Vec::with_capacity(2 * PIECE_BYTES));
            if !(self.send)(piece) {
                return Err(DecodeError::Stopped);
            }
        }
        Ok(())
    }

    fn skip(&mut self, bytes: u64) -> bool {
        self.encoder.skip(bytes)
    }

    fn finish(mut self) -> Result<(), DecodeError> {
        self.encoder.finish(&mut self.out);
        if !(self.send)(self.out) {
            return Err(DecodeError::Stopped);
        }
        self.meter.done.store(true, Ordering::Relaxed);
        Ok(())
    }
}

/// Reads what can be read only once, unpacking it if it is compressed.
fn read_stream<R: Read>(
    input: Metered<R>,
    format: Format,
    name: &str,
    sink: &mut Sink<'_>,
) -> Result<(), DecodeError> {
    let meter = Arc::clone(input.meter());
    let explain = |fault, content| explain(fault, format, name, meter.input(), content);
    let codec: Box<dyn Unpack> = match format {
        Format::Gzip => Box::new(gzip::Gzip::default()),
        Format::Xz => Box::new(xz::Xz::new().map_err(|fault| explain(fault, 0))?),
        Format::Zstd => Box::new(zstd::Zstd::new().map_err(|fault| explain(fault, 0))?),
        _ => Box::new(raw::Plain),
    };
    let mut unpacker = Unpacker::new(input, codec);
    let mut content = vec![0; PIECE_BYTES];
    loop {
        let bytes = unpacker
            .fill(&mut content)
            .map_err(|fault| explain(fault, unpacker.content_bytes()))?;
        if unpacker.content_bytes() == bytes as u64 {
            check_content(&content[..bytes], format, name)?;
        }
        if bytes == 0 {
            return Ok(());
        }
        sink.push(&content[..bytes])?;
    }
}

/// Refuses a compressed file that holds nothing, or something that would be a wrong disk.
fn check_content(start: &[u8], outer: Format, name: &str) -> Result<(), DecodeError> {
    let name = name.to_owned();
    match Format::of(start) {
        _ if start.is_empty() => Err(DecodeError::Empty { name }),
        inner if inner != Format::Raw && outer != Format::Raw => Err(DecodeError::Inside {
            name,
            format: inner,
        }),
        _ => Ok(()),
    }
}

fn explain(fault: Fault, format: Format, name: &str, at: u64, content: u64) -> DecodeError {
    let name = name.to_owned();
    match fault {
        Fault::Read(source) => DecodeError::Read { name, at, source },
        Fault::Damaged(source) => DecodeError::Damaged {
            name,
            format,
            content,
            source,
        },
        Fault::Truncated => DecodeError::Truncated {
            name,
            format,
            content,
        },
        Fault::Trailing => DecodeError::Trailing {
            name,
            format,
            content,
        },
        Fault::Memory(limit_mib) => DecodeError::Memory { name, limit_mib },
    }
}

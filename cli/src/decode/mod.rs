//! Image sources: from a file, a device, a pipe or a server, raw, compressed or qcow2, to a block stream.
//!
//! Runs in a thread of its own with a few MiB of memory besides what a decoder needs, which is bounded
//! ([`Terms`]). An image is whatever somebody has downloaded: nothing here trusts it, no other file is opened
//! because of what is in it, and it is unpacked in the user's process, not in the daemon.

mod error;
mod format;
mod gzip;
mod meter;
mod qcow2;
mod raw;
mod source;
mod spool;
mod unpack;
mod xz;
mod zstd;

#[cfg(test)]
mod terms_tests;
#[cfg(test)]
mod tests;

pub(crate) use error::DecodeError;
pub(crate) use format::Format;
pub(crate) use meter::Meter;
pub(crate) use source::Source;

use crate::checksum::Checksum;
use fvm_vmm::api::{
    ImportHeader,
    stream::{BLOCK_BYTES, Encoder},
};
use meter::Metered;
use qcow2::Qcow2;
use source::Input;
use spool::Spool;
use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
    sync::Arc,
};
use unpack::{Fault, Unpack, Unpacker};

/// Content is handed on in pieces of about this size.
const PIECE_BYTES: usize = 1024 * 1024;

/// What unpacking may take in memory unless the user allows more: enough for all that the usual tools write without being
/// told to use more, and little enough that an import stays below 100 MiB.
pub(crate) const DEFAULT_MEMORY_BYTES: u64 = 72 << 20;

/// What a source must keep to.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    /// The checksum of the file as it is, packed if it is packed.
    pub(crate) expected: Option<Checksum>,
    /// The most memory that a decoder may take.
    pub(crate) memory_bytes: u64,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            expected: None,
            memory_bytes: DEFAULT_MEMORY_BYTES,
        }
    }
}

/// Reads a source to its end and hands its block stream, piece by piece, to `send`.
///
/// `send` returns false when nobody wants more. A failure leaves the stream without its end, which no
/// receiver takes for a whole one.
pub(crate) fn encode(
    source: Source,
    terms: &Terms,
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
    // The receiver learns what is coming before the first byte of it is there, which may take long.
    sink.flush()?;
    let name = &source.name;
    match source.input {
        Input::Zeros(bytes) => {
            sink.zeros(bytes)?;
            meter.add_input(bytes);
        }
        Input::Image(image) => {
            if let Some(expected) = &terms.expected {
                meter.begin("computing the checksum", Some(image.file_bytes()));
                let mut file = Metered::new(Sequential::of(image.file()), meter, Some(expected));
                let read = io::copy(&mut file, &mut io::sink());
                read.map_err(|error| explain_read(error, name, meter))?;
                file.verify(name)?;
                meter.begin("importing", Some(image.size()));
            }
            send_image(&image, &mut sink)?;
        }
        // A checksum is of the holes too.
        Input::Seekable(file) if source.format == Format::Raw && terms.expected.is_none() => {
            raw::read_file(&file, source.size.unwrap_or(0), name, &mut sink)?;
        }
        Input::Seekable(file) => read_stream(file, source.format, name, terms, &mut sink)?,
        Input::Stream(stream) => read_stream(stream, source.format, name, terms, &mut sink)?,
    }
    sink.finish()
}

/// The encoder, and where its output goes.
struct Sink<'a> {
    encoder: Encoder,
    out: Vec<u8>,
    meter: &'a Arc<Meter>,
    send: &'a mut dyn FnMut(Vec<u8>) -> bool,
}

impl Sink<'_> {
    fn push(&mut self, content: &[u8]) -> Result<(), DecodeError> {
        self.encoder.push(content, &mut self.out);
        if self.out.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn skip(&mut self, bytes: u64) -> bool {
        self.encoder.skip(bytes)
    }

    /// Takes in zeros of any length, wherever the content stands.
    fn zeros(&mut self, mut bytes: u64) -> Result<(), DecodeError> {
        const BLOCK: u64 = BLOCK_BYTES as u64;
        let zeros = [0; BLOCK_BYTES];
        let begun = self.encoder.content_bytes() % BLOCK;
        if begun > 0 {
            let rest = (BLOCK - begun).min(bytes);
            self.push(&zeros[..rest as usize])?;
            bytes -= rest;
        }
        let tail = bytes % BLOCK;
        self.skip(bytes - tail);
        self.push(&zeros[..tail as usize])
    }

    fn flush(&mut self) -> Result<(), DecodeError> {
        let piece = std::mem::replace(&mut self.out, Vec::with_capacity(2 * PIECE_BYTES));
        if (self.send)(piece) {
            Ok(())
        } else {
            Err(DecodeError::Stopped)
        }
    }

    fn finish(mut self) -> Result<(), DecodeError> {
        self.encoder.finish(&mut self.out);
        if !(self.send)(self.out) {
            return Err(DecodeError::Stopped);
        }
        self.meter.finish();
        Ok(())
    }
}

/// Reads what can be read only once, unpacking it if it is compressed.
fn read_stream<R: Read>(
    input: R,
    format: Format,
    name: &str,
    terms: &Terms,
    sink: &mut Sink<'_>,
) -> Result<(), DecodeError> {
    let meter = Arc::clone(sink.meter);
    let explain = |fault, content| explain(fault, format, name, meter.input(), content);
    let memory = terms.memory_bytes;
    let codec: Box<dyn Unpack> = match format {
        Format::Gzip => Box::new(gzip::Gzip::default()),
        Format::Xz => Box::new(xz::Xz::new(memory).map_err(|fault| explain(fault, 0))?),
        Format::Zstd => Box::new(zstd::Zstd::new(memory).map_err(|fault| explain(fault, 0))?),
        _ => Box::new(raw::Plain),
    };
    let input = Metered::new(input, &meter, terms.expected.as_ref());
    let mut unpacker = Unpacker::new(input, codec);
    let mut content = vec![0; PIECE_BYTES];
    // A qcow2 image can only be read when all of it is there.
    let mut spool = None;
    loop {
        let bytes = unpacker
            .fill(&mut content)
            .map_err(|fault| explain(fault, unpacker.content_bytes()))?;
        if unpacker.content_bytes() == bytes as u64
            && inner_format(&content[..bytes], format, name)? == Format::Qcow2
        {
            spool = Some(Spool::new(name)?);
            meter.note(format!(
                "{name} holds a qcow2 image: it is kept in {} until it is imported",
                spool::directory().display()
            ));
        }
        match &mut spool {
            _ if bytes == 0 => break,
            Some(spool) => spool.write(&content[..bytes])?,
            None => sink.push(&content[..bytes])?,
        }
    }
    unpacker.into_input().verify(name)?;
    let Some(spool) = spool else {
        return Ok(());
    };
    let (file, bytes) = spool.finish();
    let image = Qcow2::open(file, bytes, name)?;
    meter.begin("importing", Some(image.size()));
    send_image(&image, sink)
}

/// What a stream's content begins as; refuses nothing at all, and what would be a wrong disk.
fn inner_format(start: &[u8], outer: Format, name: &str) -> Result<Format, DecodeError> {
    let name = name.to_owned();
    match Format::of(start) {
        _ if start.is_empty() => Err(DecodeError::Empty { name }),
        Format::Qcow2 => Ok(Format::Qcow2),
        inner if inner != Format::Raw && outer != Format::Raw => Err(DecodeError::Inside {
            name,
            format: inner,
        }),
        inner => Ok(inner),
    }
}

fn send_image(image: &Qcow2, sink: &mut Sink<'_>) -> Result<(), DecodeError> {
    for note in image.notes() {
        sink.meter.note(note);
    }
    image.read(sink)
}

/// A file from its start, wherever others have left its position.
struct Sequential<'a> {
    file: &'a File,
    at: u64,
}

impl<'a> Sequential<'a> {
    fn of(file: &'a File) -> Self {
        Self { file, at: 0 }
    }
}

impl Read for Sequential<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.file.read_at(buffer, self.at)?;
        self.at += bytes as u64;
        Ok(bytes)
    }
}

fn explain_read(source: io::Error, name: &str, meter: &Meter) -> DecodeError {
    DecodeError::Read {
        name: name.to_owned(),
        at: meter.input(),
        source,
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
        Fault::Memory(limit_bytes) => DecodeError::Memory { name, limit_bytes },
    }
}

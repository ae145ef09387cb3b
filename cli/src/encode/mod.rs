//! Exports: from a block stream to a file or a pipe, in the format that the user wants.
//!
//! Runs in a thread of its own, as the user, with some ten MiB of memory for each compressing thread. The file has a
//! temporary name until all of it is there and its digest was found right.

mod error;
mod frames;
mod qcow2;
mod raw;
mod target;
mod xz;

#[cfg(test)]
mod tests;

pub(crate) use error::EncodeError;
pub(crate) use target::Target;

use crate::decode::Meter;
use clap::ValueEnum;
use frames::Frames;
use fvm_vmm::api::{
    ExportHeader,
    stream::{Decoder, Item},
};
use hyper::body::Bytes;
use std::{
    fmt, io,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};
use tokio::sync::mpsc;

/// What an export is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// zstd in independent frames with a seek table: plain zstd unpacks it, and parts can be read by themselves
    Zst,
    /// The disk as it is, with holes
    Raw,
    /// QEMU's format, without compression
    Qcow2,
    /// xz in several blocks
    Xz,
    /// gzip in several members
    Gz,
}

impl Format {
    /// The end of the name that a file of this format gets.
    pub(crate) fn extension(self) -> &'static str {
        match self {
            Self::Zst => "raw.zst",
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Xz => "raw.xz",
            Self::Gz => "raw.gz",
        }
    }

    /// What the end of a file's name stands for.
    pub(crate) fn promised_by(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        match extension.as_str() {
            "zst" | "zstd" => Some(Self::Zst),
            "raw" | "img" => Some(Self::Raw),
            "qcow2" => Some(Self::Qcow2),
            "xz" => Some(Self::Xz),
            "gz" => Some(Self::Gz),
            _ => None,
        }
    }

    /// The levels of its compression, and the one that is used unless the user says otherwise; none if it has no
    /// compression.
    pub(crate) fn levels(self) -> Option<(std::ops::RangeInclusive<u32>, u32)> {
        match self {
            Self::Raw | Self::Qcow2 => None,
            Self::Zst => Some((1..=19, 3)),
            Self::Xz => Some((0..=9, 3)),
            Self::Gz => Some((1..=9, 6)),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Zst => "zst",
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Xz => "xz",
            Self::Gz => "gz",
        })
    }
}

/// Takes a disk's content in ascending order, all of it.
trait Encode {
    /// Content that is not all zero.
    fn data(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// So many zeros.
    fn zeros(&mut self, bytes: u64) -> io::Result<()>;
    /// The end; everything has been written to the target then.
    fn finish(&mut self) -> io::Result<()>;
}

/// What was exported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exported {
    /// The disk's size.
    pub(crate) size_bytes: u64,
    /// Bytes that came as blocks.
    pub(crate) data_bytes: u64,
    /// The digest of the disk, which both sides have computed.
    pub(crate) digest: [u8; 32],
}

/// Writes a block stream, whose pieces come from `pieces`, to the target; nothing is left of a file if that fails or
/// was `cancelled` before its end.
pub(crate) fn write(
    mut pieces: mpsc::Receiver<Bytes>,
    target: Target,
    format: Format,
    level: u32,
    meter: &Meter,
    cancelled: &AtomicBool,
) -> Result<Exported, EncodeError> {
    let writing = |source| EncodeError::Write {
        name: target.name(),
        source,
    };
    let mut decoder = Decoder::<ExportHeader>::default();
    let mut encoder = encoder(&target, format, level).map_err(writing)?;
    let mut position = 0;
    let mut data_bytes = 0;
    loop {
        match decoder.next_item()? {
            Some(Item::Header(header)) => {
                decoder.limit(header.size_bytes);
                meter.begin("exporting", Some(header.mapped_bytes));
            }
            Some(Item::Data { offset, bytes }) => {
                encoder.zeros(offset - position).map_err(writing)?;
                encoder.data(&bytes).map_err(writing)?;
                position = offset + bytes.len() as u64;
                data_bytes += bytes.len() as u64;
                meter.add_input(bytes.len() as u64);
            }
            Some(Item::End {
                content_bytes,
                digest,
            }) => {
                encoder.zeros(content_bytes - position).map_err(writing)?;
                encoder.finish().map_err(writing)?;
                drop(encoder);
                meter.finish();
                if cancelled.load(Ordering::SeqCst) {
                    return Err(EncodeError::Cancelled);
                }
                target.commit()?;
                return Ok(Exported {
                    size_bytes: content_bytes,
                    data_bytes,
                    digest,
                });
            }
            None => match pieces.blocking_recv() {
                Some(piece) => decoder.push(&piece),
                None => {
                    decoder.finish()?;
                    return Err(EncodeError::Cancelled);
                }
            },
        }
    }
}

fn encoder(target: &Target, format: Format, level: u32) -> io::Result<Box<dyn Encode>> {
    let out = target.writer()?;
    Ok(match format {
        Format::Raw if target.is_file() => Box::new(raw::Sparse::new(out)),
        Format::Raw => Box::new(raw::Plain::new(out)),
        Format::Qcow2 => Box::new(qcow2::Qcow2::new(out)?),
        Format::Zst => Box::new(Frames::zstd(out, level)?),
        Format::Gz => Box::new(Frames::gzip(out, level)?),
        Format::Xz => Box::new(xz::Xz::new(out, level)?),
    })
}

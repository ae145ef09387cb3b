//! qcow2 images, versions 2 and 3, read strictly.
//!
//! Nothing but the one open file is ever read: what needs another file is refused, whatever its name. The whole structure
//! is checked before the first byte of content is handed on, and again as it is read, so a file that
//! changes meanwhile is at worst refused late. Memory is bounded by a few clusters, 32 MiB of L1 table
//! and 16 MiB of claims, where real files need far less.
//!
//! It is a reader of fvm's own because the libraries there are read less (of zstd clusters and extended L2
//! entries), trust more (of tables that overlap or lie beyond the end), and open other files.
//!
//! Reference counts and internal snapshots say nothing about the disk's present content, and are not read.

mod claims;
mod error;
mod header;
mod packed;
mod table;
#[cfg(test)]
mod tests;

pub(crate) use error::{Damage, Unfit};

use super::{DecodeError, Sink};
use claims::Claims;
use error::Flaw;
use header::{BackingName, HEADER_BYTES, Header};
use std::{fs::File, io, os::unix::fs::FileExt};
use table::Cluster;

/// The longest name of a backing file in the format.
const MAX_BACKING_NAME: u32 = 1023;

/// An opened and checked image.
#[derive(Debug)]
pub(super) struct Qcow2 {
    file: File,
    name: String,
    bytes: u64,
    header: Header,
    l1: Vec<u64>,
}

/// What a stretch of the disk is made of.
#[derive(Debug, Clone, Copy)]
enum Stretch {
    Zeros,
    /// At an offset in the file.
    Data(u64),
}

impl Qcow2 {
    /// Checks the whole structure of a file.
    pub(super) fn open(file: File, bytes: u64, name: &str) -> Result<Self, DecodeError> {
        let explain = |flaw| explain(flaw, name);
        let (header, l1) = open(&file, bytes).map_err(explain)?;
        let image = Self {
            file,
            name: name.to_owned(),
            bytes,
            header,
            l1,
        };
        image.check().map_err(explain)?;
        Ok(image)
    }

    /// The disk's size in bytes.
    pub(super) fn size(&self) -> u64 {
        self.header.size
    }

    /// The file that it is in.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// The length of that.
    pub(super) fn file_bytes(&self) -> u64 {
        self.bytes
    }

    /// What the user should know about what is imported.
    pub(super) fn notes(&self) -> Vec<String> {
        let name = &self.name;
        let mut notes = Vec::new();
        if self.header.snapshots > 0 {
            notes.push(format!(
                "{name} has {} internal snapshots, which are not imported: the image is the disk's present state",
                self.header.snapshots
            ));
        }
        if self.header.dirty {
            notes.push(format!(
                "{name} was not closed properly: its last writes may be missing"
            ));
        }
        notes
    }

    /// Hands on the disk's content.
    pub(super) fn read(&self, sink: &mut Sink<'_>) -> Result<(), DecodeError> {
        let header = &self.header;
        let explain = |flaw| explain(flaw, &self.name);
        let mut content = Content {
            image: self,
            unpacker: None,
            buffer: Vec::new(),
            run: None,
        };
        let mut table = Vec::new();
        for (index, &entry) in (0_u64..).zip(&self.l1) {
            let from = index * header.l2_span();
            let span = header.l2_span().min(header.size - from);
            let Some(offset) = header
                .l2_table(entry)
                .map_err(|damage| explain(damage.into()))?
            else {
                content.stretch(Stretch::Zeros, span, sink)?;
                continue;
            };
            self.read_table(offset, &mut table).map_err(explain)?;
            let mut at = from;
            for entry in table.chunks_exact(header.l2_entry_bytes()) {
                if at >= header.size {
                    break;
                }
                let cluster = header
                    .cluster(entry)
                    .map_err(|damage| explain(damage.into()))?;
                let length = header.cluster_bytes().min(header.size - at);
                content.cluster(cluster, length, sink)?;
                at += header.cluster_bytes();
            }
        }
        content.flush(sink)
    }

    /// Requires of every table and cluster that it is in the file, and alone there.
    fn check(&self) -> Result<(), Flaw> {
        let header = &self.header;
        let mut claims = Claims::new(header, self.bytes)?;
        claims.alone("header", 0, 1)?;
        claims.alone("L1 table", header.l1_offset, header.l1_entries * 8)?;
        for &entry in &self.l1 {
            if let Some(offset) = header.l2_table(entry)? {
                self.within("L2 table", offset, header.cluster_bytes())?;
                claims.alone("L2 table", offset, header.cluster_bytes())?;
            }
        }
        let mut table = Vec::new();
        for (index, &entry) in (0_u64..).zip(&self.l1) {
            let Some(offset) = header.l2_table(entry)? else {
                continue;
            };
            self.read_table(offset, &mut table)?;
            let mut at = index * header.l2_span();
            for entry in table.chunks_exact(header.l2_entry_bytes()) {
                if at >= header.size {
                    break;
                }
                self.check_cluster(header.cluster(entry)?, header.size - at, &mut claims)?;
                at += header.cluster_bytes();
            }
        }
        Ok(())
    }

    /// `left` is how much of the disk there is from this cluster on.
    fn check_cluster(&self, cluster: Cluster, left: u64, claims: &mut Claims) -> Result<(), Flaw> {
        match cluster {
            Cluster::Nothing => Ok(()),
            Cluster::Host { offset, present } => {
                let parts = u64::from(u32::BITS - present.leading_zeros());
                let bytes = (parts * self.header.part_bytes()).min(left);
                self.within("data", offset, bytes)?;
                Ok(claims.alone("data", offset, self.header.cluster_bytes())?)
            }
            Cluster::Packed { offset, length } => {
                self.within("compressed data", offset, 1)?;
                Ok(claims.shared("compressed data", offset, length)?)
            }
        }
    }

    /// Requires that a range lies in the file.
    fn within(&self, what: &'static str, offset: u64, bytes: u64) -> Result<(), Damage> {
        within(what, offset, bytes, self.bytes)
    }

    fn read_table(&self, offset: u64, table: &mut Vec<u8>) -> Result<(), Flaw> {
        table.resize(self.header.cluster_bytes() as usize, 0);
        read_exact(&self.file, table, offset)
    }
}

fn within(what: &'static str, offset: u64, bytes: u64, end: u64) -> Result<(), Damage> {
    match offset.checked_add(bytes) {
        Some(last) if last <= end => Ok(()),
        _ => Err(Damage::BeyondEnd(what, offset, end)),
    }
}

fn open(file: &File, bytes: u64) -> Result<(Header, Vec<u64>), Flaw> {
    let mut start = vec![0; bytes.min(HEADER_BYTES as u64) as usize];
    read_exact(file, &mut start, 0)?;
    let header = Header::parse(&start)?;
    if let Some(place) = Header::backing(&start) {
        return Err(Unfit::Backing(backing_name(file, place)).into());
    }
    let length = header.l1_entries * 8;
    within("L1 table", header.l1_offset, length, bytes)?;
    let mut table = vec![0; length as usize];
    read_exact(file, &mut table, header.l1_offset)?;
    let (entries, _) = table.as_chunks::<8>();
    let l1 = entries.iter().map(|&e| u64::from_be_bytes(e)).collect();
    Ok((header, l1))
}

/// The name of a backing file, to be shown and never opened.
fn backing_name(file: &File, place: BackingName) -> String {
    let mut name = vec![0; place.length.min(MAX_BACKING_NAME) as usize];
    match file.read_exact_at(&mut name, place.offset) {
        Ok(()) => String::from_utf8_lossy(&name).into_owned(),
        Err(_) => String::new(),
    }
}

fn read_exact(file: &File, buffer: &mut [u8], at: u64) -> Result<(), Flaw> {
    file.read_exact_at(buffer, at)
        .map_err(|source| Flaw::Read { at, source })
}

/// Content on its way out: neighbours in the file that are neighbours on the disk are read together.
struct Content<'a> {
    image: &'a Qcow2,
    /// Made when the first compressed cluster comes.
    unpacker: Option<packed::Unpacker>,
    buffer: Vec<u8>,
    /// What has come and is not handed on yet, and its length.
    run: Option<(Stretch, u64)>,
}

impl Content<'_> {
    fn cluster(
        &mut self,
        cluster: Cluster,
        length: u64,
        sink: &mut Sink<'_>,
    ) -> Result<(), DecodeError> {
        match cluster {
            Cluster::Nothing | Cluster::Host { present: 0, .. } => {
                self.stretch(Stretch::Zeros, length, sink)
            }
            Cluster::Host {
                offset,
                present: u32::MAX,
            } => self.stretch(Stretch::Data(offset), length, sink),
            Cluster::Host { offset, present } => {
                let part = self.image.header.part_bytes();
                let parts = (0..u64::from(u32::BITS)).take_while(|i| i * part < length);
                for i in parts {
                    let at = i * part;
                    let stretch = if present & (1 << i) != 0 {
                        Stretch::Data(offset + at)
                    } else {
                        Stretch::Zeros
                    };
                    self.stretch(stretch, part.min(length - at), sink)?;
                }
                Ok(())
            }
            Cluster::Packed {
                offset,
                length: most,
            } => {
                self.flush(sink)?;
                self.packed(offset, most, length, sink)
            }
        }
    }

    fn stretch(
        &mut self,
        next: Stretch,
        bytes: u64,
        sink: &mut Sink<'_>,
    ) -> Result<(), DecodeError> {
        if let Some((stretch, length)) = &mut self.run {
            let joins = match (*stretch, next) {
                (Stretch::Zeros, Stretch::Zeros) => true,
                (Stretch::Data(from), Stretch::Data(to)) => from + *length == to,
                _ => false,
            };
            if joins {
                *length += bytes;
                return Ok(());
            }
            self.flush(sink)?;
        }
        self.run = Some((next, bytes));
        Ok(())
    }

    fn flush(&mut self, sink: &mut Sink<'_>) -> Result<(), DecodeError> {
        let Some((stretch, length)) = self.run.take() else {
            return Ok(());
        };
        match stretch {
            Stretch::Zeros => {
                sink.zeros(length)?;
                sink.meter.add_input(length);
            }
            Stretch::Data(offset) => {
                let mut at = 0;
                while at < length {
                    let bytes = (length - at).min(super::PIECE_BYTES as u64);
                    self.buffer.resize(bytes as usize, 0);
                    read_exact(&self.image.file, &mut self.buffer, offset + at)
                        .map_err(|flaw| explain(flaw, &self.image.name))?;
                    sink.push(&self.buffer)?;
                    sink.meter.add_input(bytes);
                    at += bytes;
                }
            }
        }
        Ok(())
    }

    fn packed(
        &mut self,
        at: u64,
        most: u64,
        length: u64,
        sink: &mut Sink<'_>,
    ) -> Result<(), DecodeError> {
        let image = self.image;
        let explain = |flaw| explain(flaw, &image.name);
        let damaged = |source| explain(Damage::Packed { at, source }.into());
        // The last sector of the last one need not be in the file.
        let mut packed = vec![0; most.min(image.bytes.saturating_sub(at)) as usize];
        read_exact(&image.file, &mut packed, at).map_err(explain)?;
        let unpacker = match &mut self.unpacker {
            Some(unpacker) => unpacker,
            none => none.insert(packed::Unpacker::new(image.header.packing).map_err(damaged)?),
        };
        self.buffer.resize(image.header.cluster_bytes() as usize, 0);
        unpacker
            .unpack(&packed, &mut self.buffer)
            .map_err(damaged)?;
        sink.push(&self.buffer[..length as usize])?;
        sink.meter.add_input(length);
        Ok(())
    }
}

fn explain(flaw: Flaw, name: &str) -> DecodeError {
    let name = name.to_owned();
    match flaw {
        Flaw::Unfit(source) => DecodeError::Unfit { name, source },
        Flaw::Damage(source) => DecodeError::Inconsistent { name, source },
        // It has been measured before: it ends sooner now.
        Flaw::Read { at, source } if source.kind() == io::ErrorKind::UnexpectedEof => {
            DecodeError::Changed { name, at }
        }
        Flaw::Read { at, source } => DecodeError::Read { name, at, source },
    }
}

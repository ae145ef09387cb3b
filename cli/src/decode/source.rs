//! Where an image is read from: a file, a device, a pipe, standard input.

use super::{
    DecodeError, Meter,
    format::{Format, PROBE_BYTES},
};
use std::{
    fs::File,
    io::{self, Chain, Cursor, IsTerminal, Read, Seek, SeekFrom},
    os::{fd::AsFd, unix::fs::FileTypeExt},
    path::Path,
    sync::Arc,
};

/// An opened source whose format is known.
#[derive(Debug)]
pub(crate) struct Source {
    /// As the user wrote it.
    pub(super) name: String,
    /// What it is.
    pub(super) format: Format,
    /// Bytes to be read, where that is known.
    pub(super) size: Option<u64>,
    pub(super) input: Input,
}

/// How a source is read.
#[derive(Debug)]
pub(super) enum Input {
    /// From its start, and holes can be skipped.
    Seekable(File),
    /// Once; the bytes that the format was told by come first.
    Stream(Chain<Cursor<Vec<u8>>, File>),
}

impl Source {
    /// Opens `path`, or standard input for `-`, and tells its format.
    pub(crate) fn open(path: &Path) -> Result<Self, DecodeError> {
        if path == Path::new("-") {
            return Self::standard_input();
        }
        let name = path.display().to_string();
        let opening = |source| DecodeError::Open {
            name: name.clone(),
            source,
        };
        let mut file = File::open(path).map_err(opening)?;
        let kind = file.metadata().map_err(opening)?.file_type();
        let seekable = kind.is_file() || kind.is_block_device();
        if kind.is_dir() {
            return Err(DecodeError::NotAFile {
                name,
                what: "directory",
            });
        }
        if !seekable {
            return Self::stream(name, file, None);
        }
        // A block device has no length in its metadata.
        let size = file.seek(SeekFrom::End(0)).map_err(opening)?;
        file.rewind().map_err(opening)?;
        let start = probe(&mut file, &name)?;
        file.rewind().map_err(opening)?;
        let source = Self {
            name,
            format: Format::of(&start),
            size: Some(size),
            input: Input::Seekable(file),
        };
        source.checked(start.is_empty())
    }

    fn standard_input() -> Result<Self, DecodeError> {
        let name = "standard input".to_owned();
        let stdin = io::stdin();
        if stdin.is_terminal() {
            return Err(DecodeError::Terminal);
        }
        let opening = |source| DecodeError::Open {
            name: name.clone(),
            source,
        };
        let mut file = File::from(stdin.as_fd().try_clone_to_owned().map_err(opening)?);
        let metadata = file.metadata().map_err(opening)?;
        // A redirected file may have been read in part by someone before us.
        let size = if metadata.is_file() {
            let before = file.stream_position().map_err(opening)?;
            Some(metadata.len().saturating_sub(before))
        } else {
            None
        };
        Self::stream(name, file, size)
    }

    fn stream(name: String, mut file: File, size: Option<u64>) -> Result<Self, DecodeError> {
        let start = probe(&mut file, &name)?;
        let source = Self {
            name,
            format: Format::of(&start),
            size,
            input: Input::Stream(Cursor::new(start.clone()).chain(file)),
        };
        source.checked(start.is_empty())
    }

    /// Refuses what cannot be imported.
    fn checked(self, empty: bool) -> Result<Self, DecodeError> {
        let name = self.name.clone();
        if empty {
            return Err(DecodeError::Empty { name });
        }
        match (self.format, Format::promised_by(&name)) {
            (format @ (Format::Qcow2 | Format::Other(_)), _) => {
                Err(DecodeError::Unsupported { name, format })
            }
            (Format::Raw, Some((extension, format))) => Err(DecodeError::WrongName {
                name,
                extension,
                format,
            }),
            _ => Ok(self),
        }
    }

    /// Bytes to be read, where that is known.
    pub(crate) fn size(&self) -> Option<u64> {
        self.size
    }
}

/// The first bytes of a file, as many as tell its format.
fn probe(file: &mut File, name: &str) -> Result<Vec<u8>, DecodeError> {
    let mut start = Vec::with_capacity(PROBE_BYTES);
    file.take(PROBE_BYTES as u64)
        .read_to_end(&mut start)
        .map_err(|source| DecodeError::Read {
            name: name.to_owned(),
            at: 0,
            source,
        })?;
    Ok(start)
}

/// Counts what is read.
#[derive(Debug)]
pub(super) struct Metered<R> {
    inner: R,
    meter: Arc<Meter>,
}

impl<R> Metered<R> {
    pub(super) fn new(inner: R, meter: Arc<Meter>) -> Self {
        Self { inner, meter }
    }

    pub(super) fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.inner.read(buffer) {
                Ok(bytes) => {
                    self.meter.add_input(bytes as u64);
                    return Ok(bytes);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

//! Where an image is read from: a file, a device, a pipe, standard input, or whatever else can be read.

use super::{
    DecodeError,
    format::{Format, PROBE_BYTES},
    qcow2::Qcow2,
};
use std::{
    fs::File,
    io::{self, Cursor, IsTerminal, Read, Seek, SeekFrom},
    os::{fd::AsFd, unix::fs::FileTypeExt},
    path::Path,
};

/// An opened source whose format is known.
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
pub(super) enum Input {
    /// Not at all: it is this many zeros.
    Zeros(u64),
    /// From its start, and holes can be skipped.
    Seekable(File),
    /// By its tables.
    Image(Qcow2),
    /// Once; the bytes that the format was told by come first.
    Stream(Box<dyn Read + Send>),
}

impl Source {
    /// A disk of this many zeros.
    pub(crate) fn zeros(bytes: u64) -> Self {
        Self {
            name: "empty".to_owned(),
            format: Format::Raw,
            size: Some(bytes),
            input: Input::Zeros(bytes),
        }
    }

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
        source.checked(start.is_empty())?.with_tables()
    }

    /// A qcow2 image in a file is read by its tables.
    fn with_tables(mut self) -> Result<Self, DecodeError> {
        self.input = match self.input {
            Input::Seekable(file) if self.format == Format::Qcow2 => {
                let image = Qcow2::open(file, self.size.unwrap_or(0), &self.name)?;
                self.size = Some(image.size());
                Input::Image(image)
            }
            other => other,
        };
        Ok(self)
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

    /// Something to be read once, of this many bytes if that is known.
    pub(crate) fn stream(
        name: String,
        mut stream: impl Read + Send + 'static,
        size: Option<u64>,
    ) -> Result<Self, DecodeError> {
        let start = probe(&mut stream, &name)?;
        let source = Self {
            name,
            format: Format::of(&start),
            size,
            input: Input::Stream(Box::new(Cursor::new(start.clone()).chain(stream))),
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
            (format @ Format::Other(_), _) => Err(DecodeError::Unsupported { name, format }),
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

    /// What it is.
    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// The disk's size in bytes, if it can be told before all has been read.
    pub(crate) fn disk_bytes(&self) -> Option<u64> {
        match &self.input {
            Input::Image(image) => Some(image.size()),
            _ if self.format == Format::Raw => self.size,
            _ => None,
        }
    }
}

/// The first bytes of a source, as many as tell its format.
fn probe(stream: &mut impl Read, name: &str) -> Result<Vec<u8>, DecodeError> {
    let mut start = Vec::with_capacity(PROBE_BYTES);
    stream
        .take(PROBE_BYTES as u64)
        .read_to_end(&mut start)
        .map_err(|source| DecodeError::Read {
            name: name.to_owned(),
            at: 0,
            source,
        })?;
    Ok(start)
}

//! Where an image comes from, as the user says it: nothing at all, standard input, a server, a file.

use crate::{
    checksum::{self, Checksum, ListError},
    decode::{DecodeError, Format, Source},
    fetch::{self, Download, FetchError, Url},
    quantity::Bytes,
};
use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

/// More than any list of checksums has.
const MAX_LIST_BYTES: u64 = 1 << 20;

/// What an image is imported from.
#[derive(Debug)]
pub(crate) enum Origin {
    /// `empty`: zeros.
    Empty,
    /// `-`
    StandardInput,
    /// A URL.
    Server(Url),
    /// A file or a device.
    File(PathBuf),
}

/// Why there is nothing to import from.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OriginError {
    /// An empty disk has the size that it is given.
    #[error("an empty disk needs a size")]
    SizeNeeded,
    /// There is no file that it could be the checksum of.
    #[error("an empty disk has no checksum")]
    ChecksumOfNothing,
    /// A list is searched by name.
    #[error("{0} has no name by which a list of checksums could be searched")]
    NoName(String),
    /// A list that cannot be read.
    #[error("cannot read the checksums in {name}")]
    ReadList {
        /// As the user wrote it.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// A list that does not say it.
    #[error("{name} does not tell the image's checksum")]
    List {
        /// As the user wrote it, without secrets.
        name: String,
        /// Why not.
        source: ListError,
    },
    /// The server does not give it.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// It is no image.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

impl Origin {
    /// Tells what kind of source the user has named; a file called `empty` is `./empty`.
    pub(crate) fn of(source: &Path) -> Result<Self, FetchError> {
        Ok(match source.to_str() {
            Some("empty") => Self::Empty,
            Some("-") => Self::StandardInput,
            _ => match Url::parse(source) {
                Some(url) => Self::Server(url?),
                None => Self::File(source.to_owned()),
            },
        })
    }

    /// How it is shown.
    fn shown(&self) -> String {
        match self {
            Self::Empty => "empty".into(),
            Self::StandardInput => "standard input".into(),
            Self::Server(url) => url.shown(),
            Self::File(path) => path.display().to_string(),
        }
    }

    /// The name of the file, without its folder.
    fn file_name(&self) -> Option<String> {
        match self {
            Self::Empty | Self::StandardInput => None,
            Self::Server(url) => url.file_name(),
            Self::File(path) => Some(path.file_name()?.to_string_lossy().into_owned()),
        }
    }

    /// The size that the name of the file says, as fast-vm's images have it: `6g__debian.xz` is a disk of 6 GiB.
    pub(crate) fn size_by_name(&self) -> Option<Bytes> {
        size_in(&self.file_name()?)
    }

    /// The checksum of the file in the list at `list`, a file or a URL.
    pub(crate) fn checksum_in(&self, list: &Path) -> Result<Checksum, OriginError> {
        let (name, text) = match Url::parse(list) {
            Some(url) => {
                let url = url?;
                (url.shown(), fetch::text_of(&url)?)
            }
            None => {
                let name = list.display().to_string();
                let text = read_list(list).map_err(|source| OriginError::ReadList {
                    name: name.clone(),
                    source,
                })?;
                (name, text)
            }
        };
        let file_name = self
            .file_name()
            .ok_or_else(|| OriginError::NoName(self.shown()))?;
        checksum::find(&text, &file_name).map_err(|source| OriginError::List { name, source })
    }

    /// Opens it and tells its format; `size` is what the disk is to have, `summed` that a checksum is expected.
    pub(crate) fn open(&self, size: Option<Bytes>, summed: bool) -> Result<Source, OriginError> {
        match (self, size) {
            (Self::Empty, _) if summed => Err(OriginError::ChecksumOfNothing),
            (Self::Empty, None) => Err(OriginError::SizeNeeded),
            (Self::Empty, Some(size)) => Ok(Source::zeros(size.0)),
            (Self::StandardInput, _) => Ok(Source::open(Path::new("-"))?),
            (Self::File(path), _) => Ok(Source::open(path)?),
            (Self::Server(url), _) => {
                let download = Download::open(url)?;
                let (total, bounded) = (download.total(), download.is_bounded());
                let name = url.shown();
                let source = Source::stream(name.clone(), download, total)?;
                // All other formats know their own end.
                if !bounded && !summed && source.format() == Format::Raw {
                    return Err(DecodeError::Endless { name }.into());
                }
                Ok(source)
            }
        }
    }
}

fn read_list(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(MAX_LIST_BYTES + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_LIST_BYTES {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The number before the first `g__` that has one.
fn size_in(name: &str) -> Option<Bytes> {
    name.match_indices("g__").find_map(|(end, _)| {
        let before = &name[..end];
        let digits = before.bytes().rev().take_while(u8::is_ascii_digit).count();
        let number: u64 = before[end - digits..].parse().ok()?;
        let bytes = number.checked_mul(1 << 30)?;
        (bytes > 0).then_some(Bytes(bytes))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_in_names_as_fast_vm_writes_them() {
        for (name, gib) in [
            ("6g__debian.raw.xz", Some(6)),
            ("rhel-20g__x.xz", Some(20)),
            ("ag__3g__x", Some(3)),
            ("6g_debian.xz", None),
            ("g__debian.xz", None),
            ("0g__debian.xz", None),
            ("6G__debian.xz", None),
            ("99999999999999999999g__x", None),
            ("17179869184g__x", None),
        ] {
            assert_eq!(size_in(name), gib.map(|gib| Bytes(gib << 30)), "{name}");
        }
        let origin = Origin::of(Path::new("https://h/6g__x/disk.xz")).unwrap();
        assert_eq!(origin.size_by_name(), None, "a folder's name");
    }

    #[test]
    fn sources_are_told_by_how_they_are_written() {
        let kind = |text| Origin::of(Path::new(text));
        assert!(matches!(kind("empty"), Ok(Origin::Empty)));
        assert!(matches!(kind("./empty"), Ok(Origin::File(_))));
        assert!(matches!(kind("-"), Ok(Origin::StandardInput)));
        assert!(matches!(kind("HTTP://h/x"), Ok(Origin::Server(_))));
        assert!(matches!(kind("file:///x"), Err(FetchError::Scheme { .. })));
    }

    #[test]
    fn a_list_names_the_file_without_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        let list = dir.path().join("SHA256SUMS");
        let sum = "5a".repeat(32);
        std::fs::write(&list, format!("{sum}  disk one.xz\n")).unwrap();
        for source in ["/far/away/disk one.xz", "https://h/x/disk%20one.xz?y=z"] {
            let origin = Origin::of(Path::new(source)).unwrap_or(Origin::Empty);
            assert_eq!(origin.checksum_in(&list).unwrap().to_string(), sum);
        }
        assert!(matches!(
            Origin::StandardInput.checksum_in(&list),
            Err(OriginError::NoName(_))
        ));
        assert!(matches!(
            Origin::File("disk.xz".into()).checksum_in(&list),
            Err(OriginError::List { .. })
        ));
    }
}

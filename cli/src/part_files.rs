//! Checksum files as fast-vm keeps them beside an image: `NAME.part_NN.sha512.txt`, each with the SHA-512 of one part
//! of 1 GiB on its first line.
//!
//! The last part is what follows the last whole GiB. It may be nothing, and not everybody writes a file for that.

use fvm_vmm::api::{ImageName, PartChecksum};
use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
};

const PART_BYTES: u64 = 1 << 30;
/// A line that is longer than this is no checksum.
const MAX_LINE_BYTES: u64 = 4096;
const SHA512_DIGITS: usize = 128;

/// How a part compares with its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    /// As it should be.
    Same,
    /// Another checksum.
    Different,
    /// There is no file.
    Missing,
    /// There is no file, and nothing in the part that it could be of.
    NotNeeded,
}

/// The checksum files of one image.
#[derive(Debug)]
pub(crate) struct Files<'a> {
    directory: &'a Path,
    name: &'a ImageName,
    size_bytes: u64,
}

impl<'a> Files<'a> {
    /// Those of an image of this size.
    pub(crate) fn new(directory: &'a Path, name: &'a ImageName, size_bytes: u64) -> Self {
        Self {
            directory,
            name,
            size_bytes,
        }
    }

    /// A part's file. Numbers have as many digits as the largest, and two at least, as `seq -w 00 N` writes them.
    pub(crate) fn path(&self, part: u32) -> PathBuf {
        let digits = (self.size_bytes / PART_BYTES).to_string().len().max(2);
        let name = self.name;
        self.directory
            .join(format!("{name}.part_{part:0digits$}.sha512.txt"))
    }

    /// Writes all of them.
    pub(crate) fn write(&self, parts: &[PartChecksum]) -> Result<(), (PathBuf, io::Error)> {
        for part in parts {
            let path = self.path(part.part);
            File::create(&path)
                .and_then(|mut file| writeln!(file, "{}", part.sha512))
                .map_err(|error| (path, error))?;
        }
        Ok(())
    }

    /// Compares a part with its file.
    pub(crate) fn compare(&self, part: &PartChecksum) -> Result<Comparison, (PathBuf, io::Error)> {
        let path = self.path(part.part);
        match read(&path) {
            Ok(expected) if expected.eq_ignore_ascii_case(&part.sha512) => Ok(Comparison::Same),
            Ok(_) => Ok(Comparison::Different),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let is_empty = u64::from(part.part) * PART_BYTES == self.size_bytes;
                Ok(if is_empty {
                    Comparison::NotNeeded
                } else {
                    Comparison::Missing
                })
            }
            Err(error) => Err((path, error)),
        }
    }
}

/// The checksum in a file: the first word of its first line, as `sha512sum` writes it too.
fn read(path: &Path) -> io::Result<String> {
    let mut line = String::new();
    BufReader::new(File::open(path)?.take(MAX_LINE_BYTES)).read_line(&mut line)?;
    let word = line.split_ascii_whitespace().next().unwrap_or_default();
    if word.len() == SHA512_DIGITS && word.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        Ok(word.to_owned())
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "its first line is not a SHA-512 checksum",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(part: u32, digit: char) -> PartChecksum {
        PartChecksum {
            part,
            sha512: digit.to_string().repeat(SHA512_DIGITS),
        }
    }

    #[test]
    fn files_are_named_as_fast_vm_names_them() {
        let name = "debian".parse().unwrap();
        for (size, part, expected) in [
            (1, 0, "/x/debian.part_00.sha512.txt"),
            (6 * PART_BYTES, 6, "/x/debian.part_06.sha512.txt"),
            (100 * PART_BYTES, 7, "/x/debian.part_007.sha512.txt"),
            (100 * PART_BYTES - 1, 7, "/x/debian.part_07.sha512.txt"),
        ] {
            let files = Files::new(Path::new("/x"), &name, size);
            assert_eq!(files.path(part), Path::new(expected));
        }
    }

    #[test]
    fn what_was_written_compares_and_what_was_changed_does_not() {
        let directory = tempfile::tempdir().unwrap();
        let name = "debian".parse().unwrap();
        let files = Files::new(directory.path(), &name, PART_BYTES);
        let parts = [part(0, 'a'), part(1, 'b')];
        files.write(&parts).unwrap();
        let text = std::fs::read_to_string(files.path(0)).unwrap();
        assert_eq!(text, format!("{}\n", parts[0].sha512));
        assert_eq!(files.compare(&parts[0]).unwrap(), Comparison::Same);
        assert_eq!(files.compare(&part(0, 'c')).unwrap(), Comparison::Different);
        // As sha512sum writes it, in capitals.
        let line = format!("{}  -\n", parts[0].sha512.to_uppercase());
        std::fs::write(files.path(0), line).unwrap();
        assert_eq!(files.compare(&parts[0]).unwrap(), Comparison::Same);

        std::fs::remove_file(files.path(0)).unwrap();
        std::fs::remove_file(files.path(1)).unwrap();
        assert_eq!(files.compare(&parts[0]).unwrap(), Comparison::Missing);
        assert_eq!(files.compare(&parts[1]).unwrap(), Comparison::NotNeeded);
        std::fs::write(files.path(0), "nothing of the kind").unwrap();
        assert!(files.compare(&parts[0]).is_err());
    }
}

//! Where an export goes: a file that is there as a whole or not at all, or standard output.

use super::EncodeError;
use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, RenameFlags, renameat2},
};
use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, IsTerminal},
    os::{fd::AsFd, unix::fs::FileTypeExt},
    path::{Path, PathBuf},
};

/// A target that has been opened.
#[derive(Debug)]
pub(crate) struct Target {
    file: File,
    /// Nothing for standard output.
    place: Option<Place>,
}

/// A file on its way to its name.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    temporary: PathBuf,
    replace: bool,
}

impl Place {
    fn directory(&self) -> &Path {
        match self.path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Gone to its name, it has none here any more.
        let _ = fs::remove_file(&self.temporary);
    }
}

impl Target {
    /// Standard output.
    pub(crate) fn standard_output() -> Result<Self, EncodeError> {
        let stdout = io::stdout();
        if stdout.is_terminal() {
            return Err(EncodeError::Terminal);
        }
        let making = |source| EncodeError::Make {
            name: "standard output".to_owned(),
            source,
        };
        let file = stdout.as_fd().try_clone_to_owned().map_err(making)?;
        Ok(Self {
            file: file.into(),
            place: None,
        })
    }

    /// A file at `path`, which may be there already only if it is to be replaced; until [`Self::commit`] it has
    /// another name in the same directory, which goes with the target.
    pub(crate) fn file(path: &Path, replace: bool) -> Result<Self, EncodeError> {
        let name = path.display().to_string();
        match fs::metadata(path) {
            Ok(found) if found.is_file() && replace => {}
            Ok(found) if found.is_file() => return Err(EncodeError::Exists { name }),
            Ok(found) => {
                let kind = found.file_type();
                let what = match kind {
                    _ if kind.is_dir() => "directory",
                    _ if kind.is_block_device() || kind.is_char_device() => "device",
                    _ => "special file",
                };
                return Err(EncodeError::NotAFile { name, what });
            }
            // Whatever else is wrong with it shows when it is made.
            Err(_) => {}
        }
        let making = |source| EncodeError::Make {
            name: name.clone(),
            source,
        };
        let last = path.file_name().ok_or_else(|| {
            making(io::Error::new(
                io::ErrorKind::InvalidInput,
                "it is no file name",
            ))
        })?;
        let mut temporary = OsString::from(".");
        temporary.push(last);
        temporary.push(format!(".{}.part", std::process::id()));
        let temporary = path.with_file_name(temporary);
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&temporary)
            .map_err(making)?;
        Ok(Self {
            file,
            place: Some(Place {
                path: path.to_owned(),
                temporary,
                replace,
            }),
        })
    }

    /// As the user knows it.
    pub(crate) fn name(&self) -> String {
        match &self.place {
            Some(place) => place.path.display().to_string(),
            None => "standard output".to_owned(),
        }
    }

    /// True if it can be written in any order.
    pub(super) fn is_file(&self) -> bool {
        self.place.is_some()
    }

    /// A way to write to it.
    pub(super) fn writer(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Gives a file its name, durably.
    pub(super) fn commit(self) -> Result<(), EncodeError> {
        let name = self.name();
        let Some(place) = &self.place else {
            return Ok(());
        };
        let given = self.file.sync_all().and_then(|()| {
            rename(&place.temporary, &place.path, place.replace)?;
            File::open(place.directory())?.sync_all()
        });
        given.map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => EncodeError::Exists { name },
            _ => EncodeError::Write { name, source },
        })
    }
}

/// Renames; another file of the new name is replaced only if it may be.
fn rename(from: &Path, to: &Path, replace: bool) -> io::Result<()> {
    if replace {
        return fs::rename(from, to);
    }
    match renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE) {
        // A file system that cannot tell; it was looked for when the export began.
        Err(Errno::EINVAL | Errno::ENOSYS) => fs::rename(from, to),
        other => Ok(other?),
    }
}

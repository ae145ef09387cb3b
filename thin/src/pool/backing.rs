//! Files and devices under a pool: taking them, knowing them again, giving them back.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};

use nix::unistd::{Whence, lseek};

use crate::error::{Error, Result};
use crate::kernel::block;
use crate::names::Part;
use crate::units::Bytes;

use super::header::{self, CONTENT_START, Found, HEADER_BYTES, Header, Stage, TAIL};
use super::raw::{
    allocate, open_exclusively, open_or_make, read_up_to, remove_file, sync_directory, wipe_ends,
    write_zeros,
};
use super::spec::{Backing, PoolSpec};

/// How much at either end is looked at, before something is taken, and wiped, when it is given back.
const END_BYTES: usize = CONTENT_START.0 as usize;

/// How content is laid down in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    /// As it is written.
    Sparse,
    /// All at once: a pool whose metadata cannot be written goes read-only.
    Preallocated,
}

fn room_for(part: Part) -> Room {
    match part {
        Part::Data => Room::Sparse,
        Part::Pool | Part::Metadata | Part::Spare => Room::Preallocated,
    }
}

/// What a part is called in errors.
pub(super) fn role(part: Part) -> &'static str {
    match part {
        Part::Pool => "pool",
        Part::Data => "data",
        Part::Metadata => "metadata",
        Part::Spare => "spare",
    }
}

/// A backing that was taken, and how to give it back if the rest fails.
#[derive(Debug)]
pub(super) struct Taken {
    path: PathBuf,
    file: File,
    header: Header,
    was: Was,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Was {
    /// Not there: the file was made here.
    Absent,
    /// There, and empty.
    Empty,
    /// Left half-made by an earlier try.
    Forming,
}

/// The room for content in a backing of this length.
fn content_of(length: Bytes, unit: Bytes) -> Bytes {
    length.saturating_sub(CONTENT_START + TAIL).round_down(unit)
}

/// The room for content in an existing device or file.
pub(super) fn capacity(backing: &Backing, unit: Bytes) -> Result<Bytes> {
    let path = backing.path();
    let file = File::open(path).map_err(Error::io("open", path))?;
    Ok(content_of(block::length(&file, path)?, unit))
}

/// Takes an empty device, or makes a file, for a part with so much content, and marks it as the pool's.
pub(super) fn take(
    spec: &PoolSpec,
    part: Part,
    backing: &Backing,
    content: Bytes,
) -> Result<Taken> {
    let path = backing.path();
    let (file, made) = match backing {
        Backing::File { .. } => open_or_make(path)?,
        Backing::Device { .. } => (open_exclusively(path)?, false),
    };
    let header = Header {
        pool: spec.uuid,
        part,
        stage: Stage::Forming,
        chunk: spec.chunk,
    };
    let was = if made {
        Was::Absent
    } else {
        examine(&file, path, &header)?
    };
    let taken = Taken {
        path: path.to_owned(),
        file,
        header,
        was,
    };
    let prepared = match backing {
        Backing::File { .. } => taken.lay_out_file(content),
        Backing::Device { .. } => taken.check_device_size(content),
    };
    match prepared.and_then(|()| taken.mark(Stage::Forming)) {
        Ok(()) => Ok(taken),
        Err(error) => Err(error.then(taken.give_back())),
    }
}

/// Decides whether what is there may be taken.
fn examine(file: &File, path: &Path, wanted: &Header) -> Result<Was> {
    let occupied = |holds: String| Error::Occupied {
        path: path.to_owned(),
        holds,
    };
    let length = block::length(file, path)?;
    match header::examine(&read_up_to(file, path, 0, END_BYTES)?) {
        Found::Other(holds) => Err(occupied(holds)),
        Found::Fvm(found) if found.pool != wanted.pool || found.part != wanted.part => {
            Err(occupied(format!(
                "the {} of fvm pool {}",
                role(found.part),
                found.pool
            )))
        }
        // The data's header is marked last, so only its stage counts.
        Found::Fvm(found) if found.part == Part::Data && found.stage == Stage::Ready => {
            Err(Error::AlreadyFormatted {
                path: path.to_owned(),
            })
        }
        Found::Fvm(_) => Ok(Was::Forming),
        Found::Nothing => {
            let tail_at = length.0.saturating_sub(END_BYTES as u64);
            let tail = read_up_to(file, path, tail_at, END_BYTES)?;
            if tail.iter().any(|&byte| byte != 0) {
                return Err(occupied("data at its end".into()));
            }
            let is_file = file
                .metadata()
                .map_err(Error::io("examine", path))?
                .is_file();
            match lseek(file, 0, Whence::SeekData) {
                Ok(_) if is_file => Err(occupied("data".into())),
                _ => Ok(Was::Empty),
            }
        }
    }
}

impl Taken {
    fn lay_out_file(&self, content: Bytes) -> Result<()> {
        let length = (CONTENT_START + content + TAIL).0;
        self.file
            .set_len(length)
            .map_err(Error::io("set the length of", &self.path))?;
        if room_for(self.header.part) == Room::Preallocated {
            allocate(&self.file, &self.path, 0, length)?;
        }
        if self.header.part == Part::Metadata {
            self.clear_superblock()?;
        }
        sync_directory(&self.path)
    }

    fn check_device_size(&self, content: Bytes) -> Result<()> {
        let has = content_of(block::length(&self.file, &self.path)?, Bytes(1));
        if has < content {
            return Err(Error::TooSmall {
                path: self.path.clone(),
                has,
                needs: content,
            });
        }
        if self.header.part == Part::Metadata {
            self.clear_superblock()?;
        }
        Ok(())
    }

    /// The kernel formats metadata whose first block is all zero, and refuses or trusts any other.
    fn clear_superblock(&self) -> Result<()> {
        let start = CONTENT_START.0;
        write_zeros(&self.file, start, start + 4096)
            .map_err(Error::io("clear the metadata of", &self.path))
    }

    /// Writes the header, and everything before it, to stable storage.
    pub(super) fn mark(&self, stage: Stage) -> Result<()> {
        let bytes = Header {
            stage,
            ..self.header
        }
        .encode();
        self.file
            .sync_all()
            .and_then(|()| self.file.write_all_at(&bytes, 0))
            .and_then(|()| self.file.sync_all())
            .map_err(Error::io("write the header of", &self.path))
    }

    /// Puts back what was there before [`take`].
    pub(super) fn give_back(self) -> Result<()> {
        let device = self
            .file
            .metadata()
            .is_ok_and(|found| found.file_type().is_block_device());
        match self.was {
            Was::Forming => Ok(()),
            Was::Absent => remove_file(&self.path),
            Was::Empty if device => wipe_ends(&self.file, &self.path, END_BYTES as u64),
            Was::Empty => self.file.set_len(0).map_err(Error::io("empty", &self.path)),
        }
    }
}

/// Makes sure that a backing is this pool's, complete and large enough; returns the room in it.
pub(super) fn check(spec: &PoolSpec, part: Part, backing: &Backing) -> Result<Bytes> {
    let path = backing.path();
    let file = File::open(path).map_err(Error::io("open", path))?;
    let not_ours = |reason: String| Error::NotOurs {
        path: path.to_owned(),
        role: role(part),
        reason,
    };
    let header = match header::examine(&read_up_to(&file, path, 0, HEADER_BYTES)?) {
        Found::Fvm(header) => header,
        Found::Nothing => return Err(not_ours("it is empty".into())),
        Found::Other(holds) => return Err(not_ours(format!("it holds {holds}"))),
    };
    if header.pool != spec.uuid || !header.serves_as(part) {
        return Err(not_ours(format!(
            "it is the {} of pool {}",
            role(header.part),
            header.pool
        )));
    }
    if part == Part::Data && header.stage != Stage::Ready {
        return Err(not_ours("its making was broken off".into()));
    }
    if header.chunk != spec.chunk {
        return Err(not_ours(format!("its chunks are {}", header.chunk)));
    }
    let has = content_of(block::length(&file, path)?, Bytes::kib(4));
    let needs = match part {
        Part::Data => spec.data_size,
        Part::Pool | Part::Metadata | Part::Spare => Bytes(1),
    };
    if has < needs {
        return Err(Error::TooSmall {
            path: path.to_owned(),
            has,
            needs,
        });
    }
    Ok(has)
}

/// Makes a file's content larger; a part that is large enough is left alone.
pub(super) fn grow(part: Part, backing: &Backing, content: Bytes) -> Result<()> {
    let path = backing.path();
    let has = capacity(backing, Bytes(1))?;
    if has >= content {
        return Ok(());
    }
    let Backing::File { .. } = backing else {
        return Err(Error::TooSmall {
            path: path.to_owned(),
            has,
            needs: content,
        });
    };
    let file = OpenOptions::new()
        .write(true)
        .open(path)
        .map_err(Error::io("open", path))?;
    let old = block::length(&file, path)?;
    let length = (CONTENT_START + content + TAIL).0;
    let grown = match room_for(part) {
        Room::Sparse => file.set_len(length).map_err(Error::io("enlarge", path)),
        Room::Preallocated => allocate(&file, path, old.0, length - old.0),
    }
    .and_then(|()| file.sync_all().map_err(Error::io("sync", path)));
    grown.map_err(|error| {
        let undone = file.set_len(old.0).map_err(Error::io("shorten", path));
        error.then(undone)
    })
}

/// Gives a backing back: a file is removed, a device is wiped at both ends. Nothing to do if it is gone
/// or empty already; refused if it is not the pool's.
pub(super) fn release(spec: &PoolSpec, part: Part, backing: &Backing) -> Result<()> {
    let path = backing.path();
    let opened = match backing {
        Backing::File { .. } => OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(Error::io("open", path)),
        Backing::Device { .. } => open_exclusively(path),
    };
    let file = match opened {
        Ok(file) => file,
        Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let not_ours = |reason: String| Error::NotOurs {
        path: path.to_owned(),
        role: role(part),
        reason,
    };
    match header::examine(&read_up_to(&file, path, 0, HEADER_BYTES)?) {
        Found::Fvm(header) if header.pool == spec.uuid && header.serves_as(part) => match backing {
            Backing::File { .. } => remove_file(path),
            Backing::Device { .. } => wipe_ends(&file, path, END_BYTES as u64),
        },
        Found::Fvm(header) => Err(not_ours(format!("it belongs to pool {}", header.pool))),
        Found::Nothing if matches!(backing, Backing::Device { .. }) => Ok(()),
        Found::Nothing => Err(not_ours("it is empty".into())),
        Found::Other(holds) => Err(not_ours(format!("it holds {holds}"))),
    }
}

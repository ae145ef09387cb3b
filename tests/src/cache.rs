//! Things that are slow to make are made once, and kept under the hash of everything they were made from.
//!
//! An entry is a directory `cache/<kind>-<hash>` that comes into being by a rename, so a half-made one is never seen.
//! One process at a time makes entries of a kind; whoever uses an entry holds a shared lock on its directory, and
//! pruning passes over entries that somebody uses.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest, Sha256};

use crate::paths;
use crate::progress::{self, Step};

/// What an entry is made from; its hash names the entry.
pub(crate) struct Recipe {
    kind: &'static str,
    hash: Sha256,
}

impl Recipe {
    /// Starts the recipe of a kind of entry.
    pub(crate) fn new(kind: &'static str) -> Self {
        Self {
            kind,
            hash: Sha256::new(),
        }
        .with("kind", kind)
    }

    /// Adds an ingredient; lengths go in too, so that no two lists of ingredients look the same.
    pub(crate) fn with(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        for part in [name.as_bytes(), value.as_ref()] {
            self.hash.update((part.len() as u64).to_le_bytes());
            self.hash.update(part);
        }
        self
    }

    /// Adds another entry as an ingredient.
    pub(crate) fn with_entry(self, entry: &Entry) -> Self {
        let name = entry.name();
        self.with("entry", name)
    }

    /// Adds a file's contents as an ingredient.
    pub(crate) fn with_file(self, path: &Path) -> Result<Self> {
        let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        Ok(self.with("file", bytes))
    }

    /// Returns the entry, making it first with `make` when it is not there yet.
    ///
    /// `make` gets an empty directory beside the entry's final place, so that relative paths between entries hold.
    pub(crate) fn entry(self, what: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<Entry> {
        let hash = hex(&self.hash.finalize()[..8]);
        let cache = paths::lab_dir("cache")?;
        let place = cache.join(format!("{}-{hash}", self.kind));
        if let Some(entry) = Entry::open(&place)? {
            return Ok(entry);
        }
        let _lock = lock_kind(self.kind)?;
        if let Some(entry) = Entry::open(&place)? {
            return Ok(entry);
        }
        remove_with_prefix(&cache, &format!(".{}-", self.kind))?;
        let unfinished = cache.join(format!(".{}-{hash}", self.kind));
        fs::create_dir(&unfinished)
            .with_context(|| format!("making directory {}", unfinished.display()))?;
        let step = Step::begin(self.kind, what);
        if let Err(error) = make(&unfinished) {
            let _ = fs::remove_dir_all(&unfinished); // the failure to report is the first one
            return Err(error.context(format!("making the lab's {}", self.kind)));
        }
        fs::rename(&unfinished, &place)
            .with_context(|| format!("moving {} into place", place.display()))?;
        step.done();
        prune(&cache, self.kind, &place)?;
        Entry::open(&place)?.with_context(|| format!("{} vanished", place.display()))
    }
}

/// A finished entry, locked against pruning while this value lives.
#[derive(Debug)]
pub(crate) struct Entry {
    path: PathBuf,
    _in_use: Flock<File>,
}

impl Entry {
    fn open(place: &Path) -> Result<Option<Self>> {
        let directory = match File::open(place) {
            Ok(directory) => directory,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(error).with_context(|| format!("opening {}", place.display()));
            }
        };
        let in_use = Flock::lock(directory, FlockArg::LockShared)
            .map_err(|(_, errno)| errno)
            .with_context(|| format!("locking {}", place.display()))?;
        // It may have been pruned between the opening and the locking.
        Ok(place.exists().then(|| Self {
            path: place.to_path_buf(),
            _in_use: in_use,
        }))
    }

    /// The entry's directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A file in the entry.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The entry's name: its kind and hash.
    pub(crate) fn name(&self) -> String {
        self.path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default()
    }
}

/// How many entries of one kind stay: the current ones (fvm is built in two ways), and those before, for going back and
/// forth between two states of the checkout.
const KEPT_PER_KIND: usize = 4;

fn prune(cache: &Path, kind: &str, newest: &Path) -> Result<()> {
    let mut old: Vec<(SystemTime, PathBuf)> = Vec::new();
    for item in fs::read_dir(cache).context("listing the lab's cache")? {
        let item = item.context("listing the lab's cache")?;
        let name = item.file_name().to_string_lossy().into_owned();
        let of_kind = name
            .rsplit_once('-')
            .is_some_and(|(its_kind, _)| its_kind == kind);
        if of_kind && item.path() != newest {
            let made = item.metadata().and_then(|data| data.modified());
            old.push((made.unwrap_or(SystemTime::UNIX_EPOCH), item.path()));
        }
    }
    old.sort();
    let surplus = (old.len() + 1).saturating_sub(KEPT_PER_KIND);
    for (_, path) in old.into_iter().take(surplus) {
        let Ok(directory) = File::open(&path) else {
            continue;
        };
        // In use: left for a later pruning.
        let Ok(_lock) = Flock::lock(directory, FlockArg::LockExclusiveNonblock) else {
            continue;
        };
        fs::remove_dir_all(&path).with_context(|| format!("removing {}", path.display()))?;
    }
    Ok(())
}

fn remove_with_prefix(directory: &Path, prefix: &str) -> Result<()> {
    for item in fs::read_dir(directory).context("listing the lab's cache")? {
        let item = item.context("listing the lab's cache")?;
        if item.file_name().to_string_lossy().starts_with(prefix) {
            fs::remove_dir_all(item.path())
                .with_context(|| format!("removing {}", item.path().display()))?;
        }
    }
    Ok(())
}

/// Waits for the right to make entries of a kind, telling when another process has it.
fn lock_kind(kind: &str) -> Result<Flock<File>> {
    let path = paths::lab_dir("locks")?.join(kind);
    let file = File::create(&path).with_context(|| format!("making {}", path.display()))?;
    let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => return Ok(lock),
        Err((file, _)) => file,
    };
    progress::say(&format!("[{kind}] being made by another process, waiting"));
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, errno)| errno)
        .with_context(|| format!("locking {}", path.display()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

//! Looking into the metadata of a pool in use, from a snapshot of them: what each volume takes, and whether
//! they are sound.
//!
//! While a snapshot is held, blocks that are given back stay taken, so it is held for as short as can be.

use std::ffi::OsStr;
use std::path::Path;

use crate::error::{Error, Result};
use crate::id::ThinId;
use crate::kernel::dm::Flush;
use crate::tools;
use crate::units::Bytes;

use super::Pool;

/// What a volume takes of its pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VolumeUsage {
    /// Its number inside the pool.
    pub id: ThinId,
    /// Its chunks that are mapped, shared or not.
    pub mapped: Bytes,
    /// Those of them that no other volume has: what deleting it gives back.
    pub exclusive: Bytes,
}

impl VolumeUsage {
    /// Those of its chunks that other volumes have as well.
    pub const fn shared(&self) -> Bytes {
        self.mapped.saturating_sub(self.exclusive)
    }
}

/// What `thin_check` found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Everything fits together.
    Sound,
    /// Something does not.
    Damaged {
        /// The last of what it said.
        says: Vec<String>,
    },
}

/// What was found in the metadata of a pool in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// Whether they are sound.
    pub verdict: Verdict,
    /// The volumes in them by their ids; none are known if the metadata cannot be read.
    pub volumes: Option<Vec<VolumeUsage>>,
}

impl Pool {
    /// What every volume of the pool takes, in the order of their ids.
    ///
    /// Takes as long as reading all mappings does: seconds for each TiB that is mapped.
    ///
    /// # Errors
    /// [`Error::Unwell`] if the pool's metadata cannot be written, [`Error::NoTool`] without
    /// thin-provisioning-tools; otherwise as [`Pool::metadata_snapshot`].
    pub fn usage(&self) -> Result<Vec<VolumeUsage>> {
        self.with_metadata_snapshot(|node| list(node, self.spec.chunk, Which::Snapshot))
    }

    /// Checks the metadata of the pool while it is in use.
    ///
    /// # Errors
    /// As [`Pool::usage`].
    pub fn inspect(&self) -> Result<Inspection> {
        self.with_metadata_snapshot(|node| {
            let verdict = check(node, Which::Snapshot)?;
            let volumes = match verdict {
                Verdict::Sound => Some(list(node, self.spec.chunk, Which::Snapshot)?),
                Verdict::Damaged { .. } => None,
            };
            Ok(Inspection { verdict, volumes })
        })
    }

    /// Lets `look` have the node of the metadata while a snapshot of them is held.
    fn with_metadata_snapshot<T>(&self, look: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
        let status = self.status(Flush::None)?;
        if !status.takes_metadata() {
            return Err(self.unwell(status.health()));
        }
        let snapshot = self.metadata_snapshot()?;
        let looked = look(snapshot.device());
        let released = snapshot.release();
        match looked {
            Ok(found) => released.map(|()| found),
            Err(error) => Err(error.then(released)),
        }
    }
}

/// Which metadata on a node are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// The live ones, of a pool that is down.
    Whole,
    /// The snapshot, of a pool in use.
    Snapshot,
}

impl Which {
    /// A tool's arguments for this: the node comes first, because `-m` may take a number in some versions.
    fn arguments(self, node: &Path) -> Vec<&OsStr> {
        let mut arguments = vec![node.as_os_str()];
        if self == Self::Snapshot {
            arguments.push("-m".as_ref());
        }
        arguments
    }
}

/// Runs `thin_check` on a node.
pub(super) fn check(node: &Path, which: Which) -> Result<Verdict> {
    let ran = tools::run("thin_check", &which.arguments(node))?;
    Ok(if ran.success {
        Verdict::Sound
    } else {
        let mut says = ran.says;
        // Version 0.9 says what it found where its results go.
        if says.is_empty() {
            says.extend(ran.output.lines().map(|line| line.trim().to_owned()));
        }
        Verdict::Damaged { says }
    })
}

/// Runs `thin_ls` on a node.
pub(super) fn list(node: &Path, chunk: Bytes, which: Which) -> Result<Vec<VolumeUsage>> {
    let mut arguments = which.arguments(node);
    let columns = "DEV,MAPPED_BLOCKS,EXCLUSIVE_BLOCKS";
    arguments.extend(["--no-headers", "--format", columns].map(OsStr::new));
    let text = tools::must("thin_ls", &arguments, node)?;
    parse_list(&text, chunk).ok_or_else(|| Error::Unreadable {
        what: "list of volumes",
        device: node.display().to_string(),
        text: text.chars().take(200).collect(),
    })
}

/// Reads what `thin_ls` prints: id, mapped and exclusive chunks, a line for each volume.
fn parse_list(text: &str, chunk: Bytes) -> Option<Vec<VolumeUsage>> {
    let mut volumes = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| parse_line(line, chunk))
        .collect::<Option<Vec<_>>>()?;
    volumes.sort_by_key(|volume| volume.id);
    volumes.is_sorted_by(|a, b| a.id < b.id).then_some(volumes)
}

fn parse_line(line: &str, chunk: Bytes) -> Option<VolumeUsage> {
    let mut words = line.split_ascii_whitespace();
    let mut number = || words.next()?.parse::<u64>().ok();
    let id = ThinId::try_from(number()?).ok()?;
    let mut bytes = || number()?.checked_mul(chunk.0).map(Bytes);
    let (mapped, exclusive) = (bytes()?, bytes()?);
    (words.next().is_none() && exclusive <= mapped).then_some(VolumeUsage {
        id,
        mapped,
        exclusive,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK: Bytes = Bytes::kib(64);

    #[test]
    fn a_list_is_read_whatever_its_columns_widths() {
        let volumes = parse_list("  2   16    4 \n10 300 0\n\n", CHUNK).unwrap();
        let found: Vec<_> = volumes
            .iter()
            .map(|volume| (volume.id.get(), volume.mapped, volume.shared()))
            .collect();
        assert_eq!(
            found,
            [
                (2, Bytes::mib(1), Bytes::kib(768)),
                (10, Bytes::kib(300 * 64), Bytes::kib(300 * 64))
            ]
        );
        assert_eq!(parse_list("", CHUNK), Some(vec![]));
    }

    #[test]
    fn what_is_no_list_is_not_read_as_one() {
        for text in [
            "DEV MAPPED EXCLUSIVE",
            "1 2",
            "1 2 3",
            "1 2 2 2",
            "1 2 2\n1 3 3",
            "16777216 1 1",
            "-1 2 2",
            "1 18446744073709551615 0",
        ] {
            assert_eq!(parse_list(text, CHUNK), None, "{text:?}");
        }
    }
}

//! The metadata of a pool that is down: checked, cleared of their flag, repaired to the spare.
//!
//! The backings begin with fvm's header, so the tools are given the parts' own device-mapper nodes, brought up
//! without the pool and taken down again. Which of the two backings is the metadata is the caller's knowledge:
//! a repair leaves both in place, and the caller then has them change places in its store.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::device::{self, Outcome};
use crate::error::{Error, Result};
use crate::id::TransactionId;
use crate::kernel::dm::Dm;
use crate::names::Part;
use crate::tools;

use super::activate::{Activation, devices_of, take_down};
use super::superblock::Superblock;
use super::usage::{Verdict, VolumeUsage, Which, check, list};
use super::{Backing, Pool, PoolSpec, backing};

/// Bytes of the first block that are read: one of the kernel's metadata blocks.
const BLOCK_BYTES: usize = 4096;

/// The metadata of a pool that is down, while they can be worked on.
#[derive(Debug)]
pub struct IdleMetadata<'a> {
    spec: &'a PoolSpec,
    metadata: PathBuf,
    spare: PathBuf,
}

/// What a repair has saved, in the spare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repaired {
    /// The transaction id that it holds.
    pub transaction: TransactionId,
    /// The volumes that it holds.
    pub volumes: Vec<VolumeUsage>,
    /// Whether that is everything: every mapping could still be read before, and there are as many now.
    /// Otherwise the tool has pieced together what it found, which may be an older state of the volumes.
    pub whole: bool,
}

impl Pool {
    /// Lets `work` have the metadata of a pool that is down. Metadata and spare are active meanwhile, the
    /// pool is not, and nothing is afterwards.
    ///
    /// # Errors
    /// [`Error::Busy`] if the pool is up; otherwise what failed.
    pub fn with_idle_metadata<T>(
        spec: &PoolSpec,
        work: impl FnOnce(&IdleMetadata<'_>) -> Result<T>,
    ) -> Result<T> {
        spec.validate()?;
        let dm = Dm::open()?;
        let pool = spec.identity(Part::Pool);
        if let Some(found) = dm.find(&pool)? {
            return Err(Error::Busy {
                device: pool.name(),
                open_count: found.open_count,
            });
        }
        let mut activation = Activation::new(&dm, spec);
        let worked = activation
            .parts_of_metadata()
            .and_then(|(metadata, spare)| {
                work(&IdleMetadata {
                    spec,
                    metadata: device::node(metadata),
                    spare: device::node(spare),
                })
            });
        // Those that an earlier process left go as well, so not only what was made here.
        let left = devices_of(&dm, spec).and_then(|devices| {
            let parts = [Part::Metadata, Part::Spare];
            let there = parts.into_iter().filter(|part| {
                let identity = spec.identity(*part);
                devices.iter().any(|found| found.identity == identity)
            });
            take_down(&dm, spec, there.collect())
        });
        match worked {
            Ok(value) => left.map(|()| value),
            Err(error) => Err(error.then(left)),
        }
    }
}

impl IdleMetadata<'_> {
    /// Whether the metadata are sound.
    ///
    /// # Errors
    /// [`Error::NoTool`] without thin-provisioning-tools.
    pub fn check(&self) -> Result<Verdict> {
        check(&self.metadata, Which::Whole)
    }

    /// Whether the kernel wants them checked; nobody knows if their first block cannot be read.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn needs_check(&self) -> Result<Option<bool>> {
        Ok(superblock(&self.metadata)?.map(|block| block.needs_check))
    }

    /// The transaction id that they hold; nobody knows if their first block cannot be read.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn transaction(&self) -> Result<Option<TransactionId>> {
        Ok(superblock(&self.metadata)?.map(|block| block.transaction))
    }

    /// Takes the kernel's wish for a check back, which checks them once more and refuses if they are not sound.
    ///
    /// # Errors
    /// [`Error::Tool`] if they are not sound.
    pub fn clear_needs_check(&self) -> Result<()> {
        let flag: &OsStr = "--clear-needs-check-flag".as_ref();
        tools::must(
            "thin_check",
            &[flag, self.metadata.as_os_str()],
            &self.metadata,
        )
        .map(drop)
    }

    /// Writes what can be saved of the metadata to the spare, and checks that. The metadata stay as they are.
    ///
    /// `transaction` is what the store says; it is taken only where the metadata do not say it themselves.
    ///
    /// # Errors
    /// [`Error::Tool`] if nothing usable can be saved.
    pub fn repair_to_spare(&self, transaction: TransactionId) -> Result<Repaired> {
        let readable = list(&self.metadata, self.spec.chunk, Which::Whole).ok();
        let plain = tools::must("thin_repair", &self.repair_arguments(), &self.metadata);
        if plain.is_err() {
            // Without a first block, the tool has to be told what only that says.
            let mut arguments = self.repair_arguments();
            let chunks = self.spec.data_size.0 / self.spec.chunk.0;
            for (name, value) in [
                ("--transaction-id", transaction.0),
                ("--data-block-size", self.spec.chunk.sectors().0),
                ("--nr-data-blocks", chunks),
            ] {
                arguments.push(name.into());
                arguments.push(value.to_string().into());
            }
            tools::must("thin_repair", &arguments, &self.metadata)?;
        }
        if let Verdict::Damaged { says } = check(&self.spare, Which::Whole)? {
            return Err(Error::Tool {
                program: "thin_repair",
                device: self.metadata.clone(),
                says: format!("its result is damaged: {}", says.join("; ")),
            });
        }
        let block = superblock(&self.spare)?.ok_or_else(|| Error::Unreadable {
            what: "first block",
            device: self.spare.display().to_string(),
            text: String::new(),
        })?;
        let volumes = list(&self.spare, self.spec.chunk, Which::Whole)?;
        Ok(Repaired {
            transaction: block.transaction,
            whole: readable.is_some_and(|before| before == volumes),
            volumes,
        })
    }

    fn repair_arguments(&self) -> Vec<OsString> {
        vec![
            "-i".into(),
            self.metadata.clone().into(),
            "-o".into(),
            self.spare.clone().into(),
        ]
    }
}

impl Activation<'_> {
    /// Brings metadata and spare up without the pool.
    fn parts_of_metadata(&mut self) -> Result<(crate::DeviceNumber, crate::DeviceNumber)> {
        let spec = self.spec;
        let mut up = |part: Part, under: &Backing| -> Result<_> {
            let room = backing::check(spec, part, under)?;
            Ok(self.part(part, under, room)?.number)
        };
        Ok((
            up(Part::Metadata, &spec.metadata)?,
            up(Part::Spare, &spec.spare)?,
        ))
    }
}

/// Takes a spare away that a killed repair has left active; it is in nobody's way for long.
pub(super) fn drop_stray_spare(dm: &Dm, spec: &PoolSpec) {
    match device::remove(dm, &spec.identity(Part::Spare)) {
        Ok(Outcome::Unchanged) => {}
        Ok(Outcome::Changed) => tracing::warn!(pool = %spec.name, "took an idle spare down"),
        Err(error) => tracing::warn!(pool = %spec.name, %error, "cannot take an idle spare down"),
    }
}

fn superblock(node: &Path) -> Result<Option<Superblock>> {
    let mut bytes = vec![0; BLOCK_BYTES];
    File::open(node)
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(Error::io("read", node))?;
    Ok(Superblock::parse(&bytes))
}

//! Making a pool's backings, and giving them back.

use crate::error::{Error, Result};
use crate::names::Part;
use crate::units::Bytes;

use super::header::Stage;
use super::{Backing, Pool, PoolSpec, backing};

impl PoolSpec {
    /// The backings, and how much content each has at least.
    fn backings(&self) -> [(Part, &Backing, Bytes); 3] {
        let metadata = self.metadata_size();
        [
            (Part::Data, &self.data, self.data_size),
            (Part::Metadata, &self.metadata, metadata),
            (Part::Spare, &self.spare, metadata),
        ]
    }
}

impl Pool {
    /// Makes the files, or takes the devices, of a new pool. Nothing is active afterwards.
    ///
    /// Files are made with mode 0600: data sparse, metadata and spare with all their space. The pool is
    /// complete once this returns; a call broken off by a crash may be repeated.
    ///
    /// # Errors
    /// [`Error::Occupied`] if a file or device holds anything, [`Error::AlreadyFormatted`] if it is this
    /// very pool, complete; otherwise what failed. What the call made is gone then.
    pub fn format(spec: &PoolSpec) -> Result<()> {
        spec.validate()?;
        let mut taken = Vec::new();
        let mut failure = None;
        for (part, backing, content) in spec.backings() {
            match backing::take(spec, part, backing, content) {
                Ok(one) => taken.push(one),
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        // The data come first in the list and are marked last: from then on it is a pool.
        if failure.is_none() {
            failure = taken
                .iter()
                .rev()
                .try_for_each(|one| one.mark(Stage::Ready))
                .err();
        }
        let Some(error) = failure else {
            return Ok(());
        };
        let failures = taken
            .into_iter()
            .rev()
            .filter_map(|one| one.give_back().err())
            .collect();
        Err(error.then(Error::all(failures)))
    }

    /// Takes a pool down and gives its backings back: files are removed, devices wiped at both ends.
    ///
    /// What is gone already is passed over, so a call that was broken off may be repeated.
    ///
    /// # Errors
    /// [`Error::Busy`] while a volume is active, before anything is touched. Later failures, such as
    /// [`Error::NotOurs`] for a file that is not the pool's, do not stop it; all are returned.
    pub fn destroy(spec: &PoolSpec) -> Result<()> {
        Self::deactivate(spec)?;
        // The data go last: as long as their header is there, it can be seen whose the rest is.
        let failures = spec
            .backings()
            .into_iter()
            .rev()
            .filter_map(|(part, backing, _)| backing::release(spec, part, backing).err())
            .collect();
        Error::all(failures)
    }
}

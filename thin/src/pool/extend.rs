//! Making a pool larger, in two steps with the caller's store between them.

use crate::error::{Error, Result};
use crate::kernel::loopdev::Loop;
use crate::names::Part;
use crate::units::Bytes;

use super::activate::linear_of;
use super::spec::{METADATA_BLOCK, METADATA_MAX};
use super::{Backing, Pool, PoolSpec, backing};

impl Pool {
    /// Makes the files large enough for a pool of this size: data, and where it needs more, metadata and
    /// spare. The pool itself does not change yet.
    ///
    /// Next the caller notes the new size in its store and calls [`Pool::activate`] with it, which reloads
    /// what is shorter; after a crash between, either size can be activated.
    ///
    /// # Errors
    /// [`Error::TooSmall`] if a device has no more room; otherwise what failed. A file that was made larger
    /// before stays so, which does no harm, and the call may be repeated.
    pub fn grow_backings(&self, data_size: Bytes) -> Result<()> {
        let wanted = PoolSpec {
            data_size,
            ..self.spec.clone()
        };
        wanted.validate()?;
        if data_size < self.spec.data_size {
            return Err(Error::Invalid {
                what: "a pool size",
                value: data_size,
                rule: format!("is less than the pool's {}", self.spec.data_size),
            });
        }
        // Metadata first: data without room to note them are of no use.
        self.grow_metadata(wanted.metadata_size())?;
        self.grow_part(Part::Data, &self.spec.data, data_size)
    }

    /// Makes metadata and spare at least so large, or as large as a device under them has become. The pool
    /// itself does not change before the next [`Pool::activate`].
    ///
    /// # Errors
    /// As [`Pool::grow_backings`].
    pub fn grow_metadata(&self, size: Bytes) -> Result<()> {
        let size = size.min(METADATA_MAX);
        // What the spare cannot hold could not be repaired, and this fails before the metadata are larger.
        let room = backing::capacity(&self.spec.metadata, METADATA_BLOCK)?.min(METADATA_MAX);
        self.grow_part(Part::Spare, &self.spec.spare, size.max(room))?;
        self.grow_part(Part::Metadata, &self.spec.metadata, size)
    }

    fn grow_part(&self, part: Part, under: &Backing, content: Bytes) -> Result<()> {
        backing::grow(part, under, content)?;
        self.refresh_loop(part, under)
    }

    fn refresh_loop(&self, part: Part, under: &Backing) -> Result<()> {
        if let Backing::File { path } = under
            && let Some(linear) = linear_of(&self.dm, &self.spec, part)?
            && let Some(found) = Loop::of(linear.device, path)?
        {
            found.refresh_size()?;
        }
        Ok(())
    }
}

//! Holding origins still while snapshots of them are taken.

use crate::claim::Claim;
use crate::device;
use crate::error::{Error, Result};
use crate::id::ThinId;
use crate::kernel::dm::{Dm, Suspend};
use crate::names::{self, Identity};

use super::{Message, Pool};

/// The origins of a batch: those that were running are suspended, and none can be activated, resumed or
/// taken away by another thread until [`Origins::resume`].
#[derive(Debug)]
pub(super) struct Origins<'a> {
    dm: &'a Dm,
    claims: Vec<Claim>,
    suspended: Vec<Identity>,
}

impl<'a> Origins<'a> {
    /// Suspends every active origin of these messages; none, if one cannot be.
    pub(super) fn suspend(pool: &'a Pool, messages: &[Message]) -> Result<Self> {
        let mut origins = Self {
            dm: &pool.dm,
            claims: Vec::new(),
            suspended: Vec::new(),
        };
        match origins.suspend_all(pool, messages) {
            Ok(()) => Ok(origins),
            Err(error) => Err(error.then(origins.resume())),
        }
    }

    fn suspend_all(&mut self, pool: &Pool, messages: &[Message]) -> Result<()> {
        let mut ids: Vec<ThinId> = messages
            .iter()
            .filter_map(|message| match message {
                Message::CreateSnap { origin, .. } => Some(*origin),
                Message::CreateThin { .. } | Message::Delete { .. } => None,
            })
            .collect();
        ids.sort_unstable();
        ids.dedup();
        for id in ids {
            let name = names::volume_name(&pool.spec.name, id);
            self.claims.push(Claim::of(&name));
            let Some(found) = self.dm.find_name(&name)? else {
                continue;
            };
            let Some(identity) = Identity::parse(&found.name, &found.uuid)
                .filter(|identity| identity.pool_uuid == pool.spec.uuid)
            else {
                return Err(Error::NameTaken {
                    device: name,
                    found: found.uuid,
                });
            };
            let found = device::active(identity, &found);
            if found.has_table && !found.suspended {
                self.dm.suspend(&found.identity, Suspend::Consistent)?;
                self.suspended.push(found.identity);
            }
        }
        Ok(())
    }

    /// Resumes what was suspended, past failures.
    pub(super) fn resume(self) -> Result<()> {
        let failures = self
            .suspended
            .iter()
            .filter_map(|origin| self.dm.resume(origin).err())
            .collect();
        drop(self.claims);
        Error::all(failures)
    }
}

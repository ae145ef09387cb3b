//! Volumes: activating, opening, resizing, discarding, deactivating, listing.
//!
//! An active volume is a device; whether one is active is never recorded, only looked up. What a volume
//! holds, and that it exists, is the pool's and the store's matter ([`Pool::commit`]).

use std::fs::File;
use std::io;
use std::path::PathBuf;

use uuid::Uuid;

use crate::device::{self, ActiveDevice, Outcome};
use crate::error::{Error, Result};
use crate::id::ThinId;
use crate::kernel::block::{self, Access};
use crate::kernel::{DeviceNumber, ioctl};
use crate::names::{Identity, Kind, Part};
use crate::pool::Pool;
use crate::table::Thin;
use crate::units::{Bytes, SECTOR_BYTES};

/// One discard of the kernel's: it cannot be interrupted, and a whole disk at once would take long.
const DISCARD_SLICE: Bytes = Bytes::gib(1);

/// A volume as the store knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VolumeSpec {
    /// Its number inside the pool.
    pub id: ThinId,
    /// Its identity in the store.
    pub uuid: Uuid,
    /// Its length: whole sectors of 512 bytes. On a disk with blocks of 4 KiB the rest of the last one cannot
    /// be reached.
    pub size: Bytes,
}

/// An active volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    identity: Identity,
    number: DeviceNumber,
    size: Bytes,
    access: Access,
    outcome: Outcome,
}

impl Volume {
    /// The device-mapper name.
    pub fn name(&self) -> String {
        self.identity.name()
    }

    /// The device's number.
    pub fn number(&self) -> DeviceNumber {
        self.number
    }

    /// Its node, `/dev/dm-<minor>`, made by the kernel itself.
    pub fn path(&self) -> PathBuf {
        device::node(self.number)
    }

    /// Its length.
    pub fn size(&self) -> Bytes {
        self.size
    }

    /// Whether the device can be written.
    pub fn access(&self) -> Access {
        self.access
    }

    /// Whether activating it changed anything.
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// Opens it with `O_DIRECT`, for this process or to be handed to another.
    ///
    /// # Errors
    /// [`Error::Io`]: `EROFS` for writing to one that was activated for reading; `NotFound` if
    /// it was deactivated meanwhile, also when another device has its node by now.
    pub fn open(&self, access: Access) -> Result<File> {
        // The kernel would let it be opened, and fail each write.
        if access == Access::ReadWrite && self.access == Access::ReadOnly {
            let error = io::Error::from_raw_os_error(libc::EROFS);
            return Err(Error::io("open for writing", self.path())(error));
        }
        block::open_mapped(&self.path(), self.number, &self.identity.uuid(), access)
    }

    /// Gives all of its blocks back to the pool, except those that it shares with other volumes.
    ///
    /// # Errors
    /// [`Error::Io`]. A call that was broken off may be repeated.
    pub fn discard(&self) -> Result<()> {
        self.discard_range(Bytes(0), self.size)
    }

    /// The same for a part of it: chunks that lie in it as a whole.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn discard_range(&self, offset: Bytes, length: Bytes) -> Result<()> {
        let file = self.open(Access::ReadWrite)?;
        let end = offset.0.saturating_add(length.0).min(self.size.0);
        let mut at = offset.0;
        while at < end {
            // Slices end on their own multiples, so that none cuts a chunk in two.
            let next = (at - at % DISCARD_SLICE.0)
                .saturating_add(DISCARD_SLICE.0)
                .min(end);
            ioctl::discard(&file, at, next - at)
                .map_err(Error::io("discard blocks of", self.path()))?;
            at = next;
        }
        Ok(())
    }
}

/// What of a volume is mapped to blocks of the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapped {
    /// How many bytes, in whole chunks, those shared with other volumes included.
    pub bytes: Bytes,
    /// The end of the last mapped chunk; zero if there is none.
    pub end: Bytes,
}

impl Mapped {
    /// Reads a thin device's status: `<mapped sectors> <highest mapped sector>`, or `-` for the latter
    /// where nothing is mapped (`drivers/md/dm-thin.c`, `thin_status`).
    pub(crate) fn parse(params: &str) -> Option<Self> {
        let (mapped, highest) = params.split_once(' ')?;
        let bytes = |sectors: u64| sectors.checked_mul(SECTOR_BYTES).map(Bytes);
        let end = match highest {
            "-" => 0,
            number => number.parse::<u64>().ok()?.checked_add(1)?,
        };
        Some(Self {
            bytes: bytes(mapped.parse().ok()?)?,
            end: bytes(end)?,
        })
    }
}

impl Pool {
    fn volume_identity(&self, id: ThinId, uuid: Uuid) -> Identity {
        Identity {
            pool: self.spec.name.clone(),
            pool_uuid: self.spec.uuid,
            kind: Kind::Volume { id, uuid },
        }
    }

    /// Activates a volume, or adopts it if it is active: longer or with other access if the spec says so.
    ///
    /// # Errors
    /// [`Error::NotActive`] if the pool is not, [`Error::OtherTable`] if the active one is longer,
    /// [`Error::DeviceMapper`] with `ENODATA` if the pool has no such volume.
    pub fn activate_volume(&self, spec: &VolumeSpec, access: Access) -> Result<Volume> {
        self.ensure_volume(spec, access, |old, new| old.length <= new.length)
    }

    /// Changes an active volume's length to the spec's; I/O waits meanwhile.
    ///
    /// When shrinking, the tail has to be discarded before: its blocks stay allocated otherwise and show
    /// again if the volume grows.
    ///
    /// # Errors
    /// [`Error::NotActive`] if the volume is not.
    pub fn resize_volume(&self, spec: &VolumeSpec) -> Result<Volume> {
        let identity = self.volume_identity(spec.id, spec.uuid);
        let Some(found) = self.dm.find(&identity)? else {
            return Err(Error::NotActive {
                device: identity.name(),
            });
        };
        let access = if found.is_read_only() {
            Access::ReadOnly
        } else {
            Access::ReadWrite
        };
        self.ensure_volume(spec, access, |_, _| true)
    }

    fn ensure_volume(
        &self,
        spec: &VolumeSpec,
        access: Access,
        may_replace: impl FnOnce(&Thin, &Thin) -> bool,
    ) -> Result<Volume> {
        if spec.size == Bytes(0) || !spec.size.is_multiple_of(Bytes(SECTOR_BYTES)) {
            return Err(Error::Invalid {
                what: "a volume size",
                value: spec.size,
                rule: format!("is not a whole number of sectors of {SECTOR_BYTES} bytes"),
            });
        }
        let identity = self.volume_identity(spec.id, spec.uuid);
        let wanted = Thin {
            length: spec.size.sectors(),
            pool: self.number()?,
            id: spec.id,
        };
        let ensured = device::ensure(
            &self.dm,
            &identity,
            &wanted.line(),
            access == Access::ReadOnly,
            |line| {
                Thin::parse(line).is_some_and(|old| {
                    old.pool == wanted.pool && old.id == wanted.id && may_replace(&old, &wanted)
                })
            },
        )?;
        Ok(Volume {
            identity,
            number: ensured.number,
            size: spec.size,
            access,
            outcome: ensured.outcome,
        })
    }

    /// Takes a volume's device away. Nothing to do if it is not active.
    ///
    /// # Errors
    /// [`Error::Busy`] while somebody holds it open.
    pub fn deactivate_volume(&self, id: ThinId, uuid: Uuid) -> Result<Outcome> {
        device::remove(&self.dm, &self.volume_identity(id, uuid))
    }

    /// The active volumes of this pool, in the order of their ids.
    ///
    /// # Errors
    /// When device-mapper cannot be used.
    pub fn volumes(&self) -> Result<Vec<ActiveDevice>> {
        let mut devices = self.devices()?;
        devices.retain(|found| matches!(found.identity.kind, Kind::Volume { .. }));
        Ok(devices)
    }

    /// What of an active volume is mapped.
    ///
    /// # Errors
    /// [`Error::NotActive`], or [`Error::Unreadable`] if the pool failed.
    pub fn mapped(&self, id: ThinId, uuid: Uuid) -> Result<Mapped> {
        let identity = self.volume_identity(id, uuid);
        let line = match self.dm.status(&identity, crate::Flush::None) {
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => None,
            other => other?,
        };
        let line = line.ok_or_else(|| Error::NotActive {
            device: identity.name(),
        })?;
        Mapped::parse(&line.params).ok_or_else(|| Error::Unreadable {
            what: "status",
            device: identity.name(),
            text: line.params.clone(),
        })
    }

    /// Gives an active volume's blocks back to the pool, as [`Volume::discard`] does, without going over
    /// what lies behind the last of them: a disk of many TiB that holds little takes no longer than a small
    /// one.
    ///
    /// # Errors
    /// As [`Pool::mapped`] and [`Volume::discard`].
    pub fn discard_mapped(&self, spec: &VolumeSpec, volume: &Volume) -> Result<()> {
        volume.discard_range(Bytes(0), self.mapped(spec.id, spec.uuid)?.end)
    }

    fn number(&self) -> Result<DeviceNumber> {
        let identity = self.spec.identity(Part::Pool);
        match self.dm.find(&identity)? {
            Some(found) => Ok(found.number),
            None => Err(Error::NotActive {
                device: identity.name(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_tells_what_is_mapped_and_where_it_ends() {
        let mapped = |bytes, end| {
            Some(Mapped {
                bytes: Bytes(bytes),
                end: Bytes(end),
            })
        };
        assert_eq!(Mapped::parse("0 -"), mapped(0, 0));
        assert_eq!(Mapped::parse("256 1023"), mapped(131_072, 524_288));
        for wrong in [
            "",
            "Fail",
            "Error",
            "1",
            "1 x",
            "-1 5",
            "99999999999999999999 1",
        ] {
            assert_eq!(Mapped::parse(wrong), None, "{wrong:?}");
        }
    }
}

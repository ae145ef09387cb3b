//! Bringing a pool up and down.

use tracing::{info, warn};

use crate::device::{self, Ensured, Outcome};
use crate::error::{Error, Result};
use crate::kernel::dm::TableLine;
use crate::kernel::dm::{Dm, Suspend};
use crate::kernel::loopdev::{Loop, LoopState};
use crate::kernel::{DeviceNumber, block};
use crate::names::{Kind, Part};
use crate::table::{Linear, ThinPool};
use crate::units::Bytes;

use super::header::CONTENT_START;
use super::{Backing, Pool, PoolSpec, backing, held_root};

/// Bringing up one pool: what was made so far, to be taken away if the rest fails.
pub(super) struct Activation<'a> {
    dm: &'a Dm,
    pub(super) spec: &'a PoolSpec,
    made: Vec<Part>,
}

impl Pool {
    /// Brings a pool up, or adopts it if it is up: loop devices, parts, and the pool itself.
    ///
    /// May be called at any time, on whatever a crash left. A pool or part that is shorter than the spec
    /// says is reloaded at the spec's length, and a volume that was left suspended is resumed. Where direct
    /// I/O was not to be had, a warning is logged; [`Pool::loops`] tells.
    ///
    /// # Errors
    /// [`Error::NotOurs`] or [`Error::TooSmall`] if a backing is not what the spec says,
    /// [`Error::OtherTable`] or [`Error::NameTaken`] if the kernel has another pool under this name. What
    /// the call made is gone then.
    pub fn activate(spec: PoolSpec) -> Result<Self> {
        spec.validate()?;
        let dm = Dm::open()?;
        super::idle::drop_stray_spare(&dm, &spec);
        let mut activation = Activation::new(&dm, &spec);
        match activation.run() {
            Ok(Outcome::Changed) => info!(pool = %spec.name, "pool activated"),
            Ok(Outcome::Unchanged) => info!(pool = %spec.name, "pool was active already"),
            Err(error) => {
                let made = activation.made;
                return Err(error.then(take_down(&dm, &spec, made)));
            }
        }
        let pool = Self { dm, spec };
        device::resume_volumes(&pool.dm, &pool.devices()?)?;
        Ok(pool)
    }

    /// Takes a pool down; its loop devices go with it. Nothing to do if it is not up.
    ///
    /// # Errors
    /// [`Error::Busy`] while a volume is active, before anything is touched. Later failures do not stop
    /// it; all are returned.
    pub fn deactivate(spec: &PoolSpec) -> Result<Outcome> {
        let dm = Dm::open()?;
        let devices = devices_of(&dm, spec)?;
        if let Some(volume) = devices
            .iter()
            .find(|device| matches!(device.identity.kind, Kind::Volume { .. }))
        {
            return Err(Error::Busy {
                device: spec.identity(Part::Pool).name(),
                open_count: volume.open_count.max(1),
            });
        }
        let mut parts: Vec<Part> = devices
            .iter()
            .filter_map(|device| match device.identity.kind {
                Kind::Part(part) => Some(part),
                Kind::Volume { .. } => None,
            })
            .collect();
        if parts.is_empty() {
            return Ok(Outcome::Unchanged);
        }
        // In the order of their making: the pool lies on the others.
        parts.sort_by_key(|part| *part == Part::Pool);
        take_down(&dm, spec, parts)?;
        Ok(Outcome::Changed)
    }

    /// Takes a pool down with its volumes, as far as nobody uses them.
    ///
    /// # Errors
    /// [`Error::Busy`] while a volume is open, before anything is touched. Otherwise as [`Pool::deactivate`].
    pub fn shut_down(spec: &PoolSpec) -> Result<Outcome> {
        let dm = Dm::open()?;
        let mut volumes = devices_of(&dm, spec)?;
        volumes.retain(|device| matches!(device.identity.kind, Kind::Volume { .. }));
        if let Some(used) = volumes.iter().find(|volume| volume.open_count > 0) {
            return Err(Error::Busy {
                device: used.identity.name(),
                open_count: used.open_count,
            });
        }
        for volume in volumes {
            device::remove(&dm, &volume.identity)?;
        }
        Self::deactivate(spec)
    }

    /// The loop devices under the pool as the kernel reports them, none where it lies on block devices.
    ///
    /// # Errors
    /// When a part is not active or its loop device cannot be examined.
    pub fn loops(&self) -> Result<Vec<LoopState>> {
        let mut states = Vec::new();
        for (part, backing) in parts(&self.spec) {
            if let Backing::File { path } = backing {
                let identity = self.spec.identity(part);
                let under = linear_of(&self.dm, &self.spec, part)?.ok_or(Error::NotActive {
                    device: identity.name(),
                })?;
                if let Some(found) = Loop::of(under.device, path)? {
                    states.push(found.state()?);
                }
            }
        }
        Ok(states)
    }

    /// All devices of this pool.
    pub(crate) fn devices(&self) -> Result<Vec<device::ActiveDevice>> {
        devices_of(&self.dm, &self.spec)
    }
}

pub(super) fn devices_of(dm: &Dm, spec: &PoolSpec) -> Result<Vec<device::ActiveDevice>> {
    let mut devices = device::list(dm)?;
    devices
        .retain(|found| found.identity.pool == spec.name && found.identity.pool_uuid == spec.uuid);
    Ok(devices)
}

fn parts(spec: &PoolSpec) -> [(Part, &Backing); 2] {
    [(Part::Data, &spec.data), (Part::Metadata, &spec.metadata)]
}

/// The live table of a part, if it has one.
pub(super) fn linear_of(dm: &Dm, spec: &PoolSpec, part: Part) -> Result<Option<Linear>> {
    let identity = spec.identity(part);
    if dm.find(&identity)?.is_none() {
        return Ok(None);
    }
    Ok(dm.table(&identity)?.as_ref().and_then(Linear::parse))
}

/// Removes parts, the last one first, past failures.
pub(super) fn take_down(dm: &Dm, spec: &PoolSpec, made: Vec<Part>) -> Result<()> {
    let failures = made
        .into_iter()
        .rev()
        .filter_map(|part| device::remove(dm, &spec.identity(part)).err())
        .collect();
    Error::all(failures)
}

impl<'a> Activation<'a> {
    pub(super) fn new(dm: &'a Dm, spec: &'a PoolSpec) -> Self {
        Self {
            dm,
            spec,
            made: Vec::new(),
        }
    }

    fn run(&mut self) -> Result<Outcome> {
        let data_room = backing::check(self.spec, Part::Data, &self.spec.data)?;
        let metadata_room = backing::check(self.spec, Part::Metadata, &self.spec.metadata)?;
        let data = self.part(
            Part::Data,
            &self.spec.data,
            self.spec.data_size.min(data_room),
        )?;
        let metadata = self.part(Part::Metadata, &self.spec.metadata, metadata_room)?;
        if self.dm.find(&self.spec.identity(Part::Pool))?.is_none()
            && held_root::drop_uncounted(&device::node(metadata.number))?
        {
            warn!(pool = %self.spec.name, "dropped a metadata snapshot that a power cut left half-made");
        }
        let parts_changed = [&data, &metadata]
            .iter()
            .any(|part| part.outcome == Outcome::Changed);
        let pool = self.pool(data.number, metadata.number)?;
        // A live pool looks at the sizes of its parts when it is resumed.
        if parts_changed && pool.outcome == Outcome::Unchanged {
            let identity = self.spec.identity(Part::Pool);
            self.dm.suspend(&identity, Suspend::Quick)?;
            self.dm.resume(&identity)?;
        }
        Ok(if parts_changed {
            Outcome::Changed
        } else {
            pool.outcome
        })
    }

    fn note(&mut self, part: Part, ensured: Ensured) -> Ensured {
        if ensured.made {
            self.made.push(part);
        }
        ensured
    }

    pub(super) fn part(
        &mut self,
        part: Part,
        backing: &Backing,
        content: Bytes,
    ) -> Result<Ensured> {
        // Held open until the device on top holds it: autoclear drops it with its last user.
        let (device, held) = self.block_device(part, backing, content)?;
        let wanted = Linear {
            length: content.sectors(),
            device,
            start: CONTENT_START.sectors(),
        };
        let ensured = device::ensure(
            self.dm,
            &self.spec.identity(part),
            &wanted.line(),
            false,
            |line| {
                Linear::parse(line).is_some_and(|old| {
                    old.device == wanted.device
                        && old.start == wanted.start
                        && old.length < wanted.length
                })
            },
        )?;
        drop(held);
        Ok(self.note(part, ensured))
    }

    fn block_device(
        &self,
        part: Part,
        backing: &Backing,
        content: Bytes,
    ) -> Result<(DeviceNumber, Option<Loop>)> {
        let path = match backing {
            Backing::Device { path } => {
                let number = block::number_of(path)?.ok_or_else(|| Error::NotOurs {
                    path: path.clone(),
                    role: backing::role(part),
                    reason: "it is not a block device".into(),
                })?;
                return Ok((number, None));
            }
            Backing::File { path } => path,
        };
        let found = match linear_of(self.dm, self.spec, part)? {
            Some(under) => Some(Loop::of(under.device, path)?.ok_or_else(|| Error::NotOurs {
                path: path.clone(),
                role: backing::role(part),
                reason: format!("the active one lies on device {}", under.device),
            })?),
            None => Loop::find(path)?,
        };
        let found = match found {
            Some(found) => found,
            None => Loop::attach(path)?,
        };
        // An extension may have been broken off between enlarging the file and the loop device.
        if found.size()? < CONTENT_START + content {
            found.refresh_size()?;
        }
        let state = found.state()?;
        if !state.direct_io {
            warn!(file = %path.display(), device = %state.device.display(),
                "no direct I/O: the file system under the pool does not allow it");
        }
        Ok((found.number, Some(found)))
    }

    fn pool(&mut self, data: DeviceNumber, metadata: DeviceNumber) -> Result<Ensured> {
        let wanted = ThinPool {
            length: self.spec.data_size.sectors(),
            metadata,
            data,
            chunk: self.spec.chunk.sectors(),
            low_water_chunks: self.spec.low_water.0 / self.spec.chunk.0,
        };
        // The same pool, not longer than it should be, perhaps with another low-water mark.
        let may_replace = |line: &TableLine| {
            ThinPool::parse(line).is_some_and(|old| {
                let ThinPool {
                    length,
                    low_water_chunks,
                    ..
                } = wanted;
                old.length <= length
                    && wanted
                        == ThinPool {
                            length,
                            low_water_chunks,
                            ..old
                        }
            })
        };
        let ensured = device::ensure(
            self.dm,
            &self.spec.identity(Part::Pool),
            &wanted.line(),
            false,
            may_replace,
        )?;
        Ok(self.note(Part::Pool, ensured))
    }
}

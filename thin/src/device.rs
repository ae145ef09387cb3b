//! Bringing one device-mapper device into the state wanted, from whatever state it is in.
//!
//! ```text
//! absent ── create ──> no table ── load, resume ──> live
//!                                   live, other table ── load, suspend, resume ──> live
//!                                   suspended ── resume ──> live
//! ```
//!
//! Each step may have been left half-way by a crash; [`ensure`] goes on from there. When a step fails,
//! what the call itself made is taken away again and what it suspended is resumed. One thread at a time works
//! at a device ([`Claim`]).

use std::path::PathBuf;

use crate::claim::Claim;
use crate::error::{Error, Result};
use crate::kernel::DeviceNumber;
use crate::kernel::dm::{Device, TableLine};
use crate::kernel::dm::{Dm, Suspend};
use crate::names::{self, Identity, Kind};
use crate::patience::{is_busy, while_busy};

/// Whether a call had anything to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It changed something.
    Changed,
    /// Everything was as it should be.
    Unchanged,
}

/// A device-mapper device of fvm's, as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveDevice {
    /// Which it is.
    pub identity: Identity,
    /// Its number; its node is `/dev/dm-<minor>`.
    pub number: DeviceNumber,
    /// How many times it is open, by processes, mounts and other devices.
    pub open_count: u32,
    /// I/O to it is held back.
    pub suspended: bool,
    /// It cannot be written.
    pub read_only: bool,
    /// It has a live table; one left by a crash may have none.
    pub has_table: bool,
}

impl ActiveDevice {
    /// Its node.
    pub fn path(&self) -> PathBuf {
        node(self.number)
    }
}

/// Lists every device on the host that is fvm's, of all pools, by name and uuid.
///
/// # Errors
/// When device-mapper cannot be used. A device that goes away meanwhile is left out.
pub fn active_devices() -> Result<Vec<ActiveDevice>> {
    list(&Dm::open()?)
}

pub(crate) fn list(dm: &Dm) -> Result<Vec<ActiveDevice>> {
    let mut devices = Vec::new();
    for name in dm.names()? {
        if !names::is_candidate(&name) {
            continue;
        }
        if let Some(found) = dm.find_name(&name)?
            && let Some(identity) = Identity::parse(&found.name, &found.uuid)
        {
            devices.push(active(identity, &found));
        }
    }
    devices.sort_by(|a, b| a.identity.cmp(&b.identity));
    Ok(devices)
}

pub(crate) fn active(identity: Identity, device: &Device) -> ActiveDevice {
    ActiveDevice {
        identity,
        number: device.number,
        open_count: device.open_count,
        suspended: device.is_suspended(),
        read_only: device.is_read_only(),
        has_table: device.has_table(),
    }
}

/// The node of a device-mapper device, made by the kernel itself.
pub(crate) fn node(number: DeviceNumber) -> PathBuf {
    PathBuf::from(format!("/dev/dm-{}", number.minor))
}

/// What [`ensure`] did.
#[derive(Debug)]
pub(crate) struct Ensured {
    pub(crate) number: DeviceNumber,
    pub(crate) outcome: Outcome,
    /// The device was made by this call.
    pub(crate) made: bool,
}

/// Makes the device live with this table.
///
/// A live device with another table is given the new one if `may_replace` says so of the old.
pub(crate) fn ensure(
    dm: &Dm,
    identity: &Identity,
    line: &TableLine,
    read_only: bool,
    may_replace: impl FnOnce(&TableLine) -> bool,
) -> Result<Ensured> {
    let _claim = Claim::of(&identity.name());
    let Some(device) = dm.find(identity)? else {
        return make(dm, identity, line, read_only);
    };
    let name = identity.name();
    if device.name != name {
        return Err(Error::NameTaken {
            device: name,
            found: format!("{} under the name {}", device.uuid, device.name),
        });
    }
    // Left by a crash before it was made live: no resume here may do that now.
    if device.has_loaded_table() {
        dm.clear(identity)?;
    }
    let old = dm.table(identity)?;
    let outcome = match &old {
        Some(old) if old == line && device.is_read_only() == read_only => {
            if device.is_suspended() {
                dm.resume(identity)?;
                Outcome::Changed
            } else {
                Outcome::Unchanged
            }
        }
        Some(old) if old == line || may_replace(old) => {
            replace(dm, identity, old, device.is_read_only(), line, read_only)?;
            Outcome::Changed
        }
        Some(old) => {
            return Err(Error::OtherTable {
                device: name,
                found: format!("{} {} {}", old.sectors, old.target, old.params),
                expected: format!("{} {} {}", line.sectors, line.target, line.params),
            });
        }
        None => {
            go_live(dm, identity, line, read_only)?;
            Outcome::Changed
        }
    };
    Ok(Ensured {
        number: device.number,
        outcome,
        made: false,
    })
}

fn make(dm: &Dm, identity: &Identity, line: &TableLine, read_only: bool) -> Result<Ensured> {
    let device = match dm.create(identity) {
        Ok(device) => device,
        Err(error) => {
            let name = identity.name();
            return Err(match dm.find_name(&name)? {
                Some(other) if is_busy(&error) => Error::NameTaken {
                    device: name,
                    found: other.uuid,
                },
                _ => error,
            });
        }
    };
    match go_live(dm, identity, line, read_only) {
        Ok(()) => Ok(Ensured {
            number: device.number,
            outcome: Outcome::Changed,
            made: true,
        }),
        Err(error) => Err(error.then(remove_claimed(dm, identity).map(drop))),
    }
}

/// Gives a device without a table its first.
fn go_live(dm: &Dm, identity: &Identity, line: &TableLine, read_only: bool) -> Result<()> {
    while_busy(|| dm.load(identity, line, read_only))?;
    dm.resume(identity)
}

/// Gives a live device another table; it keeps the old one if that fails.
fn replace(
    dm: &Dm,
    identity: &Identity,
    old: &TableLine,
    old_read_only: bool,
    new: &TableLine,
    new_read_only: bool,
) -> Result<()> {
    dm.load(identity, new, new_read_only)?;
    if let Err(error) = dm.suspend(identity, Suspend::Quick) {
        return Err(error.then(dm.clear(identity)));
    }
    dm.resume(identity).map_err(|error| {
        let back = dm
            .load(identity, old, old_read_only)
            .and_then(|()| dm.resume(identity));
        error.then(back)
    })
}

/// Removes a device, if it is there.
pub(crate) fn remove(dm: &Dm, identity: &Identity) -> Result<Outcome> {
    let _claim = Claim::of(&identity.name());
    remove_claimed(dm, identity)
}

fn remove_claimed(dm: &Dm, identity: &Identity) -> Result<Outcome> {
    match while_busy(|| dm.remove(identity)) {
        Ok(()) => Ok(Outcome::Changed),
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(Outcome::Unchanged),
        Err(error) if is_busy(&error) => {
            let open_count = dm.find(identity)?.map_or(0, |device| device.open_count);
            Err(Error::Busy {
                device: identity.name(),
                open_count,
            })
        }
        Err(error) => Err(error),
    }
}

/// Resumes the volumes that a crash left suspended.
pub(crate) fn resume_volumes(dm: &Dm, devices: &[ActiveDevice]) -> Result<()> {
    let failures = devices
        .iter()
        .filter(|device| matches!(device.identity.kind, Kind::Volume { .. }))
        .filter(|device| device.suspended && device.has_table)
        .filter_map(|device| {
            let _claim = Claim::of(&device.identity.name());
            dm.resume(&device.identity).err()
        })
        .collect();
    Error::all(failures)
}

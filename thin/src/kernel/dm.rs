//! Device-mapper's control node: one method an ioctl.
//!
//! Devices are addressed by uuid wherever they exist already, so a call never meets a device of somebody
//! else's that happens to have the name. Plain calls go through the `devicemapper` crate. What it would
//! do together with udev (resume, suspend, remove: it waits for udev without a limit and leaves out the
//! flags that keep udev away from a guest's disk) goes through [`super::ioctl`] instead.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use devicemapper::{
    DM, DevId, DmError, DmFlags, DmName, DmNameBuf, DmOptions, DmResult, DmUuidBuf, errors,
};

use super::message::{Command, Request};
use super::{DeviceNumber, ioctl};
use crate::error::{Error, Result};
use crate::names::Identity;

const CONTROL: &str = "/dev/mapper/control";

/// How to suspend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Suspend {
    /// Freeze a file system on it, if the host has one mounted, and wait for I/O under way: what a
    /// snapshot of it needs.
    Consistent,
    /// Only hold I/O back, to change the table.
    Quick,
}

/// How to read a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flush {
    /// The pool commits its metadata first, so the numbers are those on disk.
    Commit,
    /// As it is in memory; changes nothing.
    None,
}

/// One line of a table: from the device's first sector on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TableLine {
    pub(crate) sectors: u64,
    pub(crate) target: String,
    pub(crate) params: String,
}

/// What device-mapper says of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) name: String,
    pub(crate) uuid: String,
    pub(crate) number: DeviceNumber,
    pub(crate) open_count: u32,
    flags: DmFlags,
}

impl Device {
    pub(crate) fn is_suspended(&self) -> bool {
        self.flags.contains(DmFlags::DM_SUSPEND)
    }

    /// Whether it has a live table; one that was only created has none.
    pub(crate) fn has_table(&self) -> bool {
        self.flags.contains(DmFlags::DM_ACTIVE_PRESENT)
    }

    /// Whether it has a table that waits to be made live by a resume.
    pub(crate) fn has_loaded_table(&self) -> bool {
        self.flags.contains(DmFlags::DM_INACTIVE_PRESENT)
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.flags.contains(DmFlags::DM_READONLY)
    }
}

impl From<&devicemapper::DeviceInfo> for Device {
    fn from(info: &devicemapper::DeviceInfo) -> Self {
        Self {
            name: info.name().map(ToString::to_string).unwrap_or_default(),
            uuid: info.uuid().map(ToString::to_string).unwrap_or_default(),
            number: DeviceNumber {
                major: info.device().major,
                minor: info.device().minor,
            },
            open_count: u32::try_from(info.open_count()).unwrap_or(0),
            flags: info.flags(),
        }
    }
}

/// An open control node.
pub(crate) struct Dm {
    control: DM,
}

impl std::fmt::Debug for Dm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(CONTROL)
    }
}

impl Dm {
    pub(crate) fn open() -> Result<Self> {
        // Tried here first: the crate tells a failure without its number.
        std::fs::File::open(CONTROL)
            .and_then(|_| DM::new().map_err(|error| source_of(&error)))
            .map(|control| Self { control })
            .map_err(|source| Error::NoDeviceMapper {
                path: CONTROL.into(),
                source,
            })
    }

    /// Creates a device without a table. `EBUSY` if name or uuid are taken.
    pub(crate) fn create(&self, identity: &Identity) -> Result<Device> {
        let made = name_of(&identity.name()).and_then(|name| {
            let uuid = uuid_of(identity)?;
            self.control
                .device_create(&name, Some(&uuid), DmOptions::default())
        });
        made.map(|info| Device::from(&info))
            .map_err(failed("create device", &identity.name()))
    }

    /// Loads a table, which the next resume makes live.
    pub(crate) fn load(
        &self,
        identity: &Identity,
        line: &TableLine,
        read_only: bool,
    ) -> Result<()> {
        let options = DmOptions::default().set_flags(match read_only {
            true => DmFlags::DM_READONLY,
            false => DmFlags::empty(),
        });
        let line = (0, line.sectors, line.target.clone(), line.params.clone());
        uuid_of(identity)
            .and_then(|uuid| {
                self.control
                    .table_load(&DevId::Uuid(&uuid), &[line], options)
            })
            .map(drop)
            .map_err(failed("load a table into", &identity.name()))
    }

    /// Drops a table that was loaded but not made live.
    pub(crate) fn clear(&self, identity: &Identity) -> Result<()> {
        uuid_of(identity)
            .and_then(|uuid| self.control.table_clear(&DevId::Uuid(&uuid)))
            .map(drop)
            .map_err(failed("drop the loaded table of", &identity.name()))
    }

    /// Makes a loaded table live and lets I/O pass.
    pub(crate) fn resume(&self, identity: &Identity) -> Result<()> {
        self.send(Command::Resume, identity, "resume")
    }

    /// Holds I/O back.
    pub(crate) fn suspend(&self, identity: &Identity, how: Suspend) -> Result<()> {
        let command = match how {
            Suspend::Consistent => Command::SuspendConsistently,
            Suspend::Quick => Command::SuspendQuickly,
        };
        self.send(command, identity, "suspend")
    }

    /// Removes a device; `EBUSY` while it is open.
    pub(crate) fn remove(&self, identity: &Identity) -> Result<()> {
        self.send(Command::Remove, identity, "remove")
    }

    /// Sends one of our own requests.
    fn send(&self, command: Command, identity: &Identity, action: &'static str) -> Result<()> {
        let failed = |source| Error::DeviceMapper {
            action,
            device: identity.name(),
            source,
        };
        let request = Request::new(command, &identity.uuid());
        let mut request = request.ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
        loop {
            match ioctl::device_mapper(self.as_fd(), &mut request) {
                // Suspending waits for I/O and a signal may end the wait, with nothing done.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other.map_err(failed),
            }
        }
    }

    /// The device, or `None` if there is none with this uuid.
    pub(crate) fn find(&self, identity: &Identity) -> Result<Option<Device>> {
        let found =
            uuid_of(identity).and_then(|uuid| self.control.device_info(&DevId::Uuid(&uuid)));
        found_or_none(found, &identity.name())
    }

    /// The device with a name, whoever's it is.
    pub(crate) fn find_name(&self, name: &str) -> Result<Option<Device>> {
        let found = DmName::new(name).and_then(|id| self.control.device_info(&DevId::Name(id)));
        found_or_none(found, name)
    }

    /// The live table's line, or `None` if there is no live table.
    pub(crate) fn table(&self, identity: &Identity) -> Result<Option<TableLine>> {
        self.status_with(identity, DmFlags::DM_STATUS_TABLE | DmFlags::DM_NOFLUSH)
    }

    /// The status line of the live table, or `None` if there is no live table.
    pub(crate) fn status(&self, identity: &Identity, flush: Flush) -> Result<Option<TableLine>> {
        let flags = match flush {
            Flush::Commit => DmFlags::empty(),
            Flush::None => DmFlags::DM_NOFLUSH,
        };
        self.status_with(identity, flags)
    }

    fn status_with(&self, identity: &Identity, flags: DmFlags) -> Result<Option<TableLine>> {
        let options = DmOptions::default().set_flags(flags);
        let (_, lines) = uuid_of(identity)
            .and_then(|uuid| self.control.table_status(&DevId::Uuid(&uuid), options))
            .map_err(failed("read the status of", &identity.name()))?;
        let first = lines.into_iter().next();
        Ok(first.map(|(_, sectors, target, params)| TableLine {
            sectors,
            target,
            params: params.trim_end().to_owned(),
        }))
    }

    /// Sends a target message. Its success proves nothing: see [`crate::Pool::commit`].
    pub(crate) fn message(&self, identity: &Identity, text: &str) -> Result<()> {
        uuid_of(identity)
            .and_then(|uuid| self.control.target_msg(&DevId::Uuid(&uuid), Some(0), text))
            .map(drop)
            .map_err(failed("send a message to", &identity.name()))
    }

    /// The names of all devices on the host.
    pub(crate) fn names(&self) -> Result<Vec<String>> {
        let devices = self
            .control
            .list_devices()
            .map_err(failed("list", "all devices"))?;
        Ok(devices
            .iter()
            .map(|(name, _, _)| name.to_string())
            .collect())
    }

    /// Makes sure that there is a target, whose module is loaded if it is not; `EINVAL` if there is none.
    pub(crate) fn need_target(&self, target: &str) -> Result<()> {
        let failed = |source| Error::DeviceMapper {
            action: "find the target",
            device: target.to_owned(),
            source,
        };
        let request = Request::new(Command::TargetVersion, target);
        let mut request = request.ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
        ioctl::device_mapper(self.as_fd(), &mut request).map_err(failed)
    }

    /// From now on, the control node is readable once any device has a new event.
    pub(crate) fn arm_poll(&self) -> Result<()> {
        self.control
            .arm_poll()
            .map(drop)
            .map_err(failed("arm the event poll of", CONTROL))
    }
}

impl AsFd for Dm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.control.file().as_fd()
    }
}

fn name_of(name: &str) -> DmResult<DmNameBuf> {
    DmNameBuf::new(name.to_owned())
}

fn uuid_of(identity: &Identity) -> DmResult<DmUuidBuf> {
    DmUuidBuf::new(identity.uuid())
}

fn found_or_none(found: DmResult<devicemapper::DeviceInfo>, name: &str) -> Result<Option<Device>> {
    match found.map_err(failed("look up", name)) {
        Ok(info) => Ok(Some(Device::from(&info))),
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Names what a call of the crate was for.
fn failed(action: &'static str, device: &str) -> impl FnOnce(DmError) -> Error {
    let device = device.to_owned();
    move |error| Error::DeviceMapper {
        action,
        device,
        source: source_of(&error),
    }
}

/// The kernel's error number, or the crate's own words.
fn source_of(error: &DmError) -> io::Error {
    match error {
        DmError::Core(errors::Error::Ioctl(_, _, _, errno)) => {
            io::Error::from_raw_os_error(**errno as i32)
        }
        other => io::Error::other(other.to_string()),
    }
}

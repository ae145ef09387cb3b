//! Device-mapper's control node: one method an ioctl.
//!
//! Devices are addressed by uuid wherever they exist already, so a call never meets a device of somebody
//! else's that happens to have the name. Nothing here waits for udev or needs it to run.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use super::ioctl;
use super::message::{Command, Device, Request, TableLine, Target, flags};
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

/// An open control node.
#[derive(Debug)]
pub(crate) struct Dm {
    control: File,
}

impl Dm {
    pub(crate) fn open() -> Result<Self> {
        let control = OpenOptions::new()
            .read(true)
            .write(true)
            .open(CONTROL)
            .map_err(|source| Error::NoDeviceMapper {
                path: CONTROL.into(),
                source,
            })?;
        Ok(Self { control })
    }

    /// Sends a request; `device` is for the error only.
    fn send(
        &self,
        request: Option<Request>,
        action: &'static str,
        device: &str,
    ) -> Result<Request> {
        let failed = |source| Error::DeviceMapper {
            action,
            device: device.to_owned(),
            source,
        };
        let mut request = request.ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
        loop {
            match ioctl::device_mapper(self.control.as_fd(), &mut request) {
                Ok(()) if request.needs_more_room() => {}
                Ok(()) => return Ok(request),
                // Suspending waits for I/O and a signal may end the wait, with nothing done.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }

    fn device(&self, request: Option<Request>, action: &'static str, name: &str) -> Result<Device> {
        let reply = self.send(request, action, name)?;
        reply.device().ok_or_else(|| Error::Unreadable {
            what: "reply",
            device: name.to_owned(),
            text: String::new(),
        })
    }

    /// Makes a device without a table. `EBUSY` if name or uuid are taken.
    pub(crate) fn create(&self, identity: &Identity) -> Result<Device> {
        let (name, uuid) = (identity.name(), identity.uuid());
        let target = Target::New {
            name: &name,
            uuid: &uuid,
        };
        self.device(
            Request::new(Command::Create, target, 0),
            "create device",
            &name,
        )
    }

    /// Loads a table, which the next resume makes live.
    pub(crate) fn load(
        &self,
        identity: &Identity,
        line: &TableLine,
        read_only: bool,
    ) -> Result<()> {
        let flags = if read_only { flags::READ_ONLY } else { 0 };
        let request = Request::new(Command::LoadTable, Target::Uuid(&identity.uuid()), flags)
            .and_then(|request| request.with_table(line));
        self.send(request, "load a table into", &identity.name())
            .map(drop)
    }

    /// Drops a table that was loaded but not made live.
    pub(crate) fn clear(&self, identity: &Identity) -> Result<()> {
        let request = Request::new(Command::ClearTable, Target::Uuid(&identity.uuid()), 0);
        self.send(request, "drop the loaded table of", &identity.name())
            .map(drop)
    }

    /// Makes a loaded table live and lets I/O pass.
    pub(crate) fn resume(&self, identity: &Identity) -> Result<()> {
        let request = Request::new(Command::Suspend, Target::Uuid(&identity.uuid()), 0);
        self.send(request, "resume", &identity.name()).map(drop)
    }

    /// Holds I/O back.
    pub(crate) fn suspend(&self, identity: &Identity, how: Suspend) -> Result<()> {
        let flags = match how {
            Suspend::Consistent => flags::SUSPEND,
            Suspend::Quick => flags::SUSPEND | flags::SKIP_LOCKFS,
        };
        let request = Request::new(Command::Suspend, Target::Uuid(&identity.uuid()), flags);
        self.send(request, "suspend", &identity.name()).map(drop)
    }

    /// Removes a device; `EBUSY` while it is open.
    pub(crate) fn remove(&self, identity: &Identity) -> Result<()> {
        let request = Request::new(Command::Remove, Target::Uuid(&identity.uuid()), 0);
        self.send(request, "remove", &identity.name()).map(drop)
    }

    /// The device, or `None` if there is none with this uuid.
    pub(crate) fn find(&self, identity: &Identity) -> Result<Option<Device>> {
        self.find_by(Target::Uuid(&identity.uuid()), &identity.name())
    }

    /// The device with a name, whoever's it is.
    pub(crate) fn find_name(&self, name: &str) -> Result<Option<Device>> {
        self.find_by(Target::Name(name), name)
    }

    fn find_by(&self, target: Target<'_>, name: &str) -> Result<Option<Device>> {
        let request = Request::new(Command::Info, target, 0);
        match self.device(request, "look up", name) {
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(None),
            other => other.map(Some),
        }
    }

    /// The live table's line, or `None` if there is no live table.
    pub(crate) fn table(&self, identity: &Identity) -> Result<Option<TableLine>> {
        self.status_with(identity, flags::STATUS_TABLE | flags::NO_FLUSH)
    }

    /// The status line of the live table, or `None` if there is no live table.
    pub(crate) fn status(&self, identity: &Identity, flush: Flush) -> Result<Option<TableLine>> {
        let flags = match flush {
            Flush::Commit => 0,
            Flush::None => flags::NO_FLUSH,
        };
        self.status_with(identity, flags)
    }

    fn status_with(&self, identity: &Identity, flags: u32) -> Result<Option<TableLine>> {
        let request = Request::new(Command::Status, Target::Uuid(&identity.uuid()), flags);
        let reply = self.send(request, "read the status of", &identity.name())?;
        Ok(reply.table())
    }

    /// Sends a target message. Its success proves nothing: see [`crate::Pool::commit`].
    pub(crate) fn message(&self, identity: &Identity, text: &str) -> Result<()> {
        let request = Request::new(Command::Message, Target::Uuid(&identity.uuid()), 0)
            .and_then(|request| request.with_message(text));
        self.send(request, "send a message to", &identity.name())
            .map(drop)
    }

    /// The names of all devices on the host.
    pub(crate) fn names(&self) -> Result<Vec<String>> {
        let request = Request::new(Command::List, Target::None, 0);
        let reply = self.send(request, "list", "all devices")?;
        reply.names().ok_or_else(|| Error::Unreadable {
            what: "list",
            device: "all devices".into(),
            text: String::new(),
        })
    }

    /// The version of a target, whose module is loaded if it is not; `EINVAL` if there is none.
    pub(crate) fn target_version(&self, target: &str) -> Result<(u32, u32, u32)> {
        let request = Request::new(Command::TargetVersion, Target::Name(target), 0);
        let reply = self.send(request, "find the target", target)?;
        Ok(reply.target_version().unwrap_or_default())
    }

    /// From now on, the control node is readable once any device has a new event.
    pub(crate) fn arm_poll(&self) -> Result<()> {
        let request = Request::new(Command::ArmPoll, Target::None, 0);
        self.send(request, "arm the event poll of", CONTROL)
            .map(drop)
    }
}

impl AsFd for Dm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }
}

//! Loop devices: a file as a block device.
//!
//! Made in one step (`LOOP_CONFIGURE`, Linux 5.8), with direct I/O, without partition scan, and with
//! autoclear: the kernel drops it when its last user is gone, also when this process dies half-way.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::{DeviceNumber, block, ioctl};
use crate::error::{Error, Result};
use crate::units::Bytes;

const CONTROL: &str = "/dev/loop-control";
/// A free device may be taken by another process between asking for it and taking it.
const TRIES: usize = 64;

/// A loop device as the kernel reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoopState {
    /// The file behind it.
    pub file: PathBuf,
    /// Its node, `/dev/loop<n>`.
    pub device: PathBuf,
    /// Whether I/O goes past the page cache. The kernel falls back silently where the file system
    /// cannot; then every block is cached twice and a power cut loses more.
    pub direct_io: bool,
    /// Whether the kernel drops it after its last user.
    pub autoclear: bool,
}

/// A loop device held open, so that autoclear does not drop it.
#[derive(Debug)]
pub(crate) struct Loop {
    pub(crate) number: DeviceNumber,
    node: PathBuf,
    device: File,
    file: PathBuf,
}

impl Loop {
    /// Ties a free loop device to a file.
    pub(crate) fn attach(path: &Path) -> Result<Self> {
        let file = open_backing(path)?;
        let control = OpenOptions::new()
            .read(true)
            .write(true)
            .open(CONTROL)
            .map_err(Error::io("open", CONTROL))?;
        let flags = ioctl::LO_FLAGS_AUTOCLEAR | ioctl::LO_FLAGS_DIRECT_IO;
        let mut tries = TRIES;
        loop {
            let free = ioctl::free_loop(control.as_fd())
                .map_err(Error::io("find a free loop device by", CONTROL))?;
            let node = PathBuf::from(format!("/dev/loop{free}"));
            let device = OpenOptions::new()
                .read(true)
                .write(true)
                .open(&node)
                .map_err(Error::io("open", &node))?;
            match ioctl::configure_loop(device.as_fd(), file.as_fd(), flags) {
                Ok(()) => return Self::opened(node, device, path),
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) && tries > 0 => tries -= 1,
                Err(error) => return Err(Error::io("make a loop device of", path)(error)),
            }
        }
    }

    /// The loop device with this number, if it is the whole of this file.
    pub(crate) fn of(number: DeviceNumber, path: &Path) -> Result<Option<Self>> {
        let link = PathBuf::from(format!("/sys/dev/block/{number}"));
        let name = match std::fs::canonicalize(&link) {
            Ok(target) => target,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("follow", link)(error)),
        };
        let Some(name) = name.file_name() else {
            return Ok(None);
        };
        if !name.as_encoded_bytes().starts_with(b"loop") {
            return Ok(None);
        }
        let node = Path::new("/dev").join(name);
        // For reading only: closing a device that was open for writing makes udev look into it.
        let device = File::open(&node).map_err(Error::io("open", &node))?;
        let info = match ioctl::loop_info(device.as_fd()) {
            Ok(info) => info,
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => return Ok(None),
            Err(error) => return Err(Error::io("examine", node)(error)),
        };
        let file = std::fs::metadata(path).map_err(Error::io("examine", path))?;
        let whole = info.offset == 0
            && info.size_limit == 0
            && info.flags & ioctl::LO_FLAGS_READ_ONLY == 0
            && info.inode == file.ino()
            && DeviceNumber::from_raw(info.device) == DeviceNumber::from_raw(file.dev());
        if !whole {
            return Ok(None);
        }
        Self::opened(node, device, path).map(Some)
    }

    /// A loop device of this file that exists already.
    pub(crate) fn find(path: &Path) -> Result<Option<Self>> {
        let list = Path::new("/sys/block");
        let entries = std::fs::read_dir(list).map_err(Error::io("list", list))?;
        for entry in entries {
            let entry = entry.map_err(Error::io("list", list))?;
            // Only a device in use has this directory.
            if !entry.path().join("loop").is_dir() {
                continue;
            }
            let number = std::fs::read_to_string(entry.path().join("dev"))
                .ok()
                .and_then(|text| DeviceNumber::parse(text.trim()));
            if let Some(number) = number
                && let Some(found) = Self::of(number, path)?
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn opened(node: PathBuf, device: File, path: &Path) -> Result<Self> {
        let found = device.metadata().map_err(Error::io("examine", &node))?;
        Ok(Self {
            number: DeviceNumber::from_raw(found.rdev()),
            node,
            device,
            file: path.to_owned(),
        })
    }

    /// How the kernel has set it up, which is not always as it was asked to.
    pub(crate) fn state(&self) -> Result<LoopState> {
        let info =
            ioctl::loop_info(self.device.as_fd()).map_err(Error::io("examine", &self.node))?;
        Ok(LoopState {
            file: self.file.clone(),
            device: self.node.clone(),
            direct_io: info.flags & ioctl::LO_FLAGS_DIRECT_IO != 0,
            autoclear: info.flags & ioctl::LO_FLAGS_AUTOCLEAR != 0,
        })
    }

    /// How long it is now.
    pub(crate) fn size(&self) -> Result<Bytes> {
        block::length(&self.device, &self.node)
    }

    /// Makes it as large as its file has become.
    pub(crate) fn refresh_size(&self) -> Result<()> {
        ioctl::refresh_loop_size(self.device.as_fd()).map_err(Error::io("enlarge", &self.node))
    }
}

/// Opens the file with `O_DIRECT`, from which the loop device takes over the file system's block size;
/// without, where the file system does not know it.
fn open_backing(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    match options.clone().custom_flags(libc::O_DIRECT).open(path) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => options.open(path),
        other => other,
    }
    .map_err(Error::io("open", path))
}

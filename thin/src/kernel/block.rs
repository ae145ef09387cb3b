//! Block devices: opening the right one, its size, discarding.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::{DeviceNumber, ioctl};
use crate::error::{Error, Result};
use crate::units::Bytes;

/// What a descriptor may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// Reading only.
    ReadOnly,
    /// Reading and writing.
    ReadWrite,
}

/// Opens the node of a device-mapper device with `O_DIRECT`, and makes sure that it is the device meant:
/// number and node may have gone over to another since.
pub(crate) fn open_mapped(
    path: &Path,
    number: DeviceNumber,
    uuid: &str,
    access: Access,
) -> Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(access == Access::ReadWrite)
        .custom_flags(libc::O_DIRECT)
        .open(path)
        .map_err(Error::io("open", path))?;
    let found = file.metadata().map_err(Error::io("examine", path))?;
    // As long as it is open it cannot be removed, so its number stays its own.
    let is_it = found.file_type().is_block_device()
        && DeviceNumber::from_raw(found.rdev()) == number
        && std::fs::read_to_string(format!("/sys/dev/block/{number}/dm/uuid"))
            .is_ok_and(|found| found.trim_end() == uuid);
    if !is_it {
        let error = io::Error::new(io::ErrorKind::NotFound, format!("it is not {uuid}"));
        return Err(Error::io("use", path)(error));
    }
    Ok(file)
}

/// The number of a block device; `None` if the path is something else.
pub(crate) fn number_of(path: &Path) -> Result<Option<DeviceNumber>> {
    let found = std::fs::metadata(path).map_err(Error::io("examine", path))?;
    Ok(found
        .file_type()
        .is_block_device()
        .then(|| DeviceNumber::from_raw(found.rdev())))
}

/// The length of a block device or regular file.
pub(crate) fn length(file: &File, path: &Path) -> Result<Bytes> {
    let found = file.metadata().map_err(Error::io("examine", path))?;
    if found.file_type().is_block_device() {
        ioctl::block_size_bytes(file)
            .map(Bytes)
            .map_err(Error::io("read the size of", path))
    } else {
        Ok(Bytes(found.len()))
    }
}

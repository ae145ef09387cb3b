//! What the kernel offers, without any idea of pools: device-mapper, loop devices, block devices.
//!
//! [`ioctl`] is the crate's one module with `unsafe`; [`message`] turns requests and replies of
//! device-mapper into bytes and back, without a system call.

pub(crate) mod block;
pub(crate) mod dm;
pub(crate) mod ioctl;
pub(crate) mod loopdev;
pub(crate) mod message;

use std::fmt;

/// A block device's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceNumber {
    /// Which driver.
    pub major: u32,
    /// Which of its devices.
    pub minor: u32,
}

impl DeviceNumber {
    /// From the encoding of `st_rdev`, which is also the kernel's `huge_encode_dev`.
    pub(crate) fn from_raw(dev: u64) -> Self {
        Self {
            major: libc::major(dev),
            minor: libc::minor(dev),
        }
    }

    /// From the `major:minor` of tables and sysfs.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once(':')?;
        Some(Self {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
        })
    }
}

impl fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

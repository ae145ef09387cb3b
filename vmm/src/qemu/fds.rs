//! The file descriptors that QEMU inherits, and the numbers it knows them by.

use super::assignment::DiskBacking;
use crate::domain::Disk;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::{SFlag, fstat};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

/// The first number that is given out; below it are the standard streams.
const FIRST: u32 = 3;

/// Descriptors for one QEMU process, collected before its arguments are made.
///
/// The numbers are those in the new process; [`super::spawn`] puts each descriptor there.
#[derive(Debug, Default)]
pub struct FdTable {
    fds: Vec<OwnedFd>,
    sets: Vec<FdSet>,
}

/// Descriptors of one file with different access modes, which QEMU opens as one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FdSet {
    /// The set's number.
    pub number: u32,
    /// The descriptors in it.
    pub fds: Vec<u32>,
}

impl FdTable {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Passes `fd` and returns its number in QEMU.
    pub fn pass(&mut self, fd: OwnedFd) -> u32 {
        let number = FIRST.saturating_add(u32::try_from(self.fds.len()).unwrap_or(u32::MAX));
        self.fds.push(fd);
        number
    }

    /// Passes descriptors of one file and returns the path by which QEMU opens it.
    ///
    /// QEMU takes the descriptor whose access mode is exactly the one that it opens with.
    pub fn pass_set(&mut self, fds: Vec<OwnedFd>) -> String {
        let number = u32::try_from(self.sets.len())
            .unwrap_or(u32::MAX)
            .saturating_add(1);
        let fds = fds.into_iter().map(|fd| self.pass(fd)).collect();
        self.sets.push(FdSet { number, fds });
        format!("/dev/fdset/{number}")
    }

    /// Opens `path` as `disk` needs it and passes it.
    pub fn pass_disk(&mut self, path: &Path, disk: &Disk) -> io::Result<DiskBacking> {
        let mut fds = vec![OwnedFd::from(File::open(path)?)];
        if !disk.read_only {
            fds.push(OpenOptions::new().read(true).write(true).open(path)?.into());
        }
        self.pass_open_disk(fds, disk)
    }

    /// Passes descriptors of one disk: one to read and write unless it is read-only, and one to
    /// read, since QEMU opens a disk both ways.
    pub fn pass_open_disk(&mut self, fds: Vec<OwnedFd>, disk: &Disk) -> io::Result<DiskBacking> {
        Ok(DiskBacking {
            is_block_device: suit(&fds, disk)?,
            path: self.pass_set(fds),
        })
    }

    /// The sets, for [`super::Assignment::fd_sets`].
    pub fn sets(&self) -> &[FdSet] {
        &self.sets
    }

    /// The descriptors with their numbers in QEMU, for [`super::SpawnSpec::fds`].
    pub fn into_fds(self) -> Vec<(OwnedFd, u32)> {
        self.fds.into_iter().zip(FIRST..).collect()
    }
}

/// Makes descriptors of one disk fit for QEMU, and says whether they are of a block device.
///
/// QEMU 9 and later take only descriptors that are past the page cache exactly when the disk is, so
/// they are switched here.
pub fn suit(fds: &[OwnedFd], disk: &Disk) -> io::Result<bool> {
    let mut is_block_device = false;
    for fd in fds {
        let kind = SFlag::from_bits_truncate(fstat(fd)?.st_mode) & SFlag::S_IFMT;
        is_block_device = kind == SFlag::S_IFBLK;
        let mut flags = OFlag::from_bits_truncate(fcntl(fd, FcntlArg::F_GETFL)?);
        flags.set(OFlag::O_DIRECT, disk.is_direct());
        fcntl(fd, FcntlArg::F_SETFL(flags))?;
    }
    Ok(is_block_device)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fd() -> OwnedFd {
        File::open("/dev/null").expect("/dev/null").into()
    }

    #[test]
    fn numbers_follow_the_standard_streams_and_sets_share_them() {
        let mut table = FdTable::new();
        assert_eq!(table.pass(fd()), 3);
        assert_eq!(table.pass_set(vec![fd(), fd()]), "/dev/fdset/1");
        assert_eq!(table.pass_set(vec![fd()]), "/dev/fdset/2");
        assert_eq!(table.sets()[0].fds, [4, 5]);
        let numbers: Vec<u32> = table.into_fds().iter().map(|(_, number)| *number).collect();
        assert_eq!(numbers, [3, 4, 5, 6]);
    }
}

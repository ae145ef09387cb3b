//! The file descriptors that QEMU inherits, and the numbers it knows them by.

use super::assignment::DiskBacking;
use crate::domain::Disk;
use nix::libc;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
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
    ///
    /// One descriptor is to read and write, one to read only, since QEMU opens a disk both ways; and
    /// QEMU 9 and later want them to be past the page cache already when the disk is.
    pub fn pass_disk(&mut self, path: &Path, disk: &Disk) -> io::Result<DiskBacking> {
        let flags = if disk.is_direct() { libc::O_DIRECT } else { 0 };
        let open = |write: bool| {
            let mut options = OpenOptions::new();
            options
                .read(true)
                .write(write)
                .custom_flags(flags)
                .open(path)
        };
        let read = open(false)?;
        let is_block_device = read.metadata()?.file_type().is_block_device();
        let mut set = vec![OwnedFd::from(read)];
        if !disk.read_only {
            set.push(open(true)?.into());
        }
        Ok(DiskBacking {
            path: self.pass_set(set),
            is_block_device,
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

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

//! The crate's only `unsafe`: each ioctl it issues, behind a function that cannot be misused.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use super::message::{HEADER_BYTES, Request};

/// `LO_FLAGS_READ_ONLY` in `linux/loop.h`.
pub(crate) const LO_FLAGS_READ_ONLY: u32 = 1;
/// `LO_FLAGS_AUTOCLEAR` in `linux/loop.h`.
pub(crate) const LO_FLAGS_AUTOCLEAR: u32 = 4;
/// `LO_FLAGS_DIRECT_IO` in `linux/loop.h`.
pub(crate) const LO_FLAGS_DIRECT_IO: u32 = 16;

/// `DM_IOCTL` in `linux/dm-ioctl.h`.
const DM_IOCTL: u64 = 0xfd;
// `linux/loop.h`.
const LOOP_SET_CAPACITY: u64 = 0x4c07;
const LOOP_GET_STATUS64: u64 = 0x4c05;
const LOOP_CONFIGURE: u64 = 0x4c0a;
const LOOP_CTL_GET_FREE: u64 = 0x4c82;
// `linux/fs.h`: `_IO(0x12, 119)`, `_IOR(0x12, 114, size_t)`, `_IO(0x12, 104)`.
const BLKDISCARD: u64 = 0x1277;
const BLKGETSIZE64: u64 = 0x8008_1272;
const BLKSSZGET: u64 = 0x1268;

/// `struct loop_info64` in `linux/loop.h`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct LoopInfo {
    /// Device of the backing file's file system.
    pub(crate) device: u64,
    /// Inode of the backing file.
    pub(crate) inode: u64,
    rdevice: u64,
    /// Where in the file the device begins.
    pub(crate) offset: u64,
    /// The device's length, or zero for the file's.
    pub(crate) size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    /// `LO_FLAGS_…`
    pub(crate) flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config` in `linux/loop.h`.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<LoopInfo>() == 232 && size_of::<LoopConfig>() == 304);

impl LoopInfo {
    const ZERO: Self = Self {
        device: 0,
        inode: 0,
        rdevice: 0,
        offset: 0,
        size_limit: 0,
        number: 0,
        encrypt_type: 0,
        encrypt_key_size: 0,
        flags: 0,
        file_name: [0; 64],
        crypt_name: [0; 64],
        encrypt_key: [0; 32],
        init: [0; 2],
    };
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Sends a request to device-mapper; the reply takes its place.
pub(crate) fn device_mapper(control: BorrowedFd<'_>, request: &mut Request) -> io::Result<()> {
    // `_IOWR(DM_IOCTL, command, struct dm_ioctl)`.
    let number =
        (3 << 30) | ((HEADER_BYTES as u64) << 16) | (DM_IOCTL << 8) | u64::from(request.command());
    let buffer = request.buffer();
    // SAFETY: `control` is open for the call. The kernel reads and writes at most `data_size` bytes from
    // the address on, and `Request` keeps that field equal to the length of the buffer, which is
    // exclusively borrowed for the call. The kernel keeps no reference to it.
    check(unsafe {
        libc::ioctl(
            control.as_raw_fd(),
            number as libc::Ioctl,
            buffer.as_mut_ptr(),
        )
    })
    .map(drop)
}

/// The number of a loop device that is free now, made if there was none.
pub(crate) fn free_loop(control: BorrowedFd<'_>) -> io::Result<u32> {
    // SAFETY: `control` is open for the call, which takes no argument and touches no memory of ours.
    let number =
        check(unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE as libc::Ioctl) })?;
    Ok(number.unsigned_abs())
}

/// Ties a free loop device to the whole of a file, with these flags and the file's own block size.
pub(crate) fn configure_loop(
    device: BorrowedFd<'_>,
    file: BorrowedFd<'_>,
    flags: u32,
) -> io::Result<()> {
    let config = LoopConfig {
        fd: file.as_raw_fd().unsigned_abs(),
        block_size: 0,
        info: LoopInfo {
            flags,
            ..LoopInfo::ZERO
        },
        reserved: [0; 8],
    };
    // SAFETY: both descriptors are open for the call; the kernel only reads a `struct loop_config`, whose
    // layout `LoopConfig` has (checked by its size), and takes its own reference to the file.
    check(unsafe {
        libc::ioctl(
            device.as_raw_fd(),
            LOOP_CONFIGURE as libc::Ioctl,
            &raw const config,
        )
    })
    .map(drop)
}

/// How a loop device is set up; `ENXIO` if it is not.
pub(crate) fn loop_info(device: BorrowedFd<'_>) -> io::Result<LoopInfo> {
    let mut info = LoopInfo::ZERO;
    // SAFETY: `device` is open for the call; the kernel writes a `struct loop_info64`, whose layout
    // `LoopInfo` has (checked by its size) and every bit pattern of which is valid.
    check(unsafe {
        libc::ioctl(
            device.as_raw_fd(),
            LOOP_GET_STATUS64 as libc::Ioctl,
            &raw mut info,
        )
    })?;
    Ok(info)
}

/// Makes a loop device as large as its file is now.
pub(crate) fn refresh_loop_size(device: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: `device` is open for the call, which takes no argument and touches no memory of ours.
    check(unsafe { libc::ioctl(device.as_raw_fd(), LOOP_SET_CAPACITY as libc::Ioctl, 0) }).map(drop)
}

/// The length of a block device in bytes.
pub(crate) fn block_size_bytes(device: impl AsFd) -> io::Result<u64> {
    let mut bytes = 0_u64;
    // SAFETY: the descriptor is open for the call; the kernel writes one u64 to the address.
    check(unsafe {
        libc::ioctl(
            device.as_fd().as_raw_fd(),
            BLKGETSIZE64 as libc::Ioctl,
            &raw mut bytes,
        )
    })?;
    Ok(bytes)
}

/// The unit in which a block device reads and writes, in bytes.
pub(crate) fn logical_block_bytes(device: impl AsFd) -> io::Result<u32> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is open for the call; the kernel writes one int to the address.
    check(unsafe {
        libc::ioctl(
            device.as_fd().as_raw_fd(),
            BLKSSZGET as libc::Ioctl,
            &raw mut bytes,
        )
    })?;
    Ok(bytes.unsigned_abs())
}

/// Gives a range of a block device back to what lies under it.
pub(crate) fn discard(device: impl AsFd, offset: u64, length: u64) -> io::Result<()> {
    let range = [offset, length];
    // SAFETY: the descriptor is open for the call; the kernel reads two u64 from the address.
    check(unsafe {
        libc::ioctl(
            device.as_fd().as_raw_fd(),
            BLKDISCARD as libc::Ioctl,
            range.as_ptr(),
        )
    })
    .map(drop)
}

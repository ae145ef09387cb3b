//! System calls that have no safe wrapper: tap creation, packet sockets, passed descriptors.
//!
//! The one module of this crate with `unsafe`; each block says why it is sound. Nothing here decides
//! anything: arguments in, results and errno out.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// What the kernel says about a received frame beside its bytes (`PACKET_AUXDATA`, packet(7)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FrameNotes {
    /// The transport checksum is only the pseudo header's sum: the sender left the rest to a device
    /// that was never there (`TP_STATUS_CSUMNOTREADY`).
    pub checksum_partial: bool,
    /// The frame carried a VLAN tag, which the kernel took out of the bytes (`TP_STATUS_VLAN_VALID`).
    pub vlan_tagged: bool,
    /// The frame was longer than the buffer (`MSG_TRUNC`).
    pub truncated: bool,
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn check_len(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

fn socklen_of<T>() -> libc::socklen_t {
    // Every structure passed here has a few dozen bytes.
    size_of::<T>() as libc::socklen_t
}

/// Names the interface behind an open `/dev/net/tun`, making it if it is not there (`TUNSETIFF`).
pub(crate) fn tun_set_interface(tun: BorrowedFd<'_>, name: &str, flags: i32) -> io::Result<()> {
    /// `struct ifreq` of `linux/if.h` as far as `TUNSETIFF` reads it, padded to its full size.
    #[repr(C)]
    struct Request {
        name: [u8; libc::IFNAMSIZ],
        flags: libc::c_short,
        rest: [u8; 22],
    }
    const { assert!(size_of::<Request>() == 40) };
    let mut request = Request {
        name: [0; libc::IFNAMSIZ],
        flags: flags as libc::c_short,
        rest: [0; 22],
    };
    let Some(room) = request
        .name
        .get_mut(..name.len())
        .filter(|_| name.len() < libc::IFNAMSIZ)
    else {
        return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
    };
    room.copy_from_slice(name.as_bytes());
    // SAFETY: TUNSETIFF reads and writes one `struct ifreq`; `request` has that size and outlives
    // the call, and the descriptor is open for as long as the borrow.
    check(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })?;
    Ok(())
}

fn set_option<T>(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    value: &T,
) -> io::Result<()> {
    // SAFETY: the pointer and the length describe `value`, which the kernel only reads.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const *value).cast::<c_void>(),
            socklen_of::<T>(),
        )
    })?;
    Ok(())
}

/// A packet socket that receives nothing yet: protocol 0 until [`packet_bind`] (packet(7)).
pub(crate) fn packet_socket() -> io::Result<OwnedFd> {
    // SAFETY: no pointers; the result is checked before it is owned.
    let fd = check(unsafe {
        libc::socket(
            libc::AF_PACKET,
            libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
            0,
        )
    })?;
    // SAFETY: `fd` was just returned by socket(2) and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sets a boolean option of `SOL_PACKET`.
pub(crate) fn packet_enable(socket: BorrowedFd<'_>, option: libc::c_int) -> io::Result<()> {
    set_option::<libc::c_int>(socket, libc::SOL_PACKET, option, &1)
}

/// Attaches a classic BPF filter, then locks it, so that whoever gets the socket cannot widen it.
pub(crate) fn attach_and_lock_filter(
    socket: BorrowedFd<'_>,
    program: &[libc::sock_filter],
) -> io::Result<()> {
    let Ok(len) = libc::c_ushort::try_from(program.len()) else {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    };
    // The kernel only reads the program, although the field is a mutable pointer.
    let program = libc::sock_fprog {
        len,
        filter: program.as_ptr().cast_mut(),
    };
    set_option(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)?;
    set_option::<libc::c_int>(socket, libc::SOL_SOCKET, libc::SO_LOCK_FILTER, &1)
}

/// Binds a packet socket to one interface, for frames of every protocol.
pub(crate) fn packet_bind(socket: BorrowedFd<'_>, ifindex: u32) -> io::Result<()> {
    let address = link_address(ifindex)?;
    // SAFETY: pointer and length describe `address`, a complete sockaddr_ll.
    check(unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            socklen_of::<libc::sockaddr_ll>(),
        )
    })?;
    Ok(())
}

fn link_address(ifindex: u32) -> io::Result<libc::sockaddr_ll> {
    // SAFETY: sockaddr_ll is plain integers and byte arrays, for which all zeros is a value.
    let mut address: libc::sockaddr_ll = unsafe { MaybeUninit::zeroed().assume_init() };
    address.sll_family = libc::AF_PACKET as libc::c_ushort;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex =
        i32::try_from(ifindex).map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))?;
    Ok(address)
}

/// The interface a packet socket is bound to, or `None` if it is not a packet socket or its
/// interface is gone (the kernel then sets the index to -1).
pub(crate) fn packet_ifindex(socket: BorrowedFd<'_>) -> Option<u32> {
    // SAFETY: as in `link_address`.
    let mut address: libc::sockaddr_ll = unsafe { MaybeUninit::zeroed().assume_init() };
    let mut len = socklen_of::<libc::sockaddr_ll>();
    // SAFETY: pointer and length describe `address`; the kernel writes at most `len` bytes of it.
    check(unsafe {
        libc::getsockname(socket.as_raw_fd(), (&raw mut address).cast(), &raw mut len)
    })
    .ok()?;
    if i32::from(address.sll_family) != libc::AF_PACKET {
        return None;
    }
    u32::try_from(address.sll_ifindex)
        .ok()
        .filter(|index| *index > 0)
}

/// Room for the one control message asked for (`PACKET_AUXDATA`), aligned as `cmsghdr` must be.
#[repr(C, align(8))]
struct AuxRoom([u8; 64]);

/// Receives one frame without waiting.
pub(crate) fn packet_receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
) -> io::Result<(usize, FrameNotes)> {
    let mut room = AuxRoom([0; 64]);
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: msghdr is pointers and integers, for which all zeros (null, 0) is a value.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = room.0.as_mut_ptr().cast();
    message.msg_controllen = room.0.len();
    // SAFETY: the message describes `buffer` and `room`, both borrowed mutably until after the call.
    let len = check_len(unsafe {
        libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT)
    })?;
    let mut notes = FrameNotes {
        truncated: message.msg_flags & libc::MSG_TRUNC != 0,
        ..FrameNotes::default()
    };
    // SAFETY: recvmsg succeeded, so `message` describes what the kernel wrote into `room`.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    while !header.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR return only headers that lie in `room`, which is
        // aligned for them.
        let (level, kind, size) = unsafe {
            (
                (*header).cmsg_level,
                (*header).cmsg_type,
                (*header).cmsg_len,
            )
        };
        // SAFETY: CMSG_LEN only computes.
        let wanted = unsafe { libc::CMSG_LEN(size_of::<libc::tpacket_auxdata>() as u32) } as usize;
        if level == libc::SOL_PACKET && kind == libc::PACKET_AUXDATA && size >= wanted {
            // SAFETY: the header's length covers a tpacket_auxdata behind it, and read_unaligned
            // asks nothing of its alignment.
            let aux = unsafe {
                libc::CMSG_DATA(header)
                    .cast::<libc::tpacket_auxdata>()
                    .read_unaligned()
            };
            notes.checksum_partial = aux.tp_status & libc::TP_STATUS_CSUMNOTREADY != 0;
            notes.vlan_tagged = aux.tp_status & libc::TP_STATUS_VLAN_VALID != 0;
        }
        // SAFETY: `header` is a header in `room`, as above.
        header = unsafe { libc::CMSG_NXTHDR(&raw const message, header) };
    }
    Ok((len, notes))
}

/// Takes ownership of descriptors that recvmsg(2) put into this process by `SCM_RIGHTS`.
pub(crate) fn adopt_received(fds: Vec<RawFd>) -> Vec<OwnedFd> {
    // SAFETY: the kernel made these descriptors for this process in the recvmsg call whose result
    // the caller passes on; nothing else knows of them.
    fds.into_iter()
        .map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
        .collect()
}

/// Takes ownership of a descriptor that accept4(2) has returned.
pub(crate) fn adopt_accepted(fd: RawFd) -> OwnedFd {
    // SAFETY: the caller has it from accept4, which made it for this process; nothing else knows it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Ends a TCP connection and leaves its socket as it was before, to be connected again (connect(2)).
pub(crate) fn disconnect(socket: BorrowedFd<'_>) -> io::Result<()> {
    let nowhere = libc::sockaddr {
        sa_family: libc::AF_UNSPEC as libc::sa_family_t,
        sa_data: [0; 14],
    };
    // SAFETY: pointer and length describe `nowhere`, which the kernel only reads.
    check(unsafe {
        libc::connect(
            socket.as_raw_fd(),
            &raw const nowhere,
            socklen_of::<libc::sockaddr>(),
        )
    })?;
    Ok(())
}

/// Takes ownership of the descriptor that the service manager passed (sd_listen_fds(3)).
pub(crate) fn adopt_listener(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: no pointers; F_GETFD only asks whether the descriptor is open.
    check(unsafe { libc::fcntl(fd, libc::F_GETFD) })?;
    // SAFETY: it is open, and the service manager's protocol gives it to this process; the binary
    // takes it once, at its start.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// How many frames the kernel has dropped since the last call because nobody read them in time.
pub(crate) fn packet_drops(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let mut stats = libc::tpacket_stats {
        tp_packets: 0,
        tp_drops: 0,
    };
    let mut len = socklen_of::<libc::tpacket_stats>();
    // SAFETY: pointer and length describe `stats`; the kernel writes at most `len` bytes of it.
    check(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            (&raw mut stats).cast(),
            &raw mut len,
        )
    })?;
    Ok(stats.tp_drops)
}

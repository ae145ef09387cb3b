//! What udev is told: to leave every device of ours alone.

use std::io::Write;
use std::os::fd::AsRawFd;

use fvm_thin::{Access, Bytes, Pool};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, setsockopt,
    socket, sockopt,
};

use crate::host::{TestPool, active_volume, id, need_host, run, snapshot, volume};

const SIZE: Bytes = Bytes::mib(64);
const DISK: Bytes = Bytes::mib(16);
/// No subsystem, disk and other rules, primary source: `libdevmapper.h`, in the cookie's upper half.
const FLAGS: u32 = 0x004e;

/// Every event of a live or dying device of ours carries the flags, whatever happened to it.
#[test]
fn every_event_says_to_leave_the_device_alone() {
    need_host!();
    let events = socket(
        AddressFamily::Netlink,
        SockType::Datagram,
        SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkKObjectUEvent,
    )
    .unwrap();
    setsockopt(&events, sockopt::RcvBuf, &(4 << 20)).unwrap();
    bind(events.as_raw_fd(), &NetlinkAddr::new(0, 1)).unwrap();

    let test = TestPool::alone(SIZE);
    while recv(events.as_raw_fd(), &mut [0; 16384], MsgFlags::empty()).is_ok() {}
    Pool::format(&test.spec).unwrap();
    let pool = Pool::activate(test.spec.clone()).unwrap();
    active_volume(&pool, 1, DISK);
    snapshot(&pool, 2, 1);
    pool.activate_volume(&volume(2, DISK), Access::ReadWrite)
        .unwrap();
    pool.resize_volume(&volume(2, Bytes::mib(32))).unwrap();
    pool.activate_volume(&volume(2, Bytes::mib(32)), Access::ReadOnly)
        .unwrap();
    for n in [1, 2] {
        pool.deactivate_volume(id(n), volume(n, DISK).uuid).unwrap();
    }
    Pool::destroy(&test.spec).unwrap();

    let mut buffer = vec![0; 16384];
    let (mut changes, mut removals) = (0, 0);
    while let Ok(length) = recv(events.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
        let text = String::from_utf8_lossy(&buffer[..length]).replace('\0', "\n");
        let value = |key: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
        };
        if !value("DEVPATH").is_some_and(|path| path.starts_with("/devices/virtual/block/dm-")) {
            continue;
        }
        match value("ACTION") {
            // A change of size or access is told by an event of its own, before the device runs again.
            Some("change") if value("RESIZE").is_none() && value("DISK_RO").is_none() => {
                changes += 1;
            }
            // The second of two: when the disk is gone there is nothing left to look at.
            Some("remove") if value("DM_COOKIE").is_some() => removals += 1,
            _ => continue,
        }
        let flags = value("DM_COOKIE").and_then(|cookie| cookie.parse::<u32>().ok());
        assert_eq!(flags.map(|flags| flags >> 16), Some(FLAGS), "{text}");
    }
    assert!(changes >= 7, "only {changes} changes were seen");
    assert_eq!(removals, 5);
}

/// What a guest writes on its disk is not the host's business: no link to it, and nobody who opens it.
#[test]
fn a_guests_labels_do_not_show_on_the_host() {
    need_host!();
    if !std::path::Path::new("/run/udev/control").exists() {
        let mut stderr = std::io::stderr();
        writeln!(stderr, "SKIPPED: no udevd here").unwrap();
        return;
    }
    let (test, pool) = TestPool::active(SIZE);
    let disk = active_volume(&pool, 1, DISK);
    let label = uuid::Uuid::new_v4().to_string();
    run(
        "mkswap",
        &["-U", &label, "-L", &label, disk.path().to_str().unwrap()],
    );
    snapshot(&pool, 2, 1);
    pool.activate_volume(&volume(2, DISK), Access::ReadWrite)
        .unwrap();
    pool.resize_volume(&volume(2, Bytes::mib(32))).unwrap();
    // As somebody does who is curious, or an update of udev.
    run(
        "udevadm",
        &["trigger", "--settle", "--subsystem-match=block"],
    );
    for directory in std::fs::read_dir("/dev/disk").unwrap() {
        for link in std::fs::read_dir(directory.unwrap().path()).unwrap() {
            let link = link.unwrap().path();
            assert!(!link.to_string_lossy().contains(&label), "{link:?}");
            let target = std::fs::canonicalize(&link).unwrap_or_default();
            assert_ne!(target, disk.path(), "{link:?}");
        }
    }
    for n in [1, 2] {
        pool.deactivate_volume(id(n), volume(n, DISK).uuid).unwrap();
    }
    Pool::destroy(&test.spec).unwrap();
    test.assert_nothing_left();
}

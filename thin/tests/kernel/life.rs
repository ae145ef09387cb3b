//! A pool's life: format, activate, deactivate, destroy; on files and on devices.

use std::os::unix::fs::MetadataExt;

use fvm_thin::{
    Access, Backing, Bytes, Error, Flush, Outcome, Pool, PoolMode, PoolSpec, TransactionId, probe,
};
use uuid::Uuid;

use crate::host::{TestPool, active_volume, dmsetup, need_host, run, volume};

const SIZE: Bytes = Bytes::mib(128);

#[test]
fn the_host_can_have_a_pool() {
    need_host!();
    probe().unwrap();
}

#[test]
fn a_pool_comes_and_goes_without_a_trace() {
    need_host!();
    let test = TestPool::new(SIZE);
    Pool::format(&test.spec).unwrap();
    let metadata_size = test.spec.metadata_size();
    for (file, length) in [
        ("data", SIZE),
        ("meta", metadata_size),
        ("spare", metadata_size),
    ] {
        let found = std::fs::metadata(test.path(file)).unwrap();
        assert_eq!(found.len(), (length + Bytes::mib(2)).0, "{file}");
        assert_eq!(found.mode() & 0o7777, 0o600, "{file}");
        let allocated = found.blocks() * 512;
        if file == "data" {
            assert!(allocated < 1 << 20, "the data file is not sparse");
        } else {
            assert!(allocated >= found.len(), "{file} is not preallocated");
        }
    }

    let pool = Pool::activate(test.spec.clone()).unwrap();
    let status = pool.status(Flush::Commit).unwrap();
    assert_eq!(status.transaction, TransactionId(0));
    assert_eq!(status.mode, PoolMode::ReadWrite);
    assert!(!status.needs_check && status.error_if_no_space);
    assert_eq!(status.discards, fvm_thin::Discards::Passdown);
    assert_eq!(status.data.total, SIZE);
    assert_eq!(status.data.used, Bytes(0));
    assert_eq!(status.metadata.total, metadata_size);

    // With other people's eyes.
    let table = dmsetup(&["table", &test.dm_name("pool")]);
    assert!(table.starts_with("0 262144 thin-pool "), "{table}");
    assert!(table.ends_with(" 128 0 1 error_if_no_space"), "{table}");
    let data = dmsetup(&["table", &test.dm_name("data")]);
    assert!(
        data.starts_with("0 262144 linear 7:") && data.ends_with(" 2048"),
        "{data}"
    );

    assert_eq!(Pool::deactivate(&test.spec).unwrap(), Outcome::Changed);
    assert_eq!(Pool::deactivate(&test.spec).unwrap(), Outcome::Unchanged);
    assert_eq!(test.devices_left(), 0);
    Pool::destroy(&test.spec).unwrap();
    test.assert_nothing_left();
    // Again: nothing to do.
    Pool::destroy(&test.spec).unwrap();
}

#[test]
fn loop_devices_are_as_asked_for() {
    need_host!();
    let (test, pool) = TestPool::active(SIZE);
    let loops = pool.loops().unwrap();
    assert_eq!(loops.len(), 2);
    for state in &loops {
        assert!(state.autoclear && state.direct_io, "{state:?}");
        let device = state.device.to_str().unwrap();
        let seen = run(
            "losetup",
            &["-n", "-O", "AUTOCLEAR,PARTSCAN,RO,DIO,OFFSET", "-l", device],
        );
        let seen: Vec<_> = seen.split_whitespace().collect();
        assert_eq!(seen, ["1", "0", "0", "1", "0"]);
    }
    assert_eq!(loops[0].file, test.path("data"));
    drop(pool);
    Pool::destroy(&test.spec).unwrap();
    test.assert_nothing_left();
}

#[test]
fn an_active_pool_is_adopted_and_left_alone() {
    need_host!();
    let (test, pool) = TestPool::active(SIZE);
    let disk = active_volume(&pool, 1, Bytes::mib(64));
    let look = || {
        ["data", "meta", "pool", "1"].map(|suffix| {
            let name = test.dm_name(suffix);
            dmsetup(&[
                "info",
                "-c",
                "--noheadings",
                "-o",
                "major,minor,events",
                &name,
            ])
        })
    };
    let before = look();
    let again = Pool::activate(test.spec.clone()).unwrap();
    assert_eq!(look(), before);
    assert_eq!(
        again.status(Flush::None).unwrap(),
        pool.status(Flush::None).unwrap()
    );

    let busy = Pool::deactivate(&test.spec).unwrap_err();
    assert!(matches!(busy, Error::Busy { .. }), "{busy}");
    let busy = Pool::destroy(&test.spec).unwrap_err();
    assert!(matches!(busy, Error::Busy { .. }), "{busy}");
    assert_eq!(look(), before);
    assert!(test.path("data").exists());
    let file = disk.open(Access::ReadWrite).unwrap();
    drop(file);
}

#[test]
fn what_is_in_a_pool_survives_it_being_down() {
    need_host!();
    let (test, pool) = TestPool::active(SIZE);
    let disk = active_volume(&pool, 7, Bytes::mib(64));
    crate::host::fill(&disk, 1 << 20, 65536, 0x77).unwrap();
    let spec = volume(7, Bytes::mib(64));
    pool.deactivate_volume(spec.id, spec.uuid).unwrap();
    Pool::deactivate(&test.spec).unwrap();
    let pool = Pool::activate(test.spec.clone()).unwrap();
    assert_eq!(crate::host::transaction(&pool), TransactionId(1));
    let disk = pool.activate_volume(&spec, Access::ReadOnly).unwrap();
    assert!(
        crate::host::read(&disk, 1 << 20, 65536)
            .iter()
            .all(|&byte| byte == 0x77)
    );
}

/// Data, metadata and spare on devices of their own.
fn on_devices(test: &TestPool, data: Bytes) -> PoolSpec {
    let device = |name: &str, size: Bytes| Backing::Device {
        path: test.make_loop(name, size),
    };
    PoolSpec {
        data: device("disk-data", data),
        metadata: device("disk-meta", Bytes::mib(20)),
        spare: device("disk-spare", Bytes::mib(20)),
        ..test.spec.clone()
    }
}

#[test]
fn a_pool_on_devices() {
    need_host!();
    let mut test = TestPool::new(SIZE);
    let mut spec = on_devices(&test, Bytes(SIZE.0 + 100_352));
    spec.data_size = Pool::capacity(&spec.data, spec.chunk).unwrap();
    assert_eq!(spec.data_size, SIZE - Bytes::mib(2) + Bytes::kib(64));
    test.spec = spec;
    Pool::format(&test.spec).unwrap();
    let pool = Pool::activate(test.spec.clone()).unwrap();
    assert_eq!(
        pool.status(Flush::None).unwrap().data.total,
        test.spec.data_size
    );
    assert_eq!(pool.loops().unwrap(), []);
    Pool::destroy(&test.spec).unwrap();
    assert_eq!(test.devices_left(), 0);
    // The devices are empty again, so another pool can have them.
    let other = PoolSpec {
        uuid: Uuid::new_v4(),
        ..test.spec.clone()
    };
    Pool::format(&other).unwrap();
    Pool::destroy(&other).unwrap();
}

#[test]
fn what_holds_something_is_not_taken() {
    need_host!();
    let mut test = TestPool::new(SIZE);
    let spec = on_devices(&test, Bytes(SIZE.0 + (4 << 20)));
    test.spec = spec.clone();
    let spare = spec.spare.path().to_owned();

    // The last of the three: the others must be as they were.
    run("mkswap", &[spare.to_str().unwrap()]);
    let head = |path: &std::path::Path| std::fs::read(path).unwrap();
    let before = head(&test.path("disk-spare"));
    let error = Pool::format(&spec).unwrap_err();
    assert!(
        matches!(&error, Error::Occupied { path, holds } if *path == spare && holds == "swap space"),
        "{error}"
    );
    run("sync", &[]);
    assert!(head(&test.path("disk-spare")) == before);
    for name in ["disk-data", "disk-meta"] {
        assert!(
            head(&test.path(name)).iter().all(|&byte| byte == 0),
            "{name}"
        );
    }

    run("swapon", &[spare.to_str().unwrap()]);
    let error = Pool::format(&spec).unwrap_err();
    run("swapoff", &[spare.to_str().unwrap()]);
    assert!(
        matches!(&error, Error::Occupied { holds, .. } if holds.contains("in use")),
        "{error}"
    );
}

#[test]
fn another_pools_files_are_not_taken() {
    need_host!();
    let files = TestPool::new(SIZE);
    Pool::format(&files.spec).unwrap();
    let thief = PoolSpec {
        uuid: Uuid::new_v4(),
        ..files.spec.clone()
    };
    let error = Pool::format(&thief).unwrap_err();
    assert!(matches!(&error, Error::Occupied { .. }), "{error}");
    let error = Pool::format(&files.spec).unwrap_err();
    assert!(matches!(&error, Error::AlreadyFormatted { .. }), "{error}");
    let error = Pool::activate(thief.clone()).unwrap_err();
    assert!(matches!(&error, Error::NotOurs { .. }), "{error}");
    let error = Pool::destroy(&thief).unwrap_err();
    assert!(
        matches!(&error, Error::Several(all) if all.len() == 3),
        "{error}"
    );
    Pool::activate(files.spec.clone()).unwrap();
    Pool::destroy(&files.spec).unwrap();
    files.assert_nothing_left();

    // A file with content, and a directory.
    std::fs::write(files.path("spare"), "precious").unwrap();
    let error = Pool::format(&files.spec).unwrap_err();
    assert!(matches!(&error, Error::Occupied { .. }), "{error}");
    assert_eq!(std::fs::read(files.path("spare")).unwrap(), b"precious");
    assert!(!files.path("data").exists() && !files.path("meta").exists());
}

#[test]
fn a_device_that_is_too_small_is_not_taken() {
    need_host!();
    let mut test = TestPool::new(SIZE);
    test.spec = on_devices(&test, SIZE);
    let error = Pool::format(&test.spec).unwrap_err();
    assert!(matches!(&error, Error::TooSmall { .. }), "{error}");
    assert!(
        std::fs::read(test.path("disk-data"))
            .unwrap()
            .iter()
            .all(|&b| b == 0)
    );
}

#[test]
fn metadata_that_are_damaged_are_not_activated_and_nothing_is_left() {
    need_host!();
    let test = TestPool::new(SIZE);
    Pool::format(&test.spec).unwrap();
    use std::os::unix::fs::FileExt;
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(test.path("meta"))
        .unwrap();
    file.write_all_at(&[0xee; 4096], 1 << 20).unwrap();
    file.sync_all().unwrap();
    let error = Pool::activate(test.spec.clone()).unwrap_err();
    assert!(matches!(&error, Error::DeviceMapper { .. }), "{error}");
    assert_eq!(test.devices_left(), 0);
    crate::host::eventually("autoclear", || test.loops_left() == 0);
}

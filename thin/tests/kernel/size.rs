//! Growing: volumes, pools, and the event that says it is time.

use std::time::Duration;

use fvm_thin::{
    Access, Backing, Bytes, Error, EventWatch, Flush, Outcome, Pool, PoolMode, PoolSpec,
};

use crate::host::{TestPool, active_volume, dmsetup, fill, need_host, read, transaction, volume};

const CHUNK: usize = 64 << 10;

#[test]
fn a_volume_grows_while_it_is_open() {
    need_host!();
    let (_test, pool) = TestPool::active(Bytes::mib(128));
    let disk = active_volume(&pool, 1, Bytes::mib(32));
    let file = disk.open(Access::ReadWrite).unwrap();
    fill(&disk, (32 << 20) - CHUNK as u64, CHUNK, 1).unwrap();
    assert!(fill(&disk, 32 << 20, CHUNK, 2).is_err());
    let grown = pool.resize_volume(&volume(1, Bytes::mib(48))).unwrap();
    assert_eq!(
        (grown.outcome(), grown.number()),
        (Outcome::Changed, disk.number())
    );
    fill(&grown, 32 << 20, CHUNK, 2).unwrap();
    assert_eq!(
        read(&grown, (32 << 20) - CHUNK as u64, CHUNK),
        vec![1; CHUNK]
    );
    drop(file);
    // Activation takes the larger size of the store, and refuses a smaller one.
    let grown = pool
        .activate_volume(&volume(1, Bytes::mib(64)), Access::ReadWrite)
        .unwrap();
    assert_eq!(grown.outcome(), Outcome::Changed);
    let error = pool
        .activate_volume(&volume(1, Bytes::mib(32)), Access::ReadWrite)
        .unwrap_err();
    assert!(matches!(error, Error::OtherTable { .. }), "{error}");
    // Shrinking is asked for by its own name, after the tail was discarded.
    grown.discard_range(Bytes::mib(32), Bytes::mib(32)).unwrap();
    pool.resize_volume(&volume(1, Bytes::mib(32))).unwrap();
    let again = pool.resize_volume(&volume(1, Bytes::mib(64))).unwrap();
    assert_eq!(read(&again, 32 << 20, CHUNK), vec![0; CHUNK]);
    assert!(matches!(
        pool.resize_volume(&volume(2, Bytes::mib(64))).unwrap_err(),
        Error::NotActive { .. }
    ));
}

#[test]
fn a_full_pool_is_extended_and_goes_on() {
    need_host!();
    let (test, pool) = TestPool::active(Bytes::mib(16));
    let disk = active_volume(&pool, 1, Bytes::mib(64));
    fill(&disk, 0, 8 << 20, 1).unwrap();
    assert!(fill(&disk, 8 << 20, 32 << 20, 2).is_err());
    assert_eq!(
        pool.status(Flush::None).unwrap().mode,
        PoolMode::OutOfDataSpace
    );

    let larger = PoolSpec {
        data_size: Bytes::mib(80),
        ..test.spec.clone()
    };
    pool.grow_backings(larger.data_size).unwrap();
    // A crash here: the store still has the old size.
    let same = Pool::activate(test.spec.clone()).unwrap();
    assert_eq!(same.status(Flush::None).unwrap().data.total, Bytes::mib(16));
    let pool = Pool::activate(larger.clone()).unwrap();
    let status = pool.status(Flush::Commit).unwrap();
    assert_eq!(status.data.total, Bytes::mib(80));
    assert!(status.is_well(), "{status:?}");
    fill(&disk, 8 << 20, 32 << 20, 2).unwrap();
    assert_eq!(read(&disk, 0, CHUNK), vec![1; CHUNK]);
    // Not backwards.
    let error = Pool::activate(test.spec.clone()).unwrap_err();
    assert!(matches!(error, Error::OtherTable { .. }), "{error}");
    assert!(pool.grow_backings(Bytes::mib(16)).is_err());
    assert!(pool.loops().unwrap().iter().all(|state| state.direct_io));
}

/// Metadata grow with the data where they have to, while the pool runs.
#[test]
fn metadata_grow_with_the_pool() {
    need_host!();
    let (test, pool) = TestPool::active(Bytes::gib(1));
    let disk = active_volume(&pool, 1, Bytes::mib(64));
    fill(&disk, 0, 8 << 20, 1).unwrap();
    let before = pool.status(Flush::None).unwrap().metadata.total;
    let larger = PoolSpec {
        data_size: Bytes::gib(64),
        ..test.spec.clone()
    };
    assert!(larger.metadata_size() > before);
    pool.grow_backings(larger.data_size).unwrap();
    let pool = Pool::activate(larger.clone()).unwrap();
    let status = pool.status(Flush::Commit).unwrap();
    assert_eq!(status.metadata.total, larger.metadata_size());
    assert_eq!(status.data.total, larger.data_size);
    let spare = std::fs::metadata(test.path("spare")).unwrap().len();
    assert_eq!(Bytes(spare), larger.metadata_size() + Bytes::mib(2));
    assert_eq!(read(&disk, 0, CHUNK), vec![1; CHUNK]);
    assert_eq!(transaction(&pool).0, 1);
}

#[test]
fn a_device_without_room_cannot_be_extended() {
    need_host!();
    let mut test = TestPool::new(Bytes::mib(30));
    test.spec = PoolSpec {
        data: Backing::Device {
            path: test.make_loop("disk", Bytes::mib(32)),
        },
        ..test.spec.clone()
    };
    Pool::format(&test.spec).unwrap();
    let pool = Pool::activate(test.spec.clone()).unwrap();
    let error = pool.grow_backings(Bytes::mib(31)).unwrap_err();
    assert!(
        matches!(error, Error::TooSmall { has, .. } if has == Bytes::mib(30)),
        "{error}"
    );
}

#[test]
fn the_low_water_event_wakes_a_watcher() {
    need_host!();
    let mut test = TestPool::new(Bytes::mib(32));
    test.spec.low_water = Bytes::mib(16);
    Pool::format(&test.spec).unwrap();
    let pool = Pool::activate(test.spec.clone()).unwrap();
    assert!(dmsetup(&["table", &test.dm_name("pool")]).contains(" 128 256 1 "));
    let disk = active_volume(&pool, 1, Bytes::mib(32));
    let watch = EventWatch::new().unwrap();
    let name = test.dm_name("pool");
    let events = || dmsetup(&["info", "-c", "--noheadings", "-o", "events", &name]);
    let before = events();
    std::thread::scope(|scope| {
        let watch = &watch;
        // Events of other tests' pools wake it as well: it has to look, as the manager does.
        let woken = scope.spawn(move || {
            crate::host::eventually("a low-water event", || {
                watch.wait(Duration::from_secs(10)).unwrap() && events() != before
            });
        });
        fill(&disk, 0, 20 << 20, 1).unwrap();
        woken.join().unwrap();
    });
}

/// No event since the last look, and it says so; an event before the wait, and it does not wait.
#[test]
fn a_watch_misses_nothing_and_invents_nothing() {
    need_host!();
    let (_test, pool) = TestPool::active(Bytes::mib(16));
    let disk = active_volume(&pool, 1, Bytes::mib(64));
    let watch = EventWatch::new().unwrap();
    // Out of space: the pool changes its mode, which is an event.
    assert!(fill(&disk, 0, 32 << 20, 1).is_err());
    assert!(watch.wait(Duration::from_secs(10)).unwrap());
    crate::host::eventually("quiet", || !watch.wait(Duration::ZERO).unwrap());
}

#[test]
fn another_low_water_mark_is_taken_over() {
    need_host!();
    let (test, _pool) = TestPool::active(Bytes::mib(32));
    let spec = PoolSpec {
        low_water: Bytes::mib(4),
        ..test.spec.clone()
    };
    Pool::activate(spec).unwrap();
    assert!(dmsetup(&["table", &test.dm_name("pool")]).contains(" 128 64 1 "));
}

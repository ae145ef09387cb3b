//! Volumes: active or not, open or not, ours or not; many of them.

use fvm_thin::names::Kind;
use fvm_thin::{Access, Bytes, Error, Flush, Message, Outcome, Pool, VolumeSpec, active_devices};
use uuid::Uuid;

use crate::host::{
    TestPool, active_volume, create, dmsetup, fill, id, need_host, read, snapshot, transaction,
    volume,
};

const SIZE: Bytes = Bytes::mib(256);
const DISK: Bytes = Bytes::mib(32);
const CHUNK: usize = 64 << 10;

#[test]
fn activating_twice_and_deactivating_twice_is_harmless() {
    need_host!();
    let (test, pool) = TestPool::active(SIZE);
    create(&pool, [1]);
    let spec = volume(1, DISK);
    let first = pool.activate_volume(&spec, Access::ReadWrite).unwrap();
    let second = pool.activate_volume(&spec, Access::ReadWrite).unwrap();
    assert_eq!(
        (first.outcome(), second.outcome()),
        (Outcome::Changed, Outcome::Unchanged)
    );
    assert_eq!(first.number(), second.number());
    assert_eq!(first.name(), test.dm_name(1));
    let uuid = dmsetup(&["info", "-c", "--noheadings", "-o", "uuid", &first.name()]);
    let expected = format!("FVM-{}-{}", test.spec.uuid.simple(), spec.uuid.simple());
    assert_eq!(uuid, expected);
    assert_eq!(
        pool.deactivate_volume(spec.id, spec.uuid).unwrap(),
        Outcome::Changed
    );
    assert_eq!(
        pool.deactivate_volume(spec.id, spec.uuid).unwrap(),
        Outcome::Unchanged
    );
    assert_eq!(pool.volumes().unwrap(), []);
    // Its node is gone, or another device's by now: this handle opens neither.
    assert!(first.open(Access::ReadOnly).is_err());
}

/// Minor numbers are used again at once: an old handle must not open the disk that has the number now.
#[test]
fn an_old_handle_never_opens_another_volume() {
    need_host!();
    let test = TestPool::alone(SIZE);
    Pool::format(&test.spec).unwrap();
    let pool = Pool::activate(test.spec.clone()).unwrap();
    create(&pool, [1, 2]);
    let spec = volume(1, DISK);
    let old = pool.activate_volume(&spec, Access::ReadWrite).unwrap();
    pool.deactivate_volume(spec.id, spec.uuid).unwrap();
    let new = pool
        .activate_volume(&volume(2, DISK), Access::ReadWrite)
        .unwrap();
    assert_eq!(old.path(), new.path());
    assert!(old.open(Access::ReadWrite).is_err());
    assert!(old.discard().is_err());
    new.open(Access::ReadWrite).unwrap();
}

#[test]
fn access_is_the_kernels_matter() {
    need_host!();
    let (test, pool) = TestPool::active(SIZE);
    let disk = active_volume(&pool, 1, DISK);
    fill(&disk, 0, CHUNK, 1).unwrap();
    let disk = pool
        .activate_volume(&volume(1, DISK), Access::ReadOnly)
        .unwrap();
    assert_eq!(disk.outcome(), Outcome::Changed);
    assert!(disk.open(Access::ReadWrite).is_err());
    // Somebody who does not ask us is stopped by the kernel.
    use std::io::Write;
    let written = std::fs::OpenOptions::new()
        .write(true)
        .open(disk.path())
        .and_then(|mut file| file.write_all(&[9; CHUNK]).and_then(|()| file.sync_all()));
    assert!(written.is_err());
    assert!(disk.discard().is_err());
    assert_eq!(read(&disk, 0, CHUNK), vec![1; CHUNK]);
    assert_eq!(
        dmsetup(&[
            "info",
            "-c",
            "--noheadings",
            "-o",
            "readonly",
            &test.dm_name(1)
        ]),
        "Read-only"
    );
    assert!(pool.volumes().unwrap()[0].read_only);
    let disk = pool
        .activate_volume(&volume(1, DISK), Access::ReadWrite)
        .unwrap();
    fill(&disk, 0, CHUNK, 2).unwrap();
}

#[test]
fn a_volume_in_use_stays() {
    need_host!();
    let (_test, pool) = TestPool::active(SIZE);
    let disk = active_volume(&pool, 1, DISK);
    let file = disk.open(Access::ReadOnly).unwrap();
    let error = pool
        .deactivate_volume(id(1), volume(1, DISK).uuid)
        .unwrap_err();
    assert!(
        matches!(
            &error,
            Error::Busy {
                open_count: 1..,
                ..
            }
        ),
        "{error}"
    );
    assert!(pool.volumes().unwrap()[0].open_count >= 1);
    drop(file);
    assert_eq!(
        pool.deactivate_volume(id(1), volume(1, DISK).uuid).unwrap(),
        Outcome::Changed
    );
}

#[test]
fn a_volume_that_the_pool_has_not_cannot_be_activated_and_leaves_nothing() {
    need_host!();
    let (test, pool) = TestPool::active(SIZE);
    let before = test.devices_left();
    let error = pool
        .activate_volume(&volume(404, DISK), Access::ReadWrite)
        .unwrap_err();
    assert_eq!(
        error.raw_os_error(),
        Some(nix::errno::Errno::ENODATA as i32),
        "{error}"
    );
    assert_eq!(test.devices_left(), before);
    for size in [Bytes(0), Bytes(513)] {
        let error = pool
            .activate_volume(&volume(1, size), Access::ReadWrite)
            .unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }));
    }
}

#[test]
fn what_is_not_ours_is_not_touched() {
    need_host!();
    let (test, pool) = TestPool::active(SIZE);
    create(&pool, [5, 6]);
    // Somebody else's, under a name that we would use, and under a name that looks like ours.
    let names = [test.dm_name(5), test.dm_name("scratch")];
    for name in &names {
        dmsetup(&[
            "create",
            name,
            "--uuid",
            &format!("LVM-{name}"),
            "--table",
            "0 2048 zero",
        ]);
    }
    let look = || names.each_ref().map(|name| dmsetup(&["table", name]));
    let ours: Vec<_> = active_devices()
        .unwrap()
        .into_iter()
        .map(|device| device.identity.name())
        .collect();
    assert!(names.iter().all(|name| !ours.contains(name)));
    let spec = volume(5, DISK);
    let error = pool.activate_volume(&spec, Access::ReadWrite).unwrap_err();
    assert!(
        matches!(&error, Error::NameTaken { found, .. } if found.starts_with("LVM-")),
        "{error}"
    );
    assert_eq!(
        pool.deactivate_volume(spec.id, spec.uuid).unwrap(),
        Outcome::Unchanged
    );
    // A snapshot of it would need its device suspended, and that is not ours.
    let message = Message::CreateSnap {
        id: id(7),
        origin: id(5),
    };
    assert!(pool.commit(transaction(&pool), &[message]).is_err());
    assert_eq!(look(), ["0 2048 zero", "0 2048 zero"]);
    assert_eq!(pool.volumes().unwrap(), []);
    for name in &names {
        dmsetup(&["remove", name]);
    }
    // The same volume under another number is not this one either.
    let disk = pool.activate_volume(&spec, Access::ReadWrite).unwrap();
    let confused = VolumeSpec { id: id(6), ..spec };
    let error = pool
        .activate_volume(&confused, Access::ReadWrite)
        .unwrap_err();
    assert!(matches!(error, Error::NameTaken { .. }), "{error}");
    assert!(disk.path().exists());
}

#[test]
fn two_hundred_volumes() {
    need_host!();
    const COUNT: u64 = 200;
    let (test, pool) = TestPool::active(SIZE);
    let base = active_volume(&pool, 1, DISK);
    fill(&base, 0, CHUNK, 0xba).unwrap();
    pool.deactivate_volume(id(1), volume(1, DISK).uuid).unwrap();
    let clean = pool.status(Flush::Commit).unwrap();

    let numbers = 1000..1000 + COUNT;
    let snapshots: Vec<_> = numbers
        .clone()
        .map(|n| Message::CreateSnap {
            id: id(n),
            origin: id(1),
        })
        .collect();
    pool.commit(transaction(&pool), &snapshots).unwrap();
    // From several threads, as the manager does it.
    std::thread::scope(|scope| {
        for part in 0..4 {
            let (pool, numbers) = (&pool, numbers.clone());
            scope.spawn(move || {
                for n in numbers.filter(|n| n % 4 == part) {
                    let disk = pool
                        .activate_volume(&volume(n, DISK), Access::ReadWrite)
                        .unwrap();
                    fill(&disk, CHUNK as u64, 4096, n as u8).unwrap();
                }
            });
        }
    });
    let active = pool.volumes().unwrap();
    let ids: Vec<_> = active
        .iter()
        .map(|device| match device.identity.kind {
            Kind::Volume { id, .. } => u64::from(id),
            Kind::Part(part) => panic!("{part:?} is no volume"),
        })
        .collect();
    assert_eq!(ids, numbers.clone().collect::<Vec<_>>());
    assert!(active.iter().all(|d| d.has_table && !d.suspended));
    assert_eq!(test.devices_left(), COUNT as usize + 3);
    for n in numbers.clone() {
        let disk = pool
            .activate_volume(&volume(n, DISK), Access::ReadWrite)
            .unwrap();
        assert_eq!(disk.outcome(), Outcome::Unchanged);
        assert_eq!(read(&disk, 0, 4096)[0], 0xba);
        assert_eq!(read(&disk, CHUNK as u64, 4096)[4095], n as u8);
        disk.discard().unwrap();
        pool.deactivate_volume(id(n), volume(n, DISK).uuid).unwrap();
    }
    let deletions: Vec<_> = numbers.map(|n| Message::Delete { id: id(n) }).collect();
    pool.commit(transaction(&pool), &deletions).unwrap();
    assert_eq!(pool.volumes().unwrap(), []);
    assert_eq!(test.devices_left(), 3);
    let after = pool.status(Flush::Commit).unwrap();
    assert_eq!(after.data, clean.data);
    assert!(
        after.metadata.used <= clean.metadata.used + Bytes::kib(64),
        "{after:?}"
    );
}

#[test]
fn discarding_gives_back_to_pool_and_host_but_not_what_is_shared() {
    need_host!();
    use std::os::unix::fs::MetadataExt;
    let (test, pool) = TestPool::active(SIZE);
    let base = active_volume(&pool, 1, DISK);
    fill(&base, 0, 8 * CHUNK, 0xba).unwrap();
    snapshot(&pool, 2, 1);
    let copy = pool
        .activate_volume(&volume(2, DISK), Access::ReadWrite)
        .unwrap();
    fill(&copy, 16 << 20, 256 * CHUNK, 0xcc).unwrap();
    let on_host = || {
        nix::unistd::sync();
        std::fs::metadata(test.path("data")).unwrap().blocks() * 512
    };
    let used = || pool.status(Flush::Commit).unwrap().data.used;
    assert_eq!(used(), Bytes(264 * CHUNK as u64));
    assert_eq!(
        pool.mapped(id(2), volume(2, DISK).uuid).unwrap().bytes,
        used()
    );
    let full = on_host();
    assert!(full >= 264 * CHUNK as u64);

    copy.discard_range(Bytes(16 << 20), Bytes(128 * CHUNK as u64))
        .unwrap();
    assert_eq!(used(), Bytes(136 * CHUNK as u64));
    copy.discard().unwrap();
    assert_eq!(used(), Bytes(8 * CHUNK as u64));
    assert_eq!(
        pool.mapped(id(2), volume(2, DISK).uuid).unwrap().bytes,
        Bytes(0)
    );
    assert!(
        on_host() <= full - 250 * CHUNK as u64,
        "{} of {full}",
        on_host()
    );
    assert_eq!(read(&base, 0, 8 * CHUNK), vec![0xba; 8 * CHUNK]);
    assert_eq!(read(&copy, 0, CHUNK), vec![0; CHUNK]);
}

/// With zeroing on, what a deleted volume left is never seen.
#[test]
fn a_new_volume_never_shows_an_old_one() {
    need_host!();
    let (_test, pool) = TestPool::active(Bytes::mib(16));
    let old = active_volume(&pool, 1, Bytes::mib(16));
    fill(&old, 0, 15 << 20, 0xee).unwrap();
    pool.deactivate_volume(id(1), volume(1, DISK).uuid).unwrap();
    pool.commit(transaction(&pool), &[Message::Delete { id: id(1) }])
        .unwrap();
    let new = active_volume(&pool, 2, Bytes::mib(16));
    for chunk in 0..200 {
        fill(&new, chunk * CHUNK as u64, 512, 0x01).unwrap();
    }
    let found = read(&new, 0, 200 * CHUNK);
    assert!(found.iter().all(|&byte| byte == 0 || byte == 1));
    assert_eq!(found.iter().filter(|&&byte| byte == 1).count(), 200 * 512);
}

#[test]
fn a_pool_that_is_down_has_no_volumes() {
    need_host!();
    let (test, pool) = TestPool::active(SIZE);
    create(&pool, [1]);
    Pool::deactivate(&test.spec).unwrap();
    for error in [
        pool.activate_volume(&volume(1, DISK), Access::ReadWrite)
            .unwrap_err(),
        pool.status(Flush::None).unwrap_err(),
        pool.mapped(id(1), Uuid::nil()).unwrap_err(),
        pool.loops().unwrap_err(),
    ] {
        assert!(matches!(error, Error::NotActive { .. }), "{error}");
    }
}

/// Whoever comes first makes the device, and all get the same.
#[test]
fn one_volume_from_many_threads() {
    need_host!();
    let (test, pool) = TestPool::active(SIZE);
    create(&pool, [1]);
    for _ in 0..10 {
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        let disk = pool.activate_volume(&volume(1, DISK), Access::ReadWrite)?;
                        fill(&disk, 0, 4096, 1).unwrap();
                        Ok::<_, Error>(disk.number())
                    })
                })
                .collect();
            let numbers: Vec<_> = threads
                .into_iter()
                .map(|thread| thread.join().unwrap().unwrap())
                .collect();
            assert!(numbers.iter().all(|number| *number == numbers[0]));
        });
        assert_eq!(test.devices_left(), 4);
        pool.deactivate_volume(id(1), volume(1, DISK).uuid).unwrap();
    }
}

/// The origin is activated, deactivated and used while snapshots of it are taken.
#[test]
fn snapshots_of_an_origin_that_comes_and_goes() {
    need_host!();
    use std::sync::atomic::{AtomicBool, Ordering};
    let (_test, pool) = TestPool::active(SIZE);
    active_volume(&pool, 1, DISK);
    let (spec, done) = (volume(1, DISK), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    pool.activate_volume(&spec, Access::ReadWrite).unwrap();
                    // The other thread may have it open.
                    match pool.deactivate_volume(spec.id, spec.uuid) {
                        Ok(_) | Err(Error::Busy { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
        for n in 100..120 {
            snapshot(&pool, n, 1);
        }
        done.store(true, Ordering::Relaxed);
    });
    pool.activate_volume(&spec, Access::ReadWrite).unwrap();
    assert!(pool.volumes().unwrap().iter().all(|disk| !disk.suspended));
    assert_eq!(transaction(&pool).0, 21);
}

//! Transactions: what is acknowledged is there, what is not is told.

use std::os::unix::fs::FileExt;

use fvm_thin::recovery::{Pending, PendingKind, Recovery, plan};
use fvm_thin::{
    Access, Bytes, Error, Flush, KernelState, Message, Pool, PoolMode, ThinId, TransactionId,
};

use crate::host::{
    TestPool, active_volume, create, dmsetup, fill, id, let_metadata_writes_fail, need_host,
    on_flaky_metadata, read, run, snapshot, transaction, volume,
};

const SIZE: Bytes = Bytes::mib(128);
const DISK: Bytes = Bytes::mib(32);
const CHUNK: usize = 64 << 10;

/// The ids that the metadata hold, on disk, by `thin_dump`; the pool must not be changed meanwhile.
fn ids_on_disk(test: &TestPool, pool: &Pool) -> Vec<u32> {
    pool.status(Flush::Commit).unwrap();
    let node = format!("/dev/mapper/{}", test.dm_name("meta"));
    let number = dmsetup(&[
        "info",
        "-c",
        "--noheadings",
        "-o",
        "minor",
        &test.dm_name("meta"),
    ]);
    let node = if std::path::Path::new(&node).exists() {
        node
    } else {
        format!("/dev/dm-{number}")
    };
    dmsetup(&[
        "message",
        &test.dm_name("pool"),
        "0",
        "reserve_metadata_snap",
    ]);
    let dump = run("thin_dump", &["--metadata-snap", &node]);
    dmsetup(&[
        "message",
        &test.dm_name("pool"),
        "0",
        "release_metadata_snap",
    ]);
    dump.split("<device dev_id=\"")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap().parse().unwrap())
        .collect()
}

#[test]
fn a_batch_is_one_transaction() {
    need_host!();
    let (test, pool) = TestPool::active(SIZE);
    let messages: Vec<_> = [3, 1, 2].map(|n| Message::CreateThin { id: id(n) }).into();
    assert_eq!(
        pool.commit(TransactionId(0), &messages).unwrap(),
        TransactionId(1)
    );
    let messages = [
        Message::CreateSnap {
            id: id(9),
            origin: id(3),
        },
        Message::Delete { id: id(1) },
        Message::Delete { id: id(12345) },
        Message::CreateSnap {
            id: ThinId::MAX,
            origin: id(9),
        },
    ];
    assert_eq!(
        pool.commit(TransactionId(1), &messages).unwrap(),
        TransactionId(2)
    );
    assert_eq!(
        pool.commit(TransactionId(2), &[]).unwrap(),
        TransactionId(3)
    );
    assert_eq!(transaction(&pool), TransactionId(3));
    assert_eq!(ids_on_disk(&test, &pool), [2, 3, 9, 0xff_ffff]);
}

#[test]
fn a_snapshot_holds_what_its_origin_held_and_neither_sees_the_other() {
    need_host!();
    let (test, pool) = TestPool::active(SIZE);
    let origin = active_volume(&pool, 1, DISK);
    fill(&origin, 0, 4 * CHUNK, 0x11).unwrap();
    snapshot(&pool, 2, 1);
    // The origin was suspended meanwhile, and runs again.
    assert!(!pool.volumes().unwrap()[0].suspended);
    assert_eq!(
        dmsetup(&[
            "info",
            "-c",
            "--noheadings",
            "-o",
            "suspended",
            &test.dm_name(1)
        ]),
        "Active"
    );
    let copy = pool
        .activate_volume(&volume(2, DISK), Access::ReadWrite)
        .unwrap();
    fill(&origin, 0, CHUNK, 0x22).unwrap();
    fill(&copy, CHUNK as u64, CHUNK, 0x33).unwrap();
    for (disk, expected) in [
        (&origin, [0x22, 0x11, 0x11, 0x11]),
        (&copy, [0x11, 0x33, 0x11, 0x11]),
    ] {
        let found: Vec<u8> = read(disk, 0, 4 * CHUNK)
            .chunks(CHUNK)
            .map(|chunk| {
                assert!(chunk.iter().all(|byte| *byte == chunk[0]));
                chunk[0]
            })
            .collect();
        assert_eq!(found, expected);
    }
    // Four written, two copied.
    assert_eq!(
        pool.status(Flush::None).unwrap().data.used,
        Bytes(6 * CHUNK as u64)
    );
}

/// A writer that never pauses must find all of its acknowledged writes in a snapshot taken under it.
#[test]
fn a_snapshot_under_load_holds_every_write_acknowledged_before_it() {
    need_host!();
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    let (_test, pool) = TestPool::active(SIZE);
    let origin = active_volume(&pool, 1, DISK);
    let blocks = DISK.0 / 4096;
    let (acknowledged, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let file = origin.open(Access::ReadWrite).unwrap();
            let mut memory = Vec::new();
            let block = crate::host::aligned(&mut memory, 4096);
            for n in 1_u64.. {
                if stop.load(Ordering::Relaxed) || n > blocks {
                    break;
                }
                block[..8].copy_from_slice(&n.to_le_bytes());
                file.write_all_at(block, (n - 1) * 4096).unwrap();
                acknowledged.store(n, Ordering::SeqCst);
            }
        });
        for round in 0..10_u64 {
            crate::host::eventually("the writer goes on", || {
                acknowledged.load(Ordering::SeqCst) >= (round + 1) * 16
            });
            let before = acknowledged.load(Ordering::SeqCst);
            snapshot(&pool, 100 + round, 1);
            let copy = pool
                .activate_volume(&volume(100 + round, DISK), Access::ReadOnly)
                .unwrap();
            let found = read(&copy, 0, before as usize * 4096);
            for (n, block) in (1..=before).zip(found.chunks(4096)) {
                assert_eq!(
                    block[..8],
                    n.to_le_bytes(),
                    "block {n} of {before}, round {round}"
                );
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
}

/// Suspending an origin freezes what the host has of it: what was written is in the snapshot, though nobody
/// has synced it. For a mounted file system the same call makes it write everything and stand still.
#[test]
fn what_is_in_the_hosts_cache_is_in_the_snapshot() {
    need_host!();
    let (_test, pool) = TestPool::active(SIZE);
    let origin = active_volume(&pool, 1, DISK);
    let cached = std::fs::OpenOptions::new()
        .write(true)
        .open(origin.path())
        .unwrap();
    cached.write_all_at(&[0x5a; CHUNK], 1 << 20).unwrap();
    snapshot(&pool, 2, 1);
    let copy = pool
        .activate_volume(&volume(2, DISK), Access::ReadOnly)
        .unwrap();
    assert_eq!(read(&copy, 1 << 20, CHUNK), vec![0x5a; CHUNK]);
    // It runs again.
    cached.write_all_at(&[0xa5; CHUNK], 1 << 20).unwrap();
    cached.sync_all().unwrap();
    assert_eq!(read(&copy, 1 << 20, CHUNK), vec![0x5a; CHUNK]);
}

#[test]
fn what_cannot_be_done_changes_nothing() {
    need_host!();
    let (test, pool) = TestPool::active(SIZE);
    let _origin = active_volume(&pool, 1, DISK);
    create(&pool, [5]);
    let now = transaction(&pool);
    let before = ids_on_disk(&test, &pool);
    let refused = [
        (TransactionId(0), Message::CreateThin { id: id(6) }),
        (now.next(), Message::CreateThin { id: id(6) }),
        (now, Message::CreateThin { id: id(5) }),
        (
            now,
            Message::CreateSnap {
                id: id(5),
                origin: id(1),
            },
        ),
        (
            now,
            Message::CreateSnap {
                id: id(6),
                origin: id(404),
            },
        ),
        (now, Message::Delete { id: id(1) }),
    ];
    for (from, message) in refused {
        let error = pool.commit(from, &[message]).unwrap_err();
        assert_eq!(
            error.kernel,
            KernelState::Unchanged,
            "{message:?}: {error:?}"
        );
        assert!(!pool.volumes().unwrap()[0].suspended, "{message:?}");
    }
    assert_eq!(transaction(&pool), now);
    assert_eq!(ids_on_disk(&test, &pool), before);
}

#[test]
fn a_batch_broken_off_in_its_middle_is_undone() {
    need_host!();
    let (test, pool) = TestPool::active(SIZE);
    let _origin = active_volume(&pool, 1, DISK);
    let store = transaction(&pool);
    let messages = [
        Message::CreateSnap {
            id: id(10),
            origin: id(1),
        },
        Message::CreateSnap {
            id: id(11),
            origin: id(1),
        },
        Message::CreateSnap {
            id: id(12),
            origin: id(404),
        },
    ];
    let error = pool.commit(store, &messages).unwrap_err();
    assert_eq!(error.kernel, KernelState::Unknown);
    assert_eq!(ids_on_disk(&test, &pool), [1, 10, 11]);
    let pending = Some(Pending {
        kind: PendingKind::Create,
        target: store.next(),
    });
    assert_eq!(
        plan(transaction(&pool), store, pending),
        Recovery::UndoCreate
    );
    let made: Vec<_> = messages.into_iter().filter_map(Message::creates).collect();
    pool.undo_create(store, &made).unwrap();
    assert_eq!(ids_on_disk(&test, &pool), [1]);
    assert_eq!(transaction(&pool), store);
    // Again, as after a crash in the midst of it.
    pool.undo_create(store, &made).unwrap();
    assert!(pool.undo_create(store.next(), &made).is_err());
}

/// The reason for all of this: the kernel answers "done" to messages that it could not write.
#[test]
fn metadata_that_cannot_be_written_are_never_acknowledged() {
    need_host!();
    let mut test = TestPool::new(SIZE);
    let pool = on_flaky_metadata(&mut test);
    let origin = active_volume(&pool, 1, DISK);
    fill(&origin, 0, CHUNK, 0x11).unwrap();
    let store = transaction(&pool);
    let_metadata_writes_fail(&test, true);
    let message = Message::CreateSnap {
        id: id(2),
        origin: id(1),
    };
    let error = pool.commit(store, &[message]).unwrap_err();
    assert_eq!(error.kernel, KernelState::Unknown, "{error:?}");
    assert!(
        !pool.volumes().unwrap()[0].suspended,
        "the origin was left suspended"
    );
    let status = pool.status(Flush::None).unwrap();
    assert_eq!(status.mode, PoolMode::ReadOnly);
    assert!(status.needs_check && !status.is_well());
    // And nothing more is taken.
    for result in [
        pool.commit(store, &[Message::CreateThin { id: id(3) }])
            .map(drop),
        pool.commit(store, &[Message::Delete { id: id(2) }])
            .map(drop),
    ] {
        let error = result.unwrap_err();
        assert_eq!(error.kernel, KernelState::Unchanged);
        assert!(matches!(error.cause, Error::Unwell { .. }), "{error:?}");
    }
    // The store has its note; the pool is where it was.
    let pending = Some(Pending {
        kind: PendingKind::Create,
        target: store.next(),
    });
    assert_eq!(
        plan(status.transaction, store, pending),
        Recovery::UndoCreate
    );
    assert!(read(&origin, 0, CHUNK).iter().all(|&byte| byte == 0x11));

    // The written way back: down, checked, up.
    let_metadata_writes_fail(&test, false);
    pool.deactivate_volume(id(1), volume(1, DISK).uuid).unwrap();
    Pool::deactivate(&test.spec).unwrap();
    let pool = Pool::activate(test.spec.clone()).unwrap();
    assert_eq!(pool.status(Flush::None).unwrap().transaction, store);
}

/// Here not even the transaction id's own message fails: only the status tells.
#[test]
fn a_transaction_id_that_cannot_be_written_is_never_acknowledged() {
    need_host!();
    let mut test = TestPool::new(SIZE);
    let pool = on_flaky_metadata(&mut test);
    create(&pool, [1]);
    let store = transaction(&pool);
    let_metadata_writes_fail(&test, true);
    let error = pool.commit(store, &[]).unwrap_err();
    assert_eq!(error.kernel, KernelState::Unknown, "{error:?}");
    assert!(matches!(error.cause, Error::Unwell { .. }), "{error:?}");
    let_metadata_writes_fail(&test, false);
    Pool::deactivate(&test.spec).unwrap();
    let pool = Pool::activate(test.spec.clone()).unwrap();
    assert_eq!(transaction(&pool), store);
}

/// A full pool: no new volumes, but deleting gives it room again.
#[test]
fn a_full_pool_takes_deletions_only() {
    need_host!();
    let (_test, pool) = TestPool::active(Bytes::mib(16));
    let disk = active_volume(&pool, 1, DISK);
    create(&pool, [2]);
    let small = pool
        .activate_volume(&volume(2, DISK), Access::ReadWrite)
        .unwrap();
    fill(&small, 0, 16 * CHUNK, 2).unwrap();
    let error = fill(&disk, 0, DISK.0 as usize, 1).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc_enospc()));
    let status = pool.status(Flush::None).unwrap();
    assert_eq!(status.mode, PoolMode::OutOfDataSpace);
    assert_eq!(status.data.percent(), 100);
    let now = status.transaction;
    let error = pool
        .commit(now, &[Message::CreateThin { id: id(3) }])
        .unwrap_err();
    assert_eq!(error.kernel, KernelState::Unchanged);
    small.discard().unwrap();
    pool.deactivate_volume(id(2), volume(2, DISK).uuid).unwrap();
    pool.commit(transaction(&pool), &[Message::Delete { id: id(2) }])
        .unwrap();
    assert!(pool.status(Flush::Commit).unwrap().is_well());
    fill(&disk, DISK.0 - CHUNK as u64, CHUNK, 3).unwrap();
}

fn libc_enospc() -> i32 {
    nix::errno::Errno::ENOSPC as i32
}

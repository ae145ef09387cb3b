//! Disks below a pool that fail: what state that ends in, and the written way back (`docs/storage.md`).
//!
//! Metadata that cannot be written are in `commit.rs`, with what is acknowledged, and in `repair.rs`.

use fvm_thin::{Access, Bytes, Error, Flush, Message, Pool, PoolMode, Verdict};

use crate::host::{
    Flaky, TestPool, active_volume, fill, id, let_device, need_host, on_flaky_data,
    on_flaky_metadata, read, snapshot, transaction, volume,
};

const DISK: Bytes = Bytes::mib(16);
const CHUNK: usize = 64 << 10;
const EIO: i32 = 5;

/// Not even the kernel's own wish for a check can be written then; the pool has failed until it is brought up anew.
#[test]
fn metadata_that_can_be_neither_read_nor_written_fail_the_pool_and_lose_nothing() {
    need_host!();
    let mut test = TestPool::new(Bytes::mib(64));
    let pool = on_flaky_metadata(&mut test);
    let image = active_volume(&pool, 1, DISK);
    fill(&image, 0, CHUNK, 0x11).unwrap();
    snapshot(&pool, 2, 1);
    let store = transaction(&pool);

    let_device(&test, Flaky::Fails);
    pool.commit(store, &[Message::CreateThin { id: id(3) }])
        .unwrap_err();
    let status = pool.status(Flush::None).unwrap();
    assert_eq!(status.mode, PoolMode::Fail, "{status:?}");
    assert!(!status.is_well());
    // Nothing more is taken, and nothing is told that is not known.
    for message in [
        Message::CreateThin { id: id(3) },
        Message::Delete { id: id(2) },
    ] {
        let error = pool.commit(store, &[message]).unwrap_err();
        assert!(matches!(error.cause, Error::Unwell { .. }), "{error:?}");
    }
    assert!(matches!(pool.usage(), Err(Error::Unwell { .. })));
    let error = fill(&image, 1 << 20, CHUNK, 0x22).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(EIO), "{error}");

    // The disk is mended: down, checked, up.
    let_device(&test, Flaky::Works);
    pool.deactivate_volume(id(1), volume(1, DISK).uuid).unwrap();
    Pool::deactivate(&test.spec).unwrap();
    Pool::with_idle_metadata(&test.spec, |idle| {
        assert_eq!(idle.check()?, Verdict::Sound);
        assert_eq!(idle.transaction()?, Some(store));
        Ok(())
    })
    .unwrap();
    let pool = Pool::activate(test.spec.clone()).unwrap();
    assert!(pool.status(Flush::Commit).unwrap().is_well());
    let there: Vec<_> = pool.usage().unwrap().iter().map(|v| v.id.get()).collect();
    assert_eq!(there, [1, 2]);
    for n in [1, 2] {
        let disk = pool
            .activate_volume(&volume(n, DISK), Access::ReadWrite)
            .unwrap();
        assert_eq!(read(&disk, 0, CHUNK), vec![0x11; CHUNK], "volume {n}");
        fill(&disk, 1 << 20, CHUNK, 0x22).unwrap();
    }
}

/// The writer is told, what was written before stays, and the pool itself is as well as before.
#[test]
fn data_that_cannot_be_written_are_an_error_of_their_writer_alone() {
    need_host!();
    let mut test = TestPool::new(Bytes::mib(32));
    let pool = on_flaky_data(&mut test);
    let image = active_volume(&pool, 1, DISK);
    fill(&image, 0, 2 * CHUNK, 0x11).unwrap();
    snapshot(&pool, 2, 1);
    let disk = pool
        .activate_volume(&volume(2, DISK), Access::ReadWrite)
        .unwrap();

    let_device(&test, Flaky::FailsWrites);
    // A chunk that is shared, a part of one, and a new one: each is written in another way.
    for (offset, length) in [(0, CHUNK), (CHUNK as u64, 4096), (1 << 20, CHUNK)] {
        let error = fill(&disk, offset, length, 0x22).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(EIO), "at {offset}: {error}");
    }
    assert_eq!(read(&disk, 0, 2 * CHUNK), vec![0x11; 2 * CHUNK]);
    assert_eq!(read(&disk, 1 << 20, CHUNK), vec![0; CHUNK]);
    let status = pool.status(Flush::None).unwrap();
    assert!(status.is_well(), "{status:?}");

    let_device(&test, Flaky::Works);
    for (offset, length) in [(0, CHUNK), (CHUNK as u64, 4096), (1 << 20, CHUNK)] {
        fill(&disk, offset, length, 0x22).unwrap();
        assert_eq!(read(&disk, offset, length), vec![0x22; length]);
    }
    let rest = CHUNK - 4096;
    assert_eq!(
        read(&disk, CHUNK as u64 + 4096, rest),
        vec![0x11; rest],
        "the rest of a chunk that is partly overwritten"
    );
    assert_eq!(read(&image, 0, 2 * CHUNK), vec![0x11; 2 * CHUNK]);
    let volumes = pool.usage().unwrap();
    let mapped: Vec<_> = volumes.iter().map(|v| v.mapped.0 / CHUNK as u64).collect();
    assert_eq!(mapped, [2, 3]);
}

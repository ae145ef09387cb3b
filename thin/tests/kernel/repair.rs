//! Looking into metadata: what volumes take, whether all is sound, and the ways back when it is not.

use std::os::unix::fs::FileExt;

use fvm_thin::{
    Access, Backing, Bytes, Error, Flush, Outcome, Pool, PoolSpec, TransactionId, Verdict,
};

use crate::host::{
    TestPool, active_volume, dmsetup, eventually, fill, id, let_metadata_writes_fail, need_host,
    on_flaky_metadata, read, snapshot, transaction, volume,
};

const SIZE: Bytes = Bytes::mib(128);
const DISK: Bytes = Bytes::mib(32);
const CHUNK: usize = 64 << 10;

fn chunks(n: u64) -> Bytes {
    Bytes(n * CHUNK as u64)
}

#[test]
fn what_a_volume_takes_is_told_from_what_it_shares() {
    need_host!();
    let (test, pool) = TestPool::active(SIZE);
    let image = active_volume(&pool, 1, DISK);
    fill(&image, 0, 8 * CHUNK, 1).unwrap();
    snapshot(&pool, 2, 1);
    snapshot(&pool, 3, 1);
    let disk = pool
        .activate_volume(&volume(2, DISK), Access::ReadWrite)
        .unwrap();
    // Two of the image's chunks, and three that the image does not have.
    fill(&disk, 0, 2 * CHUNK, 2).unwrap();
    fill(&disk, 1 << 20, 3 * CHUNK, 2).unwrap();
    let found: Vec<_> = pool
        .usage()
        .unwrap()
        .iter()
        .map(|volume| (volume.id.get(), volume.mapped, volume.exclusive))
        .collect();
    // The image shares all with the third volume, which has written nothing.
    assert_eq!(
        found,
        [
            (1, chunks(8), chunks(0)),
            (2, chunks(11), chunks(5)),
            (3, chunks(8), chunks(0))
        ]
    );
    // What a volume has for itself is what deleting it gives back.
    let before = pool.status(Flush::Commit).unwrap().data.used;
    pool.deactivate_volume(id(2), volume(2, DISK).uuid).unwrap();
    pool.commit(
        transaction(&pool),
        &[fvm_thin::Message::Delete { id: id(2) }],
    )
    .unwrap();
    assert_eq!(
        before - pool.status(Flush::Commit).unwrap().data.used,
        chunks(5)
    );
    let inspection = pool.inspect().unwrap();
    assert_eq!(inspection.verdict, Verdict::Sound);
    assert_eq!(inspection.volumes.unwrap().len(), 2);
    drop(test);
}

#[test]
fn shutting_down_takes_idle_volumes_and_spares_used_ones() {
    need_host!();
    let (test, pool) = TestPool::active(SIZE);
    let disk = active_volume(&pool, 1, DISK);
    active_volume(&pool, 2, DISK);
    let file = disk.open(Access::ReadWrite).unwrap();
    let before = test.devices_left();
    let error = Pool::shut_down(&test.spec).unwrap_err();
    assert!(matches!(error, Error::Busy { .. }), "{error}");
    assert_eq!(test.devices_left(), before, "an idle volume went");
    drop(file);
    assert_eq!(Pool::shut_down(&test.spec).unwrap(), Outcome::Changed);
    assert_eq!(Pool::shut_down(&test.spec).unwrap(), Outcome::Unchanged);
    assert_eq!(test.devices_left(), 0);
}

#[test]
fn a_pool_that_is_up_has_no_idle_metadata() {
    need_host!();
    let (test, _pool) = TestPool::active(SIZE);
    let error = Pool::with_idle_metadata(&test.spec, |_| Ok(())).unwrap_err();
    assert!(matches!(error, Error::Busy { .. }), "{error}");
    Pool::deactivate(&test.spec).unwrap();
    Pool::with_idle_metadata(&test.spec, |idle| {
        assert_eq!(idle.check().unwrap(), Verdict::Sound);
        assert_eq!(idle.needs_check().unwrap(), Some(false));
        assert_eq!(idle.transaction().unwrap(), Some(TransactionId(0)));
        assert_eq!(test.devices_left(), 2);
        Ok(())
    })
    .unwrap();
    assert_eq!(test.devices_left(), 0);
    eventually("autoclear", || test.loops_left() == 0);
    Pool::activate(test.spec.clone()).unwrap();
}

/// Metadata writes fail, the pool goes read-only, and what the kernel wants checked is checked.
#[test]
fn a_pool_that_needs_a_check_is_well_again_after_it() {
    need_host!();
    let mut test = TestPool::new(SIZE);
    let pool = on_flaky_metadata(&mut test);
    let disk = active_volume(&pool, 1, DISK);
    fill(&disk, 0, CHUNK, 0x11).unwrap();
    let store = transaction(&pool);
    let_metadata_writes_fail(&test, true);
    let create = fvm_thin::Message::CreateThin { id: id(2) };
    pool.commit(store, &[create]).unwrap_err();
    assert!(pool.status(Flush::None).unwrap().needs_check);
    // A snapshot of such metadata is not to be had.
    assert!(matches!(pool.usage().unwrap_err(), Error::Unwell { .. }));
    let_metadata_writes_fail(&test, false);
    pool.deactivate_volume(id(1), volume(1, DISK).uuid).unwrap();
    Pool::deactivate(&test.spec).unwrap();
    Pool::with_idle_metadata(&test.spec, |idle| {
        assert_eq!(idle.check()?, Verdict::Sound);
        idle.clear_needs_check()?;
        assert_eq!(idle.needs_check()?, Some(false));
        assert_eq!(idle.transaction()?, Some(store));
        Ok(())
    })
    .unwrap();
    let pool = Pool::activate(test.spec.clone()).unwrap();
    assert!(pool.status(Flush::None).unwrap().is_well());
    let disk = pool
        .activate_volume(&volume(1, DISK), Access::ReadWrite)
        .unwrap();
    assert_eq!(read(&disk, 0, CHUNK), vec![0x11; CHUNK]);
}

/// The block that a number at `offset` of the superblock names, in the file.
fn block_named_at(file: &std::fs::File, offset: u64) -> u64 {
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, (1 << 20) + offset).unwrap();
    (1 << 20) + u64::from_le_bytes(bytes) * 4096
}

#[test]
fn damaged_metadata_are_repaired_to_the_spare() {
    need_host!();
    let (test, pool) = TestPool::active(SIZE);
    let image = active_volume(&pool, 1, DISK);
    fill(&image, 0, 8 * CHUNK, 0x11).unwrap();
    snapshot(&pool, 2, 1);
    let store = transaction(&pool);
    let spec = volume(1, DISK);
    pool.deactivate_volume(spec.id, spec.uuid).unwrap();
    Pool::deactivate(&test.spec).unwrap();

    // The root of the data space map's bitmaps (`disk_sm_root` at 64, its third number): the kernel needs
    // it, and a repair makes it anew.
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(test.path("meta"))
        .unwrap();
    let block = block_named_at(&file, 64 + 16);
    file.write_all_at(&[0xee; 4096], block).unwrap();
    file.sync_all().unwrap();
    let before = std::fs::read(test.path("meta")).unwrap();
    let repaired = Pool::with_idle_metadata(&test.spec, |idle| {
        let verdict = idle.check()?;
        assert!(
            matches!(&verdict, Verdict::Damaged { says } if !says.is_empty()),
            "{verdict:?}"
        );
        assert!(idle.clear_needs_check().is_err());
        idle.repair_to_spare(store)
    })
    .unwrap();
    assert_eq!(repaired.transaction, store);
    assert!(repaired.whole, "{repaired:?}");
    let ids: Vec<_> = repaired.volumes.iter().map(|v| v.id.get()).collect();
    assert_eq!(ids, [1, 2]);
    // The old ones are kept as they were.
    assert!(std::fs::read(test.path("meta")).unwrap() == before);

    let swapped = PoolSpec {
        metadata: test.spec.spare.clone(),
        spare: test.spec.metadata.clone(),
        ..test.spec.clone()
    };
    let pool = Pool::activate(swapped.clone()).unwrap();
    assert!(pool.status(Flush::None).unwrap().is_well());
    assert_eq!(transaction(&pool), store);
    let disk = pool
        .activate_volume(&volume(2, DISK), Access::ReadWrite)
        .unwrap();
    assert_eq!(read(&disk, 0, 8 * CHUNK), vec![0x11; 8 * CHUNK]);
    fill(&disk, 0, CHUNK, 0x22).unwrap();
    let spec = volume(2, DISK);
    pool.deactivate_volume(spec.id, spec.uuid).unwrap();
    Pool::destroy(&swapped).unwrap();
    test.assert_nothing_left();
}

/// Without a first block a repair goes by what the store knows, and by roots that the tool finds, of which some are
/// of an earlier time: on Debian 13 it saves a volume without what was written to it last. So it is never
/// taken for everything, and nothing else of the pool is touched.
#[test]
fn a_repair_without_a_first_block_is_not_taken_for_everything() {
    need_host!();
    let (test, pool) = TestPool::active(SIZE);
    let disk = active_volume(&pool, 1, DISK);
    fill(&disk, 0, CHUNK, 0x11).unwrap();
    let store = transaction(&pool);
    let spec = volume(1, DISK);
    pool.deactivate_volume(spec.id, spec.uuid).unwrap();
    Pool::deactivate(&test.spec).unwrap();
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(test.path("meta"))
        .unwrap();
    file.write_all_at(&[0xee; 4096], 1 << 20).unwrap();
    file.sync_all().unwrap();
    let before = std::fs::read(test.path("meta")).unwrap();
    let repaired = Pool::with_idle_metadata(&test.spec, |idle| {
        assert_eq!(idle.needs_check()?, None);
        idle.repair_to_spare(store)
    })
    .unwrap();
    assert_eq!(repaired.transaction, store);
    assert!(std::fs::read(test.path("meta")).unwrap() == before);
    let swapped = PoolSpec {
        metadata: test.spec.spare.clone(),
        spare: test.spec.metadata.clone(),
        ..test.spec.clone()
    };
    let pool = Pool::activate(swapped).unwrap();
    let found = pool.activate_volume(&volume(1, DISK), Access::ReadOnly);
    let saved = repaired.volumes.iter().any(|saved| saved.id == id(1));
    assert_eq!(saved, found.is_ok(), "{repaired:?}");
    assert!(!repaired.whole, "{repaired:?}");
}

/// What a repair that was killed has left active is in nobody's way.
#[test]
fn parts_that_a_killed_repair_left_go() {
    need_host!();
    let (test, pool) = TestPool::active(SIZE);
    Pool::deactivate(&test.spec).unwrap();
    drop(pool);
    let spare = test.path("spare");
    let under = crate::host::run("losetup", &["--find", "--show", spare.to_str().unwrap()]);
    let uuid = format!("FVM-{}-spare", test.spec.uuid.simple());
    dmsetup(&[
        "create",
        &test.dm_name("spare"),
        "--uuid",
        &uuid,
        "--table",
        &format!("0 2048 linear {under} 2048"),
    ]);
    Pool::activate(test.spec.clone()).unwrap();
    assert_eq!(test.devices_left(), 3, "data, metadata and pool");
    crate::host::run("losetup", &["-d", &under]);
}

/// Metadata that are full: nothing is lost, and larger ones are the way back.
#[test]
fn full_metadata_are_extended_and_all_goes_on() {
    need_host!();
    let mut test = TestPool::new(Bytes::gib(2));
    // The least there is, on a device that can be made larger.
    let under = test.make_loop("disk-meta", Bytes::mib(64));
    let small = format!("0 36864 linear {} 0", under.display());
    let path = test.make_device("meta", &small);
    test.spec = PoolSpec {
        metadata: Backing::Device { path },
        ..test.spec.clone()
    };
    Pool::format(&test.spec).unwrap();
    let pool = Pool::activate(test.spec.clone()).unwrap();
    let total = pool.status(Flush::None).unwrap().metadata.total;
    assert_eq!(total, Bytes::mib(16));
    // A snapshot that lets one chunk of each leaf of the mapping go has leaves of its own: so no data fill all
    // of the metadata. A leaf holds at most 252 mappings (4 KiB less its head, 16 bytes each), and at least
    // half of that.
    let size = Bytes::mib(256);
    let image = active_volume(&pool, 1, size);
    fill(&image, 0, 256 << 20, 1).unwrap();
    let snapshot_of = |n| fvm_thin::Message::CreateSnap {
        id: id(n),
        origin: id(1),
    };
    let mut last = 1;
    while pool
        .commit(transaction(&pool), &[snapshot_of(last + 1)])
        .is_ok()
    {
        last += 1;
        let spec = volume(last, size);
        let disk = pool.activate_volume(&spec, Access::ReadWrite).unwrap();
        // Beyond the first, so that its beginning can be looked at.
        let failed = (1..32_u64).any(|leaf| {
            let at = Bytes(leaf * 126 * CHUNK as u64);
            disk.discard_range(at, chunks(1)).is_err()
        });
        pool.deactivate_volume(spec.id, spec.uuid).unwrap();
        if failed {
            break;
        }
        assert!(last < 400, "the metadata never filled");
    }
    let status = pool.status(Flush::None).unwrap();
    assert!(status.metadata.percent() > 95, "{status:?}");
    // Nothing is taken any more, what is there can be read.
    pool.commit(status.transaction, &[snapshot_of(last + 2)])
        .unwrap_err();
    assert_eq!(read(&image, 0, CHUNK), vec![1; CHUNK]);

    // The device gets larger. If the kernel wants a check first, it gets that too.
    let large = format!("0 131072 linear {} 0", under.display());
    let device = test.device_name("meta");
    dmsetup(&["load", &device, "--table", &large]);
    dmsetup(&["suspend", &device]);
    dmsetup(&["resume", &device]);
    let status = pool.status(Flush::None).unwrap();
    let pool = if status.needs_check {
        let spec = volume(1, size);
        pool.deactivate_volume(spec.id, spec.uuid).unwrap();
        Pool::deactivate(&test.spec).unwrap();
        drop(pool);
        Pool::with_idle_metadata(&test.spec, |idle| {
            assert_eq!(idle.check()?, Verdict::Sound);
            idle.clear_needs_check()
        })
        .unwrap();
        Pool::activate(test.spec.clone()).unwrap()
    } else {
        pool
    };
    pool.grow_metadata(Bytes::mib(16)).unwrap();
    let spare = std::fs::metadata(test.path("spare")).unwrap().len();
    assert_eq!(Bytes(spare), Bytes::mib(64), "the spare is not as large");
    let pool = Pool::activate(test.spec.clone()).unwrap();
    let status = pool.status(Flush::Commit).unwrap();
    assert!(status.is_well(), "{status:?}");
    assert_eq!(status.metadata.total, Bytes::mib(62));
    snapshot(&pool, last + 2, 1);
    // What was acknowledged before it was full is there now.
    for n in [2, last] {
        let spec = volume(n, size);
        let disk = pool.activate_volume(&spec, Access::ReadOnly).unwrap();
        assert_eq!(read(&disk, 0, 4096), vec![1; 4096], "snapshot {n}");
        pool.deactivate_volume(spec.id, spec.uuid).unwrap();
    }
}

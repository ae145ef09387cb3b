//! The metadata snapshot, and what it tells of volumes while the pool is in use.

use fvm_thin::{Access, Bytes, Flush, Outcome};

use crate::host::{TestPool, active_volume, dmsetup, fill, id, need_host, snapshot, volume};

const CHUNK: u64 = 64 * 1024;

#[test]
fn the_mapped_parts_are_those_that_were_written() {
    need_host!();
    let (_test, pool) = TestPool::active(Bytes::mib(128));
    let size = Bytes::mib(64);
    let disk = active_volume(&pool, 1, size);
    for (chunk, count) in [(0, 1), (5, 3), (9, 1), (1023, 1)] {
        fill(&disk, chunk * CHUNK, (count * CHUNK) as usize, 7).unwrap();
    }
    snapshot(&pool, 2, 1);
    // The snapshot and its origin go their own ways.
    fill(&disk, 100 * CHUNK, CHUNK as usize, 8).unwrap();
    pool.status(Flush::Commit).unwrap();

    let metadata = pool.metadata_snapshot().unwrap();
    let chunks = |number| -> Vec<_> {
        let extents = metadata.extents(id(number)).unwrap();
        let in_chunks = |range: &std::ops::Range<u64>| range.start / CHUNK..range.end / CHUNK;
        extents.ranges().iter().map(in_chunks).collect()
    };
    assert_eq!(chunks(1), [0..1, 5..8, 9..10, 100..101, 1023..1024]);
    assert_eq!(chunks(2), [0..1, 5..8, 9..10, 1023..1024]);
    // What happens from now on is not in it, and nothing is in its way.
    fill(&disk, 200 * CHUNK, CHUNK as usize, 9).unwrap();
    snapshot(&pool, 3, 1);
    assert_eq!(chunks(1), [0..1, 5..8, 9..10, 100..101, 1023..1024]);
    assert!(metadata.extents(id(3)).is_err());
    metadata.release().unwrap();
    assert_eq!(
        pool.status(Flush::None).unwrap().held_metadata_root,
        None,
        "it is still held"
    );
    let copy = pool
        .activate_volume(&volume(3, size), Access::ReadOnly)
        .unwrap();
    assert_eq!(copy.size(), size);
}

#[test]
fn one_at_a_time_and_what_a_crash_left_is_taken_over() {
    need_host!();
    let (test, pool) = TestPool::active(Bytes::mib(64));
    active_volume(&pool, 1, Bytes::mib(32));
    let nothing = pool.release_stale_metadata_snapshot().unwrap();
    assert_eq!(nothing, Outcome::Unchanged);
    let held = || pool.status(Flush::None).unwrap().held_metadata_root;
    let leave_one = || {
        let device = test.dm_name("pool");
        dmsetup(&["message", &device, "0", "reserve_metadata_snap"]);
        assert!(held().is_some());
    };
    leave_one();
    let released = pool.release_stale_metadata_snapshot().unwrap();
    assert_eq!((released, held()), (Outcome::Changed, None));
    leave_one();
    // Dropping is enough, and two that want it at once have it one after the other.
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let metadata = pool.metadata_snapshot().unwrap();
                assert_eq!(metadata.extents(id(1)).unwrap().ranges(), []);
            });
        }
    });
    assert_eq!(held(), None);
}

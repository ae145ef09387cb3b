//! Giving back what is cut off and what is zero, and nothing else.

use fvm_thin::{Access, Bytes, Error, Flush};

use crate::host::{TestPool, active_volume, fill, id, need_host, read, snapshot, volume};

const SIZE: Bytes = Bytes::mib(128);
const DISK: Bytes = Bytes::mib(32);
const CHUNK: usize = 64 << 10;

fn mapped(pool: &fvm_thin::Pool, n: u64) -> Bytes {
    pool.mapped(id(n), volume(n, DISK).uuid).unwrap().bytes
}

/// The cut lies inside a chunk: what is left of that chunk stays, and the rest never shows again.
#[test]
fn a_tail_that_was_cut_off_never_comes_back() {
    need_host!();
    let (_test, pool) = TestPool::active(SIZE);
    let disk = active_volume(&pool, 1, DISK);
    fill(&disk, 0, DISK.0 as usize, 7).unwrap();
    let cut = Bytes::mib(10) + Bytes(3 * 4096);
    pool.discard_tail(&volume(1, DISK), &disk, cut).unwrap();
    let chunk_end = cut.round_up(Bytes(CHUNK as u64)).unwrap();
    assert_eq!(mapped(&pool, 1), chunk_end);
    // Once more, as after a crash.
    pool.discard_tail(&volume(1, DISK), &disk, cut).unwrap();
    pool.resize_volume(&volume(1, cut)).unwrap();
    let disk = pool.resize_volume(&volume(1, DISK)).unwrap();
    let kept = read(&disk, 0, cut.0 as usize);
    assert!(kept.iter().all(|&byte| byte == 7));
    let rest = read(&disk, cut.0, (DISK.0 - cut.0) as usize);
    assert!(rest.iter().all(|&byte| byte == 0), "the tail shows again");
}

/// Cutting where nothing is written gives the volume no chunk that it did not have.
#[test]
fn cutting_an_empty_tail_takes_no_room() {
    need_host!();
    let (_test, pool) = TestPool::active(SIZE);
    let disk = active_volume(&pool, 1, DISK);
    fill(&disk, 0, CHUNK, 7).unwrap();
    let cut = Bytes::mib(10) + Bytes(4096);
    pool.discard_tail(&volume(1, DISK), &disk, cut).unwrap();
    assert_eq!(mapped(&pool, 1), Bytes(CHUNK as u64));
    let odd = volume(2, DISK + Bytes(4096));
    active_volume(&pool, 2, odd.size);
    let disk = pool.activate_volume(&odd, Access::ReadWrite).unwrap();
    let error = pool.discard_tail(&odd, &disk, Bytes(0)).unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }), "{error}");
}

#[test]
fn chunks_of_zeros_are_given_back_and_no_others() {
    need_host!();
    let (_test, pool) = TestPool::active(SIZE);
    let disk = active_volume(&pool, 1, DISK);
    // 24 MiB mapped: data, zeros with one byte in their midst, data, and zeros up to the end.
    fill(&disk, 0, 1 << 20, 1).unwrap();
    fill(&disk, 1 << 20, 11 << 20, 0).unwrap();
    fill(&disk, 6 << 20, 4096, 2).unwrap();
    fill(&disk, 12 << 20, 1 << 20, 3).unwrap();
    fill(&disk, 13 << 20, 11 << 20, 0).unwrap();
    assert_eq!(mapped(&pool, 1), Bytes::mib(24));
    snapshot(&pool, 2, 1);
    let before = read(&disk, 0, DISK.0 as usize);
    pool.discard_zeros(&volume(1, DISK), &disk).unwrap();
    assert_eq!(mapped(&pool, 1), Bytes::mib(2) + Bytes(CHUNK as u64));
    assert!(read(&disk, 0, DISK.0 as usize) == before);
    // A snapshot keeps its own, until it is gone through as well.
    let used = pool.status(Flush::Commit).unwrap().data.used;
    assert_eq!(used, Bytes::mib(24));
    let other = pool
        .activate_volume(&volume(2, DISK), Access::ReadWrite)
        .unwrap();
    assert!(read(&other, 0, DISK.0 as usize) == before);
    pool.discard_zeros(&volume(2, DISK), &other).unwrap();
    let used = pool.status(Flush::Commit).unwrap().data.used;
    assert_eq!(used, Bytes::mib(2) + Bytes(CHUNK as u64));
}

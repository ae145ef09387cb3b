//! Writing images into volumes and reading them back.

use std::os::unix::fs::FileExt;

use fvm_thin::{Access, BlockWriter, Bytes, Flush, Pool, SparseDigest, digest_of};

use crate::host::{TestPool, active_volume, id, need_host, volume};

const CHUNK: Bytes = Bytes::kib(64);

/// Content with runs of data and holes, made from a seed; about a third of its blocks hold data.
fn image(length: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut at = 0;
    while at < length {
        let run = ((next() % 24 + 1) as usize * 65536).min(length - at);
        if next() % 3 == 0 {
            let fill = next();
            for (i, word) in bytes[at..at + run].chunks_mut(8).enumerate() {
                let value = fill.wrapping_mul(i as u64 + 1).to_le_bytes();
                word.copy_from_slice(&value[..word.len()]);
            }
        }
        at += run;
    }
    bytes
}

fn digest(content: &[u8]) -> [u8; 32] {
    let mut digest = SparseDigest::default();
    digest.update_run(0, content);
    digest.finish(content.len() as u64)
}

/// Nothing of ours holds a volume open. (Another test's child may, until it has come to its `exec`.)
fn assert_closed(pool: &Pool) {
    crate::host::eventually("the volumes are closed", || {
        let volumes = pool.volumes().unwrap();
        volumes.iter().all(|disk| disk.open_count == 0)
    });
}

#[test]
fn an_image_arrives_bit_by_bit_and_takes_no_more_room_than_it_has_data() {
    need_host!();
    let (_test, pool) = TestPool::active(Bytes::mib(256));
    // A volume larger than its image, whose end is neither a chunk's nor a block's.
    for (n, content, size) in [
        (1, Bytes(100 * (1 << 20) + 1000), Bytes::mib(128)),
        (2, Bytes(33 * (1 << 20) + 512), Bytes(33 * (1 << 20) + 512)),
        (3, Bytes(700), Bytes(1024)),
        (4, Bytes(0), Bytes::mib(1)),
    ] {
        let image = image(content.0 as usize, n);
        let disk = active_volume(&pool, n, size);
        let used = pool.status(Flush::Commit).unwrap().data.used;
        let mut writer = BlockWriter::new(&disk, CHUNK).unwrap();
        for (i, piece) in image.chunks(5 * 65536).enumerate() {
            writer.write((i * 5 * 65536) as u64, piece).unwrap();
        }
        let written = writer.finish().unwrap();

        let data_chunks = image
            .chunks(65536)
            .filter(|c| c.iter().any(|&b| b != 0))
            .count();
        let expected = Bytes(data_chunks as u64 * CHUNK.0);
        let now = pool.status(Flush::Commit).unwrap().data.used;
        assert_eq!(now - used, expected, "volume {n}");
        assert_eq!(
            pool.mapped(id(n), volume(n, size).uuid).unwrap().bytes,
            expected
        );
        assert!(written.bytes() <= expected);

        let expected = digest(&image);
        assert_eq!(digest_of(&disk, content, Some(&written)).unwrap(), expected);
        assert_eq!(digest_of(&disk, content, None).unwrap(), expected);
        assert_closed(&pool);
        let file = disk.open(Access::ReadOnly).unwrap();
        let mut memory = Vec::new();
        let whole = crate::host::aligned(&mut memory, size.0 as usize);
        file.read_exact_at(whole, 0).unwrap();
        assert!(whole[..image.len()] == image[..]);
        assert!(whole[image.len()..].iter().all(|&byte| byte == 0));
    }
}

#[test]
fn a_change_on_the_device_changes_the_digest() {
    need_host!();
    let (_test, pool) = TestPool::active(Bytes::mib(64));
    let disk = active_volume(&pool, 1, Bytes::mib(32));
    let content = image(32 << 20, 7);
    let mut writer = BlockWriter::new(&disk, CHUNK).unwrap();
    writer.write(0, &content).unwrap();
    let written = writer.finish().unwrap();
    let size = Bytes::mib(32);
    let before = digest_of(&disk, size, None).unwrap();
    let last = written.ranges.last().unwrap();
    crate::host::fill(&disk, last.end - 512, 512, 0xee).unwrap();
    assert_ne!(digest_of(&disk, size, Some(&written)).unwrap(), before);
    assert_ne!(digest_of(&disk, size, None).unwrap(), before);
    assert!(digest_of(&disk, Bytes::mib(33), None).is_err());
}

#[test]
fn an_image_that_does_not_fit_into_the_pool_fails() {
    need_host!();
    let (_test, pool) = TestPool::active(Bytes::mib(16));
    let disk = active_volume(&pool, 1, Bytes::mib(64));
    let mut writer = BlockWriter::new(&disk, CHUNK).unwrap();
    let mut result = Ok(());
    for window in 0..16 {
        result = writer.write(window << 22, &[1; 4 << 20]);
        if result.is_err() {
            break;
        }
    }
    let error = result.err().or_else(|| writer.finish().err()).unwrap();
    assert_eq!(
        error.raw_os_error(),
        Some(nix::errno::Errno::ENOSPC as i32),
        "{error}"
    );
    assert_closed(&pool);
}

#[test]
fn a_writer_that_is_given_up_lets_go_of_the_volume() {
    need_host!();
    let (_test, pool) = TestPool::active(Bytes::mib(64));
    let disk = active_volume(&pool, 1, Bytes::mib(32));
    let mut writer = BlockWriter::new(&disk, CHUNK).unwrap();
    writer.write(0, &[1; 20 << 20]).unwrap();
    drop(writer);
    pool.deactivate_volume(id(1), volume(1, Bytes::mib(32)).uuid)
        .unwrap();
}

//! What a source must keep to: its checksum, and the memory that it may ask for.

use super::{
    tests::{content, decode, file, gzip, import, import_bytes, xz, zstd},
    *,
};
use crate::checksum::{Algorithm, Summer};
use std::{io::Write, os::unix::fs::FileExt};

/// The terms that this very file keeps to.
fn sum_of(bytes: &[u8], algorithm: Algorithm) -> Terms {
    let mut summer = Summer::new(algorithm);
    summer.update(bytes);
    Terms {
        expected: Some(summer.finish()),
        ..Terms::default()
    }
}

#[test]
fn a_checksum_is_of_the_file_as_it_is() {
    let content = content(3 << 20);
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        for packed in [
            content.clone(),
            gzip(&content),
            xz(&content),
            zstd(&content),
        ] {
            let (_dir, path) = file("disk", &packed);
            let opened = || Source::open(&path).unwrap();
            let terms = sum_of(&packed, algorithm);
            assert!(decode(opened(), &terms).unwrap() == content);
            let terms = sum_of(&packed[1..], algorithm);
            assert!(matches!(
                decode(opened(), &terms),
                Err(DecodeError::Checksum { .. })
            ));
        }
    }
}

#[test]
fn a_checksum_is_of_the_holes_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk.raw");
    let disk = std::fs::File::create(&path).unwrap();
    disk.set_len(9 << 20).unwrap();
    disk.write_all_at(b"!", 5 << 20).unwrap();
    let mut expected = vec![0; 9 << 20];
    expected[5 << 20] = b'!';
    let terms = sum_of(&expected, Algorithm::Sha256);
    let source = Source::open(&path).unwrap();
    assert!(decode(source, &terms).unwrap() == expected);
}

#[test]
fn a_window_larger_than_what_is_given_is_refused() {
    let mut encoder = ::zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(27).unwrap();
    encoder.write_all(&content(1 << 20)).unwrap();
    let packed = encoder.finish().unwrap();
    assert!(matches!(
        import_bytes(&packed),
        Err(DecodeError::Memory {
            limit_bytes: DEFAULT_MEMORY_BYTES,
            ..
        })
    ));
    let (_dir, path) = file("disk", &packed);
    let terms = Terms {
        memory_bytes: 256 << 20,
        ..Terms::default()
    };
    let source = Source::open(&path).unwrap();
    assert!(decode(source, &terms).unwrap() == content(1 << 20));

    // `xz -9` has a window of 64 MiB: bearable, unless less is given.
    let packed = liblzma::encode_all(&content(1 << 20)[..], 9).unwrap();
    let (_dir, path) = file("disk", &packed);
    assert!(import(&path).unwrap() == content(1 << 20));
    let terms = Terms {
        memory_bytes: 32 << 20,
        ..Terms::default()
    };
    assert!(matches!(
        decode(Source::open(&path).unwrap(), &terms),
        Err(DecodeError::Memory { .. })
    ));
}

//! Really compressed files through the whole way, back to content; whole, cut off, damaged, followed by rubbish.

use super::*;
use fvm_vmm::api::stream::{BLOCK_BYTES, Decoder, Item};
use std::{
    io::Write,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

/// Noise that is the same each time (Marsaglia's xorshift64).
pub(super) fn noise(seed: u64) -> impl FnMut() -> u64 {
    let mut noise = 0x2545_f491_4f6c_dd1d ^ seed;
    move || {
        noise ^= noise << 13;
        noise ^= noise >> 7;
        noise ^= noise << 17;
        noise
    }
}

/// Content with runs of zeros, text and noise, the same each time.
pub(super) fn content(bytes: usize) -> Vec<u8> {
    let mut next = noise(0);
    let mut content = Vec::with_capacity(bytes + 4096);
    while content.len() < bytes {
        match next() % 3 {
            0 => content.resize(content.len() + (next() % 4096) as usize, 0),
            1 => content.extend(
                format!("block {} of a disk\n", next() % 100)
                    .repeat(20)
                    .bytes(),
            ),
            _ => content.extend((0..next() % 512).flat_map(|_| next().to_le_bytes())),
        }
    }
    content.truncate(bytes);
    content
}

pub(super) fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::GzBuilder::new()
        .filename("disk.raw")
        .comment("a disk")
        .extra(vec![1, 2, 3])
        .write(Vec::new(), flate2::Compression::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

pub(super) fn xz(content: &[u8]) -> Vec<u8> {
    xz_of_blocks(content, 64 * 1024)
}

fn xz_of_blocks(content: &[u8], block_bytes: u64) -> Vec<u8> {
    let stream = liblzma::stream::MtStreamBuilder::new()
        .threads(2)
        .preset(1)
        .block_size(block_bytes)
        .check(liblzma::stream::Check::Crc64)
        .encoder()
        .unwrap();
    let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

pub(super) fn zstd(content: &[u8]) -> Vec<u8> {
    let mut encoder = ::zstd::Encoder::new(Vec::new(), 3).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

pub(super) type Compress = fn(&[u8]) -> Vec<u8>;
pub(super) const COMPRESSIONS: [(Format, Compress); 3] =
    [(Format::Gzip, gzip), (Format::Xz, xz), (Format::Zstd, zstd)];

/// A folder with one file in it.
pub(super) fn file(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    (dir, path)
}

/// What an import of the file would store.
pub(super) fn import(path: &Path) -> Result<Vec<u8>, DecodeError> {
    decode(Source::open(path)?, &Terms::default())
}

pub(super) fn decode(source: Source, terms: &Terms) -> Result<Vec<u8>, DecodeError> {
    let meter = Arc::new(Meter::default());
    let size = source.size();
    let mut stream = Vec::new();
    let mut send = |piece: Vec<u8>| {
        assert!(
            piece.len() < 8 * PIECE_BYTES,
            "a piece of {} bytes",
            piece.len()
        );
        stream.extend(piece);
        true
    };
    encode(source, terms, &ImportHeader::default(), &meter, &mut send)?;
    let size = meter.take_stage().map_or(size, |stage| stage.total);
    let mut decoder = Decoder::<ImportHeader>::default();
    decoder.push(&stream);
    let mut content = Vec::new();
    while let Some(item) = decoder.next_item().unwrap() {
        match item {
            Item::Header(header) => assert_eq!(header, ImportHeader::default()),
            Item::Data { offset, bytes } => {
                content.resize(offset as usize, 0);
                content.extend(bytes);
            }
            Item::End { content_bytes, .. } => content.resize(content_bytes as usize, 0),
        }
    }
    decoder.finish().unwrap();
    assert!(meter.is_done());
    if let Some(size) = size {
        assert_eq!(meter.input(), size, "progress does not end at its end");
    }
    Ok(content)
}

/// The same for bytes under a name that promises nothing.
pub(super) fn import_bytes(bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let (_dir, path) = file("image", bytes);
    import(&path)
}

#[test]
fn every_compression_comes_back_as_it_was() {
    let content = content(5 << 20);
    for (format, compress) in COMPRESSIONS {
        assert!(
            import_bytes(&compress(&content)).unwrap() == content,
            "{format} changed the content"
        );
    }
}

#[test]
fn a_file_of_many_parts_is_their_content_in_turn() {
    let content = content(700_000);
    for (format, compress) in COMPRESSIONS {
        let parts: Vec<u8> = content.chunks(100_000).flat_map(compress).collect();
        assert!(import_bytes(&parts).unwrap() == content, "{format}");
    }
}

#[test]
fn padding_between_and_after_parts_is_none_of_the_content() {
    let content = content(200_000);
    let (first, second) = content.split_at(77_777);
    for (format, compress, padding) in [
        (Format::Gzip, gzip as Compress, vec![0; 513]),
        (Format::Xz, xz, vec![0; 4096]),
        // A skippable frame of five bytes.
        (
            Format::Zstd,
            zstd,
            b"\x5a\x2a\x4d\x18\x05\0\0\0hello".to_vec(),
        ),
    ] {
        let parts = [compress(first), padding.clone(), compress(second), padding].concat();
        assert!(import_bytes(&parts).unwrap() == content, "{format}");
    }
}

#[test]
fn one_xz_block_and_many_are_the_same() {
    let content = content(3 << 20);
    for block_bytes in [1 << 16, 1 << 20, 1 << 30] {
        let packed = xz_of_blocks(&content, block_bytes);
        assert!(import_bytes(&packed).unwrap() == content, "{block_bytes}");
    }
}

#[test]
fn a_file_cut_anywhere_is_never_taken_for_a_whole_one() {
    let content = content(150_000);
    for (format, compress) in COMPRESSIONS {
        let whole = compress(&content);
        let step = whole.len() / 400;
        // Every place at both ends, where headers and checksums are, and many between.
        let places = (8..100)
            .chain((100..whole.len() - 60).step_by(step))
            .chain(whole.len() - 60..whole.len());
        for length in places {
            match import_bytes(&whole[..length]) {
                Err(DecodeError::Truncated { .. }) => {}
                other => panic!("{format} cut at {length} of {}: {other:?}", whole.len()),
            }
        }
    }
}

#[test]
fn a_second_part_cut_anywhere_is_noticed_too() {
    let content = content(50_000);
    for (format, compress) in COMPRESSIONS {
        let whole = compress(&content).repeat(2);
        let half = whole.len() / 2;
        for length in (half + 1..half + 50).chain((half + 50..whole.len()).step_by(211)) {
            let result = import_bytes(&whole[..length]);
            assert!(
                matches!(result, Err(DecodeError::Truncated { .. })),
                "{format} cut at {length} of {}: {:?}",
                whole.len(),
                result.map(|content| content.len())
            );
        }
    }
}

#[test]
fn a_flipped_bit_changes_nothing_or_is_noticed() {
    let content = content(150_000);
    for (format, compress) in COMPRESSIONS {
        let whole = compress(&content);
        let mut unnoticed = 0;
        let mut tried = 0;
        for at in (0..64)
            .chain((64..whole.len() - 64).step_by(whole.len() / 300))
            .chain(whole.len() - 64..whole.len())
        {
            // The magic itself: then it is another file, see below.
            if at < 6 {
                continue;
            }
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << (at % 8);
            tried += 1;
            match import_bytes(&damaged) {
                Ok(result) => {
                    assert!(result == content, "{format}: bit flipped at {at}");
                    unnoticed += 1;
                }
                Err(
                    DecodeError::Damaged { .. }
                    | DecodeError::Truncated { .. }
                    | DecodeError::Trailing { .. }
                    | DecodeError::Memory { .. },
                ) => {}
                Err(other) => panic!("{format}: bit flipped at {at}: {other:?}"),
            }
        }
        // Some bits mean nothing: a file's age in a gzip header, the filling of a zstd block's last byte.
        assert!(
            unnoticed * 5 < tried,
            "{format}: {unnoticed} of {tried} flipped bits made no difference"
        );
    }
}

#[test]
fn rubbish_after_the_end_is_noticed_whatever_its_length() {
    let content = content(30_000);
    for (format, compress) in COMPRESSIONS {
        let whole = compress(&content);
        for rubbish in [
            &b"x"[..],
            b"xy",
            b"xyz",
            b"<html>not found</html>",
            &[0xff; 5000],
        ] {
            let bytes = [&whole, rubbish].concat();
            match import_bytes(&bytes) {
                Err(DecodeError::Trailing { content: made, .. }) => {
                    assert_eq!(made, 30_000, "{format}");
                }
                other => panic!("{format} followed by {rubbish:?}: {other:?}"),
            }
        }
    }
}

#[test]
fn a_name_that_promises_a_compression_is_kept_to_it() {
    let mut whole = xz(&content(30_000));
    whole[2] ^= 4;
    let (_dir, path) = file("debian.raw.xz", &whole);
    assert!(matches!(import(&path), Err(DecodeError::WrongName { .. })));
    // Another compression than its name says is no damage.
    let (_dir, path) = file("debian.raw.xz", &gzip(b"disk"));
    assert_eq!(import(&path).unwrap(), b"disk");
}

#[test]
fn an_image_packed_twice_is_refused() {
    let twice = zstd(&xz(b"disk"));
    assert!(matches!(
        import_bytes(&twice),
        Err(DecodeError::Inside {
            format: Format::Xz,
            ..
        })
    ));
}

#[test]
fn nothing_is_no_image() {
    assert!(matches!(import_bytes(b""), Err(DecodeError::Empty { .. })));
    for (format, compress) in COMPRESSIONS {
        assert!(
            matches!(import_bytes(&compress(b"")), Err(DecodeError::Empty { .. })),
            "{format}"
        );
    }
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(
        import(dir.path()),
        Err(DecodeError::NotAFile { .. })
    ));
    assert!(matches!(
        import(&dir.path().join("missing")),
        Err(DecodeError::Open { .. })
    ));
}

#[test]
fn holes_are_left_out_wherever_they_lie() {
    const BLOCK: u64 = BLOCK_BYTES as u64;
    let dir = tempfile::tempdir().unwrap();
    // Where data is written, and how long the file is.
    for (places, size) in [
        (vec![], 10 * BLOCK),
        (vec![], 10 * BLOCK + 5),
        (vec![0], 10 * BLOCK + 5),
        (vec![5 * BLOCK + 4096], 10 * BLOCK),
        (vec![3, 3 * BLOCK + 4096, 9 * BLOCK], 9 * BLOCK + 1),
        (
            vec![100 * BLOCK - 1, 4000 * BLOCK + 8192],
            8000 * BLOCK + 777,
        ),
        (vec![7], 8),
    ] {
        let path = dir.path().join("disk.raw");
        let disk = std::fs::File::create(&path).unwrap();
        disk.set_len(size).unwrap();
        let mut expected = vec![0; size as usize];
        for &place in &places {
            disk.write_all_at(b"!", place).unwrap();
            expected[place as usize] = b'!';
        }
        assert!(import(&path).unwrap() == expected, "{places:?} in {size}");
    }
}

#[test]
fn a_file_that_shrinks_is_noticed() {
    let (_dir, path) = file("disk.raw", &content(4 << 20));
    let source = Source::open(&path).unwrap();
    std::fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(1 << 20)
        .unwrap();
    assert!(matches!(
        decode(source, &Terms::default()),
        Err(DecodeError::Shrank { .. })
    ));
}

#[test]
fn a_pipe_is_read_like_a_file() {
    let content = content(3 << 20);
    for bytes in [content.clone(), xz(&content)] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pipe");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let writer = {
            let path = path.clone();
            std::thread::spawn(move || std::fs::write(path, bytes))
        };
        assert!(import(&path).unwrap() == content);
        writer.join().unwrap().unwrap();
    }
}

#[test]
fn reading_stops_when_nobody_wants_more() {
    let (_dir, path) = file("disk.raw", &content(8 << 20));
    let source = Source::open(&path).unwrap();
    let mut pieces = 0;
    let mut send = |_| {
        pieces += 1;
        pieces < 3
    };
    let meter = Arc::new(Meter::default());
    let terms = Terms::default();
    let result = encode(source, &terms, &ImportHeader::default(), &meter, &mut send);
    assert!(matches!(result, Err(DecodeError::Stopped)));
    assert_eq!(pieces, 3);
}

#[test]
fn zeros_are_a_disk_of_any_length() {
    for bytes in [1, 512, 65_536, 65_537, (5 << 20) + 512] {
        let content = decode(Source::zeros(bytes), &Terms::default()).unwrap();
        assert_eq!(content, vec![0; bytes as usize]);
    }
}

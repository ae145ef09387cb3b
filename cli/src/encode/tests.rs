//! What is written is read back by others' decoders, or as the format's own document says.

use super::*;
use fvm_vmm::api::{REPORT_VERSION, stream::Encoder};
use std::{
    fs::{self, File},
    io::Read,
    os::unix::fs::MetadataExt,
    path::PathBuf,
};

/// Data at the start, after a long hole, across a frame's end, and at the very end; of an odd length.
fn sample() -> Vec<u8> {
    let mut content = vec![0; (40 << 20) + 512];
    let mut state = 1_u32;
    let mut noise = |bytes: &mut [u8]| {
        for byte in bytes {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *byte = (state >> 24) as u8;
        }
    };
    noise(&mut content[..100_000]);
    noise(&mut content[(33 << 20) + 5..(36 << 20) + 7]);
    let end = content.len();
    noise(&mut content[end - 512..]);
    content
}

fn pieces(stream: &[u8]) -> mpsc::Receiver<Bytes> {
    let chunks: Vec<_> = stream.chunks(100_000).map(Bytes::copy_from_slice).collect();
    let (sender, receiver) = mpsc::channel(chunks.len().max(1));
    for chunk in chunks {
        sender.try_send(chunk).unwrap();
    }
    receiver
}

fn stream(content: &[u8]) -> Vec<u8> {
    let header = ExportHeader {
        version: REPORT_VERSION,
        size_bytes: content.len() as u64,
        mapped_bytes: 0,
    };
    let (mut encoder, mut out) = Encoder::new(&header);
    encoder.push(content, &mut out);
    encoder.finish(&mut out);
    out
}

struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("disk")
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.directory.path()).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    fn write(&self, stream: &[u8], format: Format) -> Result<Exported, EncodeError> {
        let target = Target::file(&self.path(), false)?;
        let level = format.levels().map_or(0, |(levels, _)| *levels.start());
        let go_on = AtomicBool::new(false);
        write(
            pieces(stream),
            target,
            format,
            level,
            &Meter::default(),
            &go_on,
        )
    }
}

fn written(content: &[u8], format: Format) -> (Place, File) {
    let place = Place::new();
    let exported = place.write(&stream(content), format).unwrap();
    assert_eq!(exported.size_bytes, content.len() as u64);
    assert_eq!(place.names(), ["disk"]);
    let file = File::open(place.path()).unwrap();
    (place, file)
}

fn all(mut reader: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_raw_file_has_the_content_and_its_holes() {
    let content = sample();
    let (_place, file) = written(&content, Format::Raw);
    assert!(file.metadata().unwrap().blocks() * 512 < 8 << 20);
    assert!(all(file) == content);
}

#[test]
fn compressed_files_are_unpacked_by_every_decoder() {
    let content = sample();
    let (_place, file) = written(&content, Format::Gz);
    assert!(all(flate2::read::MultiGzDecoder::new(file)) == content);
    let (_place, file) = written(&content, Format::Xz);
    assert!(all(liblzma::read::XzDecoder::new(file)) == content);
    let (_place, file) = written(&content, Format::Zst);
    assert!(all(zstd::stream::read::Decoder::new(file).unwrap()) == content);
}

#[test]
fn the_seek_table_leads_to_every_frame() {
    let content = sample();
    let (_place, file) = written(&content, Format::Zst);
    let bytes = all(file);
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let end = bytes.len();
    assert_eq!(number(end - 4), 0x8F92_EAB1);
    assert_eq!(bytes[end - 5], 0);
    let count = number(end - 9);
    let table = end - 9 - count * 8 - 8;
    assert_eq!(number(table), 0x184D_2A5E);
    assert_eq!(number(table + 4), count * 8 + 9);
    // Two holes of 16 MiB are a frame each.
    assert!(count > 5, "{count} frames");
    let (mut frame_at, mut content_at) = (0, 0);
    for entry in 0..count {
        let at = table + 8 + entry * 8;
        let (frame, length) = (number(at), number(at + 4));
        let unpacked = zstd::bulk::decompress(&bytes[frame_at..frame_at + frame], length).unwrap();
        assert!(unpacked == content[content_at..content_at + length]);
        frame_at += frame;
        content_at += length;
    }
    assert_eq!((frame_at, content_at), (table, content.len()));
}

/// Reads a qcow2 by its specification, and checks that every cluster is counted as often as it is used.
fn read_qcow2(bytes: &[u8]) -> Vec<u8> {
    let u32_at = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    let u64_at = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
    const CLUSTER: usize = 65536;
    const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
    assert_eq!((&bytes[..4], u32_at(4)), (&b"QFI\xfb"[..], 3));
    assert_eq!((u64_at(8), u32_at(20), u32_at(32)), (0, 16, 0));
    assert_eq!(
        (u32_at(60), u64_at(72), u32_at(96), u32_at(100)),
        (0, 0, 4, 104)
    );
    assert_eq!(bytes.len() % CLUSTER, 0);
    let clusters = bytes.len() / CLUSTER;
    let mut used = vec![0_u16; clusters];
    used[0] = 1;
    let mut take = |at: u64| {
        assert_eq!(at as usize % CLUSTER, 0);
        used[at as usize / CLUSTER] += 1;
        at as usize
    };
    let size = u64_at(24) as usize;
    let mut content = vec![0; size.next_multiple_of(CLUSTER)];
    let l1 = take(u64_at(40));
    for index in 0..u32_at(36) as usize {
        let entry = u64_at(l1 + index * 8);
        if entry == 0 {
            continue;
        }
        assert_eq!(entry >> 63, 1);
        let l2 = take(entry & OFFSET);
        for place in 0..CLUSTER / 8 {
            let entry = u64_at(l2 + place * 8);
            if entry != 0 {
                assert_eq!(entry & !OFFSET, 1 << 63);
                let from = take(entry & OFFSET);
                let to = (index * CLUSTER / 8 + place) * CLUSTER;
                content[to..to + CLUSTER].copy_from_slice(&bytes[from..from + CLUSTER]);
            }
        }
    }
    let table = u64_at(48);
    let tables = u32_at(56) as usize;
    for cluster in 0..tables {
        take(table + (cluster * CLUSTER) as u64);
    }
    let mut counted = vec![0; clusters];
    for block in 0..tables * CLUSTER / 8 {
        let at = u64_at(table as usize + block * 8);
        if at != 0 {
            let at = take(at);
            for index in 0..CLUSTER / 2 {
                let bytes = [bytes[at + index * 2], bytes[at + index * 2 + 1]];
                let cluster = block * CLUSTER / 2 + index;
                match counted.get_mut(cluster) {
                    Some(count) => *count = u16::from_be_bytes(bytes),
                    None => assert_eq!(bytes, [0, 0]),
                }
            }
        }
    }
    assert_eq!(used, counted);
    assert!(content[size..].iter().all(|&byte| byte == 0));
    content.truncate(size);
    content
}

#[test]
fn a_qcow2_is_what_its_specification_says() {
    let content = sample();
    let (_place, file) = written(&content, Format::Qcow2);
    let bytes = all(file);
    assert!(bytes.len() < 8 << 20, "{} bytes", bytes.len());
    assert!(read_qcow2(&bytes) == content);
    // Several tables of the second level, and none where there is nothing.
    let mut content = vec![0; (1 << 30) + 65536];
    for at in [0, (512 << 20) - 1, 1 << 30] {
        content[at] = 1;
    }
    let (_place, file) = written(&content, Format::Qcow2);
    assert!(read_qcow2(&all(file)) == content);
}

/// `qemu-img` with a disk: it has to find nothing wrong.
fn qemu_img(arguments: &[&str], files: &[&Path]) {
    let output = std::process::Command::new("qemu-img")
        .args(arguments)
        .args(files)
        .output()
        .expect("qemu-img, which packaging/prepare installs");
    assert!(
        output.status.success(),
        "qemu-img {arguments:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn qemu_finds_nothing_wrong_with_a_qcow2() {
    let mut far = vec![0; (1 << 30) + 65536];
    for at in [0, (512 << 20) - 1, 1 << 30] {
        far[at] = 1;
    }
    for content in [sample(), far, vec![0; 1 << 20]] {
        let (place, _) = written(&content, Format::Qcow2);
        // Leaked clusters are an error as damaged ones are.
        qemu_img(&["check", "-q", "-f", "qcow2"], &[&place.path()]);
        let raw = place.directory.path().join("raw");
        fs::write(&raw, &content).unwrap();
        let compare = ["compare", "-q", "-f", "qcow2", "-F", "raw"];
        qemu_img(&compare, &[&place.path(), &raw]);
    }
}

#[test]
fn an_empty_disk_is_written_too() {
    let content = vec![0; 1 << 20];
    for format in [
        Format::Raw,
        Format::Qcow2,
        Format::Zst,
        Format::Gz,
        Format::Xz,
    ] {
        let (_place, file) = written(&content, format);
        let found = match format {
            Format::Qcow2 => read_qcow2(&all(file)),
            Format::Zst => all(zstd::stream::read::Decoder::new(file).unwrap()),
            Format::Gz => all(flate2::read::MultiGzDecoder::new(file)),
            Format::Xz => all(liblzma::read::XzDecoder::new(file)),
            Format::Raw => all(file),
        };
        assert!(found == content, "{format}");
    }
}

#[test]
fn what_does_not_arrive_whole_leaves_no_file() {
    let stream = stream(&sample());
    for format in [Format::Raw, Format::Zst, Format::Qcow2] {
        let place = Place::new();
        let error = place
            .write(&stream[..stream.len() - 1], format)
            .unwrap_err();
        assert!(matches!(error, EncodeError::Stream(_)), "{error:?}");
        let mut damaged = stream.clone();
        damaged[stream.len() / 2] ^= 1;
        let error = place.write(&damaged, format).unwrap_err();
        assert!(matches!(error, EncodeError::Stream(_)), "{error:?}");
        assert!(place.names().is_empty(), "{:?}", place.names());
    }
}

#[test]
fn a_file_that_is_there_is_replaced_only_when_that_is_meant() {
    let place = Place::new();
    fs::write(place.path(), "precious").unwrap();
    let stream = stream(&vec![0; 1 << 20]);
    let error = place.write(&stream, Format::Raw).unwrap_err();
    assert!(matches!(error, EncodeError::Exists { .. }), "{error:?}");
    assert_eq!(fs::read(place.path()).unwrap(), b"precious");
    // One that comes while the export is under way is as safe.
    fs::remove_file(place.path()).unwrap();
    let target = Target::file(&place.path(), false).unwrap();
    fs::write(place.path(), "precious").unwrap();
    assert!(matches!(target.commit(), Err(EncodeError::Exists { .. })));
    assert_eq!(fs::read(place.path()).unwrap(), b"precious");
    assert_eq!(place.names(), ["disk"]);
    Target::file(&place.path(), true).unwrap().commit().unwrap();
    assert_eq!(fs::read(place.path()).unwrap(), b"");
    assert_eq!(place.names(), ["disk"]);
}

#[test]
fn a_name_tells_its_format() {
    for (name, format) in [
        ("a.raw.zst", Some(Format::Zst)),
        ("a.IMG", Some(Format::Raw)),
        ("dir.gz/a", None),
        ("a.qcow2", Some(Format::Qcow2)),
        ("a.vmdk", None),
    ] {
        assert_eq!(Format::promised_by(Path::new(name)), format, "{name}");
    }
}

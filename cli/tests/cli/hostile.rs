//! Files that somebody made in bad faith, or that were damaged on their way: refused, or imported as what they
//! are, within a fixed amount of memory, and nothing is left of them.

use crate::{
    daemon::{Answer, Daemon, lines},
    fixtures::image,
    images::gzip,
    run::Ran,
};
use fvm_vmm::api::{
    ApiError, ErrorKind, ImportHeader,
    stream::{Decoder, Item, SparseDigest},
};
use http_body_util::BodyExt;
use hyper::{Request, body::Incoming};
use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
};

/// What an import may take in all: the promise of docs/images.md.
const MEMORY_BYTES: u64 = 100 << 20;
const DISK_BYTES: usize = 3 << 20;

/// What has to become of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Refused,
    /// The disk that it was made of.
    Whole,
    /// One or the other: damage may hit what means nothing.
    Either,
    /// This many zeros.
    Zeros(u64),
}

struct Hostile {
    name: String,
    bytes: Vec<u8>,
    fate: Fate,
}

/// Of each upload its digest, if it was whole.
type Arrived = Arc<Mutex<Vec<Option<[u8; 32]>>>>;

/// Takes uploads, and keeps nothing else of them.
fn daemon() -> (Daemon, Arrived) {
    let arrived = Arrived::default();
    let kept = Arc::clone(&arrived);
    let daemon = Daemon::new(move |request| {
        let kept = Arc::clone(&kept);
        async move {
            let end = digest(request).await;
            kept.lock().unwrap().push(end);
            answer(end.is_some())
        }
    });
    (daemon, arrived)
}

fn answer(whole: bool) -> Answer {
    let failed = || ApiError::new(ErrorKind::Failed, "the upload was cut off");
    lines(
        &[],
        if whole {
            Ok(image("debian"))
        } else {
            Err(failed())
        },
    )
}

async fn digest(request: Request<Incoming>) -> Option<[u8; 32]> {
    let mut body = request.into_body();
    let mut decoder = Decoder::<ImportHeader>::default();
    let mut end = None;
    while let Some(Ok(frame)) = body.frame().await {
        decoder.push(&frame.into_data().unwrap());
        while let Some(item) = decoder.next_item().unwrap() {
            if let Item::End { digest, .. } = item {
                end = Some(digest);
            }
        }
    }
    end
}

/// Marsaglia's xorshift64: the same files each time.
struct Seed(u64);

impl Seed {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

fn disk() -> Vec<u8> {
    let mut seed = Seed(7);
    let mut disk = vec![0; DISK_BYTES];
    for byte in &mut disk[100_000..700_000] {
        *byte = seed.below(256) as u8;
    }
    for (i, byte) in disk[2 << 20..].iter_mut().enumerate() {
        *byte = (i / 1000) as u8;
    }
    disk
}

fn xz(content: &[u8]) -> Vec<u8> {
    liblzma::encode_all(content, 1).unwrap()
}

fn zstd(content: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn qemu_img(arguments: &[&str], dir: &Path) {
    let done = Command::new("qemu-img")
        .args(arguments)
        .current_dir(dir)
        .stdout(Stdio::null())
        .status();
    assert!(done.unwrap().success(), "qemu-img {arguments:?}");
}

fn qcow2(dir: &Path, more: &[&str]) -> Vec<u8> {
    std::fs::write(dir.join("raw"), disk()).unwrap();
    let arguments = [
        &["convert", "-f", "raw", "-O", "qcow2"],
        more,
        &["raw", "made.qcow2"],
    ];
    qemu_img(&arguments.concat(), dir);
    std::fs::read(dir.join("made.qcow2")).unwrap()
}

/// Files cut off at random places, and files with a bit flipped that a checksum covers.
fn damaged(files: &mut Vec<Hostile>, dir: &Path) {
    let mut seed = Seed(42);
    let packed: [(&str, Vec<u8>); 3] = [
        ("gz", gzip(&disk())),
        ("xz", xz(&disk())),
        ("zst", zstd(&disk())),
    ];
    for (kind, whole) in &packed {
        for _ in 0..8 {
            let length = 8 + seed.below(whole.len() - 8);
            files.push(Hostile {
                name: format!("{kind} cut at {length}"),
                bytes: whole[..length].to_vec(),
                fate: Fate::Refused,
            });
            // Behind the magic, which would make another kind of file of it.
            let at = 6 + seed.below(whole.len() - 6);
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << seed.below(8);
            files.push(Hostile {
                name: format!("{kind} flipped at {at}"),
                bytes,
                fate: Fate::Either,
            });
        }
        let rubbish = [&whole[..], b"<html>not found</html>"].concat();
        files.push(Hostile {
            name: format!("{kind} with rubbish after it"),
            bytes: rubbish,
            fate: Fate::Refused,
        });
    }
    for more in [&[][..], &["-c"], &["-o", "extended_l2=on"]] {
        let whole = qcow2(dir, more);
        files.push(Hostile {
            name: format!("sound qcow2 {more:?}"),
            bytes: whole.clone(),
            fate: Fate::Whole,
        });
        for _ in 0..6 {
            let length = 4 + seed.below(whole.len() - 4);
            files.push(Hostile {
                name: format!("qcow2 {more:?} cut at {length}"),
                bytes: whole[..length].to_vec(),
                fate: Fate::Either,
            });
        }
    }
}

/// Small files that ask for much.
fn bombs(files: &mut Vec<Hostile>) {
    let zeros = 512 << 20;
    let bomb = {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::copy(
            &mut std::io::Read::take(std::io::repeat(0), zeros),
            &mut encoder,
        )
        .unwrap();
        encoder.finish().unwrap()
    };
    let mut add = |name: &str, bytes: Vec<u8>, fate| {
        let name = name.to_owned();
        files.push(Hostile { name, bytes, fate });
    };
    add("a gz bomb in a gz file", gzip(&bomb), Fate::Refused);
    add("a gz bomb", bomb, Fate::Zeros(zeros));
    // RFC 8878, 3.1.1.1: a frame with a window of 2 GiB and more, then one raw block, the last.
    for window in [0xa8, 0xb0, 0xff] {
        let block = [&[window][..], &[0x09, 0, 0], b"!"].concat();
        let frame = [&b"\x28\xb5\x2f\xfd\x00"[..], &block].concat();
        add(
            &format!("a zst window of {window:#x}"),
            frame,
            Fate::Refused,
        );
    }
    // A dictionary of 4 GiB - 1 (code 40) in an xz block header, whose own checksum is right.
    let mut giant = xz(b"!");
    let header = 12..12 + (usize::from(giant[12]) + 1) * 4;
    giant[header.start + 4] = 40;
    let mut crc = flate2::Crc::new();
    crc.update(&giant[header.start..header.end - 4]);
    giant[header.end - 4..header.end].copy_from_slice(&crc.sum().to_le_bytes());
    add("an xz dictionary of 4 GiB", giant, Fate::Refused);
    add(
        "a gz file whose header never ends",
        [&b"\x1f\x8b\x08\x08\0\0\0\0\0\x03"[..], &[b'x'; 1 << 20]].concat(),
        Fate::Refused,
    );
}

/// A qcow2 image that is wrong in one place.
fn wrong_tables(files: &mut Vec<Hostile>, dir: &Path) {
    let whole = qcow2(dir, &["-o", "cluster_size=4k"]);
    let word = |at: usize| u64::from_be_bytes(whole[at..at + 8].try_into().unwrap());
    let offset = |entry: u64| (entry & 0x00ff_ffff_ffff_fe00) as usize;
    let l1 = word(40) as usize;
    let l2 = offset(word(l1));
    // The first entry that has content, and where that is.
    let data = (l2..l2 + 4096)
        .step_by(8)
        .find(|&at| word(at) != 0)
        .unwrap();
    let taken = word(data);
    let changes: &[(&str, usize, u64)] = &[
        ("a size of nothing", 24, 0),
        ("a size of 8 EiB", 24, u64::MAX >> 1),
        ("clusters of 2^4 GiB", 16, 34),
        ("clusters of 256 bytes", 16, 8),
        ("an L1 table at the header", 40, 0),
        ("an L1 table between clusters", 40, l1 as u64 + 8),
        ("an L1 table beyond the end", 40, 1 << 40),
        ("an unknown feature", 72, 1 << 40),
        ("an external data file", 72, 4),
        ("the mark of corruption", 72, 2),
        ("LUKS", 32, 2 << 32 | 2),
        ("a backing file's name beyond the end", 8, 1 << 40),
        ("an L2 table that is the L1 table", l1, l1 as u64),
        ("an L2 table that is the next one too", l1 + 8, l2 as u64),
        ("an L2 table beyond the end", l1, 1 << 40),
        ("an L2 table between clusters", l1, l2 as u64 + 512),
        ("content that is its own table", data, l2 as u64),
        ("content that is the L1 table", data, l1 as u64),
        ("content that is there twice", data + 8, taken),
        ("content beyond the end", data, 1 << 40),
        (
            "compressed content that is a table",
            data,
            1 << 62 | l2 as u64,
        ),
        (
            "compressed content that is none",
            data,
            1 << 62 | offset(taken) as u64,
        ),
        ("reserved bits", data, taken | 1 << 58),
    ];
    for (name, at, value) in changes {
        let mut bytes = whole.clone();
        bytes[*at..at + 8].copy_from_slice(&value.to_be_bytes());
        files.push(Hostile {
            name: format!("qcow2 with {name}"),
            bytes,
            fate: Fate::Refused,
        });
    }
}

/// Images that name files of the host.
fn nosy(files: &mut Vec<Hostile>, dir: &Path) {
    for (name, options) in [
        ("backing", "backing_file=/etc/shadow,backing_fmt=raw"),
        ("protocol", "backing_file=nbd://localhost/x,backing_fmt=raw"),
        (
            "json",
            "backing_file=json:{\"driver\":\"raw\"},backing_fmt=raw",
        ),
        ("data", "data_file=/etc/shadow"),
    ] {
        let bytes = if name == "data" {
            // qemu-img would write to the data file, so another one's name is changed to it.
            qemu_img(
                &[
                    "create",
                    "-f",
                    "qcow2",
                    "-o",
                    "data_file=0123456789a",
                    "x",
                    "1M",
                ],
                dir,
            );
            let mut bytes = std::fs::read(dir.join("x")).unwrap();
            let at = bytes.windows(11).position(|w| w == b"0123456789a");
            let at = at.unwrap();
            bytes[at..at + 11].copy_from_slice(b"/etc/shadow");
            bytes
        } else {
            qemu_img(
                &["create", "-u", "-f", "qcow2", "-o", options, "x", "1M"],
                dir,
            );
            std::fs::read(dir.join("x")).unwrap()
        };
        files.push(Hostile {
            name: format!("qcow2 that names a file of the host: {name}"),
            bytes,
            fate: Fate::Refused,
        });
    }
}

/// `fvm image import` of this file, or of its content on standard input, with no more memory than promised.
fn import(daemon: &Daemon, source: &Path, piped: bool, spool: &Path) -> Ran {
    let argument = if piped { "-" } else { source.to_str().unwrap() };
    let fvm = daemon.fvm(&["image", "import", "debian", argument]);
    let mut command = Command::new("prlimit");
    command.arg(format!("--data={MEMORY_BYTES}"));
    command.arg(fvm.get_program()).args(fvm.get_args());
    command.env_clear();
    for (name, value) in fvm.get_envs() {
        command.env(name, value.unwrap());
    }
    command.env("TMPDIR", spool).stdin(if piped {
        Stdio::from(std::fs::File::open(source).unwrap())
    } else {
        Stdio::null()
    });
    Ran::of(command)
}

#[test]
fn hostile_files_are_refused_or_imported_as_what_they_are() {
    let (daemon, arrived) = daemon();
    let dir = daemon.dir();
    let mut files = Vec::new();
    damaged(&mut files, dir);
    bombs(&mut files);
    wrong_tables(&mut files, dir);
    nosy(&mut files, dir);
    assert!(files.len() >= 60, "{} files", files.len());

    let spool = dir.join("spool");
    std::fs::create_dir(&spool).unwrap();
    let mut whole = SparseDigest::default();
    whole.blocks(0, &disk());
    let whole = whole.finish(DISK_BYTES as u64);
    let source = dir.join("hostile");
    for (index, file) in files.iter().enumerate() {
        std::fs::write(&source, &file.bytes).unwrap();
        // A part of them as streams, which are kept before they are read.
        let ran = import(&daemon, &source, index % 3 == 0, &spool);
        let arrived = arrived.lock().unwrap().pop().flatten();
        let name = &file.name;
        let refused = [1, 2].contains(&ran.status) && arrived.is_none();
        let imported = |digest| ran.status == 0 && arrived == Some(digest);
        let right = match file.fate {
            Fate::Refused => refused,
            Fate::Whole => imported(whole),
            Fate::Either => refused || imported(whole),
            Fate::Zeros(bytes) => imported(SparseDigest::default().finish(bytes)),
        };
        assert!(right, "{name} was to be {:?}: {ran:?}", file.fate);
        assert!(
            ran.status == 0
                || ran.stderr.starts_with("error: ")
                || ran.stderr.contains("\nerror: "),
            "{name}: {ran:?}"
        );
        assert_eq!(std::fs::read_dir(&spool).unwrap().count(), 0, "{name}");
    }
}

#[test]
fn memory_does_not_grow_with_the_image() {
    let (daemon, arrived) = daemon();
    let dir = daemon.dir();
    let bytes = 160 << 20;
    // Noise in every fourth block, so that much of it has to be sent and little of it can be packed.
    let content = || {
        let mut seed = Seed(3);
        (0..bytes >> 16).map(move |block| {
            let mut piece = vec![0; 1 << 16];
            if block % 4 == 0 {
                piece.fill_with(|| seed.below(256) as u8);
            }
            piece
        })
    };
    let mut digest = SparseDigest::default();
    for (block, piece) in content().enumerate() {
        digest.blocks((block << 16) as u64, &piece);
    }
    let expected = digest.finish(bytes);
    let raw = dir.join("raw");
    let mut file = std::fs::File::create(&raw).unwrap();
    for piece in content() {
        file.write_all(&piece).unwrap();
    }
    let pack = |program: &str, arguments: &[&str], name: &str| {
        let packed = dir.join(name);
        let out = std::fs::File::create(&packed).unwrap();
        let done = Command::new(program)
            .args(arguments)
            .stdin(std::fs::File::open(&raw).unwrap())
            .stdout(out)
            .status();
        assert!(done.unwrap().success(), "{program}");
        packed
    };
    let convert = |more: &[&str], name: &str| {
        let command = [
            &["convert", "-f", "raw", "-O", "qcow2"],
            more,
            &["raw", name],
        ];
        qemu_img(&command.concat(), dir);
        dir.join(name)
    };
    let sources = [
        pack("xz", &["-0", "-T2", "-c"], "many.xz"),
        convert(&[], "plain.qcow2"),
        convert(&["-c", "-o", "cluster_size=2M"], "packed.qcow2"),
        pack("gzip", &["-1", "-c"], "gz"),
        raw.clone(),
    ];
    for source in sources {
        for piped in [false, true] {
            let ran = import(&daemon, &source, piped, dir);
            assert_eq!(ran.status, 0, "{}: {ran:?}", source.display());
            let arrived = arrived.lock().unwrap().pop().unwrap();
            assert_eq!(arrived, Some(expected), "{}", source.display());
        }
    }
}

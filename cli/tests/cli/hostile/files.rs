//! The files, made the same each time.

use crate::images::gzip;
use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

/// The length of the disk that they are made of.
pub(super) const DISK_BYTES: usize = 3 << 20;

/// What has to become of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Refused,
    /// The disk that it was made of.
    Whole,
    /// One or the other: damage may hit what means nothing.
    Either,
    /// This many zeros.
    Zeros(u64),
}

pub(super) struct Hostile {
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
    pub(super) fate: Fate,
}

/// All of them; `dir` is for what has to be a file on the way.
pub(super) fn all(dir: &Path) -> Vec<Hostile> {
    let mut files = Vec::new();
    damaged(&mut files, dir);
    bombs(&mut files);
    wrong_tables(&mut files, dir);
    nosy(&mut files, dir);
    files
}

/// Marsaglia's xorshift64: the same files each time.
pub(super) struct Seed(pub(super) u64);

impl Seed {
    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

pub(super) fn disk() -> Vec<u8> {
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

pub(super) fn qemu_img(arguments: &[&str], dir: &Path) {
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

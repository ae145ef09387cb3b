//! Images as QEMU writes them, compared with what QEMU reads of them; and such as it never would.

use crate::decode::{
    DecodeError, Source, Terms,
    qcow2::{Damage, Unfit},
    tests::{COMPRESSIONS, content, decode, import, import_bytes},
};
use std::{
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

const MIB: usize = 1 << 20;

/// Runs one of QEMU's tools, which `packaging/prepare` installs.
fn qemu(program: &str, arguments: &[&str]) {
    let done = Command::new(program).args(arguments).output().unwrap();
    assert!(
        done.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
}

/// A folder for an image.
struct Image {
    dir: TempDir,
}

impl Image {
    /// An empty one of this size, with these options.
    fn new(size: usize, options: &str) -> Self {
        let image = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        let options = format!("size={size},{options}");
        let path = image.path();
        let command = [
            "create",
            "-q",
            "-f",
            "qcow2",
            "-o",
            &options,
            path.to_str().unwrap(),
        ];
        qemu("qemu-img", &command);
        image
    }

    /// One with this content, `qemu-img convert`ed with more arguments.
    fn of(content: &[u8], more: &[&str]) -> Self {
        let image = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        let raw = image.dir.path().join("disk.raw");
        std::fs::write(&raw, content).unwrap();
        let mut command = vec!["convert", "-f", "raw", "-O", "qcow2"];
        command.extend(more);
        let path = image.path();
        command.extend([raw.to_str().unwrap(), path.to_str().unwrap()]);
        qemu("qemu-img", &command);
        image
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("disk.qcow2")
    }

    /// Runs commands of `qemu-io` on it.
    fn io(&self, commands: &[&str]) {
        let path = self.path();
        let mut arguments = vec!["-f", "qcow2"];
        for command in commands {
            arguments.extend(["-c", command]);
        }
        arguments.push(path.to_str().unwrap());
        qemu("qemu-io", &arguments);
    }

    /// What QEMU reads of it.
    fn by_qemu(&self) -> Vec<u8> {
        let (path, raw) = (self.path(), self.dir.path().join("out.raw"));
        let command = ["convert", "-f", "qcow2", "-O", "raw"];
        let files = [path.to_str().unwrap(), raw.to_str().unwrap()];
        qemu("qemu-img", &[&command[..], &files].concat());
        std::fs::read(raw).unwrap()
    }

    fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.path()).unwrap()
    }
}

fn same_as_qemu(image: &Image, what: &str) {
    let ours = import(&image.path()).unwrap_or_else(|error| panic!("{what}: {error:?}"));
    assert!(ours == image.by_qemu(), "{what} is read otherwise");
}

#[test]
fn every_kind_that_qemu_writes_is_read_as_qemu_reads_it() {
    let odd = content(5 * MIB + 1536);
    for more in [
        &["-o", "compat=0.10"][..],
        &["-o", "compat=1.1"],
        &["-o", "cluster_size=512"],
        &["-o", "cluster_size=4k"],
        &["-o", "cluster_size=2M"],
        &["-o", "extended_l2=on"],
        &["-o", "extended_l2=on,cluster_size=16k"],
        &["-o", "extended_l2=on,cluster_size=2M"],
        &["-o", "lazy_refcounts=on,refcount_bits=1"],
        &["-o", "preallocation=metadata"],
        &["-o", "preallocation=full"],
        &["-c"],
        &["-c", "-o", "compat=0.10"],
        &["-c", "-o", "cluster_size=512"],
        &["-c", "-o", "cluster_size=2M"],
        &["-c", "-o", "extended_l2=on"],
        &["-c", "-o", "compression_type=zstd"],
        &["-c", "-o", "compression_type=zstd,cluster_size=4k"],
        &["-c", "-o", "compression_type=zstd,cluster_size=2M"],
    ] {
        let image = Image::of(&odd, more);
        same_as_qemu(&image, &format!("{more:?}"));
        assert!(import(&image.path()).unwrap() == odd, "{more:?}");
    }
}

#[test]
fn zeros_of_every_kind_are_zeros() {
    for options in [
        "compat=0.10",
        "compat=1.1",
        "extended_l2=on",
        "extended_l2=on,cluster_size=16k",
        "cluster_size=512",
        "preallocation=metadata",
    ] {
        let image = Image::new(8 * MIB + 512, options);
        same_as_qemu(&image, options);
        // Parts of clusters written, then made zero again, or discarded, some with their place kept.
        image.io(&[
            "write -P 1 0 1M",
            "write -P 2 3000k 512",
            "write -P 3 3500k 100k",
            "write -z 256k 64k",
            "write -z -u 512k 64k",
            "write -z 3510k 8k",
            "discard 704k 128k",
            "write -P 4 705k 1k",
            "write -P 5 8M 512",
        ]);
        same_as_qemu(&image, options);
    }
}

#[test]
fn a_disk_that_spans_tables_is_read_in_order() {
    // 4 KiB clusters: a table for each 2 MiB.
    let image = Image::new(64 * MIB, "cluster_size=4k");
    image.io(&[
        "write -P 9 50M 100k",
        "write -P 8 2044k 8k",
        "write -P 7 10M 3M",
        "write -P 6 0 4k",
    ]);
    same_as_qemu(&image, "several tables");
}

#[test]
fn snapshots_are_passed_over_and_told() {
    let image = Image::new(4 * MIB, "compat=1.1");
    image.io(&["write -P 1 0 2M"]);
    let path = image.path();
    qemu(
        "qemu-img",
        &["snapshot", "-c", "before", path.to_str().unwrap()],
    );
    image.io(&["write -P 2 1M 2M"]);
    same_as_qemu(&image, "an image with a snapshot");
    let file = std::fs::File::open(&path).unwrap();
    let bytes = file.metadata().unwrap().len();
    let notes = super::Qcow2::open(file, bytes, "disk").unwrap().notes();
    assert!(notes[0].contains("1 internal snapshots"), "{notes:?}");
}

#[test]
fn packed_again_it_is_unpacked_twice() {
    let disk = content(2 * MIB);
    let bytes = Image::of(&disk, &["-c"]).bytes();
    for (format, compress) in COMPRESSIONS {
        assert!(import_bytes(&compress(&bytes)).unwrap() == disk, "{format}");
    }
}

#[test]
fn a_stream_is_kept_until_it_can_be_read() {
    let disk = content(2 * MIB);
    let bytes = Image::of(&disk, &[]).bytes();
    let source = Source::stream("a pipe".into(), std::io::Cursor::new(bytes), None).unwrap();
    assert!(decode(source, &Terms::default()).unwrap() == disk);
}

/// A small image in which every kind of entry is, to be changed by hand.
struct Broken(Vec<u8>);

impl Broken {
    const CLUSTER: usize = 4096;

    fn new() -> Self {
        let image = Image::new(4 * MIB, "cluster_size=4k");
        image.io(&["write -P 1 0 64k", "write -P 2 3M 64k"]);
        Self(image.bytes())
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_be_bytes(self.0[at..at + 8].try_into().unwrap())
    }

    fn put32(mut self, at: usize, value: u32) -> Self {
        self.0[at..at + 4].copy_from_slice(&value.to_be_bytes());
        self
    }

    fn put64(mut self, at: usize, value: u64) -> Self {
        self.0[at..at + 8].copy_from_slice(&value.to_be_bytes());
        self
    }

    fn l1(&self) -> usize {
        self.u64(40) as usize
    }

    /// The table of the first entry of the L1 table.
    fn l2(&self) -> usize {
        (self.u64(self.l1()) & 0x00ff_ffff_ffff_fe00) as usize
    }

    fn refused(self) -> DecodeError {
        import_bytes(&self.0).unwrap_err()
    }

    fn damage(self) -> Damage {
        match self.refused() {
            DecodeError::Inconsistent { source, .. } => source,
            other => panic!("{other:?}"),
        }
    }

    fn unfit(self) -> Unfit {
        match self.refused() {
            DecodeError::Unfit { source, .. } => source,
            other => panic!("{other:?}"),
        }
    }
}

const COPIED: u64 = 1 << 63;

#[test]
fn a_sound_image_is_not_refused() {
    let image = Broken::new();
    let ours = import_bytes(&image.0).unwrap();
    assert!(ours[..65536].iter().all(|&byte| byte == 1));
    // Marked as not closed: reference counts are of no interest.
    assert!(import_bytes(&image.put64(72, 1).0).unwrap() == ours);
}

#[test]
fn what_needs_more_than_the_file_is_refused() {
    let new = Broken::new;
    assert_eq!(new().put32(4, 1).unfit(), Unfit::Version(1));
    assert_eq!(new().put32(4, 4).unfit(), Unfit::Version(4));
    assert_eq!(new().put32(32, 1).unfit(), Unfit::Encrypted(1));
    assert_eq!(new().put32(32, 2).unfit(), Unfit::Encrypted(2));
    assert_eq!(new().put64(72, 2).unfit(), Unfit::Corrupt);
    assert_eq!(new().put64(72, 4).unfit(), Unfit::ExternalData);
    assert_eq!(new().put64(72, 1 << 5).unfit(), Unfit::Feature(5));
    assert_eq!(new().put64(72, 1 << 63).unfit(), Unfit::Feature(63));
    let packing = |kind: u8| {
        let mut image = new().put64(72, 8);
        image.0[104] = kind;
        image
    };
    assert_eq!(packing(2).unfit(), Unfit::Packing(2));
    assert!(matches!(
        packing(0).damage(),
        Damage::Field("compression_type", 0)
    ));
}

#[test]
fn no_file_that_an_image_names_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    // Were it opened, the image would be refused for another reason, or have this content.
    let secret = dir.path().join("secret");
    std::fs::write(&secret, vec![b's'; MIB]).unwrap();
    let image = dir.path().join("disk.qcow2");
    for secret in [secret.as_path(), Path::new("/etc/shadow")] {
        let (secret, path) = (secret.to_str().unwrap(), image.to_str().unwrap());
        let create = [
            "create", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b", secret, path, "1M",
        ];
        qemu("qemu-img", &create);
        match import(&image).unwrap_err() {
            DecodeError::Unfit {
                source: Unfit::Backing(name),
                ..
            } => assert_eq!(name, secret),
            other => panic!("{other:?}"),
        }
    }
    let options = format!("data_file={}", dir.path().join("data").to_str().unwrap());
    let path = image.to_str().unwrap();
    qemu(
        "qemu-img",
        &["create", "-q", "-f", "qcow2", "-o", &options, path, "1M"],
    );
    assert!(matches!(
        import(&image).unwrap_err(),
        DecodeError::Unfit {
            source: Unfit::ExternalData,
            ..
        }
    ));
    let secret = "--object=secret,id=key,data=geheim";
    let options = "encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10";
    qemu(
        "qemu-img",
        &[
            "create", "-q", secret, "-f", "qcow2", "-o", options, path, "1M",
        ],
    );
    assert!(matches!(
        import(&image).unwrap_err(),
        DecodeError::Unfit {
            source: Unfit::Encrypted(2),
            ..
        }
    ));
}

#[test]
fn absurd_headers_are_refused() {
    for bits in [0, 8, 22, 31, 63, 64, u32::MAX] {
        let damage = Broken::new().put32(20, bits).damage();
        assert!(matches!(damage, Damage::Field("cluster_bits", _)), "{bits}");
    }
    for size in [0, 1 << 63, u64::MAX] {
        let damage = Broken::new().put64(24, size).damage();
        assert!(matches!(damage, Damage::Field("size", _)), "{size}");
    }
    // An L1 table that is too short for the disk, or longer than any may be.
    for (size, entries) in [
        (4 << 20, 0),
        (4 << 20, 1),
        (1 << 62, 2),
        (4 << 20, u32::MAX),
    ] {
        let damage = Broken::new().put64(24, size).put32(36, entries).damage();
        assert!(
            matches!(damage, Damage::Field("l1_size", _)),
            "{size} {entries}"
        );
    }
    for offset in [0, 8, 4097, u64::MAX] {
        let damage = Broken::new().put64(40, offset).damage();
        assert!(
            matches!(damage, Damage::Field("l1_table_offset", _)),
            "{offset}"
        );
    }
    let damage = Broken::new().put64(40, 1 << 50).damage();
    assert!(matches!(damage, Damage::BeyondEnd("L1 table", ..)));
    for length in [0, 103, 106, 1 << 20, u32::MAX] {
        let damage = Broken::new().put32(100, length).damage();
        assert!(
            matches!(damage, Damage::Field("header_length", _)),
            "{length}"
        );
    }
    // Subclusters of less than a sector.
    assert!(matches!(
        Broken::new().put64(72, 16).damage(),
        Damage::Field("cluster_bits", 12)
    ));
}

#[test]
fn tables_that_loop_or_overlap_are_refused() {
    let new = Broken::new;
    let (l1, l2) = (new().l1(), new().l2());
    let second = l1 + 8;
    let cluster = Broken::CLUSTER as u64;
    // The second table is the first one, the L1 table, the header.
    for target in [l2 as u64, l1 as u64, 0] {
        let entry = if target == 0 { COPIED | 1 << 9 } else { target };
        let damage = new().put64(second, entry).damage();
        match target {
            0 => assert!(matches!(damage, Damage::Entry("L1", _))),
            _ => assert!(matches!(damage, Damage::Overlap("L2 table", _)), "{target}"),
        }
    }
    // Content that is a table, itself, or content of another place.
    let taken = new().u64(l2 + 8);
    for target in [l2 as u64, l1 as u64, taken & !COPIED] {
        let damage = new().put64(l2, target).damage();
        assert!(matches!(damage, Damage::Overlap("data", _)), "{target}");
    }
    // Compressed content in a table.
    let damage = new().put64(l2, 1 << 62 | l2 as u64).damage();
    assert!(matches!(damage, Damage::Overlap("compressed data", _)));
    // Between clusters; with bits that must be zero; beyond the end.
    for entry in [512, 1 << 61 | cluster, cluster | 2, cluster | 1 << 56] {
        let damage = new().put64(l2, entry).damage();
        assert!(matches!(damage, Damage::Entry("L2", _)), "{entry:#x}");
        let damage = new().put64(l1, entry).damage();
        assert!(matches!(damage, Damage::Entry("L1", _)), "{entry:#x}");
    }
    let far = 1 << 50;
    assert!(matches!(
        new().put64(l2, far).damage(),
        Damage::BeyondEnd("data", ..)
    ));
    assert!(matches!(
        new().put64(l1, far).damage(),
        Damage::BeyondEnd("L2 table", ..)
    ));
    let packed = 1 << 62 | far;
    assert!(matches!(
        new().put64(l2, packed).damage(),
        Damage::BeyondEnd("compressed data", ..)
    ));
}

#[test]
fn an_image_cut_off_anywhere_is_refused_or_whole() {
    for more in [&[][..], &["-c"], &["-o", "extended_l2=on"]] {
        let disk = content(MIB + MIB / 2);
        let whole = Image::of(&disk, more).bytes();
        let places = (4..200).chain((200..whole.len()).step_by(whole.len() / 200));
        for length in places.chain([whole.len() - 1]) {
            match import_bytes(&whole[..length]) {
                Err(DecodeError::Inconsistent { .. }) => {}
                // Filling of the last sector.
                Ok(ours) => assert!(ours == disk, "{more:?} cut at {length}"),
                other => panic!("{more:?} cut at {length}: {other:?}"),
            }
        }
    }
}

#[test]
fn compressed_content_that_does_not_fill_its_cluster_is_refused() {
    for more in [&["-c"][..], &["-c", "-o", "compression_type=zstd"]] {
        let mut bytes = Image::of(&content(MIB), more).bytes();
        let word = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
        let l2 = (word(word(40) as usize) & 0x00ff_ffff_ffff_fe00) as usize;
        let packed = (word(l2) & ((1 << (62 - 8)) - 1)) as usize;
        bytes[packed..packed + 64].fill(0xff);
        assert!(matches!(
            import_bytes(&bytes),
            Err(DecodeError::Inconsistent {
                source: Damage::Packed { .. },
                ..
            })
        ));
    }
}

//! Importing images: what arrives, and what stops it.

use crate::{
    daemon::{Answer, Daemon, lines, read_upload, refusal},
    fixtures::image,
    run::Ran,
};
use fvm_vmm::api::{ApiError, ErrorKind, ImageReport, ImportHeader};
use hyper::{Request, body::Incoming};
use std::{
    fs::File,
    io::Write,
    path::Path,
    process::Stdio,
    sync::{Arc, Mutex},
};

pub(crate) type Arrived = Arc<Mutex<Vec<(Option<ImportHeader>, Result<Vec<u8>, String>)>>>;

/// A daemon that takes uploads as the real one does, and what it has taken.
pub(crate) fn taker() -> (Daemon, Arrived) {
    let arrived = Arrived::default();
    let kept = Arc::clone(&arrived);
    let daemon = Daemon::new(move |request| take(request, Arc::clone(&kept)));
    (daemon, arrived)
}

async fn take(request: Request<Incoming>, arrived: Arrived) -> Answer {
    let (header, content) = read_upload(request).await;
    let content = content.map_err(|error| error.to_string());
    let end = match &content {
        Ok(_) => Ok(image("debian")),
        Err(error) => Err(ApiError::new(ErrorKind::Failed, error.clone())),
    };
    arrived.lock().unwrap().push((header, content));
    lines(&[], end)
}

pub(crate) fn disk() -> Vec<u8> {
    let mut disk = vec![0; 3 << 20];
    disk[..4].copy_from_slice(b"boot");
    for (i, byte) in disk[1 << 20..2 << 20].iter_mut().enumerate() {
        *byte = ((i * i) >> 7) as u8;
    }
    disk
}

pub(crate) fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn import(daemon: &Daemon, source: &Path, more: &[&str]) -> Ran {
    let command = [
        &["image", "import", "debian", source.to_str().unwrap()],
        more,
    ]
    .concat();
    daemon.run(&command)
}

#[test]
fn content_arrives_from_files_of_each_kind() {
    let (daemon, arrived) = taker();
    let source = daemon.dir().join("disk");
    let xz = liblzma::encode_all(&disk()[..], 1).unwrap();
    let zstd = zstd::encode_all(&disk()[..], 1).unwrap();
    for bytes in [disk(), gzip(&disk()), xz, zstd] {
        std::fs::write(&source, bytes).unwrap();
        let ran = import(&daemon, &source, &[]);
        assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
        let (header, content) = arrived.lock().unwrap().pop().unwrap();
        assert_eq!(header, Some(ImportHeader::default()));
        assert!(content.unwrap() == disk());
        let start = "imported debian: 2.0 GiB disk, 61 MiB of data in ";
        assert!(ran.stdout.starts_with(start), "{ran:?}");
        assert_eq!(ran.stdout.lines().count(), 1);
    }
    assert_eq!(daemon.requests()[0], "POST /v1/images/debian");
}

#[test]
fn size_and_template_go_with_it() {
    let (daemon, arrived) = taker();
    let source = daemon.dir().join("disk");
    let template = daemon.dir().join("mine.xml");
    std::fs::write(&source, disk()).unwrap();
    std::fs::write(&template, "<domain/>").unwrap();
    let more = [
        "--size",
        "6G",
        "--template",
        template.to_str().unwrap(),
        "--json",
    ];
    let ran = import(&daemon, &source, &more);
    let report: ImageReport = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(report, image("debian"));
    assert_eq!(
        arrived.lock().unwrap()[0].0,
        Some(ImportHeader {
            size: Some(6 << 30),
            template: Some("<domain/>".to_owned()),
        })
    );
}

#[test]
fn standard_input_is_a_source() {
    let (daemon, arrived) = taker();
    let mut child = daemon
        .fvm(&["image", "import", "debian", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(&gzip(&disk()))
        .unwrap();
    let ran = Ran::end_of(child);
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(arrived.lock().unwrap().pop().unwrap().1.unwrap() == disk());
    // A redirected file is read from where its reader before us left it.
    let path = daemon.dir().join("disk");
    std::fs::write(&path, [&b"a header of somebody"[..], &disk()].concat()).unwrap();
    let mut file = File::open(&path).unwrap();
    std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(20)).unwrap();
    let mut command = daemon.fvm(&["image", "import", "debian", "-"]);
    command.stdin(file);
    let ran = Ran::of(command);
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(arrived.lock().unwrap().pop().unwrap().1.unwrap() == disk());
}

#[test]
fn a_damaged_file_is_status_1_and_no_whole_stream() {
    let (daemon, arrived) = taker();
    let source = daemon.dir().join("disk.gz");
    let whole = gzip(&disk());
    let mut flipped = whole.clone();
    let at = whole.len() - 6;
    flipped[at] ^= 1;
    for (bytes, error) in [
        (
            whole[..whole.len() / 2].to_vec(),
            "its gzip data is cut off after",
        ),
        (flipped, "its checksum does not match"),
        (
            [&whole[..], b"<html>"].concat(),
            "its gzip data is followed by something else",
        ),
    ] {
        std::fs::write(&source, bytes).unwrap();
        let ran = import(&daemon, &source, &[]);
        assert_eq!((ran.status, ran.stdout.as_str()), (1, ""), "{ran:?}");
        assert!(ran.stderr.contains("disk.gz is damaged: "), "{ran:?}");
        assert!(ran.stderr.contains(error), "{ran:?}");
        assert!(ran.stderr.contains("nothing was imported"), "{ran:?}");
        // The daemon has seen the end of it before the command ended, and took it for no image.
        let (_, content) = arrived.lock().unwrap().pop().unwrap();
        assert!(content.unwrap_err().contains("cut off"));
    }
}

#[test]
fn what_is_no_image_is_refused_before_the_daemon_is_asked() {
    let (daemon, _) = taker();
    let source = daemon.dir().join("disk");
    std::fs::write(&source, b"KDMV and the rest").unwrap();
    let ran = import(&daemon, &source, &[]);
    assert_eq!(ran.status, 2, "{ran:?}");
    assert!(ran.stderr.contains("is a VMDK image"), "{ran:?}");
    std::fs::write(&source, b"QFI\xfb\0\0\0\x03").unwrap();
    let ran = import(&daemon, &source, &[]);
    assert_eq!(ran.status, 1, "{ran:?}");
    assert!(ran.stderr.contains("it ends inside its header"), "{ran:?}");
    std::fs::write(&source, b"").unwrap();
    assert_eq!(import(&daemon, &source, &[]).status, 1);
    assert_eq!(import(&daemon, Path::new("/nowhere/disk"), &[]).status, 3);
    assert_eq!(import(&daemon, Path::new("/"), &[]).status, 2);
    let ran = import(&daemon, &source, &["--template", "/nowhere/mine.xml"]);
    assert_eq!(ran.status, 3, "{ran:?}");
    assert!(daemon.requests().is_empty());
}

#[test]
fn a_qcow2_image_arrives_as_the_disk_that_it_is() {
    let (daemon, arrived) = taker();
    let (raw, source) = (daemon.dir().join("raw"), daemon.dir().join("disk.qcow2"));
    std::fs::write(&raw, disk()).unwrap();
    let made = std::process::Command::new("qemu-img")
        .args(["convert", "-c", "-f", "raw", "-O", "qcow2"])
        .args([&raw, &source])
        .status();
    assert!(made.unwrap().success());
    let ran = import(&daemon, &source, &[]);
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""), "{ran:?}");
    assert!(arrived.lock().unwrap().pop().unwrap().1.unwrap() == disk());
    // From a pipe, it is kept for a while, where the user says; nothing of it stays.
    let spool = daemon.dir().join("spool");
    std::fs::create_dir(&spool).unwrap();
    let mut command = daemon.fvm(&["image", "import", "debian", "-"]);
    command
        .env("TMPDIR", &spool)
        .stdin(File::open(&source).unwrap());
    let ran = Ran::of(command);
    assert_eq!(ran.status, 0, "{ran:?}");
    let note = format!("it is kept in {} until it is imported", spool.display());
    assert!(ran.stderr.contains(&note), "{ran:?}");
    assert!(arrived.lock().unwrap().pop().unwrap().1.unwrap() == disk());
    assert_eq!(std::fs::read_dir(&spool).unwrap().count(), 0);
    // Nowhere to keep it.
    let mut command = daemon.fvm(&["image", "import", "debian", "-"]);
    command
        .env("TMPDIR", daemon.dir().join("none"))
        .stdin(File::open(&source).unwrap());
    let ran = Ran::of(command);
    assert_eq!(ran.status, 1, "{ran:?}");
    assert!(ran.stderr.contains("TMPDIR"), "{ran:?}");
}

#[test]
fn the_size_is_what_is_said_or_what_the_name_says() {
    let (daemon, arrived) = taker();
    let asked = |source: &Path, more: &[&str]| {
        let ran = import(&daemon, source, more);
        assert_eq!(ran.status, 0, "{ran:?}");
        let (header, content) = arrived.lock().unwrap().pop().unwrap();
        (header.unwrap().size, content.unwrap().len(), ran.stderr)
    };
    let packed = daemon.dir().join("6g__disk.raw.gz");
    std::fs::write(&packed, gzip(&disk())).unwrap();
    let (size, _, said) = asked(&packed, &[]);
    assert_eq!(size, Some(6 << 30));
    assert_eq!(said, "a disk of 6.0 GiB, as the file's name says\n");
    assert_eq!(asked(&packed, &["--size", "7G"]).0, Some(7 << 30));
    // The size of a raw file is known.
    let raw = daemon.dir().join("6g__disk.raw");
    std::fs::write(&raw, disk()).unwrap();
    assert_eq!(asked(&raw, &[]).0, None);

    let empty = Path::new("empty");
    let (size, length, _) = asked(empty, &["--size", "5M"]);
    assert_eq!((size, length), (Some(5 << 20), 5 << 20));
    let ran = import(&daemon, empty, &[]);
    assert_eq!(ran.status, 2, "{ran:?}");
    assert!(ran.stderr.contains("--size 20G"), "{ran:?}");
    let sum = "00".repeat(32);
    let ran = import(&daemon, empty, &["--size", "5M", "--sha256", &sum]);
    assert_eq!(ran.status, 2, "{ran:?}");
}

#[test]
fn a_refusal_in_the_middle_of_an_upload_is_what_the_user_sees() {
    // Answers without reading the body, which is larger than all buffers on the way, and hangs up.
    let error =
        ApiError::new(ErrorKind::Refused, "the disk would be too small").hint("use --size 6G");
    let expected = "error: the disk would be too small\nhint: use --size 6G\n";
    let as_status = error.clone();
    let daemons = [
        Daemon::always(move || refusal(&as_status)),
        Daemon::always(move || lines::<ImageReport>(&[], Err(error.clone()))),
    ];
    for daemon in daemons {
        let source = daemon.dir().join("disk");
        let noise: Vec<u8> = (0..32_u32 << 20)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect();
        std::fs::write(&source, noise).unwrap();
        let ran = import(&daemon, &source, &[]);
        assert_eq!((ran.status, ran.stderr.as_str()), (4, expected), "{ran:?}");
        // The same when more could still come, but does not.
        let mut child = daemon
            .fvm(&["image", "import", "debian", "-"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // It may be gone before it has read all of this.
        let _ = stdin.write_all(&[1; 100_000]);
        let ran = Ran::end_of(child);
        assert_eq!((ran.status, ran.stderr.as_str()), (4, expected), "{ran:?}");
        drop(stdin);
    }
}

#[test]
fn no_daemon_comes_before_a_damaged_file() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("disk.gz");
    let whole = gzip(&disk());
    std::fs::write(&source, &whole[..whole.len() - 5]).unwrap();
    let command = ["image", "import", "debian", source.to_str().unwrap()];
    let ran = crate::run::run(&dir.path().join("fvm.sock"), &command);
    assert_eq!(ran.status, 5, "{ran:?}");
}

#[test]
fn an_image_is_removed_by_name() {
    let daemon = Daemon::reports(image("debian"));
    let ran = daemon.run(&["image", "remove", "debian"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (0, "removed debian\n"));
    assert_eq!(daemon.requests(), ["DELETE /v1/images/debian"]);
}

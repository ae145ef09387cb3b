//! Files that somebody made in bad faith, or that were damaged on their way: refused, or imported as what they
//! are, within a fixed amount of memory, and nothing is left of them.

mod files;

use crate::{
    daemon::{Answer, Daemon, lines},
    fixtures::image,
    run::Ran,
};
use files::{DISK_BYTES, Fate, Seed, disk, qemu_img};
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
    let files = files::all(dir);
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

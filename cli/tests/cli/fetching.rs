//! Importing from servers, and what checksums are worth.

use crate::{
    daemon::Daemon,
    images::{Arrived, disk, gzip, import, taker},
    run::Ran,
    server::{self, Server, response, rest, whole},
};
use sha2::{Digest, Sha256, Sha512};
use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    path::Path,
    process::{Command, Stdio},
    thread,
};

const TAG: &str = "ETag: \"one\"";

fn fetch(daemon: &Daemon, url: &str, more: &[&str]) -> Ran {
    import(daemon, Path::new(url), more)
}

/// What the last import brought; `None` if it was no whole one.
fn content(arrived: &Arrived) -> Option<Vec<u8>> {
    let (_, content) = arrived.lock().unwrap().pop().unwrap();
    content.ok()
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn sha512(bytes: &[u8]) -> String {
    hex(&Sha512::digest(bytes))
}

#[test]
fn a_file_on_a_server_is_fetched_by_the_user() {
    let (daemon, arrived) = taker();
    let server = Server::new(|_, _| whole(&[], &gzip(&disk())));
    let ran = fetch(&daemon, &server.url("/disk.gz"), &[]);
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""), "{ran:?}");
    assert!(content(&arrived).unwrap() == disk());
    let asked = server.asked();
    assert_eq!(asked[0].line, "GET /disk.gz HTTP/1.1");
    assert_eq!(asked[0].header("accept-encoding"), Some("identity"));
}

#[test]
fn a_broken_connection_is_resumed_where_it_broke() {
    let (daemon, arrived) = taker();
    let server = Server::new(|before, asked| {
        let disk = disk();
        match asked.from() {
            None => {
                let mut reply = whole(&[TAG], &disk);
                reply.truncate(reply.len() - (1 << 20));
                reply
            }
            // Too much to do at first, then a part of the rest, then all of it.
            Some(_) if before == 1 => response("503 Service Unavailable", &[], b""),
            Some(from) if before == 2 => {
                let mut reply = rest(&[TAG], &disk, from);
                reply.truncate(reply.len() - 1000);
                reply
            }
            Some(from) => rest(&[TAG], &disk, from),
        }
    });
    let sum = sha256(&disk());
    let ran = fetch(&daemon, &server.url("/disk.raw"), &["--sha256", &sum]);
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(content(&arrived).unwrap() == disk());
    let asked = server.asked();
    assert_eq!(asked.len(), 4);
    for again in &asked[1..] {
        assert_eq!(again.header("if-range"), Some("\"one\""));
    }
    assert_eq!(asked[3].from(), Some(disk().len() - 1000));
}

#[test]
fn the_rest_of_another_file_is_not_taken() {
    let cut = |headers: &[&str]| {
        let mut reply = whole(headers, &disk());
        reply.truncate(reply.len() / 2);
        reply
    };
    type Second = fn(usize) -> Vec<u8>;
    let seconds: [(Second, &str); 6] = [
        (
            |_| whole(&["ETag: \"two\""], &disk()),
            "changed while it was fetched",
        ),
        (
            |from| rest(&["ETag: \"two\""], &disk(), from),
            "changed while it was fetched",
        ),
        (
            |from| rest(&[TAG], &disk(), from + 1),
            "changed while it was fetched",
        ),
        (
            |from| rest(&[TAG], &disk()[1..], from),
            "changed while it was fetched",
        ),
        (|_| whole(&[TAG], &disk()), "does not send the rest alone"),
        (|_| response("404 Not Found", &[], b""), "404 Not Found"),
    ];
    for (second, said) in seconds {
        let (daemon, arrived) = taker();
        let server = Server::new(move |_, asked| match asked.from() {
            None => cut(&[TAG]),
            Some(from) => second(from),
        });
        let ran = fetch(&daemon, &server.url("/disk.raw"), &[]);
        assert!(ran.status != 0 && ran.stderr.contains(said), "{ran:?}");
        assert_eq!(content(&arrived), None, "{said}");
    }
    // Nothing by which a changed file could be told.
    let (daemon, arrived) = taker();
    let server = Server::new(move |_, _| cut(&["ETag: W/\"weak\""]));
    let ran = fetch(&daemon, &server.url("/disk.raw"), &[]);
    assert_eq!(ran.status, 1, "{ran:?}");
    assert!(ran.stderr.contains("it is not resumed"), "{ran:?}");
    assert_eq!(content(&arrived), None);
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn a_page_that_is_no_file_is_an_error() {
    let (daemon, _) = taker();
    for (status, expected) in [("404 Not Found", 3), ("403 Forbidden", 1), ("500 Oops", 1)] {
        let server = Server::new(move |_, _| response(status, &["Content-Length: 2"], b"no"));
        let ran = fetch(&daemon, &server.url("/disk.raw"), &[]);
        assert_eq!(ran.status, expected, "{ran:?}");
        assert!(ran.stderr.contains(&status[..3]), "{ran:?}");
    }
    assert_eq!(fetch(&daemon, "ftp://example.org/disk.raw", &[]).status, 2);
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}/disk", listener.local_addr().unwrap())
    };
    let ran = fetch(&daemon, &closed, &[]);
    assert_eq!(ran.status, 1, "{ran:?}");
    assert!(
        ran.stderr.contains("cannot fetch http://127.0.0.1"),
        "{ran:?}"
    );
    assert!(daemon.requests().is_empty());
}

#[test]
fn redirects_are_followed_within_bounds() {
    let (daemon, arrived) = taker();
    let server = Server::new(|_, asked| {
        let path = asked.line.split(' ').nth(1).unwrap();
        match path.strip_prefix("/loop").map(str::len) {
            Some(length) => {
                let next = format!("Location: /loop{}", "x".repeat(length + 1));
                response("302 Found", &[&next, "Content-Length: 0"], b"")
            }
            None if path == "/old" => {
                let headers = ["Location: /new", "Content-Length: 0"];
                response("301 Moved Permanently", &headers, b"")
            }
            None => whole(&[], &disk()),
        }
    });
    let ran = fetch(&daemon, &server.url("/old"), &[]);
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(content(&arrived).unwrap() == disk());
    let before = server.asked().len();
    let ran = fetch(&daemon, &server.url("/loop"), &[]);
    assert_eq!(ran.status, 1, "{ran:?}");
    assert!(server.asked().len() - before <= 11);
}

#[test]
fn a_raw_image_without_an_end_needs_a_checksum() {
    let (daemon, arrived) = taker();
    // The end of the connection is the end of the file, or it broke: who knows.
    let server = Server::new(|_, asked| {
        let body = if asked.line.contains(".gz") {
            gzip(&disk())
        } else {
            disk()
        };
        response("200 OK", &[], &body)
    });
    let url = server.url("/disk.raw");
    let ran = fetch(&daemon, &url, &[]);
    assert_eq!(ran.status, 4, "{ran:?}");
    let ran = fetch(&daemon, &url, &["--sha512", &sha512(&disk())]);
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(content(&arrived).unwrap() == disk());
    let ran = fetch(&daemon, &server.url("/disk.gz"), &[]);
    assert_eq!(ran.status, 0, "{ran:?}");
}

#[test]
fn a_file_in_chunks_is_whole_or_an_error() {
    let (daemon, arrived) = taker();
    let chunked = |last: &[u8]| {
        let disk = disk();
        let size = format!("{:x}\r\n", disk.len());
        let body = [size.as_bytes(), &disk, b"\r\n", last].concat();
        response("200 OK", &["Transfer-Encoding: chunked"], &body)
    };
    let server = Server::new(move |_, asked| {
        chunked(if asked.line.contains("cut") {
            b""
        } else {
            b"0\r\n\r\n"
        })
    });
    let ran = fetch(&daemon, &server.url("/disk"), &[]);
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(content(&arrived).unwrap() == disk());
    assert_eq!(fetch(&daemon, &server.url("/cut"), &[]).status, 1);
    assert_eq!(content(&arrived), None);
}

/// Runs `openssl`, which `packaging/prepare` installs.
fn openssl(dir: &Path, arguments: &str) -> Command {
    let mut command = Command::new("openssl");
    command
        .args(arguments.split(' '))
        .current_dir(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command
}

#[test]
fn a_server_is_trusted_if_the_hosts_authorities_vouch_for_it() {
    let (daemon, arrived) = taker();
    let dir = daemon.dir();
    std::fs::write(dir.join("disk.raw"), disk()).unwrap();
    let names = "subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n";
    std::fs::write(dir.join("names"), names).unwrap();
    for arguments in [
        "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=authority",
        "req -newkey rsa:2048 -nodes -keyout key -out request -subj /CN=localhost",
        "x509 -req -in request -CA ca.pem -CAkey ca.key -days 2 -extfile names -out certificate",
    ] {
        let done = openssl(dir, arguments).stdin(Stdio::null()).status();
        assert!(done.unwrap().success(), "openssl {arguments}");
    }
    // It serves files, and says on what port.
    let arguments = "s_server -accept 0 -WWW -key key -cert certificate";
    let mut server = openssl(dir, arguments).spawn().unwrap();
    let lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let port = lines
        .map(|line| line.unwrap())
        .find_map(|line| Some(line.strip_prefix("ACCEPT ")?.rsplit_once(':')?.1.to_owned()));
    let url = format!("https://localhost:{}/disk.raw", port.unwrap());

    let sum = sha256(&disk());
    let mut command = daemon.fvm(&["image", "import", "debian", &url, "--sha256", &sum]);
    command.env("SSL_CERT_FILE", dir.join("ca.pem"));
    let trusted = Ran::of(command);
    let stranger = fetch(&daemon, &url, &["--sha256", &sum]);
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!(trusted.status, 0, "{trusted:?}");
    assert!(content(&arrived).unwrap() == disk());
    assert_eq!(stranger.status, 1, "{stranger:?}");
    assert!(stranger.stderr.contains("certificate"), "{stranger:?}");
}

#[test]
fn a_proxy_of_the_environment_is_used() {
    let (daemon, arrived) = taker();
    // A tunnel to whatever is asked for, in which this one server answers.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = format!("http://{}", listener.local_addr().unwrap());
    let tunnel = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let connect = server::read(&stream).unwrap().line;
        stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").unwrap();
        let get = server::read(&stream).unwrap().line;
        stream.write_all(&whole(&[], &disk())).unwrap();
        (connect, get)
    });
    let mut command = daemon.fvm(&["image", "import", "debian", "http://host.invalid/disk.raw"]);
    command.env("http_proxy", proxy);
    let ran = Ran::of(command);
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(content(&arrived).unwrap() == disk());
    let (connect, get) = tunnel.join().unwrap();
    assert_eq!(connect, "CONNECT host.invalid:80 HTTP/1.1");
    assert_eq!(get, "GET /disk.raw HTTP/1.1");
}

#[test]
fn a_wrong_checksum_leaves_nothing() {
    let (daemon, arrived) = taker();
    let source = daemon.dir().join("disk.gz");
    let packed = gzip(&disk());
    std::fs::write(&source, &packed).unwrap();
    let right = [sha256(&packed), sha512(&packed)];
    // That of the content is not that of the file.
    let wrong = [sha256(&disk()), sha512(&disk())];
    for (option, sums) in [("--sha256", 0), ("--sha512", 1)] {
        let ran = import(&daemon, &source, &[option, &right[sums]]);
        assert_eq!(ran.status, 0, "{ran:?}");
        assert!(content(&arrived).unwrap() == disk());
        let ran = import(&daemon, &source, &[option, &wrong[sums]]);
        assert_eq!(ran.status, 1, "{ran:?}");
        assert!(ran.stderr.contains(&right[sums]) && ran.stderr.contains(&wrong[sums]));
        assert_eq!(content(&arrived), None);
    }
    let ran = import(&daemon, &source, &["--sha256", &right[1]]);
    assert_eq!(ran.status, 2, "{ran:?}");
    let both = ["--sha256", &right[0], "--sha512", &right[1]];
    assert_eq!(import(&daemon, &source, &both).status, 2);
}

#[test]
fn standard_input_has_a_checksum_too() {
    let (daemon, arrived) = taker();
    for (sum, status) in [(sha256(&disk()), 0), (sha256(b"another"), 1)] {
        let path = daemon.dir().join("disk");
        std::fs::write(&path, disk()).unwrap();
        let mut command = daemon.fvm(&["image", "import", "debian", "-", "--sha256", &sum]);
        command.stdin(Stdio::from(std::fs::File::open(&path).unwrap()));
        let ran = Ran::of(command);
        assert_eq!(ran.status, status, "{ran:?}");
        assert_eq!(content(&arrived).is_some(), status == 0);
    }
}

#[test]
fn checksums_come_from_lists_on_disk_and_on_servers() {
    let (daemon, arrived) = taker();
    let server = Server::new(|_, asked| match asked.line.split(' ').nth(1).unwrap() {
        "/SHA512SUMS" => {
            let list = format!(
                "{}  other\n{} *disk one.raw\n",
                sha512(b""),
                sha512(&disk())
            );
            whole(&[], list.as_bytes())
        }
        "/CHECKSUM" => whole(
            &[],
            format!("SHA256 (disk one.raw) = {}", sha256(b"")).as_bytes(),
        ),
        "/huge" => whole(&[], &vec![b'\n'; (1 << 20) + 1]),
        _ => whole(&[], &disk()),
    });
    let url = server.url("/disk%20one.raw");
    let import = |list: &str| fetch(&daemon, &url, &["--checksums", list]);
    assert_eq!(import(&server.url("/SHA512SUMS")).status, 0);
    assert!(content(&arrived).unwrap() == disk());
    let ran = import(&server.url("/CHECKSUM"));
    assert_eq!(ran.status, 1, "{ran:?}");
    assert_eq!(content(&arrived), None);
    let ran = import(&server.url("/huge"));
    assert!(ran.stderr.contains("longer than 1024 KiB"), "{ran:?}");
    let list = daemon.dir().join("SUMS");
    std::fs::write(&list, format!("{}  disk two.raw\n", sha256(&disk()))).unwrap();
    let ran = import(list.to_str().unwrap());
    assert_eq!(ran.status, 1, "{ran:?}");
    assert!(
        ran.stderr
            .contains("no SHA-256 or SHA-512 checksum of 'disk one.raw'"),
        "{ran:?}"
    );
    assert_eq!(import("/nowhere/SUMS").status, 3);
    let ran = fetch(&daemon, "-", &["--checksums", list.to_str().unwrap()]);
    assert_eq!(ran.status, 2, "{ran:?}");
}

//! What images are imported from: qcow2, servers, nothing at all, and files made in bad faith.

use crate::{fingerprint, is_as_before, json, ready_host, refused};
use anyhow::{Context, Result, ensure};
use fvm_lab::{LabHost, Needs};
use serde_json::Value;
use std::{path::Path, process::Command};

/// Serves /root over HTTP, by ranges and entity tags; a connection brings a third of a file at most.
const SERVER: &str = r#"
import http.server

class Broken(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        data = open("/root" + self.path, "rb").read()
        wanted = self.headers.get("Range")
        start = int(wanted[len("bytes="):-1]) if wanted else 0
        self.send_response(206 if wanted else 200)
        self.send_header("ETag", '"one"')
        self.send_header("Content-Length", str(len(data) - start))
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        self.wfile.write(data[start:start + max(len(data) // 3, 4096)])
        self.close_connection = True

http.server.HTTPServer(("127.0.0.1", 8000), Broken).serve_forever()
"#;

/// Writes a qcow2 image that is wrong in one place: `wrong NAME OFFSET VALUE`, big-endian words, `l1` and `l2` for the tables.
const WRONG: &str = r#"
import struct, sys

data = bytearray(open("/root/plain.qcow2", "rb").read())
word = lambda at: struct.unpack(">Q", data[at:at + 8])[0]
l1 = word(40)
l2 = word(l1) & 0x00fffffffffffe00
place = lambda text: eval(text, {"l1": l1, "l2": l2})
struct.pack_into(">Q", data, place(sys.argv[1]), place(sys.argv[2]))
open("/root/wrong.qcow2", "wb").write(data)
"#;

fn qemu_img(directory: &Path, arguments: &[&str]) -> Result<()> {
    let done = Command::new("qemu-img")
        .current_dir(directory)
        .args(arguments)
        .output()
        .context("starting qemu-img, which packaging/prepare installs")?;
    ensure!(
        done.status.success(),
        "qemu-img {arguments:?}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
    Ok(())
}

/// Puts the test guest's disk on the host as qcow2: `plain`, and compressed with deflate and zstd.
fn put_qcow2(host: &LabHost) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let raw = directory.path().join("raw");
    host.get("/lab/guests/bios.raw", &raw)?;
    for (name, more) in [
        ("plain", &["-o", "cluster_size=16k"][..]),
        ("deflate", &["-c", "-o", "compat=0.10"]),
        (
            "zstd",
            &["-c", "-o", "compression_type=zstd,extended_l2=on"],
        ),
    ] {
        let file = format!("{name}.qcow2");
        let command = [
            &["convert", "-f", "raw", "-O", "qcow2"],
            more,
            &["raw", &file],
        ];
        qemu_img(directory.path(), &command.concat())?;
        host.put(&directory.path().join(&file), &format!("/root/{file}"))?;
    }
    let backed = [
        "create",
        "-q",
        "-u",
        "-f",
        "qcow2",
        "-F",
        "raw",
        "-b",
        "/etc/shadow",
        "b",
        "1G",
    ];
    qemu_img(directory.path(), &backed)?;
    host.put(&directory.path().join("b"), "/root/backed.qcow2")
}

fn daemon(host: &LabHost) -> Result<String> {
    host.ok("systemctl show --property MainPID --property NRestarts fvmd")
}

#[test]
fn every_source_gives_the_same_image_and_none_a_wrong_one() -> Result<()> {
    let Some(host) = ready_host(Needs::default())? else {
        return Ok(());
    };
    put_qcow2(&host)?;
    host.ok(&format!(
        "cat > /root/server.py <<'END'\n{SERVER}\nEND\ncat > /root/wrong.py <<'END'\n{WRONG}\nEND
         cp /lab/guests/bios.raw.xz /root/6g__guest.raw.xz
         (cd /root && sha512sum 6g__guest.raw.xz zstd.qcow2 > SHA512SUMS)
         gzip -1k /root/plain.qcow2
         systemd-run -q --unit files python3 /root/server.py
         timeout 60 sh -c 'until curl -s -o /dev/null http://127.0.0.1:8000/SHA512SUMS; do sleep 0.2; done'"
    ))?;
    let before = daemon(&host)?;

    let url = "http://127.0.0.1:8000";
    for (name, command) in [
        (
            "plain",
            "fvm image import plain /root/plain.qcow2".to_owned(),
        ),
        (
            "deflate",
            "fvm image import deflate /root/deflate.qcow2".to_owned(),
        ),
        (
            "pipe",
            "cat /root/zstd.qcow2 | fvm image import pipe -".to_owned(),
        ),
        (
            "packed",
            "fvm image import packed /root/plain.qcow2.gz".to_owned(),
        ),
        (
            "served",
            format!("fvm image import served {url}/zstd.qcow2 --checksums {url}/SHA512SUMS"),
        ),
        (
            "named",
            format!("fvm image import named {url}/6g__guest.raw.xz --checksums {url}/SHA512SUMS"),
        ),
        (
            "sized",
            "fvm image import sized /lab/guests/bios.raw --size 6G".to_owned(),
        ),
        (
            "scratch",
            "fvm image import scratch empty --size 2G".to_owned(),
        ),
    ] {
        host.ok(&command).with_context(|| name.to_owned())?;
    }
    let list = json(&host, "fvm image list")?;
    let image = |name: &str| -> Result<&Value> {
        let images = list["images"].as_array().context("no images")?;
        let found = images.iter().find(|image| image["name"] == name);
        found.with_context(|| format!("no image {name}: {list}"))
    };
    let guest = image("debian")?;
    for name in ["plain", "deflate", "pipe", "packed", "served"] {
        let digest = &image(name)?["digest"];
        ensure!(
            *digest == guest["digest"],
            "{name} is not the guest: {list}"
        );
    }
    // A digest is of the whole disk, which the name has made larger here.
    ensure!(
        image("named")?["digest"] == image("sized")?["digest"],
        "{list}"
    );
    ensure!(image("named")?["size_bytes"] == 6_u64 << 30, "{list}");
    let scratch = image("scratch")?;
    ensure!(
        scratch["size_bytes"] == 2_u64 << 30 && scratch["data_bytes"] == 0,
        "{list}"
    );
    host.ok("fvm create named 42 && fvm start 42 --wait lease --timeout 300s && fvm delete 42")?;

    // A checksum of something else, of a file and of what a server has.
    let wrong = "0".repeat(64);
    for source in [
        "/lab/guests/bios.raw".to_owned(),
        format!("{url}/6g__guest.raw.xz"),
    ] {
        let command = format!("fvm image import x {source} --sha256 {wrong}");
        refused(&host, &command, 1, &["SHA-256 checksum", &wrong])?;
    }
    refused(
        &host,
        &format!("fvm image import x {url}/none"),
        1,
        &["cannot fetch"],
    )?;
    hostile(&host)?;
    damaged(&host)?;
    ensure!(daemon(&host)? == before, "fvmd was restarted");
    host.ok("systemctl stop files")?;
    host.nothing_left()
}

/// Makes `count` damaged files of each kind of sound one, cut off or with a bit flipped at random, imports each, and says what became of it:
/// a status, and the digest if it was imported.
const DAMAGED: &str = r#"
import json, random, subprocess, sys
dice = random.Random(3)
for kind in ["gz", "xz", "zst", "qcow2"]:
    whole = open(f"/root/small.{kind}", "rb").read()
    for number in range(15):
        if number % 2:
            at, bit = dice.randrange(6, len(whole)), 1 << dice.randrange(8)
            what, data = "flipped", whole[:at] + bytes([whole[at] ^ bit]) + whole[at + 1:]
        else:
            at = dice.randrange(8, len(whole) - 1)
            what, data = "cut", whole[:at]
        open("/root/damaged", "wb").write(data)
        done = subprocess.run(["fvm", "image", "import", "damaged", "/root/damaged"], capture_output=True, text=True)
        digest = "-"
        if done.returncode == 0:
            shown = subprocess.run(["fvm", "image", "show", "damaged", "--json"], capture_output=True, check=True)
            digest = json.loads(shown.stdout)["digest"]
            subprocess.run(["fvm", "image", "remove", "damaged"], capture_output=True, check=True)
        elif not (done.stderr.startswith("error: ") or "\nerror: " in done.stderr):
            sys.exit(f"{kind} {what} at {at}: {done}")
        print(kind, what, at, done.returncode, digest)
"#;

/// Sixty files that were damaged at random: refused, or what they were, or, where the format has no checksum, another content.
fn damaged(host: &LabHost) -> Result<()> {
    host.ok(
        "head -c 300000 /dev/urandom > /root/small && truncate -s 1M /root/small && fvm image import small /root/small
         for kind in gz xz zst qcow2; do fvm image export small /root/small.$kind; done",
    )?;
    let sound = json(host, "fvm image show small")?;
    let sound = sound["digest"].as_str().context("no digest")?;
    let before = fingerprint(host)?;
    let told = host.ok(&format!("python3 - <<'END'{DAMAGED}END"))?;
    ensure!(told.lines().count() == 60, "{told}");
    for line in told.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let right = match words[..] {
            [_, _, _, "1" | "2", "-"] => true,
            [kind, "flipped", _, "0", digest] => digest == sound || kind == "qcow2",
            // What a gzip file or a qcow2 image is cut off of may be padding.
            [_, "cut", _, "0", digest] => digest == sound,
            _ => false,
        };
        ensure!(right, "{line}");
    }
    is_as_before(host, &before, "importing damaged files")?;
    host.ok("fvm image remove small").map(drop)
}

/// Files made in bad faith, through the real daemon.
fn hostile(host: &LabHost) -> Result<()> {
    let backed = "fvm image import x /root/backed.qcow2";
    refused(host, backed, 2, &["backing file '/etc/shadow'"])?;
    for (at, value, said) in [
        ("72", "4", "external data file"),
        ("72", "1 << 40", "incompatible feature 40"),
        ("16", "34", "cluster_bits 34"),
        ("l1 + 8", "l2", "lies where something else is"),
        ("l2", "l2", "lies where something else is"),
        ("l2", "1 << 40", "lies beyond its end"),
    ] {
        host.ok(&format!("python3 /root/wrong.py '{at}' '{value}'"))?;
        let status = if at == "72" { 2 } else { 1 };
        for source in ["/root/wrong.qcow2", "- < /root/wrong.qcow2"] {
            refused(
                host,
                &format!("fvm image import x {source}"),
                status,
                &[said],
            )?;
        }
    }
    host.ok(
        "head -c $(( $(stat -c %s /root/zstd.qcow2) / 2 )) /root/zstd.qcow2 > /root/cut.qcow2
         python3 -c 'import sys; [sys.stdout.buffer.write(b\"\\xff\" * 2**20) for _ in range(512)]' | gzip -1 > /root/bomb.gz
         gzip -1 < /root/bomb.gz > /root/bomb.gz.gz",
    )?;
    refused(
        host,
        "fvm image import x /root/cut.qcow2",
        1,
        &["lies beyond its end"],
    )?;
    refused(
        host,
        "fvm image import x /root/bomb.gz.gz",
        2,
        &["holds gzip"],
    )?;
    let bomb = "fvm image import x /root/bomb.gz --size 64M";
    refused(host, bomb, 2, &["does not fit"])
}

//! Images: every kind comes in the same, and what is damaged does not come in at all.

use crate::{json, ready_host, refused, said};
use anyhow::{Context, Result, ensure};
use fvm_lab::Needs;

#[test]
fn every_kind_of_file_and_standard_input_give_the_same_image() -> Result<()> {
    let Some(host) = ready_host(Needs::default())? else {
        return Ok(());
    };
    for (name, command) in [
        ("raw", "fvm image import raw /lab/guests/bios.raw"),
        ("gz", "fvm image import gz /lab/guests/bios.raw.gz"),
        ("xz", "fvm image import xz /lab/guests/bios.raw.xz"),
        (
            "pipe",
            "cat /lab/guests/bios.raw.zst | fvm image import pipe -",
        ),
        (
            "misnamed",
            "cp /lab/guests/bios.raw.gz /root/disk.raw && fvm image import misnamed /root/disk.raw",
        ),
    ] {
        host.ok(command).with_context(|| name.to_owned())?;
    }
    let list = json(&host, "fvm image list")?;
    let images = list["images"].as_array().context("no images")?;
    ensure!(images.len() == 6, "{list}");
    for image in images {
        for field in ["digest", "size_bytes", "data_bytes"] {
            ensure!(
                image[field] == images[0][field],
                "{field} of {image} is not that of {}",
                images[0]
            );
        }
    }
    // The device holds exactly the file.
    host.ok("fvm create raw 42 && fvm start 42 && cmp -n 1048576 /lab/guests/bios.raw /dev/fvm/fvm-raw-42")?;
    // Zeros take no room: a disk of 1 GiB with one block written.
    host.ok(
        "truncate -s 1G /root/sparse && printf x | dd of=/root/sparse bs=1 seek=500M conv=notrunc status=none
         fvm image import sparse /root/sparse",
    )?;
    let sparse = json(&host, "fvm image list")?;
    let sparse = sparse["images"]
        .as_array()
        .and_then(|all| all.iter().find(|image| image["name"] == "sparse"));
    ensure!(
        sparse.context("no image")?["data_bytes"] == 65536,
        "{sparse:?}"
    );

    host.ok("fvm image import big /lab/guests/bios.raw --size 200M")?;
    host.ok("fvm create big 44 && fvm info 44 --json | jq -e '.disk_bytes == 209715200'")?;
    // A VM lives on when its image is removed.
    host.ok("fvm image remove big && fvm start 44 && fvm delete 42,44")?;
    host.nothing_left()
}

#[test]
fn damaged_and_unfit_files_leave_nothing() -> Result<()> {
    let Some(host) = ready_host(Needs::default())? else {
        return Ok(());
    };
    for kind in ["gz", "xz", "zst"] {
        host.ok(&format!(
            "size=$(stat -c %s /lab/guests/bios.raw.{kind})
             head -c $((size * 2 / 3)) /lab/guests/bios.raw.{kind} > /root/cut.{kind}
             cp /lab/guests/bios.raw.{kind} /root/flipped.{kind}; chmod u+w /root/flipped.{kind}
             printf '\\377\\000\\377\\000\\377\\000' | dd of=/root/flipped.{kind} bs=1 seek=$((size / 2)) conv=notrunc status=none"
        ))?;
        for damage in ["cut", "flipped"] {
            let command = format!("fvm image import broken /root/{damage}.{kind}");
            refused(&host, &command, 1, &["damaged"])?;
        }
    }
    refused(
        &host,
        "fvm image import small /lab/guests/bios.raw --size 10M",
        2,
        &["does not fit", "--size"],
    )?;
    refused(
        &host,
        "fvm image import small /lab/guests/bios.raw.xz --size 10M",
        2,
        &["does not fit"],
    )?;
    refused(
        &host,
        "fvm image import debian /lab/guests/bios.raw",
        4,
        &["'debian' already"],
    )?;
    refused(
        &host,
        "fvm image import x /root/none.raw",
        3,
        &["/root/none.raw"],
    )?;
    refused(
        &host,
        "fvm image import bad/name /lab/guests/bios.raw",
        2,
        &["bad/name"],
    )?;
    refused(
        &host,
        "fvm image import x /lab/guests/bios.raw --template none",
        3,
        &["no template 'none'", "linux-uefi"],
    )?;
    refused(&host, "fvm image remove none", 3, &["no image 'none'"])?;
    host.ok(": > /root/nothing")?;
    refused(&host, "fvm image import x /root/nothing", 1, &["empty"])?;
    host.nothing_left()
}

#[test]
fn an_import_that_is_interrupted_leaves_nothing() -> Result<()> {
    let Some(host) = ready_host(Needs::default())? else {
        return Ok(());
    };
    // Ended while the pipe still has more to give.
    let output = host.sh(
        "(head -c 20M /lab/guests/bios.raw; exec sleep 300) | fvm image import half - & sleep 5
         kill -TERM $(pgrep -x fvm); pkill -x sleep || true; wait || true
         timeout 60 sh -c 'until [ \"$(sqlite3 -readonly /var/lib/fvm/state.db \"select count(*) from volume\")\" = 1 ]; do sleep 0.2; done'
         fvm image list",
    )?;
    ensure!(
        output.status.success() && !said(&output).contains("half"),
        "{}",
        said(&output)
    );
    host.nothing_left()
}

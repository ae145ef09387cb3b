//! Images after their import: out of the pool and back, checked, resized, renamed, edited by a base VM, named by
//! profiles.

use crate::{KEY, WAIT, json, ready_host, refused, said, ssh};
use anyhow::{Context, Result, ensure};
use fvm_lab::{LabHost, Needs};

fn digest(host: &LabHost, image: &str) -> Result<String> {
    let image = json(host, &format!("fvm image show {image}"))?;
    Ok(image["digest"].as_str().context("no digest")?.to_owned())
}

#[test]
fn what_is_exported_comes_back_the_same() -> Result<()> {
    let Some(host) = ready_host(Needs::default())? else {
        return Ok(());
    };
    let original = digest(&host, "debian")?;
    for format in ["zst", "raw", "qcow2", "xz", "gz"] {
        let export = format!("fvm image export debian /root/disk.{format}");
        let report = json(&host, &export)?;
        ensure!(
            report["format"] == format && report["digest"] == original.as_str(),
            "{report}"
        );
        host.ok(&format!("fvm image import {format} /root/disk.{format}"))?;
        ensure!(digest(&host, format)? == original, "{format} differs");
        host.ok(&format!("fvm image remove {format}"))?;
    }
    host.ok("cmp /root/disk.raw /lab/guests/bios.raw && rm /root/disk.*")?;
    // A pipe, the name that is taken without one, and one that is taken already.
    host.ok(
        "fvm image export debian --format raw - 2> /root/said | fvm image import piped -
             grep -q 'exported debian to standard output' /root/said",
    )?;
    ensure!(
        digest(&host, "piped")? == original,
        "a pipe makes a difference"
    );
    host.ok("cd /root && fvm image export debian && [ -s debian.raw.zst ] && [ ! -e .debian* ]")?;
    let again = "cd /root && fvm image export debian";
    refused(
        &host,
        again,
        4,
        &["debian.raw.zst is there already", "--force"],
    )?;
    host.ok("cd /root && fvm image export debian --force")?;
    refused(
        &host,
        "fvm image export nothing /root/x",
        3,
        &["no image 'nothing'"],
    )?;
    refused(
        &host,
        "fvm image export debian /root/no/x",
        3,
        &["/root/no/x"],
    )?;
    refused(
        &host,
        "fvm image export debian --format qcow2 -",
        2,
        &["qcow2"],
    )?;
    host.ok("[ ! -e /root/x ]")?;

    // Interrupted in the middle, it leaves no file, and the daemon no snapshot.
    host.ok(
        "mkdir /root/cut && cd /root/cut
         fvm image export debian disk.xz --level 9 & export=$!
         until ls .disk.xz.*.part > /dev/null 2>&1; do sleep 0.1; done
         kill -INT $export; wait $export || status=$?
         [ \"$status\" = 130 ] && [ -z \"$(ls -A)\" ]
         until [ \"$(sqlite3 -readonly /var/lib/fvm/state.db \"SELECT count(*) FROM volume WHERE state = 'temporary'\")\" = 0 ]
         do sleep 0.1; done",
    )?;

    // A running VM's disk, as an image that a VM can be made of.
    host.ok(&format!("fvm create debian 42 && fvm start 42 {WAIT}"))?;
    ssh(&host, 42, "echo exported > /data/mark && sync")?;
    host.ok(
        "fvm export 42 - | fvm image import copy - && fvm stop 42 && fvm export 42 /root/vm.qcow2",
    )?;
    host.ok(&format!("fvm create copy 43 && fvm start 43 {WAIT}"))?;
    ensure!(ssh(&host, 43, "cat /data/mark")? == "exported");
    host.ok("fvm delete 42,43 && fvm image import still /root/vm.qcow2")?;
    host.nothing_left()
}

#[test]
fn an_image_is_checked_resized_renamed_edited_and_named_by_profiles() -> Result<()> {
    let Some(host) = ready_host(Needs::default())? else {
        return Ok(());
    };
    let original = digest(&host, "debian")?;

    // Checksums as fast-vm has them, and what is wrong with them is said.
    host.ok("fvm image verify debian")?;
    host.ok(
        "mkdir /root/sums && fvm image checksum debian /root/sums
         [ \"$(cat /root/sums/debian.part_00.sha512.txt)\" = \"$(sha512sum < /lab/guests/bios.raw | cut -d' ' -f1)\" ]
         fvm image verify debian /root/sums",
    )?;
    host.ok("tr 0-9 1-90 < /root/sums/debian.part_00.sha512.txt > /root/x && mv /root/x /root/sums/debian.part_00.sha512.txt")?;
    refused(
        &host,
        "fvm image verify debian /root/sums",
        1,
        &["part 0", "FAIL: 1"],
    )?;
    host.ok("rm /root/sums/*")?;
    refused(
        &host,
        "fvm image verify debian /root/sums",
        1,
        &["MISSING: 1"],
    )?;
    refused(
        &host,
        "fvm image verify debian /root/none",
        3,
        &["/root/none"],
    )?;

    // Larger and back: the same content.
    host.ok("fvm image resize debian +100M && fvm image verify debian")?;
    ensure!(
        digest(&host, "debian")? != original,
        "a larger disk has the same digest"
    );
    let size = "$(stat -c %s /lab/guests/bios.raw)";
    refused(
        &host,
        &format!("fvm image resize debian {size}"),
        4,
        &["--shrink"],
    )?;
    refused(
        &host,
        &format!("fvm image resize debian {size} --shrink"),
        2,
        &["--yes"],
    )?;
    host.ok(&format!("fvm image resize debian {size} --shrink --yes"))?;
    ensure!(
        digest(&host, "debian")? == original,
        "it is not what it was"
    );

    // Another name.
    host.ok("fvm create debian 42 && fvm image rename debian trixie && fvm info 42 --json | jq -e '.image == \"trixie\"'")?;
    host.ok("fvm image import other /lab/guests/bios.raw && fvm delete 42")?;
    refused(
        &host,
        "fvm image rename trixie other",
        4,
        &["image 'other' already"],
    )?;
    host.ok("fvm image rename trixie debian")?;

    // Profiles stand where an image stands.
    host.ok(
        "printf '#!/bin/sh\\necho made\\n' > /root/hook
         fvm profile create small debian --memory 300M --cpus 1 --create-hook /root/hook
         fvm profile show small | grep -q 'echo made'
         fvm create small 42 --cpus 2
         fvm info 42 --json | jq -e '.memory_mib == 300 and .cpus == 2 and .profile == \"small\" and .image == \"debian\"'
         fvm delete 42",
    )?;
    refused(
        &host,
        "fvm profile create debian debian",
        4,
        &["image 'debian'"],
    )?;
    refused(
        &host,
        "fvm profile create small debian",
        4,
        &["profile 'small' already"],
    )?;
    refused(
        &host,
        "fvm profile create big debian --memory 900G",
        2,
        &["memory"],
    )?;
    refused(
        &host,
        "fvm profile create lost nothing",
        3,
        &["no image 'nothing'"],
    )?;
    refused(
        &host,
        "fvm image import small /lab/guests/bios.raw",
        4,
        &["profile 'small'"],
    )?;
    host.ok("fvm profile list | grep -q small && fvm profile delete small")?;
    refused(&host, "fvm profile show small", 3, &["no profile 'small'"])?;

    base_vm(&host, &original)
}

/// A base VM has the image for itself, and what it writes is what later VMs are made of.
fn base_vm(host: &LabHost, original: &str) -> Result<()> {
    host.ok("fvm create debian base && fvm info base --json | jq -e '.number == \"base\" and .address == \"192.168.22.19\"'")?;
    for command in [
        "fvm create debian 42",
        "fvm image export debian /root/x",
        "fvm image verify debian",
        "fvm image resize debian +1G",
        "fvm image rename debian x",
        "fvm image compact debian",
        "fvm image remove debian",
    ] {
        refused(
            host,
            command,
            4,
            &["edited by its base VM", "fvm delete base"],
        )?;
    }
    refused(host, "fvm create other base", 4, &["a base VM already"])?;
    refused(host, "fvm create other 42,base", 2, &["by itself"])?;
    host.ok(&format!(
        "fvm start base {WAIT} && fvm list | grep -qw base"
    ))?;
    host.ok(&format!(
        "fvm ssh {KEY} base -- 'echo edited > /data/mark && sync' && fvm stop base && fvm delete base"
    ))?;
    let image = json(host, "fvm image show debian")?;
    ensure!(
        image["changed_at_s"].is_u64() && image["digest"] != original,
        "{image}"
    );
    host.ok("fvm image verify debian")?;
    host.ok(&format!("fvm create debian 42 && fvm start 42 {WAIT}"))?;
    ensure!(ssh(host, 42, "cat /data/mark")? == "edited");
    host.ok("fvm delete 42")?;
    // Nothing changed is nothing changed.
    let before = said(&host.sh("fvm image show debian --json")?);
    host.ok("fvm create debian base && fvm delete base")?;
    ensure!(said(&host.sh("fvm image show debian --json")?) == before);
    host.nothing_left()
}

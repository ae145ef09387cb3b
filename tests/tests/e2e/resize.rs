//! Disks that grow under a running guest, and shrink when that is meant.

use crate::{WAIT, json, ready_host, refused, ssh};
use anyhow::{Result, ensure};
use fvm_lab::{LabHost, Needs};

const MIB: u64 = 1 << 20;

/// How large the guest takes its disk to be, once it is this large; it hears of a change a moment after us.
fn guest_sees(host: &LabHost, vm: u32, bytes: u64) -> Result<()> {
    let sectors = bytes / 512;
    ssh(
        host,
        vm,
        &format!(
            "n=0; until [ $(cat /sys/block/sda/size) = {sectors} ]; do n=$((n + 1)); [ $n -lt 300 ] || exit 1; sleep 0.1; done"
        ),
    )
    .map(drop)
}

#[test]
fn a_disk_grows_under_its_guest_and_shrinks_only_when_that_is_meant() -> Result<()> {
    let Some(host) = ready_host(Needs::default())? else {
        return Ok(());
    };
    host.ok(&format!("fvm create debian 42,43 && fvm start 42 {WAIT}"))?;
    let size = json(&host, "fvm info 42")?["disk_bytes"]
        .as_u64()
        .unwrap_or(0);

    host.ok("fvm resize 42,43 +64M")?;
    guest_sees(&host, 42, size + 64 * MIB)?;
    for vm in [42, 43] {
        let info = json(&host, &format!("fvm info {vm}"))?;
        ensure!(info["disk_bytes"] == size + 64 * MIB, "{info}");
    }
    // A daemon that died between recording the size and telling the guest is caught up with.
    host.ok(&format!(
        "systemctl stop fvmd.socket fvmd
         sqlite3 /var/lib/fvm/state.db \"UPDATE volume SET size_bytes = {} WHERE thin_id = (SELECT thin_id FROM vm WHERE number = 42)\"
         systemctl start fvmd.socket fvmd && fvm list",
        size + 100 * MIB
    ))?;
    guest_sees(&host, 42, size + 100 * MIB)?;

    refused(&host, "fvm resize 42 10M", 4, &["more than", "--shrink"])?;
    refused(&host, "fvm resize 42 +0M", 4, &["already"])?;
    refused(
        &host,
        "fvm resize 42 1000",
        2,
        &["would be 1000 bytes", "1000G"],
    )?;
    refused(
        &host,
        "fvm resize 42 1025B --shrink --yes",
        2,
        &["not possible"],
    )?;
    refused(&host, "fvm resize 99 20G", 3, &["no VM 99"])?;
    let running = "fvm resize 42 60M --shrink --yes";
    refused(&host, running, 4, &["running", "fvm stop 42"])?;

    // What lay behind the end does not come back when the disk grows again, and takes no space.
    ssh(
        &host,
        42,
        "dd if=/dev/urandom of=/dev/sda bs=1M seek=80 count=8 && sync",
    )?;
    ssh(
        &host,
        42,
        "dd if=/dev/urandom of=/dev/sda bs=4k seek=15363 count=8 && sync",
    )?;
    host.ok("fvm stop 42")?;
    refused(
        &host,
        "fvm resize 42 61452K --shrink < /dev/null",
        2,
        &["nobody to ask", "--yes"],
    )?;
    let used = "fvm status --json | jq .pool.data_used_bytes";
    let before: u64 = host.ok(used)?.parse()?;
    host.ok("fvm resize 42 61452K --shrink --yes")?;
    let after: u64 = host.ok(used)?.parse()?;
    ensure!(
        before - after >= 8 * MIB,
        "{before} - {after} is too little"
    );
    host.ok(&format!("fvm resize 42 120M && fvm start 42 {WAIT}"))?;
    let left = ssh(
        &host,
        42,
        "dd if=/dev/sda bs=4k skip=15363 | tr -d \"\\000\" | wc -c",
    )?;
    ensure!(left == "0", "{left} bytes of what was cut off are back");

    host.ok("fvm delete 42,43")?;
    host.nothing_left()
}

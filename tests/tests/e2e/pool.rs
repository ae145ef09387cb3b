//! The pool's own life on a real host: it is looked at, extended, filled, broken and repaired.

use crate::{KEY, WAIT, json, refused, said, ssh};
use anyhow::{Context, Result, ensure};
use fvm_lab::{LabHost, Needs, lab_host};
use serde_json::Value;

const MIB: u64 = 1 << 20;

fn number(report: &Value, pointer: &str) -> Result<u64> {
    let found = report.pointer(pointer).and_then(Value::as_u64);
    found.with_context(|| format!("no number at {pointer} in {report}"))
}

/// Waits, with a bound, until a command on the host succeeds.
fn until(host: &LabHost, condition: &str) -> Result<()> {
    host.ok(&format!(
        "for _ in $(seq 480); do if {condition}; then exit 0; fi; sleep 0.5; done; exit 1"
    ))
    .with_context(|| format!("never: {condition}"))
    .map(drop)
}

fn is_held(host: &LabHost, vm: u32, why: &str) -> Result<()> {
    until(
        host,
        &format!("fvm info {vm} --json | jq -e '.state == \"paused\"' > /dev/null"),
    )?;
    let list = host.ok("fvm list")?;
    ensure!(list.contains(&format!("paused: {why}")), "{list}");
    Ok(())
}

fn runs(host: &LabHost, vm: u32) -> Result<()> {
    until(
        host,
        &format!("fvm info {vm} --json | jq -e '.state == \"running\"' > /dev/null"),
    )
}

/// What is written again and again: making it takes a guest longer than writing it.
const PIECE_MIB: u64 = 10;

/// Has a VM write to its disk from some megabyte on, in the background.
fn begin_writing(host: &LabHost, vm: u32, seek_mib: u64, count_mib: u64) -> Result<()> {
    let pieces = count_mib / PIECE_MIB;
    let writer = format!(
        "seq 1 99999999 | dd of=/tmp/piece bs=1M iflag=fullblock count={PIECE_MIB}; i=0
         while [ $i -lt {pieces} ]; do
             dd if=/tmp/piece of=/dev/sda bs=1M oflag=direct seek=$(({seek_mib} + i * {PIECE_MIB})) || exit 1
             i=$((i + 1))
         done; exit 0"
    );
    ssh(
        host,
        vm,
        &format!(
            "rm -f /tmp/done; (({writer}) > /tmp/log 2>&1; echo $? > /tmp/done) > /dev/null 2>&1 < /dev/null &"
        ),
    )
    .map(drop)
}

/// The digest of what that writes, from the host.
fn expected_digest(host: &LabHost, count_mib: u64) -> Result<String> {
    host.ok(&format!(
        "head -c {} <(seq 1 99999999) > /tmp/piece
         for _ in $(seq {}); do cat /tmp/piece; done | md5sum",
        PIECE_MIB * MIB,
        count_mib / PIECE_MIB
    ))
}

/// The digest of what is there, from the guest.
fn digest_there(host: &LabHost, vm: u32, seek_mib: u64, count_mib: u64) -> Result<String> {
    let read = format!("dd if=/dev/sda bs=1M iflag=direct skip={seek_mib} count={count_mib}");
    ssh(host, vm, &format!("{read} 2> /dev/null | md5sum"))
}

/// Waits until that is done, and requires that every byte of it is there and that the guest saw no error.
fn has_written(host: &LabHost, vm: u32, seek_mib: u64, count_mib: u64) -> Result<()> {
    until(host, &format!("fvm ssh {KEY} {vm} -- test -e /tmp/done"))?;
    let status = ssh(host, vm, "cat /tmp/done")?;
    ensure!(
        status == "0",
        "the guest's writer says: {}",
        ssh(host, vm, "cat /tmp/log")?
    );
    let errors = ssh(host, vm, "dmesg | grep -c \"I/O error\" || true")?;
    ensure!(errors == "0", "the guest saw {errors} I/O errors");
    let there = digest_there(host, vm, seek_mib, count_mib)?;
    let expected = expected_digest(host, count_mib)?;
    ensure!(there == expected, "what was written is not what is there");
    Ok(())
}

/// Small devices for a pool: data of so many MiB, metadata; both can be made larger and made to fail.
fn devices(host: &LabHost, data_mib: u64) -> Result<()> {
    host.ok(&format!(
        "truncate -s 1G /root/data; truncate -s 64M /root/meta
         dmsetup create lab-data --table \"0 {} linear $(losetup --find --show /root/data) 0\"
         dmsetup create lab-meta --table \"0 {} linear $(losetup --find --show /root/meta) 0\"
         fvm init --yes --data /dev/mapper/lab-data --meta /dev/mapper/lab-meta
         fvm image import debian /lab/guests/bios.raw.zst --size 600M",
        data_mib * 2048,
        24 * 2048
    ))
    .map(drop)
}

/// Gives one of those devices another table: `%s` is its loop device.
fn reload(host: &LabHost, name: &str, table: &str) -> Result<()> {
    host.ok(&format!(
        "under=$(losetup --noheadings -O NAME -j /root/{name})
         dmsetup load lab-{name} --table \"$(printf '{table}' $under)\"
         dmsetup suspend --noflush --nolockfs lab-{name}; dmsetup resume lab-{name}"
    ))
    .map(drop)
}

/// Extends a full pool in a file by hand and by itself; the figures; who may not have what.
#[test]
fn a_full_pool_holds_its_writers_until_it_is_extended() -> Result<()> {
    let Some(host) = lab_host(Needs::default())? else {
        return Ok(());
    };
    host.ok("fvm init --yes --size 1G
         fvm image import debian /lab/guests/bios.raw.zst --size 1G
         fvm create debian 42,43")?;
    let status = json(&host, "fvm pool status")?;
    ensure!(
        status["health"] == "ok"
            && status["active"]["loops"].as_array().is_some_and(|loops| {
                loops.len() == 2 && loops.iter().all(|one| one["direct_io"] == true)
            })
            && status["active"]["transaction_id"] == status["store_transaction_id"],
        "{status}"
    );
    ensure!(number(&status, "/active/data/bytes")? == 1 << 30);
    let before = number(&status, "/active/data/used_bytes")?;

    // What a VM has not written it shares with its image.
    let usage = json(&host, "fvm disk-usage 43")?;
    let mapped = number(&usage, "/images/0/mapped_bytes")?;
    ensure!(
        mapped > 0 && number(&usage, "/vms/0/shared_bytes")? == mapped,
        "{usage}"
    );
    ensure!(number(&usage, "/vms/0/exclusive_bytes")? == 0, "{usage}");
    refused(&host, "fvm disk-usage 44", 3, &["no VM 44"])?;
    refused(&host, "fvm pool extend", 2, &["50G"])?;
    refused(&host, "fvm pool extend 900M", 4, &["smaller"])?;
    refused(&host, "fvm pool extend 900T", 4, &["does not fit"])?;
    host.ok("fvm pool check")?;

    // More than there is: the guest is held, and is not told.
    // Most of it is taken by the other VM: zeros that are written down (`BLKZEROOUT`), and take no time.
    host.ok(&format!(
        "fvm start 42,43 {WAIT}
         blkdiscard --force --zeroout --offset 60MiB --length 750MiB /dev/fvm/fvm-debian-43
         fvm stop 43"
    ))?;
    begin_writing(&host, 42, 60, 300)?;
    is_held(&host, 42, "the pool is full")?;
    let status = host.sh("fvm pool status")?;
    ensure!(
        status.status.code() == Some(5) && said(&status).contains("fvm pool extend"),
        "{}",
        said(&status)
    );
    refused(
        &host,
        "fvm create debian 44",
        4,
        &[
            "100 % full",
            "95 %",
            "root has",
            "VMs 42-43",
            "images debian",
        ],
    )?;
    // A daemon that comes back knows why it is held, and lets it go on.
    host.ok("systemctl restart fvmd")?;
    is_held(&host, 42, "the pool is full")?;
    host.ok("fvm pool extend +20M")?;
    until(
        &host,
        "[ $(fvm pool status --json | jq .active.data.used_bytes) -gt 1073741824 ]",
    )?;
    // It fills up again, and now extends itself, as far as it is allowed to.
    is_held(&host, 42, "the pool is full")?;
    host.ok(
        "sed -i 's/^extend_limit_gib.*/extend_limit_gib = 2/' /etc/fvm/fvm.toml && fvm init --yes",
    )?;
    runs(&host, 42)?;
    has_written(&host, 42, 60, 300)?;
    let status = json(&host, "fvm pool status")?;
    let size = number(&status, "/active/data/bytes")?;
    ensure!(
        (1250 * MIB..=2048 * MIB).contains(&size) && number(&status, "/data_bytes")? == size,
        "{status}"
    );

    // The figures of what was written, and of what deleting it gives back.
    let usage = json(&host, "fvm disk-usage")?;
    let exclusive = number(&usage, "/vms/0/exclusive_bytes")?;
    ensure!(
        (300 * MIB..304 * MIB).contains(&exclusive),
        "{exclusive} bytes for 300 MiB written"
    );
    ensure!(
        number(&usage, "/owners/0/exclusive_bytes")? > exclusive,
        "{usage}"
    );
    host.ok("fvm pool check && fvm delete 42,43")?;
    let status = json(&host, "fvm pool status")?;
    ensure!(
        number(&status, "/active/data/used_bytes")? == before,
        "{status}"
    );
    // A metadata snapshot that somebody left is released by the next daemon.
    host.ok(
        "dmsetup message fvm-main-pool 0 reserve_metadata_snap && systemctl restart fvmd
         fvm pool status --json | jq -e '.active.has_metadata_snapshot == false'",
    )?;
    host.nothing_left()
}

/// A pool on devices: extended with its device; metadata that cannot be written, that are damaged; data full.
#[test]
fn a_broken_pool_is_repaired_and_nothing_acknowledged_is_lost() -> Result<()> {
    let Some(host) = lab_host(Needs::default())? else {
        return Ok(());
    };
    devices(&host, 300)?;
    host.ok(&format!("fvm create debian 42 && fvm start 42 {WAIT}"))?;
    begin_writing(&host, 42, 100, 50)?;
    has_written(&host, 42, 100, 50)?;

    refused(&host, "fvm pool extend", 4, &["lab-data", "larger first"])?;
    refused(&host, "fvm pool extend 1G", 4, &["lab-data"])?;
    reload(&host, "data", "0 819200 linear %s 0")?;
    host.ok("fvm pool extend")?;
    let status = json(&host, "fvm pool status")?;
    ensure!(
        number(&status, "/active/data/bytes")? == 398 * MIB,
        "{status}"
    );

    // No write to the metadata works any more.
    reload(&host, "meta", "0 49152 flakey %s 0 0 3600 1 error_writes")?;
    let output = host.sh("fvm create debian 43")?;
    ensure!(
        matches!(output.status.code(), Some(1 | 5)),
        "{}",
        said(&output)
    );
    let output = host.sh("fvm pool status")?;
    ensure!(
        output.status.code() == Some(5)
            && said(&output).contains("has to be checked")
            && said(&output).contains("fvm pool repair"),
        "{}",
        said(&output)
    );
    ensure!(host.sh("fvm status")?.status.code() == Some(5));
    // A writer is held before it is told of an error.
    begin_writing(&host, 42, 200, 10)?;
    is_held(&host, 42, "its disk cannot be written")?;
    refused(&host, "fvm pool repair", 4, &["VMs run: 42", "fvm stop 42"])?;
    // A daemon that comes back looks after it all the same.
    host.ok("systemctl restart fvmd")?;
    is_held(&host, 42, "its disk cannot be written")?;
    reload(&host, "meta", "0 49152 linear %s 0")?;
    host.ok("fvm stop 42 && fvm pool repair")?;
    host.ok("fvm pool status && fvm pool check && fvm status")?;
    host.store_and_pool_agree()?;
    // The create that failed is not there; what was acknowledged is.
    let vms = host.ok("fvm list --json | jq -c '[.vms[].number]'")?;
    ensure!(vms == "[42]", "{vms}");
    host.ok(&format!("fvm start 42 {WAIT}"))?;
    let there = digest_there(&host, 42, 100, 50)?;
    let expected = expected_digest(&host, 50)?;
    ensure!(there == expected, "acknowledged and lost");
    host.ok("fvm stop 42")?;

    // Damaged: the root of the data space map's bitmaps, the number at 64 + 16 of the first block.
    host.ok(
        "systemctl stop fvmd; for d in pool data meta; do dmsetup remove fvm-main-$d; done
         python3 - <<'END'
import struct
with open('/root/meta', 'r+b') as f:
    f.seek((1 << 20) + 80)
    block = struct.unpack('<Q', f.read(8))[0]
    f.seek((1 << 20) + block * 4096)
    f.write(b'\\xee' * 4096)
END
         sync; sysctl -q vm.drop_caches=3; systemctl start fvmd.socket",
    )?;
    host.ok("fvm pool repair")?;
    let status = json(&host, "fvm pool status")?;
    ensure!(
        status["metadata"]["path"] == "/var/lib/fvm/pool/metadata-spare"
            && status["spare"]["path"] == "/dev/mapper/lab-meta",
        "{status}"
    );
    host.ok("fvm pool check")?;
    host.store_and_pool_agree()?;
    host.ok(&format!("fvm start 42 {WAIT}"))?;
    let there = digest_there(&host, 42, 100, 50)?;
    ensure!(there == expected, "lost by the repair");
    host.ok("fvm stop 42")?;

    // Without a first block the tool finds states of several times: which one is taken is for a person to say.
    host.ok(
        "systemctl stop fvmd; for d in pool data meta; do dmsetup remove fvm-main-$d; done
         head -c 4096 < <(yes) | dd of=/var/lib/fvm/pool/metadata-spare bs=4096 seek=256 conv=notrunc status=none
         sync; sysctl -q vm.drop_caches=3; systemctl start fvmd.socket",
    )?;
    let output = host.sh("fvm pool repair")?;
    ensure!(
        output.status.code() == Some(4)
            && said(&output).contains("--accept-loss")
            && said(&output).contains("nothing was changed"),
        "{}",
        said(&output)
    );
    host.ok("fvm pool repair --accept-loss && fvm pool status")?;
    host.store_and_pool_agree()?;
    host.ok("fvm create debian 43 && fvm delete 43")?;

    // Sound metadata are left alone.
    host.ok("fvm delete 42 && fvm pool repair && fvm pool status")?;
    host.nothing_left()?;
    host.ok("fvm init --remove --yes")?;
    ensure!(
        host.ok("cmp -n 1048576 /root/meta /dev/zero && cmp -n 1048576 /root/data /dev/zero")
            .is_ok(),
        "the devices were not given back"
    );
    Ok(())
}

/// The file system below a sparse file is full: the guest is held, and goes on when there is room.
#[test]
fn a_full_host_file_system_holds_the_writers() -> Result<()> {
    let Some(host) = lab_host(Needs::default())? else {
        return Ok(());
    };
    host.ok(
        "truncate -s 1600M /root/small && mkfs.ext4 -q -m 0 /root/small && mkdir -p /var/lib/fvm/pool
         mount -o loop /root/small /var/lib/fvm/pool
         fvm init --yes --size 1G && fvm image import debian /lab/guests/bios.raw.zst --size 800M",
    )?;
    host.ok(&format!("fvm create debian 42 && fvm start 42 {WAIT}"))?;
    // All but some MiB of the file system is taken by somebody else.
    host.ok("free=$(df --output=avail -B1M /var/lib/fvm/pool | tail -1)
         fallocate -l $((free - 100))M /var/lib/fvm/pool/ballast")?;
    begin_writing(&host, 42, 60, 300)?;
    is_held(&host, 42, "the file system below the pool is full")?;
    refused(&host, "fvm create debian 43", 4, &["file system", "% full"])?;
    host.ok("rm /var/lib/fvm/pool/ballast")?;
    has_written(&host, 42, 60, 300)?;
    runs(&host, 42)?;
    host.ok("fvm pool status && fvm pool check && fvm delete 42")?;
    host.nothing_left()
}

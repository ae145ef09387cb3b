//! What disks give back, running or not; and what guests write, which is not the host's business.

use crate::{KEY, WAIT, json, ready_host, refused, ssh};
use anyhow::{Context, Result, ensure};
use fvm_lab::{LabHost, Needs};

const MIB: u64 = 1 << 20;

/// Compacts a VM's disk; the bytes that came back.
fn compact(host: &LabHost, method: &str) -> Result<u64> {
    let report = json(host, "fvm compact 42")?;
    let report = &report["outcomes"][0]["report"];
    ensure!(report["method"] == method, "{report}");
    let bytes = |field: &str| report[field].as_u64().context("no bytes");
    Ok(bytes("before_bytes")?.saturating_sub(bytes("after_bytes")?))
}

#[test]
fn a_disk_gives_back_what_it_does_not_need() -> Result<()> {
    let Some(host) = ready_host(Needs::default())? else {
        return Ok(());
    };
    host.ok(&format!("fvm create debian 42 && fvm start 42 {WAIT}"))?;
    let big = "dd if=/dev/urandom of=/data/big bs=1M count=4 && sync && rm /data/big && sync";
    ssh(&host, 42, big)?;
    let freed = compact(&host, "trim")?;
    ensure!(freed >= 3 * MIB, "only {freed} bytes of 4 MiB came back");

    // Zeros are as good as nothing, and read the same afterwards.
    ssh(
        &host,
        42,
        "dd if=/dev/zero of=/data/zeros bs=1M count=4 && echo mine > /data/mark && sync",
    )?;
    ssh(&host, 42, "chmod -x /etc/agent; killall qemu-ga")?;
    refused(
        &host,
        "fvm compact 42",
        4,
        &["no guest agent", "fvm stop 42"],
    )?;
    host.ok("fvm stop 42")?;
    let freed = compact(&host, "scan")?;
    ensure!(freed >= 3 * MIB, "only {freed} bytes of 4 MiB came back");
    ensure!(compact(&host, "scan")? == 0, "there was more");
    host.ok(&format!("fvm start 42 {WAIT}"))?;
    let kept = ssh(
        &host,
        42,
        "cat /data/mark && wc -c < /data/zeros && tr -d \"\\000\" < /data/zeros | wc -c",
    )?;
    ensure!(kept == "mine\n4194304\n0", "{kept}");

    let image = json(&host, "fvm image compact debian")?;
    ensure!(image["before_bytes"] == image["after_bytes"], "{image}");
    refused(&host, "fvm image compact none", 3, &["no image 'none'"])?;
    host.ok("fvm delete 42")?;
    host.nothing_left()
}

/// Plays virt-sparsify: finds that the last MiB of a disk is not used, unless it runs as it should not, or is told to fail or hang.
const SPARSIFIER: &str = r#"#!/bin/bash
wrong() { echo; echo "virt-sparsify: error: $*"; echo; echo 'Run it with -v'; exit 1; }
for disk; do :; done
[ "$(id -u)" -gt 65536 ] && [ "$(id -g)" = "$(id -u)" ] || wrong "it is $(id)"
[ "$LIBGUESTFS_BACKEND" = direct ] && [ "$TMPDIR" = "$PWD" ] && touch file || wrong "it is in $PWD: $(env)"
grep -q /helper$ /proc/self/cgroup || wrong "it is in $(cat /proc/self/cgroup)"
[ "$(stat -c %u "$disk")" = "$(id -u)" ] || wrong "the disk is of $(stat -c %u:%g:%a "$disk")"
[ ! -e /tmp/hang ] || sleep 1000
[ ! -e /tmp/fail ] || wrong "no kernel here"
exec blkdiscard --force --offset $(($(blockdev --getsize64 "$disk") - 1048576)) "$disk"
"#;

#[test]
fn virt_sparsify_is_used_where_it_is_installed() -> Result<()> {
    let Some(host) = ready_host(Needs::default())? else {
        return Ok(());
    };
    host.ok(&format!(
        "cat > /usr/local/bin/virt-sparsify <<'END'\n{SPARSIFIER}END
         chmod 755 /usr/local/bin/virt-sparsify
         head -c 3M /dev/urandom > /root/noise && fvm image import noise /root/noise && fvm create noise 42,43"
    ))?;
    let nothing_of_it =
        "[ ! -e /var/lib/fvm/virt-sparsify ] && [ -z \"$(pgrep -f bin/[v]irt-sparsify)\" ]
         [ ! -e /sys/fs/cgroup/fvm.slice/fvmd.service/helper ]";
    ensure!(compact(&host, "sparsify")? == MIB);
    host.ok(nothing_of_it)?;
    // What it discarded is gone, and nothing else.
    host.ok(
        "fvm export 42 /root/42.raw && cmp -n 2097152 /root/42.raw /root/noise
         cmp <(tail -c 1M /root/42.raw) <(head -c 1M /dev/zero)",
    )?;

    // What fails is told, and what is zero is given back all the same.
    host.ok("touch /tmp/fail")?;
    let output = host.sh("fvm compact 43 --json")?;
    let told = crate::said(&output);
    ensure!(
        output.status.success() && told.contains("no kernel here") && told.contains("\"scan\""),
        "{told}"
    );
    host.ok(&format!("rm /tmp/fail; {nothing_of_it}"))?;

    // An image has another digest then, which is right, unless that is not wanted.
    let digest =
        |host: &LabHost| json(host, "fvm image show noise").map(|image| image["digest"].clone());
    let original = digest(&host)?;
    let report = json(&host, "fvm image compact noise --zeros")?;
    ensure!(
        report["method"] == "scan" && digest(&host)? == original,
        "{report}"
    );
    let report = json(&host, "fvm image compact noise")?;
    ensure!(
        report["method"] == "sparsify" && digest(&host)? != original,
        "{report}"
    );
    host.ok("fvm image verify noise")?;

    // A daemon that dies meanwhile leaves it running; the next one ends it.
    host.ok(
        "touch /tmp/hang; (fvm compact 43 > /root/compact.log 2>&1 || true) &
         for _ in $(seq 600); do pgrep -f bin/[v]irt-sparsify > /dev/null && break; sleep 0.1; done
         pgrep -f bin/[v]irt-sparsify && kill -9 $(systemctl show -P MainPID fvmd) && wait && rm /tmp/hang
         for _ in $(seq 600); do fvm status > /dev/null 2>&1 && break; sleep 0.1; done; fvm status",
    )?;
    host.ok(nothing_of_it)?;
    host.ok("fvm start 43 && fvm delete 42,43 && fvm image remove noise")?;
    host.nothing_left()
}

/// Makes two disks with all that a host looks for, and says by which names it would find them.
///
/// The host's udev sees the volume groups while they are made, and activates them a moment later, as it should: that is
/// switched off until they are gone, or the host would hold them through no fault of fvm's.
const LABELLED: &str = r#"
cd /root
touch /etc/lvm/lvmlocal.conf && cp /etc/lvm/lvmlocal.conf lvmlocal.conf
echo 'global { event_activation = 0 }' > /etc/lvm/lvmlocal.conf
truncate -s 40M whole.raw parts.raw
python3 - <<'END'
# A GUID partition table (UEFI specification, 5.3): the host has no program that writes one.
import struct, uuid, zlib
guid = lambda n: uuid.UUID(f"11111111-2222-4333-8444-5555555555{n:02}").bytes_le
linux = uuid.UUID("0FC63DAF-8483-4772-8E79-3D69D8477DE4").bytes_le
entry = lambda n, first, name: linux + guid(n) + struct.pack("<QQQ", first, first + 32767, 0) + name.encode("utf-16le").ljust(72, b"\0")
entries = (entry(2, 2048, "guest-part") + entry(3, 34816, "guest-data")).ljust(128 * 128, b"\0")
last = 40 * 2048 - 1
def header(own, other, table):
    fields = lambda crc: struct.pack("<8s4sIIIQQQQ16sQIII", b"EFI PART", b"\0\0\1\0", 92, crc, 0, own, other,
        34, last - 33, guid(1), table, 128, 128, zlib.crc32(entries))
    return fields(zlib.crc32(fields(0))).ljust(512, b"\0")
protective = bytes(446) + struct.pack("<B3sB3sII", 0, b"\0\2\0", 0xEE, b"\xff" * 3, 1, last) + bytes(48) + b"\x55\xaa"
with open("parts.raw", "r+b") as disk:
    disk.write(protective + header(1, last, 2) + entries)
    disk.seek((last - 32) * 512)
    disk.write(entries + header(last, 1, last - 32))
END
mke2fs -q -t ext4 -U 11111111-2222-4333-8444-555555555504 -L guest-file-system -E offset=$((34816 * 512)) parts.raw 16m
loop=$(losetup --find --show --offset $((2048 * 512)) --sizelimit 16M parts.raw)
pvcreate -q --norestorefile -u 111111-2222-3333-4444-5555-6666-777701 "$loop"
vgcreate -q guestparts "$loop" && lvcreate -q -l 1 -n volume guestparts && vgchange -q -an guestparts
losetup -d "$loop"
loop=$(losetup --find --show whole.raw)
pvcreate -q --norestorefile -u 111111-2222-3333-4444-5555-6666-777702 "$loop"
vgcreate -q guestwhole "$loop" && lvcreate -q -l 1 -n volume guestwhole && vgchange -q -an guestwhole
losetup -d "$loop"
udevadm settle
cp lvmlocal.conf /etc/lvm/lvmlocal.conf
made=$(find /dev/disk /dev/guest* 2>/dev/null; dmsetup ls; losetup)
case $made in *guest*|*111111-2222*|*.raw*) echo "this host holds the disks that were made: $made" >&2; exit 1;; esac
"#;

#[test]
fn what_guests_write_on_their_disks_is_not_the_hosts_business() -> Result<()> {
    let Some(host) = ready_host(Needs::default())? else {
        return Ok(());
    };
    host.ok(LABELLED)?;
    host.ok(&format!(
        "fvm create debian 42,43 && fvm start 42,43 {WAIT}"
    ))?;
    for (vm, disk) in [(42, "parts"), (43, "whole")] {
        host.ok(&format!(
            "fvm ssh {KEY} {vm} -- 'umount /data; cat > /dev/sda && sync' < /root/{disk}.raw"
        ))?;
    }
    // As an update of udev does, or somebody who is curious; and everything of fvm's that makes events.
    host.ok(
        "fvm snapshot create 42,43 x && fvm resize 42,43 +1M && systemctl restart fvmd
         udevadm trigger --settle --subsystem-match=block",
    )?;
    host.ok("fvm list && cmp -n 1048576 /root/parts.raw /dev/fvm/fvm-debian-42")?;
    let links = host.ok("find /dev/disk /dev/guest* -ls 2>/dev/null || true")?;
    for word in ["11111111-2222", "111111-2222", "guest"] {
        ensure!(!links.contains(word), "{word} shows on the host: {links}");
    }
    let devices = host.ok("readlink /dev/fvm/*")?;
    for device in devices.lines() {
        let node = device.rsplit('/').next().unwrap_or(device);
        ensure!(
            !links.contains(&format!("/{node}\n")),
            "{node} is linked to: {links}"
        );
    }
    let active = host.ok("dmsetup ls")?;
    ensure!(!active.contains("guest"), "LVM was woken: {active}");
    // Who asks LVM itself is told of every disk that it may look at: docs/storage.md has this filter.
    let filtered =
        host.ok("lvs --config 'devices { global_filter = [ \"r|^/dev/mapper/fvm-|\" ] }'")?;
    ensure!(!filtered.contains("guest"), "{filtered}");
    let unfiltered = host.ok("lvs")?;
    ensure!(!unfiltered.contains("guestparts"), "{unfiltered}");
    host.ok("fvm delete 42,43")?;
    host.nothing_left()
}

//! The daemon is killed between any two steps, and the power goes: the store and the pool agree afterwards,
//! and what was acknowledged is there.

use crate::{KEY, WAIT, ready_host};
use anyhow::{Context, Result, ensure};
use fvm_lab::{Build, Disk, LabHost, Needs, lab_host};

/// A shell function that runs a command with one fault point armed and waits until the daemon is back.
const WITH_FAULT: &str = r#"
with_fault() {
    point=$1; shift
    rm -f /run/fault-fired
    mkdir -p /run/systemd/system/fvmd.service.d
    printf '[Unit]\nStartLimitIntervalSec=0\n[Service]\nEnvironment=FVM_FAULT=%s FVM_FAULT_FIRED=/run/fault-fired\n' "$point" \
        > /run/systemd/system/fvmd.service.d/fault.conf
    systemctl daemon-reload
    systemctl restart fvmd
    if "$@"; then status=0; else status=$?; fi
    [ -e /run/fault-fired ] || { echo "$point was never reached" >&2; return 99; }
    rm /run/systemd/system/fvmd.service.d/fault.conf
    systemctl daemon-reload
    timeout 60 sh -c 'until fvm list > /dev/null 2>&1; do sleep 0.2; done'
    return $status
}
"#;

fn points(host: &LabHost, operation: &str) -> Result<Vec<String>> {
    let all = host.ok("/usr/sbin/fvmd fault-points")?;
    let points: Vec<String> = all
        .lines()
        .filter(|name| name.starts_with(operation))
        .map(str::to_owned)
        .collect();
    ensure!(
        !points.is_empty(),
        "no fault points of {operation} in {all}"
    );
    Ok(points)
}

fn faulty() -> Needs {
    Needs {
        fvm: Some(Build::FaultPoints),
        ..Needs::default()
    }
}

/// Runs a command with a fault armed; true if it was acknowledged all the same.
fn killed(host: &LabHost, point: &str, command: &str) -> Result<bool> {
    let output = host.sh(&format!("{WITH_FAULT}\nwith_fault {point} {command}"))?;
    let text = crate::said(&output);
    ensure!(output.status.code() != Some(99), "{text}");
    // Killed in the middle, the command says that it does not know, and not that it was done.
    ensure!(
        output.status.success() || text.contains("fvm list") || text.contains("went away"),
        "{point}: {text}"
    );
    host.store_and_pool_agree()
        .with_context(|| format!("killed at {point}"))?;
    Ok(output.status.success())
}

#[test]
fn a_create_that_is_killed_is_undone_or_done() -> Result<()> {
    let Some(host) = ready_host(faulty())? else {
        return Ok(());
    };
    let points = points(&host, "create/")?;
    for point in &points {
        killed(&host, point, "fvm create debian 42-44")?;
        let there = host.ok("fvm list --json | jq -c '[.vms[].number]'")?;
        // All of them or none; from the kernel's commit on, all.
        let committed = points.iter().position(|name| name == "create/committed");
        let expected = match points.iter().position(|name| name == point) >= committed {
            true => "[42,43,44]",
            false => "[]",
        };
        ensure!(there == expected, "killed at {point}, there are {there}");
        host.ok("fvm create debian 45 && fvm delete 45")?;
        host.ok("[ \"$(fvm list --json | jq '.vms | length')\" = 0 ] || fvm delete 42-44")?;
        host.nothing_left()
            .with_context(|| format!("killed at {point}"))?;
    }
    Ok(())
}

#[test]
fn a_delete_that_is_killed_is_gone_through_with() -> Result<()> {
    let Some(host) = ready_host(faulty())? else {
        return Ok(());
    };
    for point in points(&host, "delete/")? {
        host.ok("fvm create debian 42,43 && fvm snapshot create 42 s && fvm start 42")?;
        killed(&host, &point, "fvm delete 42")?;
        // Before it was marked nothing had been promised; from then on it is finished.
        let expected = if point == "delete/stopped" {
            "[42,43]"
        } else {
            "[43]"
        };
        let there = host.ok("fvm list --json | jq -c '[.vms[].number]'")?;
        ensure!(there == expected, "killed at {point}, there are {there}");
        host.ok(&format!(
            "fvm delete {}",
            if expected == "[43]" { "43" } else { "42,43" }
        ))?;
        host.nothing_left()
            .with_context(|| format!("killed at {point}"))?;
    }
    Ok(())
}

#[test]
fn an_import_that_is_killed_leaves_nothing() -> Result<()> {
    let Some(host) = ready_host(faulty())? else {
        return Ok(());
    };
    for point in points(&host, "import/")? {
        killed(&host, &point, "fvm image import other /lab/guests/bios.raw")?;
        let images = host.ok("fvm image list --json | jq -c '[.images[].name]'")?;
        ensure!(
            images == "[\"debian\"]",
            "killed at {point}, there are {images}"
        );
        host.nothing_left()
            .with_context(|| format!("killed at {point}"))?;
    }
    Ok(())
}

#[test]
fn an_export_or_an_editing_of_an_image_that_is_killed_leaves_the_image_and_nothing_else()
-> Result<()> {
    let Some(host) = ready_host(faulty())? else {
        return Ok(());
    };
    let digest = host.ok("fvm image show debian --json | jq -r .digest")?;
    host.ok("mkdir /root/exports")?;
    for point in points(&host, "export/")? {
        let done = killed(
            &host,
            &point,
            "fvm image export debian /root/exports/disk.zst",
        )?;
        ensure!(!done, "killed at {point}, it was acknowledged");
        let files = host.ok("ls -A /root/exports")?;
        ensure!(files.is_empty(), "killed at {point}, there is {files}");
        host.nothing_left()
            .with_context(|| format!("killed at {point}"))?;
    }
    for point in points(&host, "base/")? {
        host.ok("fvm create debian base")?;
        killed(&host, &point, "fvm delete base")?;
        // It has not been said to be gone, so it is there, and goes when that is asked for again.
        host.ok("fvm info base && fvm delete base")?;
        host.nothing_left()
            .with_context(|| format!("killed at {point}"))?;
    }
    host.ok(&format!(
        "fvm image verify debian && [ $(fvm image show debian --json | jq -r .digest) = {digest} ]"
    ))?;
    Ok(())
}

#[test]
fn a_start_that_is_killed_runs_or_does_not() -> Result<()> {
    let Some(host) = ready_host(faulty())? else {
        return Ok(());
    };
    host.ok("fvm create debian 42")?;
    for point in points(&host, "start/")? {
        killed(&host, &point, "fvm start 42")?;
        let state = host.ok("fvm info 42 --json | jq -r .state")?;
        // A run that was recorded is found again; one that was not is ended.
        let expected = if point == "start/recorded" {
            "running"
        } else {
            "stopped"
        };
        ensure!(state == expected, "killed at {point}, it is {state}");
        let qemus = host.ok("pgrep -c qemu-system || true")?;
        ensure!(
            qemus == if expected == "running" { "1" } else { "0" },
            "killed at {point}: {qemus} QEMUs"
        );
    }
    host.ok("fvm delete 42")?;
    host.nothing_left()
}

/// The disk of VM 42 as the store has it, and as the kernel has it if the VM runs.
fn sizes(host: &LabHost) -> Result<(u64, u64)> {
    let recorded = host.ok("fvm info 42 --json | jq .disk_bytes")?.parse()?;
    let active = host.ok("blockdev --getsize64 /dev/fvm/fvm-debian-42 || echo 0")?;
    Ok((recorded, active.parse()?))
}

#[test]
fn a_disk_is_whole_wherever_an_operation_on_it_is_killed() -> Result<()> {
    let Some(host) = ready_host(faulty())? else {
        return Ok(());
    };
    host.ok(&format!("fvm create debian 42 && fvm start 42 {WAIT}"))?;
    for point in points(&host, "grow/")? {
        let (before, _) = sizes(&host)?;
        killed(&host, &point, "fvm resize 42 +1M")?;
        let larger = before + (1 << 20);
        // From its first step on the size is recorded, and what runs follows.
        let after = sizes(&host)?;
        ensure!(after == (larger, larger), "killed at {point}: {after:?}");
    }
    for point in ["disk/begun", "disk/committed", "disk/settled"] {
        killed(&host, point, "fvm disk add 42 data --size 16M")?;
        let expected = if point == "disk/begun" { "0" } else { "1" };
        let there = host.ok("fvm disk list 42 --json | jq '.disks | length'")?;
        ensure!(there == expected, "killed at {point}: {there} disks");
        host.ok(&format!("[ {there} = 0 ] || fvm disk remove 42 data"))?;
    }
    for point in ["disk/unplugged", "delete/discarded", "delete/committed"] {
        host.ok("[ -n \"$(fvm disk list 42 --json | jq '.disks[]')\" ] || fvm disk add 42 data --size 16M")?;
        killed(&host, point, "fvm disk remove 42 data")?;
        // Until its volume is marked nothing has been promised.
        let expected = if point == "disk/unplugged" { "1" } else { "0" };
        let there = host.ok("fvm disk list 42 --json | jq '.disks | length'")?;
        ensure!(there == expected, "killed at {point}: {there} disks");
    }
    let snapshots = "sqlite3 -readonly /var/lib/fvm/state.db 'SELECT count(*) FROM snapshot'";
    let points_of_snapshot = points(&host, "snapshot/")?;
    for point in &points_of_snapshot {
        killed(&host, point, "fvm snapshot create 42 s")?;
        let committed = points_of_snapshot
            .iter()
            .position(|name| name == "snapshot/committed");
        let expected = match points_of_snapshot.iter().position(|name| name == point) >= committed {
            true => "1",
            false => "0",
        };
        let there = host.ok(snapshots)?;
        ensure!(there == expected, "killed at {point}: {there} snapshots");
        // Its guest was held still; it goes on.
        host.ok(&format!(
            "timeout 120 fvm ssh {KEY} 42 -- 'echo {there} > /data/mark && sync'"
        ))?;
        host.ok(&format!("[ {there} = 0 ] || fvm snapshot delete 42 s"))?;
    }
    host.ok("fvm stop 42 && fvm snapshot create 42 s")?;
    for point in points(&host, "shrink/")? {
        host.ok("fvm resize 42 +16M")?;
        killed(&host, &point, "fvm resize 42 60M --shrink --yes")?;
        let after = sizes(&host)?;
        ensure!(after == (60 << 20, 0), "killed at {point}: {after:?}");
    }
    for point in points(&host, "compact/")? {
        killed(&host, &point, "fvm compact 42")?;
    }
    for point in points(&host, "restore/")? {
        killed(&host, &point, "fvm snapshot restore 42 s")?;
        // The image's, the VM's and the snapshot's: what was begun is gone, or what was there before.
        let volumes = host.ok(
            "sqlite3 -readonly /var/lib/fvm/state.db 'SELECT count(*), count(distinct state) FROM volume'",
        )?;
        ensure!(volumes == "3|1", "killed at {point}: {volumes}");
        host.ok("fvm start 42 && fvm stop 42")?;
    }
    host.ok("fvm delete 42")?;
    host.nothing_left()
}

#[test]
fn an_extension_or_repair_that_is_killed_is_done_or_not() -> Result<()> {
    let needs = Needs {
        disk: Disk::Durable,
        ..faulty()
    };
    let Some(mut host) = lab_host(needs)? else {
        return Ok(());
    };
    host.ok("fvm init --yes --size 1G && fvm image import debian /lab/guests/bios.raw.zst")?;
    let size = |host: &LabHost| host.ok("fvm pool status --json | jq .active.data.bytes");
    let mut expected = 1_u64 << 30;
    let points = points(&host, "extend/")?;
    for point in &points {
        host.ok("fvm create debian 42 && fvm start 42")?;
        killed(&host, point, "fvm pool extend +64M")?;
        // From its record on, every activation brings it up at the new size.
        if point != "extend/grown" {
            expected += 64 << 20;
        }
        ensure!(
            size(&host)? == expected.to_string(),
            "killed at {point}, it has {} instead of {expected}",
            size(&host)?
        );
        host.ok(
            "fvm info 42 --json | jq -e '.state == \"running\"' && fvm pool check && fvm delete 42",
        )?;
    }
    for point in self::points(&host, "repair/")? {
        // Damaged, so that all of it has to be done.
        host.ok(
            "systemctl stop fvmd; for d in pool data meta; do dmsetup remove fvm-main-$d; done
             meta=$(sqlite3 -readonly /var/lib/fvm/state.db 'SELECT metadata_path FROM pool')
             python3 - $meta <<'END'
import struct, sys
with open(sys.argv[1], 'r+b') as f:
    f.seek((1 << 20) + 80)
    block = struct.unpack('<Q', f.read(8))[0]
    f.seek((1 << 20) + block * 4096)
    f.write(b'\\xee' * 4096)
END
             sync; systemctl start fvmd.socket",
        )?;
        let output = host.sh(&format!("{WITH_FAULT}\nwith_fault {point} fvm pool repair"))?;
        ensure!(output.status.code() != Some(99), "{}", crate::said(&output));
        // Done again from its start, or nothing to do.
        host.ok("fvm pool repair")?;
        host.ok("fvm pool check")
            .with_context(|| format!("killed at {point}"))?;
        host.ok("fvm create debian 42 && fvm delete 42")?;
        host.nothing_left()
            .with_context(|| format!("killed at {point}"))?;
    }
    // The length that was recorded is that after a power cut, too.
    host.ok("fvm pool extend +64M")?;
    host.power_cut()?;
    host.boot_again()?;
    ensure!(size(&host)? == (expected + (64 << 20)).to_string());
    host.ok("fvm pool check && fvm create debian 42 && fvm delete 42")?;
    host.nothing_left()
}

#[test]
fn what_was_acknowledged_survives_a_power_cut() -> Result<()> {
    let needs = Needs {
        disk: Disk::Durable,
        ..Needs::default()
    };
    let Some(mut host) = ready_host(needs)? else {
        return Ok(());
    };
    for round in 0..3 {
        // Each acknowledged step is noted durably; then the plug is pulled in the middle of the next ones.
        let mut busy = host
            .command(
                "n=60; while :; do
                     fvm create debian $n > /dev/null && echo created $n
                     [ $((n % 3)) != 0 ] || { fvm delete $n > /dev/null && echo deleted $n; }
                     n=$((n + 1)); [ $n -lt 200 ] || exit 0
                 done",
            )
            .stdout(std::process::Stdio::piped())
            .spawn()?;
        let output = busy.stdout.take().context("no output")?;
        let mut acknowledged = std::collections::BTreeSet::new();
        let mut in_doubt = std::collections::BTreeSet::new();
        for (lines, line) in std::io::BufRead::lines(std::io::BufReader::new(output)).enumerate() {
            let line = line?;
            let (what, number) = line.split_once(' ').context("a line of one word")?;
            let number: u32 = number.parse()?;
            match what {
                "created" => {
                    acknowledged.insert(number);
                    // Its delete may be under way when the power goes.
                    if number.is_multiple_of(3) {
                        in_doubt.insert(number);
                    }
                }
                _ => {
                    acknowledged.remove(&number);
                    in_doubt.remove(&number);
                }
            }
            if lines >= 7 + round {
                break;
            }
        }
        host.power_cut()?;
        let _ = busy.wait();
        host.boot_again()?;
        host.store_and_pool_agree()
            .with_context(|| format!("round {round}"))?;
        let list = host.ok("fvm list --json | jq -r '.vms[].number'")?;
        let there: std::collections::BTreeSet<u32> = list
            .lines()
            .map(str::parse)
            .collect::<std::result::Result<_, _>>()?;
        let lost: Vec<_> = acknowledged
            .difference(&there)
            .filter(|number| !in_doubt.contains(number))
            .collect();
        ensure!(
            lost.is_empty(),
            "round {round}: acknowledged and lost: {lost:?}, of {acknowledged:?}"
        );
        // At most the two operations that were under way may have left more.
        let extra = there.difference(&acknowledged).count();
        ensure!(
            extra <= 2,
            "round {round}: {there:?} although only {acknowledged:?} were made"
        );
        let numbers: Vec<String> = there.iter().map(u32::to_string).collect();
        host.ok(&format!("fvm delete {}", numbers.join(",")))?;
        host.nothing_left()
            .with_context(|| format!("round {round}"))?;
    }
    Ok(())
}

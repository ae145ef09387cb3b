//! Snapshots of several VMs at one moment, with and without their guests' help, and the way back.

use crate::{WAIT, json, ready_host, refused, said, ssh};
use anyhow::{Context, Result, ensure};
use fvm_lab::{LabHost, Needs};
use serde_json::Value;

/// Takes snapshots and returns the report of each VM.
fn take(host: &LabHost, arguments: &str) -> Result<Vec<Value>> {
    let report = json(host, &format!("fvm snapshot create {arguments}"))?;
    let outcomes = report["outcomes"].as_array().context("no outcomes")?;
    Ok(outcomes.iter().map(|one| one["report"].clone()).collect())
}

#[test]
fn snapshots_show_one_moment_and_a_restore_goes_back_to_it() -> Result<()> {
    let Some(host) = ready_host(Needs::default())? else {
        return Ok(());
    };
    host.ok(&format!(
        "fvm create debian 42,43 && fvm start 42,43 {WAIT}"
    ))?;
    agent(&host)?;
    ssh(&host, 42, "echo one > /data/mark")?;
    // Not synced: only a guest that is asked to hold still writes it out.
    let taken = take(&host, "42,43 first")?;
    for report in &taken {
        ensure!(report["consistency"] == "frozen", "{report}");
        ensure!(report["data_bytes"].as_u64() > Some(0), "{report}");
    }
    // They go on, and a guest's reboot and the daemon's restart are in nobody's way.
    ssh(&host, 42, "echo two > /data/mark && sync")?;
    host.ok("systemctl restart fvmd")?;
    let names: Vec<Value> = [take(&host, "42")?, take(&host, "42")?]
        .iter()
        .map(|taken| taken[0]["name"].clone())
        .collect();
    ensure!(names[0] != names[1], "{names:?}");

    refused(
        &host,
        "fvm snapshot create 42,43 first",
        4,
        &["'first' already"],
    )?;
    refused(&host, "fvm snapshot create 42,99 x", 3, &["no VM 99"])?;
    refused(&host, "fvm snapshot create 42 a/b", 2, &["a/b"])?;
    refused(
        &host,
        "fvm snapshot restore 42 first",
        4,
        &["running", "fvm stop 42"],
    )?;
    refused(
        &host,
        "fvm snapshot restore 42 none",
        3,
        &["no snapshot 'none'", "first"],
    )?;
    refused(
        &host,
        "fvm snapshot delete 43 none",
        3,
        &["no snapshot 'none'"],
    )?;

    // A guest without an agent is not held still, and that is said.
    ssh(&host, 43, "chmod -x /etc/agent; killall qemu-ga")?;
    let helpless = host.sh("fvm snapshot create 43 helpless")?;
    let text = said(&helpless);
    ensure!(
        helpless.status.success() && text.contains("no guest agent") && text.contains("power cut"),
        "{text}"
    );
    let before = json(&host, "fvm info 42")?;
    host.ok("fvm stop 42,43")?;
    ensure!(take(&host, "43 at-rest")?[0]["consistency"] == "stopped");

    host.ok("fvm snapshot restore 42,43 first")?;
    host.ok(&format!("fvm start 42 {WAIT}"))?;
    ensure!(
        ssh(&host, 42, "cat /data/mark")? == "one",
        "not what it was"
    );
    let after = json(&host, "fvm info 42")?;
    for field in [
        "number",
        "name",
        "uuid",
        "address",
        "image",
        "owner_uid",
        "created_at_s",
    ] {
        ensure!(before[field] == after[field], "{field}: {before} {after}");
    }
    ensure!(
        before["nics"][0]["mac"] == after["nics"][0]["mac"],
        "{before} {after}"
    );
    // The snapshot is still there, and once more.
    ssh(&host, 42, "echo three > /data/mark && sync")?;
    host.ok(&format!(
        "fvm stop 42 && fvm snapshot restore 42 first && fvm start 42 {WAIT}"
    ))?;
    ensure!(
        ssh(&host, 42, "cat /data/mark")? == "one",
        "not what it was"
    );

    host.ok("fvm snapshot delete 42 first")?;
    let list = json(&host, "fvm snapshot list")?;
    let count = list["snapshots"].as_array().map(Vec::len);
    ensure!(count == Some(5), "{list}");
    host.store_and_pool_agree()?;
    // A VM's snapshots go with it.
    host.ok("fvm delete 42,43")?;
    host.nothing_left()
}

/// What users ask the agent of VM 42.
fn agent(host: &LabHost) -> Result<()> {
    host.ok("fvm agent ping 42")?;
    let cards = json(host, "fvm agent addresses 42")?["answer"]["interfaces"].to_string();
    ensure!(cards.contains("192.168.22.42"), "{cards}");

    // Programs: their two streams, their exit status, a signal that ends them, and one that takes too long.
    let ran = host.sh("fvm agent exec 42 -- sh -c 'echo out; echo oh >&2; exit 7'")?;
    ensure!(
        ran.status.code() == Some(7) && ran.stdout == b"out\n" && ran.stderr == b"oh\n",
        "{}: {}",
        ran.status,
        said(&ran)
    );
    let killed = host.sh("fvm agent exec 42 -- sh -c 'kill -9 $$'")?;
    ensure!(killed.status.code() == Some(137), "{}", said(&killed));
    let long = host.sh("fvm agent exec 42 --timeout 1s -- sleep 600")?;
    ensure!(
        long.status.code() == Some(1) && said(&long).contains("goes on there as process"),
        "{}",
        said(&long)
    );
    ssh(host, 42, "killall sleep")?;
    refused(host, "fvm agent exec 42 -- /none", 1, &["/none"])?;

    // A clock that was set wrong, and one that stood still.
    let ahead_ms = |command: &str| -> Result<i64> {
        let report = json(host, command)?;
        report["answer"]["ahead_ms"].as_i64().context("no time")
    };
    ssh(host, 42, "date -s @1000000000")?;
    ensure!(ahead_ms("fvm agent time 42")? < -86_400_000);
    ensure!(ahead_ms("fvm agent set-time 42")?.abs() < 60_000);
    ssh(host, 42, "date -s @1000000000")?;
    host.ok("fvm pause 42")?;
    refused(host, "fvm agent ping 42", 4, &["it is paused"])?;
    host.ok("fvm resume 42")?;
    ensure!(ahead_ms("fvm agent time 42")?.abs() < 60_000, "still wrong");
    Ok(())
}

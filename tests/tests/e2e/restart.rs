//! The daemons go and come back: VMs run on.

use crate::{WAIT, boot, json, ready_host, said, ssh};
use anyhow::{Context, Result, ensure};
use fvm_lab::{LabHost, Needs};

#[test]
fn vms_run_on_while_the_daemons_are_restarted() -> Result<()> {
    let Some(host) = ready_host(Needs::default())? else {
        return Ok(());
    };
    // Short leases, so that renewals can be seen.
    host.ok(
        "sed -i 's/^lease_time_s.*/lease_time_s = 60/' /etc/fvm/fvm.toml && systemctl restart fvmd",
    )?;
    host.ok(&format!("fvm create debian 42 && fvm start 42 {WAIT}"))?;
    let boot_id = ssh(&host, 42, "cat /proc/sys/kernel/random/boot_id")?;
    let pid = json(&host, "fvm info 42")?["pid"].clone();

    host.ok("systemctl restart fvmd")?;
    let info = json(&host, "fvm info 42")?;
    ensure!(info["state"] == "running" && info["pid"] == pid, "{info}");
    host.ok("kill -9 $(systemctl show -p MainPID --value fvmd)")?;
    host.ok("timeout 60 sh -c 'until fvm info 42 > /dev/null 2>&1; do sleep 0.2; done'")?;
    let info = json(&host, "fvm info 42")?;
    ensure!(info["state"] == "running" && info["pid"] == pid, "{info}");

    // What it asked and was told is there to be seen, although fvmd is another.
    let leases = json(&host, "fvm net leases")?;
    let lease = &leases["leases"][0];
    ensure!(
        lease["vm"] == 42
            && lease["port"] == "fvm42"
            && lease["last"]["answered"] == "ACK 192.168.22.42",
        "{leases}"
    );
    let (granted, renew) = (
        &lease["lease"]["granted_at_ms"],
        &lease["lease"]["renew_at_ms"],
    );
    ensure!(
        granted.as_u64().map(|at| at + 30_000) == renew.as_u64() && renew.is_u64(),
        "{leases}"
    );
    let trace = host.ok("fvm net trace 42 --last")?;
    ensure!(
        trace.contains("DHCP  DISCOVER -> OFFER 192.168.22.42")
            && trace.contains("-> ACK 192.168.22.42"),
        "{trace}"
    );

    // Its lease renews, with a server that has been told everything anew.
    host.ok("kill -9 $(systemctl show -p MainPID --value fvm-netd)")?;
    renewal(&host, "after fvm-netd was killed")?;
    let named = ssh(&host, 42, "nslookup vm42.fvm.internal")?;
    ensure!(named.contains("192.168.22.42"), "no DNS: {named}");
    host.ok("systemctl restart fvm-netd")?;
    renewal(&host, "after fvm-netd was restarted")?;

    ensure!(
        ssh(&host, 42, "cat /proc/sys/kernel/random/boot_id")? == boot_id,
        "the guest was restarted"
    );
    several_viewers(&host)?;
    host.ok("fvm stop 42 --graceful --timeout 120s && fvm delete 42")?;
    host.nothing_left()
}

/// One viewer types and the others look on, over a restart of the daemon and the log's loss of its beginning.
fn several_viewers(host: &LabHost) -> Result<()> {
    let shows = |file: &str, text: &str| {
        host.ok(&format!(
            "timeout 120 sh -c 'until grep -q \"{text}\" {file}; do sleep 0.1; done' || {{ tail -c 500 {file}; exit 1; }}"
        ))
    };
    let types = |word: &str| host.ok(&format!("printf '\\necho $((6*7))-{word}\\n' > /run/keys"));
    host.ok("mkfifo /run/keys
         sleep infinity > /run/keys 2> /dev/null & echo $! > /run/holder
         fvm console 42 < /run/keys > /run/shown 2> /run/told & echo $! > /run/viewer")?;
    types("first")?;
    shows("/run/shown", "42-first")?;
    let refused = host.sh("printf x | timeout 60 fvm console 42")?;
    ensure!(refused.status.code() == Some(4), "{}", said(&refused));
    ensure!(
        said(&refused).contains("root types on the console of VM 42")
            && said(&refused).contains("--take"),
        "{}",
        said(&refused)
    );
    host.ok(
        "printf '\necho $((6*7))-taken\n' | timeout 120 fvm console 42 --take | grep -m1 42-taken",
    )?;
    shows("/run/shown", "42-taken")?;
    shows("/run/told", "root has taken the keyboard over")?;

    // As a guest that prints 24 MiB.
    let log = "/var/lib/fvm/vms/42/console.log";
    let all_is_shown = format!(
        "timeout 60 sh -c 'until [ $(stat -c %s {log}) = $(stat -c %s /run/shown) ]; do sleep 0.1; done'"
    );
    host.ok(&format!(
        "for part in 1 2 3; do yes filling | head -c 8388608 >> {log}; {all_is_shown}; done
         timeout 60 sh -c 'until [ $(stat -c %b {log}) -lt 36864 ]; do sleep 0.2; done'"
    ))?;
    host.ok("systemctl restart fvmd")?;
    shows("/run/told", "fvmd is back")?;
    types("second")?;
    shows("/run/shown", "42-second")?;
    let last = host.ok("fvm log 42 --lines 4")?;
    ensure!(last.contains("42-second"), "{last:?}");
    // Not a byte was lost or shown twice.
    host.ok(&all_is_shown)?;
    host.ok(&format!(
        "kill $(cat /run/viewer) $(cat /run/holder)
         tail -c 16000000 {log} > /run/end && tail -c 16000000 /run/shown | cmp - /run/end"
    ))?;
    Ok(())
}

/// Waits for the next renewal, which must be granted.
fn renewal(host: &LabHost, when: &str) -> Result<()> {
    let granted = |report: &serde_json::Value| {
        let exchanges = report["dhcp"].as_array();
        exchanges.is_some_and(|all| {
            all.iter().any(|exchange| {
                exchange["asked"]
                    .as_str()
                    .is_some_and(|asked| asked.starts_with("REQUEST"))
                    && exchange["answered"] == "ACK 192.168.22.42"
            })
        })
    };
    // T1 is half of the lease; a new fvm-netd begins a new log.
    for _ in 0..90 {
        if granted(&boot(host, 42)?) {
            return Ok(());
        }
        host.ok("sleep 1")?;
    }
    let report = boot(host, 42)?;
    Err(anyhow::anyhow!("no renewal was granted: {report}")).context(when.to_owned())
}

#[test]
fn a_rebooted_host_has_its_vms_stopped_and_they_start_again() -> Result<()> {
    let needs = Needs {
        disk: fvm_lab::Disk::Durable,
        ..Needs::default()
    };
    let Some(mut host) = ready_host(needs)? else {
        return Ok(());
    };
    host.ok(&format!("fvm create debian 42 && fvm start 42 {WAIT}"))?;
    ssh(&host, 42, "echo kept > /data/mark && sync")?;
    host.ok("fvm forward add 2242:42:22")?;
    host.power_cut()?;
    host.boot_again()?;
    let info = json(&host, "fvm info 42")?;
    ensure!(info["state"] == "stopped", "{info}");
    host.store_and_pool_agree()?;
    host.ok(&format!("fvm start 42 {WAIT}"))?;
    ensure!(
        ssh(&host, 42, "cat /data/mark")? == "kept",
        "what the guest had synced is lost"
    );
    // At an address of the host that guests do not have.
    host.ok("ip link add away type dummy && ip address add 203.0.113.1/24 dev away")?;
    let greeting = "timeout 20 bash -c 'exec 3<>/dev/tcp/203.0.113.1/2242; head -c 4 <&3'";
    ensure!(host.ok(greeting)? == "SSH-", "the forward is lost");
    host.ok("ip link delete away")?;
    host.ok("fvm delete 42")?;
    host.nothing_left()
}

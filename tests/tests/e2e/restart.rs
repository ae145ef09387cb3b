//! The daemons go and come back: VMs run on.

use crate::{WAIT, boot, json, ready_host, ssh};
use anyhow::{Context, Result, ensure};
use fvm_lab::Needs;

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
    host.ok("printf '\\necho $((6*7))-again\\n' | timeout 120 fvm console 42 | grep -m1 42-again")?;
    host.ok("fvm stop 42 --graceful --timeout 120s && fvm delete 42")?;
    host.nothing_left()
}

/// Waits for the next renewal, which must be granted.
fn renewal(host: &fvm_lab::LabHost, when: &str) -> Result<()> {
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
    host.ok("fvm forward add 2242:42:22 && fvm net create lab --isolate-guests")?;
    host.power_cut()?;
    host.boot_again()?;
    let info = json(&host, "fvm info 42")?;
    ensure!(info["state"] == "stopped", "{info}");
    let network = json(&host, "fvm net show lab")?;
    ensure!(
        network["isolate_guests"] == true && network["trouble"].is_null(),
        "{network}"
    );
    host.ok("ip address show dev fvm-lab | grep -q 'inet 10.64.0.1/24' && fvm net delete lab")?;
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

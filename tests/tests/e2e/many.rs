//! Several VMs at once.

use crate::{boot, json, ready_host};
use anyhow::{Context, Result, ensure};
use fvm_lab::Needs;
use std::collections::BTreeSet;

const ASK_QMP: &str = r#"
import json, socket, sys
monitor = socket.socket(socket.AF_UNIX)
monitor.settimeout(60)
monitor.connect(f"/run/fvm/vm/{sys.argv[1]}/qmp.sock")
lines = monitor.makefile("rw")
def ask(command):
    lines.write(json.dumps({"execute": command}) + "\n")
    lines.flush()
    while True:
        answer = json.loads(lines.readline())
        if "return" in answer:
            return answer["return"]
ask("qmp_capabilities")
print(ask("query-name")["name"], ask("query-status")["status"])
"#;

#[test]
fn ten_vms_in_one_command_each_have_their_address() -> Result<()> {
    let Some(host) = ready_host(Needs::default())? else {
        return Ok(());
    };
    host.ok("fvm create debian 50-59 --memory 192M")?;
    host.ok("fvm start 50-59 --wait lease --timeout 900s")?;
    let numbers: BTreeSet<u64> = (50..60).collect();

    let list = json(&host, "fvm list")?;
    let vms = list["vms"].as_array().context("no vms")?;
    let listed: BTreeSet<u64> = vms.iter().filter_map(|vm| vm["number"].as_u64()).collect();
    ensure!(listed == numbers, "{list}");
    for vm in vms {
        let number = vm["number"].as_u64().context("number")?;
        ensure!(vm["state"] == "running", "{vm}");
        ensure!(vm["address"] == format!("192.168.22.{number}"), "{vm}");
        ensure!(
            boot(&host, number as u32)?["has_lease"] == true,
            "VM {number} has no lease"
        );
    }

    // The same, as the kernel and QEMU see it.
    let tapped: BTreeSet<String> = host
        .ok("ls /sys/class/net/fvm0/brif")?
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    ensure!(
        tapped == numbers.iter().map(|n| format!("fvm{n}")).collect(),
        "{tapped:?}"
    );
    for vm in vms {
        let device = vm["disk_device"].as_str().context("no disk device")?;
        let (name, pid) = (
            vm["name"].as_str().context("name")?,
            vm["pid"].as_u64().context("pid")?,
        );
        ensure!(host.ok(&format!("readlink /dev/fvm/{name}"))? == device);
        host.ok(&format!(
            "ls -l /proc/{pid}/fd | grep {device}$ > /dev/null"
        ))?;
        let mapped = host.ok(&format!("dmsetup info -c --noheadings -o name {device}"))?;
        ensure!(mapped.starts_with("fvm-main-"), "{device} is {mapped}");
    }

    // Each QMP socket serves one client, so the daemon steps aside while QEMU itself is asked.
    host.ok("systemctl stop fvmd.socket fvmd.service")?;
    for vm in vms {
        let (number, name) = (&vm["number"], vm["name"].as_str().context("name")?);
        let said = host.ok(&format!("python3 - {number} <<'END'\n{ASK_QMP}\nEND"))?;
        ensure!(
            said == format!("{name} running"),
            "QEMU says {said:?} of VM {number}"
        );
    }
    host.ok("systemctl start fvmd.socket fvmd.service")?;
    ensure!(
        json(&host, "fvm list")?["vms"]
            .as_array()
            .is_some_and(|vms| vms.len() == 10)
    );
    host.ok("fvm stop 50-59 && fvm delete 50-59")?;
    host.nothing_left()
}

#[test]
fn a_batch_reports_each_vm_and_its_status_is_the_worst() -> Result<()> {
    let Some(host) = ready_host(Needs::default())? else {
        return Ok(());
    };
    host.ok("fvm create debian 42,44")?;
    let output = host.sh("fvm delete 42-44")?;
    ensure!(output.status.code() == Some(3), "{output:?}");
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    ensure!(
        out.contains("42  deleted") && out.contains("44  deleted"),
        "{out}"
    );
    ensure!(
        err.contains("43") && err.contains("there is no VM 43"),
        "{err}"
    );
    host.nothing_left()
}

#[test]
fn two_creates_of_one_number_make_one_vm() -> Result<()> {
    let Some(host) = ready_host(Needs::default())? else {
        return Ok(());
    };
    for round in 0..10 {
        let made = host.ok(
            "for i in 1 2 3 4; do (if fvm create debian 42 > /dev/null 2>&1; then echo 0; else echo $?; fi) & done | sort | tr '\\n' ' '; wait",
        )?;
        ensure!(made.trim() == "0 4 4 4", "round {round}: statuses {made}");
        host.ok("fvm delete 42")?;
    }
    host.nothing_left()
}

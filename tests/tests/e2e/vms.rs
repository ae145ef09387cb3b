//! One VM's life: made, started, reached, seen, stopped, deleted.

use crate::{KEY, WAIT, boot, json, ready_host, refused, said, seed, ssh};
use anyhow::{Context, Result, ensure};
use fvm_lab::{LabHost, Needs};

#[test]
fn a_vm_lives_and_leaves_nothing() -> Result<()> {
    let Some(host) = ready_host(Needs::default())? else {
        return Ok(());
    };
    seed::write_data(&host)?;
    host.ok(&format!("fvm create debian 42 {}", seed::DATA))?;
    let started = host.sh(&format!("fvm start 42 {WAIT}"))?;
    ensure!(started.status.success(), "{}", said(&started));
    ensure!(!said(&started).contains("emulated"), "{}", said(&started));

    let seen = ssh(&host, 42, "ip -4 -o addr show dev eth0")?;
    ensure!(
        seen.contains("192.168.22.42/24"),
        "the guest has another address: {seen}"
    );
    let info = json(&host, "fvm info 42")?;
    ensure!(
        info["state"] == "running" && info["accelerator"] == "kvm",
        "{info}"
    );
    ensure!(info["address"] == "192.168.22.42", "{info}");

    // It knows its own name and address by DNS, by its libc and by another client; the host can ask too.
    ssh(&host, 42, "ping -c 1 -W 20 vm42.fvm.internal")?;
    let named = ssh(&host, 42, "nslookup fvm-debian-42.fvm.internal")?;
    ensure!(named.contains("192.168.22.42"), "{named}");
    let back = ssh(&host, 42, "nslookup 192.168.22.42")?;
    ensure!(back.contains("fvm-debian-42.fvm.internal"), "{back}");
    let trace = host.ok("fvm net trace 42 --last")?;
    ensure!(
        trace.contains("DHCP  DISCOVER -> OFFER 192.168.22.42")
            && trace.contains("DNS   A fvm-debian-42.fvm.internal. -> 192.168.22.42"),
        "{trace}"
    );
    let servers = host.ok("ss -Hlunt 'sport = :53'")?;
    ensure!(
        servers.lines().all(|line| line.contains("192.168.22.1:53"))
            && servers.lines().count() == 2,
        "bound elsewhere too: {servers}"
    );

    forwards(&host)?;
    seed::found(&host)?;

    // The console replays what was printed before and takes what is typed; the log has all of it.
    host.ok("timeout 120 fvm console 42 < /dev/null | grep -m1 'GUEST READY 192.168.22.42'")?;
    host.ok("printf '\necho $((6*7))-typed\n' | timeout 120 fvm console 42 | grep -m1 42-typed")?;
    let last = host.ok("fvm log 42 --lines 3")?;
    ensure!(last.contains("42-typed"), "{last}");
    host.ok("fvm log 42 --qemu")?;

    // QEMU runs as its own user, without capabilities, under seccomp, in its own cgroup.
    let pid = info["pid"].as_u64().context("no pid")?;
    let status = host.ok(&format!("cat /proc/{pid}/status"))?;
    for line in [
        "Uid:\t1900000042\t1900000042",
        "CapEff:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
    ] {
        ensure!(status.contains(line), "no {line:?} in {status}");
    }
    let cgroup = host.ok(&format!("cat /proc/{pid}/cgroup"))?;
    ensure!(cgroup == "0::/fvm.slice/fvmd.service/vm-42", "{cgroup}");

    buttons_and_keys(&host)?;

    refused(&host, "fvm start 42", 4, &["VM 42 is already running"])?;
    host.ok("fvm stop 42 --graceful --timeout 120s")?;
    ensure!(json(&host, "fvm info 42")?["state"] == "stopped");
    ensure!(
        json(&host, "fvm forward list")?["forwards"][0]["host_port"] == 2242,
        "a forward goes with a stop"
    );
    refused(&host, "fvm stop 42", 4, &["VM 42 is not running"])?;
    host.ok("fvm delete 42")?;
    ensure!(
        json(&host, "fvm forward list")?["forwards"] == serde_json::json!([]),
        "a forward stays without its VM"
    );
    host.ok("! nft list ruleset | grep 'dnat ip to'")?;
    host.nothing_left()
}

/// Ports of the host that lead to VM 42, tried from outside the host.
fn forwards(host: &LabHost) -> Result<()> {
    host.ok("ip netns add outside
         ip link add uplink type veth peer name eth0 netns outside
         ip address add 203.0.113.1/24 dev uplink && ip link set uplink up
         ip -n outside address add 203.0.113.9/24 dev eth0 && ip -n outside link set eth0 up")?;
    let greeting = |from: &str, port: u16| {
        host.sh(&format!(
            "{from} timeout 20 bash -c 'exec 3<>/dev/tcp/203.0.113.1/{port}; head -c 4 <&3'"
        ))
    };
    let outside = "ip netns exec outside";
    ensure!(!said(&greeting(outside, 2242)?).starts_with("SSH-"));
    host.ok("fvm forward add 2242:42:22 && fvm forward add 2243:42:22")?;
    for from in [outside, ""] {
        let greeted = greeting(from, 2242)?;
        ensure!(said(&greeted) == "SSH-", "{from:?}: {}", said(&greeted));
    }
    host.ok("nft list ruleset | grep 'dnat ip to 192.168.22.42:22'")?;
    host.ok("fvm forward delete 2243")?;
    ensure!(!said(&greeting(outside, 2243)?).starts_with("SSH-"));

    for (command, status, words) in [
        (
            "fvm forward add 2242:42:23",
            4,
            "TCP port 2242 leads to VM 42 already",
        ),
        (
            "fvm forward add 22:42:22",
            4,
            "a program on this host uses TCP port 22",
        ),
        ("fvm forward add 5353:41:53 --udp", 3, "there is no VM 41"),
        ("fvm forward add 2250:42:0", 2, "2242:42:22"),
        (
            "fvm forward delete 2243",
            3,
            "TCP port 2243 is not forwarded",
        ),
        (
            "fvm forward delete 2242 --udp",
            3,
            "UDP port 2242 is not forwarded",
        ),
    ] {
        refused(host, command, status, &[words])?;
    }
    host.ok("ip link delete uplink && ip netns delete outside")?;
    Ok(())
}

/// VM 42 is paused, resumed, reset and typed to.
fn buttons_and_keys(host: &LabHost) -> Result<()> {
    let boot_id = |host: &LabHost| ssh(host, 42, "cat /proc/sys/kernel/random/boot_id");
    let first = boot_id(host)?;
    host.ok("fvm pause 42")?;
    // A daemon that starts anew finds it as it is.
    for again in ["true", "systemctl restart fvmd"] {
        host.ok(again)?;
        let info = json(host, "fvm info 42")?;
        ensure!(info["state"] == "paused", "after {again}: {info}");
        ensure!(host.ok("fvm list")?.contains("paused: on request"));
    }
    for (command, word) in [
        ("fvm pause 42", "paused already"),
        ("fvm stop 42 --graceful", "fvm resume 42"),
        ("fvm send-key 42 a", "takes no keys"),
    ] {
        refused(host, command, 4, &[word])?;
    }
    host.ok("fvm resume 42")?;
    refused(host, "fvm resume 42", 4, &["not paused"])?;
    ensure!(boot_id(host)? == first, "it did not go on where it was");
    ensure!(json(host, "fvm info 42")?["state"] == "running");

    let mut last = first;
    for restart in ["fvm send-key 42 ctrl-alt-del", "fvm reset 42"] {
        host.ok(restart)?;
        let next = host.ok(&format!(
            "timeout 120 sh -c 'until id=$(timeout 5 fvm ssh {KEY} 42 -- cat /proc/sys/kernel/random/boot_id) \
                 && [ -n \"$id\" ] && [ \"$id\" != {last} ]; do sleep 0.5; done; echo $id'"
        ))?;
        last = next.trim().to_owned();
    }

    refused(
        host,
        "fvm screenshot 42 /root/none.png",
        4,
        &["no screen", "fvm console 42"],
    )?;
    ensure!(
        host.ok("fvm qmp 42 query-status")?
            .contains("\"running\": true")
    );
    let failed = host.sh("fvm qmp 42 no-such-command")?;
    ensure!(failed.status.code() == Some(1), "{}", said(&failed));
    Ok(())
}

#[test]
fn a_uefi_vm_boots_and_keeps_its_variables() -> Result<()> {
    let Some(host) = ready_host(Needs::default())? else {
        return Ok(());
    };
    // With a TPM, which is as lasting as the variables.
    host.ok(
        "fvm template show linux-uefi | sed \"s|<memballoon|<tpm model='tpm-crb'><backend type='emulator'/></tpm>&|\" > /root/tpm.xml
         fvm image import uefi /lab/guests/uefi.raw.zst --template /root/tpm.xml && fvm create uefi 43",
    )?;
    host.ok(&format!("fvm start 43 {WAIT}"))?;
    ensure!(
        ssh(&host, 43, "ls /sys/firmware")?.contains("efi"),
        "the guest was not started by UEFI"
    );
    ensure!(
        ssh(&host, 43, "ls /sys/firmware/acpi/tables")?.contains("TPM2"),
        "the guest is not told of its TPM"
    );
    let emulator = host.ok(
        "for pid in $(cat /sys/fs/cgroup/fvm.slice/fvmd.service/vm-43/cgroup.procs); do
             ps -o uid=,comm= -p $pid; done; stat -c '%u %a %s' /var/lib/fvm/vms/43/tpm/tpm2-00.permall",
    )?;
    ensure!(
        emulator.contains("1900000043 swtpm") && emulator.contains("1900000043 600 "),
        "{emulator}"
    );
    let kept = "stat -c %W /var/lib/fvm/vms/43/tpm";
    let made = host.ok(kept)?;
    let variables = "stat -c %i /var/lib/fvm/vms/43/nvram.fd";
    let before = host.ok(variables)?;
    host.ok(&format!("fvm stop 43 && fvm start 43 {WAIT}"))?;
    ensure!(
        host.ok(variables)? == before,
        "the variables were made anew"
    );
    ensure!(host.ok(kept)? == made, "the TPM was made anew");
    host.ok("fvm delete 43")?;
    host.nothing_left()
}

#[test]
fn what_a_vm_writes_is_its_own_and_stays() -> Result<()> {
    let Some(host) = ready_host(Needs::default())? else {
        return Ok(());
    };
    host.ok("fvm create debian 42,43")?;
    host.ok(&format!("fvm start 42 {WAIT}"))?;
    ssh(&host, 42, "echo mine > /data/mark && sync")?;
    host.ok(&format!("fvm stop 42 && fvm start 42,43 {WAIT}"))?;
    ensure!(
        ssh(&host, 42, "cat /data/mark")? == "mine",
        "it is lost over a stop"
    );
    ensure!(
        !ssh(&host, 43, "ls /data")?.contains("mark"),
        "it shows in another VM"
    );
    host.ok("fvm delete 42,43")?;
    host.nothing_left()
}

#[test]
fn a_vm_whose_qemu_dies_is_crashed_with_a_cause_and_starts_again() -> Result<()> {
    let Some(host) = ready_host(Needs::default())? else {
        return Ok(());
    };
    host.ok("fvm create debian 42 && fvm start 42")?;
    host.ok("kill -9 $(pgrep qemu-system)")?;
    host.ok("timeout 30 sh -c 'until fvm info 42 --json | grep -q crashed; do sleep 0.1; done'")?;
    let info = json(&host, "fvm info 42")?;
    ensure!(
        info["cause"]
            .as_str()
            .is_some_and(|cause| cause.contains("signal 9")),
        "{info}"
    );
    host.ok("[ -z \"$(find /run/fvm/vm /dev/fvm -mindepth 1)\" ] && ! ip link show fvm42")?;
    host.ok(&format!("fvm start 42 {WAIT} && fvm delete 42"))?;
    host.nothing_left()
}

#[test]
fn waiting_for_a_guest_that_never_asks_ends_with_the_cause() -> Result<()> {
    let Some(host) = ready_host(Needs::default())? else {
        return Ok(());
    };
    // A disk without a boot loader: the firmware says so on no console, and no DHCP request comes.
    host.ok(
        "truncate -s 64M /root/empty.raw && printf x | dd of=/root/empty.raw conv=notrunc status=none
         fvm image import empty /root/empty.raw && fvm create empty 50",
    )?;
    let waited = host.sh("fvm start 50 --wait ssh --timeout 8s")?;
    ensure!(waited.status.code() == Some(1), "{}", said(&waited));
    ensure!(
        said(&waited).contains("no DHCP request"),
        "no cause: {}",
        said(&waited)
    );
    ensure!(
        boot(&host, 50)?["dhcp"]
            .as_array()
            .is_some_and(Vec::is_empty)
    );
    host.ok("fvm delete 50")?;
    host.nothing_left()
}

#[test]
fn a_guest_that_ignores_the_power_button_runs_on() -> Result<()> {
    let Some(host) = ready_host(Needs::default())? else {
        return Ok(());
    };
    host.ok(
        "truncate -s 64M /root/empty.raw && printf x | dd of=/root/empty.raw conv=notrunc status=none
         fvm image import empty /root/empty.raw && fvm create empty 50 && fvm start 50",
    )?;
    let stopped = host.sh("fvm stop 50 --graceful --timeout 2s")?;
    ensure!(stopped.status.code() == Some(1), "{}", said(&stopped));
    ensure!(
        said(&stopped).contains("fvm stop 50"),
        "no way out: {}",
        said(&stopped)
    );
    ensure!(json(&host, "fvm info 50")?["state"] == "running");
    let forced = host.sh("fvm stop 50 --graceful --timeout 2s --cut-power")?;
    ensure!(forced.status.success(), "{}", said(&forced));
    ensure!(
        said(&forced).contains("its power is cut"),
        "{}",
        said(&forced)
    );
    host.ok("fvm start 50")?;
    host.ok(&format!(
        "fvm stop 50 && fvm delete 50 && ! fvm ssh {KEY} 50 true"
    ))?;
    host.nothing_left()
}

//! Who may do what, and what wrong input is told.

use crate::{json, ready_host, refused, said};
use anyhow::{Result, ensure};
use fvm_lab::{LabHost, Needs, lab_host};

#[test]
fn members_of_the_group_may_and_others_may_not() -> Result<()> {
    let Some(host) = ready_host(Needs::default())? else {
        return Ok(());
    };
    host.ok("useradd -m -G fvm ann && useradd -m eve")?;
    host.ok("runuser -u ann -- fvm create debian 42")?;
    ensure!(host.ok("fvm info 42 --json | jq .owner_uid")? == host.ok("id -u ann")?);
    ensure!(host.ok("fvm list | grep ann")?.contains("42"));
    host.ok("runuser -u ann -- fvm start 42 && runuser -u ann -- fvm delete 42")?;

    refused(
        &host,
        "runuser -u eve -- fvm list",
        4,
        &["group fvm", "usermod"],
    )?;
    refused(
        &host,
        "runuser -u eve -- fvm create debian 43",
        4,
        &["group fvm"],
    )?;
    refused(
        &host,
        "runuser -u ann -- fvm init --yes",
        4,
        &["root", "sudo"],
    )?;
    refused(
        &host,
        "runuser -u ann -- fvm init --remove --yes",
        4,
        &["sudo"],
    )?;
    // Templates: of the host, a user may name nothing; root may, also for everybody.
    host.ok(
        "sed 's|<boot dev=.hd./>|<kernel>/etc/hostname</kernel>|' /usr/share/fvm/templates/linux.xml > /home/ann/kernel.xml
         sed 's|</domain>|<qemu:commandline/></domain>|' /usr/share/fvm/templates/linux.xml > /home/ann/options.xml",
    )?;
    let kernel = ["/domain/os/kernel (line", "/etc/hostname", "ask root"];
    for command in [
        "create debian 43 --template /home/ann/kernel.xml",
        "template check /home/ann/kernel.xml",
        "image import mine /lab/guests/bios.raw.zst --template /home/ann/kernel.xml",
        "profile create mine debian --template /home/ann/kernel.xml",
    ] {
        refused(
            &host,
            &format!("runuser -u ann -- fvm {command}"),
            4,
            &kernel,
        )?;
    }
    refused(
        &host,
        "runuser -u ann -- fvm create debian 43 --template /home/ann/options.xml",
        4,
        &["/domain/qemu:commandline"],
    )?;
    host.ok("fvm create debian 43 --template /home/ann/kernel.xml && fvm delete 43")?;
    for (command, status, words) in [
        (
            "runuser -u ann -- fvm template publish kernel /home/ann/kernel.xml",
            4,
            &["only root", "--template"],
        ),
        (
            "fvm template publish linux /home/ann/kernel.xml",
            4,
            &["comes with fvm", "another name"],
        ),
        (
            "fvm template publish check /home/ann/kernel.xml",
            2,
            &["'check'", "letters"],
        ),
        (
            "fvm template publish kernel /etc/hostname",
            2,
            &["this is", "no domain XML"],
        ),
        (
            "fvm template unpublish kernel",
            3,
            &["no template 'kernel' is published", "template list"],
        ),
        (
            "fvm template unpublish linux",
            4,
            &["comes with fvm", "another name"],
        ),
    ] {
        refused(&host, command, status, words)?;
    }
    host.ok("fvm template publish kernel /home/ann/kernel.xml && fvm template list | grep -E '^kernel +root '")?;
    host.ok("runuser -u ann -- fvm create debian 43 --template kernel")?;
    // What has been made of it stays as it is.
    host.ok(
        "fvm template publish kernel /usr/share/fvm/templates/linux.xml | grep 'place of the one before'
         fvm template show kernel | cmp - /usr/share/fvm/templates/linux.xml
         fvm dumpxml 43 | grep '<kernel>/etc/hostname</kernel>'
         fvm template unpublish kernel && ! fvm template list | grep kernel
         fvm dumpxml 43 | grep '<kernel>/etc/hostname</kernel>'
         runuser -u ann -- fvm delete 43",
    )?;

    refused(
        &host,
        "runuser -u ann -- fvm qmp 43 quit",
        4,
        &["only root", "sudo fvm qmp"],
    )?;
    // Not by raw HTTP either.
    let raw = host.ok(
        "runuser -u ann -- curl -s --unix-socket /run/fvm/fvm.sock -X POST -H 'content-type: application/json' \
             -d '{}' http://fvm/v1/host/init",
    )?;
    ensure!(raw.contains("only root"), "{raw}");
    owners_only(&host)?;
    quotas(&host)?;
    lifetimes(&host)?;
    host.nothing_left()
}

/// Once the host says so, a VM is its owner's, through the CLI and by raw HTTP.
fn owners_only(host: &LabHost) -> Result<()> {
    host.ok("useradd -m -G fvm bob
         runuser -u ann -- fvm create debian 44 && runuser -u ann -- fvm note 44 mail server
         runuser -u bob -- fvm note 44 'the mail server'
         sed -i 's/^owner_only = false/owner_only = true/' /etc/fvm/fvm.toml && fvm init --yes")?;
    ensure!(host.ok("fvm list")?.contains("0d        the mail server"));
    host.ok("runuser -u ann -- fvm forward add 2244:44:22")?;
    refused(
        host,
        "runuser -u ann -- fvm forward add 80:44:80",
        4,
        &["root alone"],
    )?;
    for (command, words) in [
        ("delete 44", &["not yours", "ann"][..]),
        ("delete 44 --force", &["not yours", "root alone"]),
        ("stop 44", &["not yours"]),
        ("note 44 mine", &["not yours"]),
        ("forward add 2245:44:22", &["not yours"]),
        ("forward delete 2244", &["not yours"]),
        ("resize 44 +1G", &["not yours"]),
    ] {
        refused(host, &format!("runuser -u bob -- fvm {command}"), 4, words)?;
    }
    let raw = host.ok(
        "runuser -u bob -- curl -s --unix-socket /run/fvm/fvm.sock -X POST -H 'content-type: application/json' \
             -d '{\"vms\": [44], \"force\": true}' http://fvm/v1/vms/delete",
    )?;
    ensure!(raw.contains("not yours"), "{raw}");
    refused(host, "fvm delete 44", 4, &["not yours", "--force"])?;
    host.ok("fvm delete 44 --force")?;
    // All of it is in the journal.
    let journal = host.ok("journalctl -u fvmd -o cat")?;
    for line in [
        "audit: ann: create VM 44 of debian: done",
        "audit: bob: note VM 44: done",
        "audit: ann: add_forward TCP port 2244 to port 22 of VM 44: done",
        "audit: bob: delete_forward TCP port 2244: Refused: VM 44 is not yours",
        "audit: bob: delete VM 44: 0 done, 1 not: 44: Refused: VM 44 is not yours",
        "audit: root: delete VM 44: done",
    ] {
        ensure!(journal.contains(line), "no {line:?} in {journal}");
    }
    Ok(())
}

/// A user gets what the quota allows and no more; root gets what root wants, also for others.
fn quotas(host: &LabHost) -> Result<()> {
    let size = host.ok("fvm image show debian --json | jq .size_bytes")?;
    let disk_gib = size.parse::<u64>()? * 3 / (1 << 30) + 1;
    host.ok(&format!(
        "cp /etc/fvm/fvm.toml /root/fvm.toml && groupadd students && usermod -aG students bob
         printf '[quota]\\nvms = 2\\nusers.ann = {{ vms = 3, disk_gib = {disk_gib}, memory_gib = 1 }}\\ngroups.students = {{ vms = 1 }}\\n' >> /etc/fvm/fvm.toml
         fvm init --yes && runuser -u ann -- fvm create debian 45,46 --memory 512M && runuser -u bob -- fvm create debian 47"
    ))?;
    for (command, words) in [
        ("create debian 48,49", ["ann has 2 of 3 VMs", "2 more"]),
        ("resize 45 +100G", ["the disks of ann's VMs", "100"]),
    ] {
        refused(host, &format!("runuser -u ann -- fvm {command}"), 4, &words)?;
    }
    refused(
        host,
        "runuser -u bob -- fvm create debian 48",
        4,
        &["bob has 1 of 1 VMs"],
    )?;
    // Whoever starts them, they are ann's.
    host.ok(
        "runuser -u ann -- fvm create debian 48 --memory 600M && runuser -u bob -- fvm start 45",
    )?;
    refused(
        host,
        "runuser -u bob -- fvm start 48",
        4,
        &["ann's VMs that run have", "of memory"],
    )?;
    let quota = json(host, "runuser -u bob -- fvm quota ann")?;
    let ann = &quota["users"][0];
    ensure!(
        ann["vms"] == serde_json::json!({"used": 3, "limit": 3})
            && ann["memory_bytes"] == serde_json::json!({"used": 512 << 20, "limit": 1 << 30}),
        "{quota}"
    );
    ensure!(host.ok("fvm quota")?.contains("512 MiB/1.0 GiB"));
    refused(host, "fvm quota nobody-here", 3, &["no user 'nobody-here'"])?;
    host.ok(
        "fvm start 48 && runuser -u ann -- fvm stop 45,48 && runuser -u ann -- fvm start 48
         fvm delete --force 45-48 && cp /root/fvm.toml /etc/fvm/fvm.toml && fvm init --yes",
    )?;
    Ok(())
}

/// A VM expires and is kept for a while, over restarts of the daemon and whoever sets the clock.
fn lifetimes(host: &LabHost) -> Result<()> {
    // Everybody may again.
    host.ok("sed -i 's/^owner_only = true/owner_only = false/' /etc/fvm/fvm.toml && systemctl restart fvmd
         runuser -u ann -- fvm create debian 46 --ttl 8h && fvm start 46 && fvm list | grep -E '8h 0m|7h 59m'")?;
    host.ok(
        "wait_for() { timeout 60 sh -c \"until $1; do sleep 0.2; done\"; }
         end() { fvm info 46 --json | jq .lifetime.ends_at_s; }
         before=$(end) && date -s @$(($(date +%s) + 172800)) > /dev/null
         wait_for \"[ \\$(fvm info 46 --json | jq .lifetime.ends_at_s) -gt $((before + 172000)) ]\"
         fvm list | grep -E ' 7h 5[0-9]m'",
    )?;
    let expire =
        "systemctl stop fvmd && sqlite3 /var/lib/fvm/state.db 'UPDATE vm SET expires_at_s = 1'
         systemctl start fvmd";
    host.ok(expire)?;
    host.ok("timeout 60 sh -c 'until [ $(fvm info 46 --json | jq -r .state) = expired ]; do sleep 0.2; done'
         ! pgrep qemu-system && fvm list | grep -E 'expired .* (1d 0h|23h 59m)'")?;
    for (command, words) in [
        ("fvm start 46", ["VM 46 has expired", "fvm undelete 46"]),
        ("fvm renew 46", ["VM 46 has expired", "fvm undelete 46"]),
        ("fvm create debian 46", ["46 is taken", "fvm delete 46"]),
        ("fvm undelete 45", ["no VM 45", "fvm list"]),
    ] {
        let status = if command.ends_with("45") { 3 } else { 4 };
        refused(host, command, status, &words)?;
    }
    host.ok("fvm delete 46")?;
    let journal = host.ok("journalctl -u fvmd -o cat")?;
    for line in ["the clock was set", "audit: fvmd: expired VM 46"] {
        ensure!(journal.contains(line), "no {line:?} in {journal}");
    }
    Ok(())
}

#[test]
fn wrong_input_is_told_and_changes_nothing() -> Result<()> {
    let Some(host) = ready_host(Needs::default())? else {
        return Ok(());
    };
    host.ok("fvm create debian 42")?;
    for (command, status, words) in [
        ("fvm create none 43", 3, &["no image 'none'", "debian"][..]),
        ("fvm create debian 42", 4, &["42 is taken", "fvm delete 42"]),
        ("fvm create debian 41-43", 4, &["42 is taken"]),
        (
            "fvm create debian 5",
            2,
            &["5 is out of range", "20 to 220"],
        ),
        ("fvm create debian 300", 2, &["300 is out of range"]),
        ("fvm create debian forty", 2, &["forty"]),
        ("fvm create debian 44-43", 2, &["backwards"]),
        ("fvm create debian 43 --memory 900T", 2, &["memory"]),
        ("fvm create debian 43 --cpus 0", 2, &["0"]),
        (
            "fvm create debian 43 --cpus 256",
            2,
            &["256 CPUs", "1 to 255"],
        ),
        (
            "fvm create debian 43 --template nonesuch",
            3,
            &["nonesuch", "linux-uefi"],
        ),
        ("fvm start 99", 3, &["no VM 99"]),
        ("fvm stop 42", 4, &["VM 42 is not running"]),
        ("fvm delete 99", 3, &["no VM 99"]),
        ("fvm info 99", 3, &["no VM 99"]),
        (
            "fvm console 42 < /dev/null",
            4,
            &["not running", "fvm start 42"],
        ),
        ("fvm nonsense", 2, &["nonsense"]),
    ] {
        refused(&host, command, status, words)?;
    }

    host.ok(
        "sed 's|</devices>|<flux capacitor=\"yes\"/></devices>|' /usr/share/fvm/templates/linux.xml > /root/flux.xml
         sed 's|</domain>||' /usr/share/fvm/templates/linux.xml > /root/open.xml
         printf '<!DOCTYPE x [<!ENTITY a \"b\">]><domain>&a;</domain>' > /root/entity.xml
         sed 's|/dev/THINPOOL_VG/VM_NAME|/dev/vda|' /usr/share/fvm/templates/linux.xml > /root/steal.xml",
    )?;
    refused(
        &host,
        "fvm create debian 43 --template /root/flux.xml",
        2,
        &["/domain/devices/flux", "line"],
    )?;
    refused(
        &host,
        "fvm create debian 43 --template /root/open.xml",
        2,
        &["template"],
    )?;
    refused(
        &host,
        "fvm create debian 43 --template /root/entity.xml",
        2,
        &["template"],
    )?;
    refused(
        &host,
        "fvm create debian 43 --template /root/steal.xml",
        2,
        &["the VM's own"],
    )?;
    host.ok("fvm delete 42")?;
    host.nothing_left()
}

#[test]
fn without_the_daemon_every_command_says_so() -> Result<()> {
    let Some(host) = lab_host(Needs::default())? else {
        return Ok(());
    };
    host.ok("systemctl stop fvmd.socket fvmd.service")?;
    for command in [
        "fvm list",
        "fvm create debian 42",
        "fvm image import x /lab/guests/bios.raw",
        "fvm status",
    ] {
        let output = host.sh(command)?;
        ensure!(
            output.status.code() == Some(5),
            "{command}: {}: {}",
            output.status,
            said(&output)
        );
        ensure!(
            said(&output).contains("systemctl start fvmd.socket"),
            "{command}: {}",
            said(&output)
        );
    }
    Ok(())
}

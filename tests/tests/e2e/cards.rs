//! Several network cards and networks, as a guest sees them.

use crate::{json, refused, ssh};
use anyhow::{Result, ensure};
use fvm_lab::LabHost;

/// Makes the network that the guests of [`are_plugged`] are on, and one of a bridge that is the host's own.
pub(crate) fn make_networks(host: &LabHost) -> Result<()> {
    host.ok("fvm net create lab --subnet 10.77.0.0/24 --mode isolated")?;
    for (command, status, word) in [
        ("fvm net create lab", 4, "there is a network 'lab' already"),
        (
            "fvm net create x --subnet 10.77.0.128/25",
            4,
            "the subnet of the network lab",
        ),
        ("fvm net create x --subnet 10.0.2.0/24", 4, "conflicts with"),
        ("fvm net create x --subnet 10.77.0.1/24", 2, "host bits"),
        (
            "fvm net create x --mode bridge --bridge br9",
            4,
            "no bridge 'br9'",
        ),
        ("fvm net create far-too-long", 2, "valid network name"),
        ("fvm net delete fvm0", 4, "default network"),
        ("fvm net show x", 3, "there is no network 'x'"),
    ] {
        refused(host, command, status, &[word])?;
    }
    host.ok("ip link add br9 type bridge && ip link set br9 up
         fvm net create lan --mode bridge --bridge br9")?;
    Ok(())
}

/// The addresses of VM 42 as it has them itself.
fn addresses(host: &LabHost) -> Result<String> {
    ssh(host, 42, "ip -4 -o addr show scope global")
}

/// VM 42 has a card on the default network and one on `lab`; a third comes and goes.
pub(crate) fn are_plugged(host: &LabHost) -> Result<()> {
    host.ok(
        "timeout 60 sh -c 'until fvm net leases --json | grep -q \"ACK 10.77.0.42\"; do sleep 1; done'",
    )?;
    let seen = addresses(host)?;
    for address in [
        "eth0    inet 192.168.22.42/24",
        "eth1    inet 10.77.0.42/24",
    ] {
        ensure!(seen.contains(address), "no {address:?}: {seen}");
    }
    let named = ssh(host, 42, "nslookup vm42.fvm.internal 10.77.0.1")?;
    ensure!(named.contains("10.77.0.42"), "{named}");
    refused(host, "fvm net delete lab", 4, &["card", "VM 42"])?;

    // A card is plugged into the running machine, on a bridge where nobody gives addresses, and is there after all.
    host.ok("fvm nic add 42 --network lan")?;
    let waited = "timeout 60 sh -c \"until [ -e /sys/class/net/eth2 ]; do sleep 1; done\"";
    ssh(host, 42, &format!("{waited}; ip link set eth2 up"))?;
    let info = json(host, "fvm info 42")?;
    let mac = &info["nics"][2]["mac"];
    ensure!(
        info["nics"][2]["tap"] == "fvm42.2" && info["nics"][2]["network"] == "lan",
        "{info}"
    );
    ensure!(
        ssh(host, 42, "cat /sys/class/net/eth2/address")? == mac.as_str().unwrap_or_default(),
        "{info}"
    );
    host.ok("systemctl restart fvmd")?;
    let xml = host.ok("fvm dumpxml 42")?;
    ensure!(
        xml.contains("<source network='lan'/>") && xml.matches("<interface").count() == 3,
        "{xml}"
    );
    host.ok("bridge link show dev fvm42.2 | grep -q 'master br9'")?;
    refused(host, "fvm nic add 42 --network x", 3, &["no network 'x'"])?;
    refused(
        host,
        "fvm nic add 42 --model ne2000",
        2,
        &["ne2000", "virtio"],
    )?;
    refused(host, "fvm nic remove 42 7", 3, &["no network card 7"])?;
    host.ok("fvm create debian 49 --template microvm")?;
    refused(host, "fvm nic add 49", 4, &["VM 49", "no PCI"])?;
    host.ok("fvm delete 49")?;

    // Without its first card on the network it keeps the VM's address on the second there.
    host.ok("fvm nic add 42 --network lab && fvm nic remove 42 1")?;
    let info = json(host, "fvm info 42")?;
    ensure!(info["nics"][2]["address"] == "10.77.0.42", "{info}");
    host.ok("fvm nic remove 42 2 && fvm nic remove 42 3")?;
    let left = ssh(host, 42, "ls /sys/class/net")?;
    ensure!(left == "eth0\nlo", "{left}");
    host.ok("[ $(nft list set bridge fvm mac | grep -c fvm42) = 1 ]")?;
    Ok(())
}

/// Takes the networks away again.
pub(crate) fn delete_networks(host: &LabHost) -> Result<()> {
    host.ok("fvm net delete lab && fvm net delete lan && ip link delete br9")?;
    let list = json(host, "fvm net list")?;
    ensure!(
        list["networks"].as_array().map(Vec::len) == Some(1),
        "{list}"
    );
    Ok(())
}

//! `fvm init`: a host is made ready, checked again, and left as it was found.

use crate::{json, refused, said};
use anyhow::{Result, ensure};
use fvm_lab::{LabHost, Needs, lab_host};

/// What `init` may change on a host, as it is before.
fn traces(host: &LabHost) -> Result<String> {
    host.ok(
        "ip -brief link | awk '{print $1}' | sort; nft list ruleset; dmsetup ls; losetup --list
         find /etc/fvm /var/lib/fvm -mindepth 1 -not -name 'state.db*' 2>/dev/null || true
         cat /proc/sys/net/ipv4/ip_forward",
    )
}

#[test]
fn a_host_is_set_up_checked_again_and_left_as_it_was() -> Result<()> {
    let Some(host) = lab_host(Needs::default())? else {
        return Ok(());
    };
    // A first question starts the daemon, which makes its store.
    host.ok("systemctl start fvmd")?;
    let before = traces(&host)?;
    refused(&host, "fvm list", 5, &["has not been set up", "fvm init"])?;
    refused(&host, "fvm init < /dev/null", 2, &["--yes"])?;

    let dry = json(&host, "fvm init --dry-run")?;
    ensure!(
        dry["changes"]
            .as_array()
            .is_some_and(|all| all.iter().any(|one| one["changed"] == true)),
        "{dry}"
    );
    ensure!(traces(&host)? == before, "a dry run changed something");

    host.ok("fvm init --yes --size 3G")?;
    ensure!(
        host.ok("ip -brief address show fvm0")?
            .contains("192.168.22.1/24")
    );
    ensure!(host.ok("cat /proc/sys/net/ipv4/ip_forward")? == "1");
    ensure!(
        host.ok("stat -c '%s' /var/lib/fvm/pool/data")?
            .parse::<u64>()?
            > 3 << 30,
        "the pool's file is short"
    );
    ensure!(
        host.ok("du -m /var/lib/fvm/pool/data | cut -f1")?
            .parse::<u64>()?
            < 100,
        "it is not sparse"
    );
    // Direct I/O on the loop device, as read back from the kernel.
    ensure!(
        host.ok("losetup --list --noheadings -O DIO,BACK-FILE | grep pool/data")?
            .trim()
            .starts_with('1')
    );

    let again = json(&host, "fvm init --yes")?;
    ensure!(
        again["changes"]
            .as_array()
            .is_some_and(|all| all.iter().all(|one| one["changed"] == false)),
        "{again}"
    );
    // What was taken away behind its back is brought back.
    host.ok("ip link delete fvm0 && fvm init --yes && ip -brief address show fvm0 | grep -q 192.168.22.1/24")?;

    refused(&host, "fvm init --yes --size 4G", 4, &["3 GiB"])?;
    refused(
        &host,
        "fvm init --yes --subnet 10.0.0.0/24",
        4,
        &["192.168.22.0/24"],
    )?;
    host.ok("fvm image import debian /lab/guests/bios.raw.zst && fvm create debian 42")?;
    refused(
        &host,
        "fvm init --remove --yes",
        4,
        &["there are VMs: 42", "fvm delete 42"],
    )?;
    host.ok("fvm delete 42 && fvm init --remove --yes")?;
    let after = traces(&host)?;
    ensure!(
        after == before,
        "something is left:\n{before}\n---\n{after}"
    );
    // And all over again.
    host.ok("fvm init --yes --size 2G && fvm image import debian /lab/guests/bios.raw.zst")?;
    host.nothing_left()
}

#[test]
fn what_cannot_be_done_is_refused_before_anything_is_touched() -> Result<()> {
    let Some(host) = lab_host(Needs::default())? else {
        return Ok(());
    };
    host.ok("systemctl start fvmd")?;
    refused(
        &host,
        "fvm init --yes --subnet 10.0.2.0/24",
        4,
        &["10.0.2", "--subnet"],
    )?;
    refused(
        &host,
        "fvm init --yes --subnet 192.168.22.7/24",
        2,
        &["192.168.22.0/24"],
    )?;
    refused(&host, "fvm init --yes --size 10M", 2, &["too small"])?;
    refused(&host, "fvm init --yes --size 900T", 2, &["does not fit"])?;
    refused(&host, "fvm init --yes --data /dev/vda", 4, &["/dev/vda"])?;
    refused(
        &host,
        "fvm init --yes --data /dev/nonesuch",
        4,
        &["/dev/nonesuch"],
    )?;
    Ok(())
}

#[test]
fn a_block_device_can_be_the_pool() -> Result<()> {
    let Some(host) = lab_host(Needs::default())? else {
        return Ok(());
    };
    host.ok(
        "truncate -s 3G /root/disk && ln -s $(losetup --find --show /root/disk) /dev/lab-disk",
    )?;
    host.ok("fvm init --yes --data /dev/lab-disk")?;
    host.ok(
        "fvm image import debian /lab/guests/bios.raw.zst && fvm create debian 42 && fvm delete 42",
    )?;
    host.nothing_left()?;
    // Filled with somebody's data it is not taken.
    host.ok("fvm init --remove --yes && mkswap -q /dev/lab-disk")?;
    let before = host.ok("sha256sum /dev/lab-disk")?;
    let output = host.sh("fvm init --yes --data /dev/lab-disk")?;
    ensure!(
        output.status.code() == Some(4) && said(&output).contains("/dev/lab-disk"),
        "{}",
        said(&output)
    );
    ensure!(
        host.ok("sha256sum /dev/lab-disk")? == before,
        "somebody's data were written to"
    );
    Ok(())
}

//! The lab itself: a host comes up, and what it promises to tests is true.

use std::path::Path;
use std::process::Output;

use anyhow::{Result, ensure};
use fvm_lab::{Disk, LabHost, Needs, lab_host};

/// A host without fvm: these tests are about the lab.
fn bare() -> Needs {
    Needs {
        fvm: None,
        ..Needs::default()
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Boots a guest with QEMU by hand, on KVM, and waits for its ready line.
fn boot_guest(host: &LabHost, disk: &str, options: &str) -> Result<String> {
    host.ok(&format!(
        "cp --sparse=always /lab/guests/{disk} /root/{disk}
         touch /root/{disk}.log
         qemu-system-x86_64 -nodefaults -display none -machine q35,accel=kvm -cpu host -m 256 {options} \
             -drive if=none,id=disk,file=/root/{disk},format=raw -device virtio-blk-pci,drive=disk \
             -netdev user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:2222-:22 -device virtio-net-pci,netdev=net \
             -serial file:/root/{disk}.log -pidfile /root/{disk}.pid -daemonize"
    ))?;
    host.ok(&format!(
        "timeout 180 sh -c 'until grep -qa \"GUEST READY\" /root/{disk}.log; do sleep 0.2; done' ||
         {{ tail -n 5 /root/{disk}.log; exit 1; }}"
    ))?;
    host.ok(&format!("cat /root/{disk}.log"))
}

fn guest_ssh(host: &LabHost, command: &str) -> Result<String> {
    host.ok(&format!(
        "install -m 600 /lab/guests/id_ed25519 /root/guest_key
         ssh -q -i /root/guest_key -p 2222 -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
             root@127.0.0.1 '{command}'"
    ))
}

#[test]
fn the_bios_guest_boots_on_kvm_and_can_be_reached() -> Result<()> {
    let Some(host) = lab_host(bare())? else {
        return Ok(());
    };
    let console = boot_guest(&host, "bios.raw", "")?;
    ensure!(
        console.contains("GUEST LEASE eth0 address=10.0.2.15/24 server=10.0.2.2"),
        "no lease on the console: {console}"
    );
    ensure!(
        guest_ssh(&host, "uname -s")? == "Linux",
        "uname through ssh"
    );
    // The emulator's processor calls itself by a name of QEMU's own when KVM is not in use.
    let kvm = guest_ssh(&host, "dmesg | grep -c kvm-clock")?;
    ensure!(kvm != "0", "the guest does not see KVM");
    Ok(())
}

#[test]
fn the_uefi_guest_boots_on_kvm() -> Result<()> {
    let Some(host) = lab_host(bare())? else {
        return Ok(());
    };
    let firmware = "-drive if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd";
    boot_guest(&host, "uefi.raw", firmware)?;
    ensure!(
        guest_ssh(&host, "ls /sys/firmware")?.contains("efi"),
        "the guest was not started by UEFI"
    );
    Ok(())
}

#[test]
fn a_script_s_status_and_output_come_back() -> Result<()> {
    let Some(host) = lab_host(bare())? else {
        return Ok(());
    };
    let done = host.sh("echo out; echo err >&2; exit 7")?;
    ensure!(done.status.code() == Some(7), "status {}", done.status);
    ensure!(
        text(&done) == "out\n" && done.stderr == b"err\n",
        "{done:?}"
    );
    ensure!(host.ok("false | true").is_err(), "a failing pipe passed");
    Ok(())
}

#[test]
fn files_arrive_as_they_are() -> Result<()> {
    let Some(host) = lab_host(bare())? else {
        return Ok(());
    };
    let directory = tempfile::tempdir()?;
    let there = Path::new("/proc/self/exe");
    host.put(there, "/root/it's a copy")?;
    let back = directory.path().join("back");
    host.get("/root/it's a copy", &back)?;
    ensure!(
        std::fs::read(there)? == std::fs::read(&back)?,
        "the copy differs"
    );
    Ok(())
}

#[test]
fn hosts_are_fresh_and_do_not_see_each_other() -> Result<()> {
    let Some(first) = lab_host(bare())? else {
        return Ok(());
    };
    first.ok("touch /root/mark")?;
    drop(first);
    let Some(second) = lab_host(bare())? else {
        return Ok(());
    };
    ensure!(
        second.sh("test -e /root/mark")?.status.code() == Some(1),
        "the mark is there"
    );
    ensure!(
        second
            .sh("timeout 5 bash -c '</dev/tcp/10.0.2.2/22'")?
            .status
            .code()
            != Some(0),
        "the host reaches the machine underneath"
    );
    Ok(())
}

#[test]
fn what_was_flushed_survives_a_power_cut() -> Result<()> {
    let needs = Needs {
        disk: Disk::Durable,
        ..bare()
    };
    let Some(mut host) = lab_host(needs)? else {
        return Ok(());
    };
    host.ok("echo kept > /root/flushed; sync; echo lost > /root/cached")?;
    let boot = host.ok("cat /proc/sys/kernel/random/boot_id")?;
    host.power_cut()?;
    ensure!(host.sh("true").is_err(), "it still answers");
    host.boot_again()?;
    ensure!(
        host.ok("cat /proc/sys/kernel/random/boot_id")? != boot,
        "it did not boot"
    );
    ensure!(
        host.ok("cat /root/flushed")? == "kept",
        "a flushed file is gone"
    );
    Ok(())
}

#[test]
fn a_host_without_kvm_has_none_and_gets_none() -> Result<()> {
    let needs = Needs {
        kvm: false,
        ..bare()
    };
    let Some(host) = lab_host(needs)? else {
        return Ok(());
    };
    let done = host.sh("modprobe kvm_amd; test -e /dev/kvm")?;
    ensure!(!done.status.success(), "/dev/kvm is there");
    Ok(())
}

#[test]
fn ending_a_host_leaves_no_process_and_no_directory() -> Result<()> {
    let Some(host) = lab_host(bare())? else {
        return Ok(());
    };
    let directory = host.directory().to_path_buf();
    let pid = std::fs::read_to_string(directory.join("qemu.pid"))?;
    let process = Path::new("/proc").join(pid.trim());
    ensure!(process.exists(), "no QEMU process {}", pid.trim());
    drop(host);
    ensure!(!process.exists(), "QEMU runs on");
    ensure!(!directory.exists(), "{} is left", directory.display());
    Ok(())
}

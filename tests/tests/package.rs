//! The .deb on a plain Debian: what installing, upgrading, removing and purging it does.

use anyhow::{Result, ensure};
use fvm_lab::{Build, LabHost, Needs, lab_host};

const DEB: &str = "/root/fvm.deb";

/// A host that has what fvm depends on, and its package as a file.
fn host_with_deb() -> Result<Option<LabHost>> {
    let Some(host) = lab_host(Needs {
        fvm: None,
        ..Needs::default()
    })?
    else {
        return Ok(None);
    };
    host.put_package(Build::Release, DEB)?;
    Ok(Some(host))
}

/// Every file that a package could bring, and the accounts.
fn landscape(host: &LabHost) -> Result<String> {
    host.ok("find /etc /usr /var/lib /run -xdev \\
                 -not -path '/var/lib/dpkg/*' -not -path '/var/lib/systemd/*' -not -path '/run/systemd/*' \\
                 -not -path '/run/udev/*' -not -path '/run/user*' -not -path '/etc/*-' -not -path '/etc/.pwd.lock' |
             sort")
}

#[test]
fn installing_starts_the_sockets_and_makes_the_accounts() -> Result<()> {
    let Some(host) = host_with_deb()? else {
        return Ok(());
    };
    host.ok(&format!("dpkg -i {DEB}"))?;
    let sockets = host.ok("stat -c '%U:%G %a %F' /run/fvm/fvm.sock /run/fvm/netd.sock")?;
    ensure!(
        sockets == "root:fvm 660 socket\nroot:root 600 socket",
        "sockets: {sockets}"
    );
    ensure!(
        host.ok("systemctl is-enabled fvmd.socket fvm-netd.socket")? == "enabled\nenabled",
        "the sockets are not enabled"
    );
    ensure!(
        host.ok("id -nG fvm-netd")? == "fvm-netd",
        "groups of fvm-netd"
    );
    ensure!(
        host.sh("systemctl is-active fvmd.service")?.status.code() != Some(0),
        "the daemon runs though nobody has asked it anything"
    );
    Ok(())
}

#[test]
fn every_program_finds_its_libraries_and_says_its_version() -> Result<()> {
    let Some(host) = host_with_deb()? else {
        return Ok(());
    };
    host.ok(&format!("dpkg -i {DEB}"))?;
    for program in ["fvm", "fvmd", "/usr/libexec/fvm/fvm-netd"] {
        let version = host.ok(&format!("{program} --version"))?;
        ensure!(
            version.ends_with(env!("CARGO_PKG_VERSION")),
            "{program} says {version}"
        );
    }
    Ok(())
}

#[test]
fn the_network_daemon_has_no_privilege() -> Result<()> {
    let Some(host) = host_with_deb()? else {
        return Ok(());
    };
    host.ok(&format!(
        "dpkg -i {DEB} && systemctl start fvm-netd.service"
    ))?;
    let status = host.ok(
        "grep -E '^(Uid|CapEff|CapPrm|CapBnd|CapAmb|NoNewPrivs|Seccomp):' \\
             /proc/$(systemctl show -P MainPID fvm-netd.service)/status",
    )?;
    let uid = host.ok("id -u fvm-netd")?;
    ensure!(
        uid != "0" && status.contains(&format!("Uid:\t{uid}\t{uid}")),
        "{status}"
    );
    for capabilities in ["CapEff", "CapPrm", "CapBnd", "CapAmb"] {
        ensure!(
            status.contains(&format!("{capabilities}:\t0000000000000000")),
            "{status}"
        );
    }
    ensure!(
        status.contains("NoNewPrivs:\t1") && status.contains("Seccomp:\t2"),
        "{status}"
    );
    Ok(())
}

#[test]
fn virtual_machines_run_on_through_an_upgrade() -> Result<()> {
    let Some(host) = lab_host(Needs::default())? else {
        return Ok(());
    };
    host.put_package(Build::Release, DEB)?;
    host.ok("fvm init --yes --size 4G
             fvm image import debian /lab/guests/bios.raw.zst
             fvm create debian 42
             fvm start 42 --wait ssh --timeout 300s")?;
    let qemu = host.ok("pgrep -x qemu-system-x86")?;
    let daemon = host.ok("systemctl show -P MainPID fvmd.service")?;
    host.ok(&format!("dpkg -i {DEB}"))?;
    ensure!(
        host.ok("systemctl show -P MainPID fvmd.service")? != daemon,
        "the old daemon runs on"
    );
    ensure!(
        host.ok("pgrep -x qemu-system-x86")? == qemu,
        "QEMU did not run on"
    );
    let uptime =
        host.ok("fvm ssh -i /lab/guests/id_ed25519 42 -- cat /proc/uptime && fvm stop 42")?;
    ensure!(!uptime.is_empty(), "no answer from the guest");
    Ok(())
}

#[test]
fn removing_and_purging_leave_nothing_on_a_host_that_was_not_set_up() -> Result<()> {
    let Some(host) = host_with_deb()? else {
        return Ok(());
    };
    let before = landscape(&host)?;
    host.ok(&format!("dpkg -i {DEB} && dpkg -r fvm"))?;
    ensure!(
        host.ok("systemctl list-units --all --no-legend 'fvm*.service' 'fvm*.socket'")?
            .is_empty(),
        "units are left"
    );
    host.ok("dpkg -P fvm")?;
    let after = landscape(&host)?;
    let left: Vec<&str> = after
        .lines()
        .filter(|file| !before.lines().any(|b| b == *file))
        .collect();
    ensure!(left.is_empty(), "left behind: {left:?}");
    Ok(())
}

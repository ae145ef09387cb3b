//! A host without KVM.

use crate::{json, ready_host, said, ssh};
use anyhow::{Result, ensure};
use fvm_lab::Needs;

#[test]
fn without_kvm_the_same_job_works_with_a_warning() -> Result<()> {
    let needs = Needs {
        kvm: false,
        ..Needs::default()
    };
    let Some(host) = ready_host(needs)? else {
        return Ok(());
    };
    host.ok("fvm create debian 42 --memory 256M")?;
    let started = host.sh("fvm start 42 --wait ssh --timeout 900s")?;
    ensure!(started.status.success(), "{}", said(&started));
    let warned = String::from_utf8_lossy(&started.stderr).into_owned();
    ensure!(
        warned.contains("emulated") && warned.contains("/dev/kvm"),
        "no warning: {warned}"
    );
    let info = json(&host, "fvm info 42")?;
    ensure!(info["accelerator"] == "tcg", "{info}");
    ensure!(
        info["cause"]
            .as_str()
            .is_some_and(|cause| cause.contains("emulated")),
        "{info}"
    );
    ensure!(ssh(&host, 42, "ip -4 -o addr show dev eth0")?.contains("192.168.22.42/24"));
    host.ok("fvm delete 42")?;
    host.nothing_left()
}

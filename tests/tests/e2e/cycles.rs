//! The same number, made and deleted again and again: the address is right at the first try, each time.

use crate::{boot, ready_host};
use anyhow::{Context, Result, ensure};
use fvm_lab::Needs;

/// How often in CI; `make cycles` sets `FVM_CYCLES=50`.
const CYCLES: u32 = 12;

#[test]
fn a_number_used_again_always_has_its_address_at_the_first_try() -> Result<()> {
    let Some(host) = ready_host(Needs::default())? else {
        return Ok(());
    };
    host.ok("fvm image import dhcpcd /lab/guests/bios-dhcpcd.raw.zst")?;
    let cycles = match std::env::var("FVM_CYCLES") {
        Ok(text) => text.parse().context("FVM_CYCLES")?,
        Err(_) => CYCLES,
    };
    for cycle in 0..cycles {
        // Two clients that call themselves differently: 01 and the MAC, ff and a DUID.
        let image = ["debian", "dhcpcd"][cycle as usize % 2];
        host.ok(&format!(
            "fvm create {image} 42 --memory 256M && fvm start 42 --wait lease --timeout 300s"
        ))?;
        let report = boot(&host, 42)?;
        let exchanges = report["dhcp"].as_array().context("no exchanges")?;
        let told = format!("cycle {cycle}, {image}: {exchanges:?}");
        let answers: Vec<&str> = exchanges
            .iter()
            .filter_map(|exchange| exchange["answered"].as_str())
            .collect();
        ensure!(answers.contains(&"ACK 192.168.22.42"), "{told}");
        // Every answer ever given on the port is the one address: nothing was refused or taken back.
        let wrong = answers
            .iter()
            .find(|answer| !answer.ends_with(" 192.168.22.42"));
        ensure!(wrong.is_none(), "{told}");
        // Power goes off in the middle of its lease: the guest never says that it lets go.
        host.ok("fvm delete 42")?;
        host.nothing_left()
            .with_context(|| format!("after cycle {cycle}"))?;
    }
    Ok(())
}

//! Hooks on a real pool: `tests/assets/hooks` has what they do.

use anyhow::{Result, ensure};
use fvm_lab::{Build, Programs};

/// Within this the machine is through with it, or hangs.
const LIMIT_S: u32 = 600;

#[test]
fn whatever_becomes_of_a_hook_its_vms_disk_is_taken_back() -> Result<()> {
    let output = Programs::of(Build::Release)?.run("hooks", &[], LIMIT_S)?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{said}");
    ensure!(said.contains("a client that is killed\n"), "{said}");
    Ok(())
}

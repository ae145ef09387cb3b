//! Disks made and deleted thousands of times, many at once, and by two clients at once: nothing leaks.

use anyhow::{Result, ensure};
use fvm_lab::{Build, Programs};

/// How often, unless `FVM_DISK_CYCLES` says otherwise: `make cycles` does it ten thousand times.
const CYCLES: &str = "1000";

#[test]
fn a_thousand_cycles_end_where_they_began() -> Result<()> {
    let cycles = std::env::var("FVM_DISK_CYCLES").unwrap_or_else(|_| CYCLES.to_owned());
    let output = Programs::of(Build::Release)?.run("many-cycles", &[&cycles, "60"], 3000)?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success() && said.contains("two clients at once"),
        "{said}"
    );
    Ok(())
}

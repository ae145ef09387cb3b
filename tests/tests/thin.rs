//! The tests of `fvm-thin` that need device-mapper, on a host that has it.

use anyhow::{Result, ensure};
use fvm_lab::{Needs, lab_host, test_program};

#[test]
fn the_thin_crate_on_a_real_kernel() -> Result<()> {
    let Some(host) = lab_host(Needs {
        fvm: None,
        ..Needs::default()
    })?
    else {
        return Ok(());
    };
    host.put(&test_program("kernel")?, "/root/kernel")?;
    // With FVM_TEST_HOST a test that finds no device-mapper fails instead of skipping itself.
    let output = host.sh("FVM_TEST_HOST=1 TMPDIR=/var/tmp /root/kernel 2>&1")?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{said}");
    ensure!(
        said.contains("test result: ok.")
            && !said.contains("SKIPPED")
            && said.contains(" 0 ignored"),
        "not every test ran: {said}"
    );
    let left = host.ok("dmsetup ls | grep fvm || true; losetup --list --noheadings")?;
    ensure!(left.is_empty(), "left behind: {left}");
    Ok(())
}

//! Power cuts, wholesale: every write to fvm's disk is recorded while it does everything it can do, and the disk is
//! looked at as it would have been left at hundreds of points of that record. `tests/assets/power-cuts` has the method.

use std::process::Output;

use anyhow::{Result, ensure};
use fvm_lab::{Build, Programs};

/// Within this the machine is through with it, or hangs.
const LIMIT_S: u32 = 3000;

/// A seed from outside, for other sequences than the one that is always tried.
fn seed() -> String {
    std::env::var("FVM_SEED").unwrap_or_else(|_| "1".to_owned())
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn two_hundred_power_cuts_lose_nothing_and_leave_nothing() -> Result<()> {
    let output =
        Programs::of(Build::Release)?.run("power-cuts", &[&seed(), "6", "200"], LIMIT_S)?;
    ensure!(output.status.success(), "{}", said(&output));
    let text = said(&output);
    let cuts = text
        .lines()
        .find_map(|line| line.split_once(" power cuts in ")?.0.parse::<u32>().ok());
    ensure!(cuts.is_some_and(|cuts| cuts >= 200), "{text}");
    Ok(())
}

#[test]
fn a_daemon_that_breaks_its_promises_is_found_out() -> Result<()> {
    let programs = Programs::of(Build::FaultPoints)?;
    for mutation in ["synchronous-off", "message-before-note"] {
        let output = programs.run("power-cuts", &[&seed(), "0", "200", mutation], LIMIT_S)?;
        ensure!(
            !output.status.success() && said(&output).contains("power cut before write"),
            "{mutation} was not found out: {}",
            said(&output)
        );
    }
    Ok(())
}

//! The main job, shown to a person on a lab host; and cleaning up after the lab.

use std::fs;

use anyhow::{Context, Result};

use crate::host::{LabHost, Needs};
use crate::paths;

const SCRIPT: &str = include_str!("../assets/demo.sh");

/// Runs the main job on a fresh lab host, showing each command and what it says; returns the exit status.
pub fn demo() -> Result<i32> {
    let host = LabHost::fresh(Needs::default())?;
    let status = host.sh_streamed(SCRIPT)?;
    let left = host.count_left_behind()?;
    Ok(if status.success() {
        left.code().unwrap_or(1)
    } else {
        status.code().unwrap_or(1)
    })
}

/// Removes everything that the lab has made; what lab hosts use right now stays usable until they end.
pub fn clean() -> Result<()> {
    let lab = paths::lab()?;
    fs::remove_dir_all(&lab).with_context(|| format!("removing {}", lab.display()))
}

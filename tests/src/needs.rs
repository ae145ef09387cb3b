//! Tests say what they need, and are skipped aloud where it cannot be had; in CI nothing may be skipped.

use anyhow::{Context, Result};

use crate::host::{LabHost, Needs};
use crate::{command, progress};

/// A lab host for a test, or `None` when this machine cannot have one: the test then returns.
///
/// Set `FVM_LAB=off` to go without lab hosts. With `CI=true` a missing lab host is an error.
pub fn lab_host(needs: Needs) -> Result<Option<LabHost>> {
    if let Some(reason) = missing() {
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        if std::env::var("CI").is_ok_and(|value| value == "true") {
            anyhow::bail!("{test} needs a lab host, and in CI nothing is skipped: {reason}");
        }
        progress::say(&format!("SKIPPED {test}: needs a lab host: {reason}"));
        return Ok(None);
    }
    LabHost::fresh(needs)
        .map(Some)
        .context("bringing up a lab host")
}

fn missing() -> Option<String> {
    if std::env::var("FVM_LAB").is_ok_and(|value| value == "off") {
        return Some("FVM_LAB=off".to_owned());
    }
    ["mmdebstrap", "ssh", "ssh-keygen", "dpkg-deb", "objdump"]
        .into_iter()
        .find(|program| !command::installed(program))
        .map(|program| format!("{program} is not installed; run packaging/prepare"))
}

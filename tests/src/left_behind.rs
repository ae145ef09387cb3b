//! What fvm has on a lab host, counted from the kernel, the file system and the store.

use crate::host::LabHost;
use anyhow::{Result, bail};
use std::process::ExitStatus;

pub(crate) const SCRIPT: &str = include_str!("../assets/left-behind");

/// The line of a host on which nothing of any VM is left.
pub const NOTHING: &str = "left behind: dm 0, taps 0, nft 0, qemu 0, files 0, rows 0";

impl LabHost {
    /// Requires that nothing of any VM is left, and that the store and the thin pool hold the same volumes.
    pub fn nothing_left(&self) -> Result<()> {
        let line = self.ok(&script("--none --check"))?;
        if line != NOTHING {
            bail!("{line}");
        }
        Ok(())
    }

    /// Shows what of VMs is there, counted; fails unless it is nothing.
    pub(crate) fn count_left_behind(&self) -> Result<ExitStatus> {
        self.sh_streamed(&script("--none"))
    }

    /// Requires that the store and the thin pool hold the same volumes, in the same transaction.
    pub fn store_and_pool_agree(&self) -> Result<()> {
        self.ok(&script("--check")).map(drop)
    }
}

/// A shell command that runs the count.
fn script(options: &str) -> String {
    format!("python3 - {options} <<'END-OF-COUNT'\n{SCRIPT}\nEND-OF-COUNT\n")
}

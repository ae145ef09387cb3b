//! How far a VM has come with booting: what `start --wait` asks again and again, and blames in the end.

use super::{Manager, error::Result};
use crate::api::{BootReport, REPORT_VERSION, VmNumber, without_control};
use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::Path,
};

/// This much of the end of the console's log is looked at.
const TAIL_BYTES: u64 = 4096;
/// This many of its last lines are told.
const TAIL_LINES: usize = 5;
/// A line is told up to this many characters.
const TAIL_LINE_CHARS: usize = 200;

impl Manager {
    /// How far a VM has come with booting.
    ///
    /// # Errors
    /// When there is no such VM, the host is not set up, or the store fails.
    pub fn boot(&self, number: VmNumber) -> Result<BootReport> {
        let vm = self.info(number)?;
        let nic = self.main_card(&*self.host()?, &self.vm_row(number)?)?;
        let (dhcp, has_lease) = match nic {
            Some(nic) => self.netd.exchanges(nic),
            None => Default::default(),
        };
        let console_tail = tail(&self.paths.vm(number).console_log());
        Ok(BootReport {
            version: REPORT_VERSION,
            vm,
            dhcp,
            has_lease,
            console_tail,
        })
    }
}

/// The last lines of a log that a guest wrote: hostile text, shown on a terminal.
pub(super) fn tail(path: &Path) -> Vec<String> {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut log = File::open(path)?;
        let length = log.metadata()?.len();
        log.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        log.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    // No log, nothing said.
    let text = without_control(&read().unwrap_or_default());
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty())
        .collect();
    let last = lines.len().saturating_sub(TAIL_LINES);
    lines[last..]
        .iter()
        .map(|line| line.chars().take(TAIL_LINE_CHARS).collect())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_lines_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console.log");
        assert!(tail(&path).is_empty());
        let text: String = (0..2000).map(|n| format!("line {n}\r\n\r\n")).collect();
        std::fs::write(&path, text).unwrap();
        assert_eq!(
            tail(&path),
            [
                "line 1995",
                "line 1996",
                "line 1997",
                "line 1998",
                "line 1999"
            ]
        );
    }
}

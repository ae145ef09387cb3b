//! VMs as ssh's configuration has hosts, and what was run in them.

use super::{Look, Show};
use crate::output::text::plain;
use fvm_vmm::api::{ApiError, VmNumber};
use serde::Serialize;

/// VMs for `ssh_config(5)`.
#[derive(Debug, Serialize)]
pub(crate) struct SshConfig {
    /// `REPORT_VERSION`.
    pub(crate) version: u32,
    /// By number.
    pub(crate) hosts: Vec<SshHost>,
}

/// One VM.
#[derive(Debug, Serialize)]
pub(crate) struct SshHost {
    /// What it can be called.
    pub(crate) names: Vec<String>,
    /// Keywords and their values.
    pub(crate) options: Vec<(String, String)>,
}

impl Show for SshConfig {
    fn show(&self, _: &Look) -> String {
        let mut text = String::from("# Written by `fvm ssh-config`.\n");
        for host in &self.hosts {
            text.push_str(&format!("\nHost {}\n", host.names.join(" ")));
            for (name, value) in &host.options {
                text.push_str(&format!("    {name} {}\n", quoted(value)));
            }
        }
        text
    }
}

/// A value as ssh reads it as one: in quotes if there is a blank in it.
fn quoted(value: &str) -> String {
    let value = plain(value);
    if value.contains(char::is_whitespace) {
        format!("\"{value}\"")
    } else {
        value.into_owned()
    }
}

/// What a command did in each VM.
#[derive(Debug, Serialize)]
pub(crate) struct ExecReport {
    /// `REPORT_VERSION`.
    pub(crate) version: u32,
    /// By number.
    pub(crate) outcomes: Vec<ExecOutcome>,
}

/// What a command did in one VM.
#[derive(Debug, Serialize)]
pub(crate) struct ExecOutcome {
    /// The VM.
    pub(crate) vm: VmNumber,
    /// The exit status: the command's, or 255 if ssh failed; none if ssh was not run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<u8>,
    /// What it printed.
    pub(crate) stdout: String,
    /// What it, or ssh, complained of.
    pub(crate) stderr: String,
    /// Why it was not run, or did not end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<ApiError>,
}

/// Lines of a VM's output, each with its number before it.
pub(in crate::output) fn numbered(vm: VmNumber, text: &str) -> String {
    let lines = text.lines();
    lines
        .map(|line| format!("{vm}: {}\n", plain(line.trim_end_matches('\r'))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ssh_can_read_it() {
        let config = SshConfig {
            version: 1,
            hosts: vec![SshHost {
                names: vec!["fvm-42".into(), "fvm-debian-42".into()],
                options: vec![
                    ("HostName".into(), "192.168.22.42".into()),
                    ("IdentityFile".into(), "/a b/id".into()),
                ],
            }],
        };
        assert_eq!(
            config.show(&Look::fixed()),
            "# Written by `fvm ssh-config`.\n\nHost fvm-42 fvm-debian-42\n    HostName 192.168.22.42\n    IdentityFile \"/a b/id\"\n"
        );
    }

    #[test]
    fn every_line_says_whose_it_is() {
        assert_eq!(
            numbered(42.into(), "a\r\nb\u{1b}[2J\n\nc"),
            "42: a\n42: b\u{fffd}[2J\n42: \n42: c\n"
        );
        assert_eq!(numbered(42.into(), ""), "");
    }
}

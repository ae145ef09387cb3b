//! Running OpenSSH's programs as the user.

use std::{
    ffi::{OsStr, OsString},
    io,
    net::Ipv4Addr,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::Command,
};

/// Why a program could not be run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SshError {
    /// It is not installed.
    #[error("there is no program {program} on this host")]
    Missing {
        /// Its name.
        program: String,
    },
    /// Anything else.
    #[error("cannot run {program}")]
    Exec {
        /// Its name.
        program: String,
        /// What the system said.
        source: io::Error,
    },
}

impl SshError {
    /// What starting `program` failed with.
    pub(crate) fn new(program: &OsStr, source: io::Error) -> Self {
        let program = program.to_string_lossy().into_owned();
        match source.kind() {
            io::ErrorKind::NotFound => Self::Missing { program },
            _ => Self::Exec { program, source },
        }
    }
}

/// How to log in.
#[derive(Debug, Clone)]
pub(crate) struct Login {
    /// As whom.
    pub(crate) user: String,
    /// With which private key, instead of those that ssh finds by itself.
    pub(crate) key: Option<PathBuf>,
    /// By way of which host, `user@host:port`, where the VMs are another host's.
    pub(crate) jump: Option<String>,
}

/// See [`Login::options`].
pub(crate) const OPTIONS: [(&str, &str); 5] = [
    ("StrictHostKeyChecking", "no"),
    ("UserKnownHostsFile", "/dev/null"),
    ("GlobalKnownHostsFile", "/dev/null"),
    ("LogLevel", "ERROR"),
    ("ConnectTimeout", "10"),
];

impl Login {
    /// What `ssh`, `scp` and `rsync -e ssh` are all told.
    ///
    /// A VM's host key is new with every VM of the same number: it proves nothing, and remembering it would
    /// only make the next one look like an attack. The network is the host's own bridge.
    pub(crate) fn options(&self) -> Vec<OsString> {
        let mut options: Vec<OsString> = Vec::new();
        for (name, value) in OPTIONS {
            options.extend(["-o".into(), format!("{name}={value}").into()]);
        }
        if let Some(jump) = &self.jump {
            options.extend(["-J".into(), jump.into()]);
        }
        if let Some(key) = &self.key {
            // Without this, the keys of an agent are tried first, and the guest may hang up before ours.
            options.extend(["-o".into(), "IdentitiesOnly=yes".into()]);
            options.extend(["-i".into(), key.clone().into_os_string()]);
        } else if let Some(key) = crate::keys::made_by_keydist() {
            // Beside the user's own.
            options.extend(["-i".into(), key.into_os_string()]);
        }
        options
    }

    /// The command that logs in, and runs `command` there if there is one.
    pub(crate) fn command(&self, address: Ipv4Addr, command: &[OsString]) -> Command {
        let mut ssh = Command::new("ssh");
        ssh.args(self.options())
            .args(["-l", &self.user, "--"])
            .arg(address.to_string())
            .args(command);
        ssh
    }
}

/// Replaces this process by a program; returns only if that fails.
pub(crate) fn become_command(mut command: Command) -> SshError {
    let source = command.exec();
    SshError::new(command.get_program(), source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_follows_the_address() {
        let login = Login {
            user: "root".to_owned(),
            key: Some("/lab/guests/id".into()),
            jump: None,
        };
        let command = ["uname".into(), "-a".into()];
        let command = login.command(Ipv4Addr::new(192, 168, 22, 42), &command);
        let text: Vec<_> = command.get_args().filter_map(OsStr::to_str).collect();
        let tail = [
            "-o",
            "IdentitiesOnly=yes",
            "-i",
            "/lab/guests/id",
            "-l",
            "root",
            "--",
            "192.168.22.42",
            "uname",
            "-a",
        ];
        assert_eq!(text[text.len() - tail.len()..], tail);
        assert!(text.contains(&"UserKnownHostsFile=/dev/null"));
    }
}

//! Becoming `ssh`.

use std::{
    ffi::OsString, io, net::Ipv4Addr, os::unix::process::CommandExt, path::PathBuf,
    process::Command,
};

/// Why `ssh` could not be run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SshError {
    /// It is not installed.
    #[error("there is no ssh client on this host")]
    Missing,
    /// Anything else.
    #[error("cannot run ssh")]
    Exec(#[source] io::Error),
}

/// How to log in.
#[derive(Debug, Clone)]
pub(crate) struct Login {
    /// As whom.
    pub(crate) user: String,
    /// With which private key, instead of those that ssh finds by itself.
    pub(crate) key: Option<PathBuf>,
}

/// Replaces this process by `ssh`; returns only if that fails.
pub(crate) fn become_ssh(login: &Login, address: Ipv4Addr, command: &[OsString]) -> SshError {
    let error = Command::new("ssh")
        .args(arguments(login, address, command))
        .exec();
    match error.kind() {
        io::ErrorKind::NotFound => SshError::Missing,
        _ => SshError::Exec(error),
    }
}

/// A VM's host key is new with every VM of the same number: it proves nothing, and remembering it would
/// only make the next one look like an attack. The network is the host's own bridge.
fn arguments(login: &Login, address: Ipv4Addr, command: &[OsString]) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = Vec::new();
    for option in [
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        "GlobalKnownHostsFile=/dev/null",
        "LogLevel=ERROR",
        "ConnectTimeout=10",
    ] {
        arguments.extend(["-o".into(), option.into()]);
    }
    if let Some(key) = &login.key {
        // Without this, the keys of an agent are tried first, and the guest may hang up before ours.
        arguments.extend(["-o".into(), "IdentitiesOnly=yes".into()]);
        arguments.extend(["-i".into(), key.clone().into_os_string()]);
    }
    arguments.extend(["-l".into(), (&login.user).into()]);
    arguments.extend(["--".into(), address.to_string().into()]);
    arguments.extend_from_slice(command);
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_follows_the_address() {
        let login = Login {
            user: "root".to_owned(),
            key: Some("/lab/guests/id".into()),
        };
        let command = ["uname".into(), "-a".into()];
        let arguments = arguments(&login, Ipv4Addr::new(192, 168, 22, 42), &command);
        let text: Vec<_> = arguments.iter().filter_map(|a| a.to_str()).collect();
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

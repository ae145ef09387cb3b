//! Commands and files to and from a lab host, over one shared ssh connection.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::command::tail;

const MASTER: &str = "ssh.sock";

/// Access to one host.
#[derive(Debug)]
pub(crate) struct Ssh {
    directory: PathBuf,
    key: PathBuf,
    port: u16,
}

impl Ssh {
    pub(crate) fn new(directory: &Path, key: PathBuf, port: u16) -> Self {
        Self {
            directory: directory.to_path_buf(),
            key,
            port,
        }
    }

    /// Waits until the host's sshd answers, then opens the shared connection; `alive` says whether waiting is any use.
    pub(crate) fn wait(&self, limit: Duration, alive: impl Fn() -> bool) -> Result<()> {
        let since = Instant::now();
        loop {
            let answer = self.command(&[]).arg("true").stdin(Stdio::null()).output();
            let answer = answer.context("starting ssh; is openssh-client installed?")?;
            if answer.status.success() {
                break;
            }
            if !alive() {
                bail!("the lab host ended before its sshd answered");
            }
            if since.elapsed() > limit {
                bail!(
                    "no ssh on 127.0.0.1:{} within {} s: {}",
                    self.port,
                    limit.as_secs(),
                    tail(&String::from_utf8_lossy(&answer.stderr), 3)
                );
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        // Without the shared connection everything works, only slower.
        let mut master = self.command(&["-M", "-N", "-f"]);
        master
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        master
            .status()
            .map(drop)
            .context("opening the shared ssh connection")
    }

    /// Runs a bash script and returns what it printed.
    pub(crate) fn script(&self, script: &str) -> Result<Output> {
        self.command(&[])
            .arg(bash(script))
            .stdin(Stdio::null())
            .output()
            .context("starting ssh")
    }

    /// Runs a bash script with this process's standard streams.
    pub(crate) fn script_streamed(&self, script: &str) -> Result<ExitStatus> {
        self.command(&[])
            .arg(bash(script))
            .status()
            .context("starting ssh")
    }

    /// Runs a login shell on this process's terminal.
    pub(crate) fn shell(&self) -> Result<ExitStatus> {
        self.command(&["-t"]).status().context("starting ssh")
    }

    /// Starts a bash script and leaves its streams to the caller.
    pub(crate) fn spawn(&self, script: &str) -> Command {
        let mut command = self.command(&[]);
        command.arg(bash(script));
        command
    }

    /// As [`Ssh::spawn`], with a terminal on the host.
    pub(crate) fn spawn_on_terminal(&self, script: &str) -> Command {
        let mut command = self.command(&["-tt"]);
        command.arg(bash(script));
        command
    }

    /// Copies a file to the host, with its mode.
    pub(crate) fn put(&self, local: &Path, remote: &str) -> Result<()> {
        let file = File::open(local).with_context(|| format!("opening {}", local.display()))?;
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &file
                .metadata()
                .with_context(|| format!("reading {}", local.display()))?
                .permissions(),
        ) & 0o777;
        let remote = quoted(remote);
        let script = format!("cat > {remote} && chmod {mode:o} {remote}");
        let done = self
            .command(&[])
            .arg(bash(&script))
            .stdin(file)
            .output()
            .context("starting ssh")?;
        if !done.status.success() {
            bail!(
                "copying {} to the lab host: {}",
                local.display(),
                said(&done)
            );
        }
        Ok(())
    }

    /// Copies a file from the host.
    pub(crate) fn get(&self, remote: &str, local: &Path) -> Result<()> {
        let file = File::create(local).with_context(|| format!("making {}", local.display()))?;
        let done = self
            .command(&[])
            .arg(format!("cat {}", quoted(remote)))
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(Stdio::piped())
            .output()
            .context("starting ssh")?;
        if !done.status.success() {
            bail!("copying {remote} from the lab host: {}", said(&done));
        }
        Ok(())
    }

    /// What a person types to come in.
    pub(crate) fn by_hand(&self) -> String {
        format!(
            "ssh -i {} -p {} -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null root@127.0.0.1",
            self.key.display(),
            self.port
        )
    }

    fn command(&self, options: &[&str]) -> Command {
        let mut command = Command::new("ssh");
        command
            .current_dir(&self.directory)
            .args(["-F", "none", "-p", &self.port.to_string(), "-i"])
            .arg(&self.key)
            .args(["-S", MASTER]);
        for option in [
            "BatchMode=yes",
            "IdentitiesOnly=yes",
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "GlobalKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
            "ConnectTimeout=10",
            "ServerAliveInterval=30",
            "ServerAliveCountMax=6",
        ] {
            command.args(["-o", option]);
        }
        command.args(options).arg("root@127.0.0.1");
        command
    }
}

/// What a failed command printed, for an error.
fn said(output: &Output) -> String {
    tail(&String::from_utf8_lossy(&output.stderr), 5)
}

/// One word for the host's shell that runs a script, which ends at its first failing command.
fn bash(script: &str) -> impl AsRef<OsStr> {
    format!("exec bash -eu -o pipefail -c {}", quoted(script))
}

/// A text as one word of a POSIX shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn quotes_survive_a_shell() {
        let text = "a 'b' \"c\" $d \\ e\n";
        let printed = std::process::Command::new("sh")
            .args(["-c", &format!("printf %s {}", quoted(text))])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8(printed.stdout).unwrap(), text);
    }
}

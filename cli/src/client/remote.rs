//! The way to the `fvmd` of another host: plain ssh, which runs `fvm connect` there.

use std::{
    fmt, io,
    pin::Pin,
    process::Stdio,
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

/// How long an `ssh` that has closed its output is given to say how it ended.
const END_LIMIT: Duration = Duration::from_secs(5);

/// A host, and whom ssh is to be there: `ssh://user@host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Remote {
    user: Option<String>,
    host: String,
    port: Option<u16>,
}

/// Why a text names no host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not of the form ssh://user@host or ssh://user@host:port")]
pub(crate) struct InvalidRemote(String);

impl FromStr for Remote {
    type Err = InvalidRemote;

    fn from_str(text: &str) -> Result<Self, InvalidRemote> {
        let invalid = || InvalidRemote(text.escape_debug().to_string());
        let rest = text.strip_prefix("ssh://").ok_or_else(invalid)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (user, rest) = match rest.rsplit_once('@') {
            Some((user, rest)) => (Some(user), rest),
            None => (None, rest),
        };
        // An IPv6 address is in brackets, so that its colons are not taken for the port's.
        let (host, port) = match rest.strip_prefix('[').and_then(|r| r.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, Some(port.strip_prefix(':').ok_or_else(invalid)?)),
            None => match rest.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (rest, None),
            },
        };
        // What ssh would take for an option, or its shell for more than a name, is none.
        let is_name = |name: &str| {
            !name.is_empty()
                && !name.starts_with('-')
                && name
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "._-:%+".contains(c))
        };
        if !is_name(host) || !user.is_none_or(is_name) {
            return Err(invalid());
        }
        let port = port.map(|port| port.parse().ok().filter(|port| *port != 0));
        Ok(Self {
            user: user.map(str::to_owned),
            host: host.to_owned(),
            port: port.map(|port| port.ok_or_else(invalid)).transpose()?,
        })
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        if self.host.contains(':') {
            write!(f, "[{}]", self.host)?;
        } else {
            f.write_str(&self.host)?;
        }
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

impl Remote {
    /// The arguments with which `ssh` goes there.
    fn arguments(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        if let Some(user) = &self.user {
            arguments.extend(["-l".into(), user.clone()]);
        }
        if let Some(port) = self.port {
            arguments.extend(["-p".into(), port.to_string()]);
        }
        arguments.extend(["--".into(), self.host.clone()]);
        arguments
    }

    /// An `ssh` that runs `command` there, its streams in our hands but for standard error.
    fn ssh(&self, options: &[String], command: &[&str]) -> io::Result<Child> {
        Command::new("ssh")
            .args(["-T", "-o", "ConnectTimeout=20"])
            .args(options)
            .args(self.arguments())
            .args(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
    }

    /// Connects to the daemon there.
    pub(super) fn connect(&self) -> io::Result<(Tunnel, Ending)> {
        Tunnel::of(self.ssh(&[], &["fvm", "connect"])?)
    }

    /// Connects to an address that only that host reaches.
    pub(crate) fn reach(&self, address: std::net::SocketAddrV4) -> io::Result<Tunnel> {
        let options = [
            "-o".into(),
            "LogLevel=QUIET".into(),
            "-W".into(),
            address.to_string(),
        ];
        let (tunnel, _) = Tunnel::of(self.ssh(&options, &[])?)?;
        Ok(tunnel)
    }
}

/// How an `ssh` ends: asked for when it ended too soon.
#[derive(Debug, Clone)]
pub(super) struct Ending(Arc<Mutex<Option<Child>>>);

impl Ending {
    /// The exit status, if it comes to one soon.
    pub(super) async fn status(&self) -> Option<i32> {
        let child = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut child = child?;
        let ended = timeout(END_LIMIT, child.wait()).await.ok()?.ok()?;
        ended.code()
    }
}

/// Both directions through an `ssh`, which ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Tunnel {
    input: Option<ChildStdin>,
    output: ChildStdout,
    _ending: Ending,
}

impl Tunnel {
    fn of(mut child: Child) -> io::Result<(Self, Ending)> {
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("ssh has no streams"));
        };
        let ending = Ending(Arc::new(Mutex::new(Some(child))));
        let tunnel = Self {
            input: Some(input),
            output,
            _ending: ending.clone(),
        };
        Ok((tunnel, ending))
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.output).poll_read(context, buffer)
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.input {
            Some(input) => Pin::new(input).poll_write(context, bytes),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.input {
            Some(input) => Pin::new(input).poll_flush(context),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(input) = &mut self.input {
            ready!(Pin::new(input).poll_shutdown(context))?;
        }
        // The end of a pipe is its closing.
        self.input = None;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_and_shown() {
        for (text, shown, arguments) in [
            ("ssh://lab", "lab", "-- lab"),
            (
                "ssh://ann@lab.example/",
                "ann@lab.example",
                "-l ann -- lab.example",
            ),
            (
                "ssh://ann@lab:2222",
                "ann@lab:2222",
                "-l ann -p 2222 -- lab",
            ),
            ("ssh://[fd00::1]:22", "[fd00::1]:22", "-p 22 -- fd00::1"),
        ] {
            let remote: Remote = text.parse().unwrap();
            assert_eq!(remote.to_string(), shown);
            assert_eq!(remote.arguments().join(" "), arguments);
        }
    }

    #[test]
    fn what_ssh_or_a_shell_would_read_otherwise_is_no_host() {
        for text in [
            "lab",
            "http://lab",
            "ssh://",
            "ssh://-oProxyCommand=x",
            "ssh://-l@lab",
            "ssh://a b",
            "ssh://lab;x",
            "ssh://lab:0",
            "ssh://lab:x",
            "ssh://lab:1:2",
            "ssh://lab/path",
        ] {
            assert!(text.parse::<Remote>().is_err(), "{text}");
        }
    }
}

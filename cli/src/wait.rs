//! Waiting for a VM to boot: bounded, and at the end with a cause.
//!
//! The daemon tells what it sees from outside (state, DHCP, console); whether ssh answers is found out here, as
//! the user, by connecting to it. What the guest says is read up to a bound and never trusted.

use crate::{
    client::{Client, ClientError, Remote},
    output::seconds,
    quantity::Seconds,
};
use fvm_vmm::api::{ApiError, BootReport, ErrorKind, VmNumber, VmReport, VmState, routes};
use std::{fmt, io, net::SocketAddrV4, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    net::TcpStream,
    time::{Instant, sleep_until, timeout, timeout_at},
};

const SSH_PORT: u16 = 22;
/// A version string ends within this (RFC 4253, 4.2).
const BANNER_BYTES: usize = 255;
/// How long one attempt to connect may take. While the guest has no address yet, the kernel would keep an
/// attempt waiting for longer than a new one takes.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);
/// How long a server may take to say what it is.
const BANNER_LIMIT: Duration = Duration::from_secs(5);
/// The same by way of another host, whose ssh has to be reached first.
const REMOTE_LIMIT: Duration = Duration::from_secs(20);
/// Time between two looks at one VM, and what each further VM adds to it.
const INTERVAL: Duration = Duration::from_millis(200);
const INTERVAL_PER_VM: Duration = Duration::from_millis(10);
/// Lines of the console that an error shows.
const CONSOLE_LINES: usize = 8;

/// How far a VM is to get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Goal {
    /// It has been given its address
    Lease,
    /// Its ssh server answers
    Ssh,
}

impl Goal {
    /// What had not happened yet.
    fn before(self) -> &'static str {
        match self {
            Self::Lease => "before it had its address",
            Self::Ssh => "before ssh answered",
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lease => "the lease",
            Self::Ssh => "ssh",
        })
    }
}

/// A VM that got there.
#[derive(Debug)]
pub(crate) struct Ready {
    /// The VM as it is now.
    pub(crate) vm: VmReport,
    goal: Goal,
    took: Duration,
}

impl fmt::Display for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let took = seconds(self.took);
        match self.goal {
            Goal::Lease => write!(f, "lease after {took}"),
            Goal::Ssh => write!(f, "ssh after {took}"),
        }
    }
}

/// What became of the last attempt to reach ssh.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Probe {
    /// It was not tried.
    Untried,
    /// It answers as an ssh server does.
    Answers,
    /// Nothing listens there.
    Refused,
    /// No answer at all.
    Silent,
    /// Somebody took the connection and said nothing.
    Mute,
    /// Somebody else is there: what they said.
    Stranger(String),
}

/// One VM being waited for.
#[derive(Debug)]
pub(crate) struct Wait {
    client: Client,
    number: VmNumber,
    goal: Goal,
    limit: Seconds,
    begun: Instant,
    interval: Duration,
    /// What the daemon said last.
    boot: Option<BootReport>,
    /// Why it last said nothing.
    unanswered: Option<ClientError>,
    probe: Probe,
}

impl Wait {
    /// Waits for one of `of` VMs, from now on.
    pub(crate) fn new(
        client: Client,
        number: VmNumber,
        goal: Goal,
        limit: Seconds,
        of: usize,
    ) -> Self {
        let others = u32::try_from(of.saturating_sub(1)).unwrap_or(u32::MAX);
        Self {
            client,
            number,
            goal,
            limit,
            begun: Instant::now(),
            interval: INTERVAL + INTERVAL_PER_VM.saturating_mul(others),
            boot: None,
            unanswered: None,
            probe: Probe::Untried,
        }
    }

    /// Waits until the VM is there, cannot get there any more, or the time is over.
    pub(crate) async fn run(mut self) -> Result<Ready, ApiError> {
        let deadline = self.begun + self.limit.duration();
        loop {
            match timeout_at(deadline, self.look()).await {
                Ok(Ok(true)) => break,
                Ok(Ok(false)) => {}
                Ok(Err(error)) => return Err(error),
                Err(_) => return Err(self.too_late()),
            }
            let next = Instant::now() + self.interval;
            if next >= deadline {
                return Err(self.too_late());
            }
            sleep_until(next).await;
        }
        match self.boot {
            Some(boot) => Ok(Ready {
                vm: boot.vm,
                goal: self.goal,
                took: self.begun.elapsed(),
            }),
            None => Err(self.too_late()),
        }
    }

    /// One look: true if the VM is there.
    async fn look(&mut self) -> Result<bool, ApiError> {
        let boot: BootReport = match self.client.get(&routes::boot(self.number)).await {
            Ok(boot) => boot,
            Err(ClientError::Answer(answer)) => return Err(answer),
            // The daemon may be restarting; the VM does not mind.
            Err(error) => {
                self.unanswered = Some(error);
                return Ok(false);
            }
        };
        self.unanswered = None;
        let (state, leased, address) = (boot.vm.state, boot.has_lease, boot.vm.address);
        self.boot = Some(boot);
        match state {
            VmState::Stopped
            | VmState::Crashed
            | VmState::Stopping
            | VmState::Expired
            | VmState::Deleting => return Err(self.ended(state)),
            VmState::Starting | VmState::Running | VmState::Paused => {}
        }
        match self.goal {
            Goal::Lease => Ok(leased),
            Goal::Ssh => {
                self.probe = Probe::Silent;
                let address = SocketAddrV4::new(address, SSH_PORT);
                self.probe = match self.client.remote() {
                    Some(remote) => probe_from(remote, address).await,
                    None => probe(address).await,
                };
                Ok(self.probe == Probe::Answers)
            }
        }
    }

    /// The error for a VM that is no longer on its way.
    fn ended(&self, state: VmState) -> ApiError {
        let cause = self.boot.as_ref().and_then(|boot| boot.vm.cause.as_deref());
        let because = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
        let (number, before) = (self.number, self.goal.before());
        let happened = match state {
            VmState::Crashed => "crashed",
            VmState::Expired => "expired",
            VmState::Deleting => "was deleted",
            VmState::Stopping => "was told to stop",
            _ => "stopped",
        };
        let message = format!("VM {number} {happened} {before}{because}");
        self.explained(message).hint(format!(
            "start it without --wait and watch it with `fvm console {number}`"
        ))
    }

    /// The error for a VM that took too long.
    fn too_late(&self) -> ApiError {
        let (number, limit) = (self.number, self.limit);
        let Some(boot) = &self.boot else {
            let message = format!("nothing could be learned of VM {number} within {limit}");
            return self.explained(message);
        };
        let address = boot.vm.address;
        let message = match boot.vm.state {
            VmState::Paused => {
                let cause = boot.vm.cause.as_deref().unwrap_or("the reason is unknown");
                format!("VM {number} is paused, and was so for too long: {cause}")
            }
            _ if !boot.has_lease && boot.dhcp.is_empty() => {
                format!("VM {number} has sent no DHCP request within {limit}")
            }
            _ if !boot.has_lease => {
                format!("VM {number} has asked for its address, but not got it within {limit}")
            }
            _ => format!(
                "VM {number} has its address {address}, but {} within {limit}",
                self.probe.complaint()
            ),
        };
        self.explained(message).hint(format!(
            "it goes on running: look at it with `fvm console {number}`"
        ))
    }

    /// The error with all that is known of the boot.
    fn explained(&self, message: String) -> ApiError {
        let mut error = ApiError::new(ErrorKind::Failed, message);
        if let Some(unanswered) = &self.unanswered {
            error = error.detail(format!("fvmd could not be asked lately: {unanswered}"));
        }
        if let Some(boot) = &self.boot {
            for line in facts(boot) {
                error = error.detail(line);
            }
        }
        error
    }
}

impl Probe {
    fn complaint(&self) -> String {
        match self {
            Self::Untried | Self::Answers => "ssh was not reached".to_owned(),
            Self::Refused => "no ssh server took connections on port 22".to_owned(),
            Self::Silent => "port 22 did not answer".to_owned(),
            Self::Mute => "port 22 took connections without a word of ssh".to_owned(),
            Self::Stranger(said) => format!("what answered on port 22 was not ssh ('{said}')"),
        }
    }
}

/// What was seen of a boot, a line each: DHCP first, then the end of the console.
fn facts(boot: &BootReport) -> Vec<String> {
    let started_ms = boot.vm.started_at_s.map(|seconds| seconds * 1000);
    let mut lines: Vec<String> = boot
        .dhcp
        .iter()
        .map(|exchange| {
            let at = started_ms
                .and_then(|started| exchange.at_ms.checked_sub(started))
                .map(|ms| format!(" after {}", seconds(Duration::from_millis(ms))))
                .unwrap_or_default();
            format!("DHCP{at}: {} -> {}", exchange.asked, exchange.answered)
        })
        .collect();
    if lines.is_empty() {
        lines.push("DHCP: nothing".to_owned());
    }
    let console = &boot.console_tail;
    let shown = console
        .iter()
        .skip(console.len().saturating_sub(CONSOLE_LINES));
    lines.extend(shown.map(|line| format!("console: {line}")));
    if console.is_empty() {
        lines.push("console: nothing printed".to_owned());
    }
    lines
}

/// Tries to reach an ssh server once.
async fn probe(address: SocketAddrV4) -> Probe {
    let stream = match timeout(CONNECT_LIMIT, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            return Probe::Refused;
        }
        Ok(Err(_)) | Err(_) => return Probe::Silent,
    };
    judge(&hear(stream, BANNER_LIMIT).await)
}

/// The same from another host, which is the one that reaches the address.
async fn probe_from(remote: &Remote, address: SocketAddrV4) -> Probe {
    let Ok(stream) = remote.reach(address) else {
        return Probe::Silent;
    };
    match judge(&hear(stream, REMOTE_LIMIT).await) {
        // ssh says nothing of why it did not get there.
        Probe::Mute => Probe::Silent,
        other => other,
    }
}

/// What the other end says, up to the end of a line.
async fn hear(mut stream: impl AsyncRead + Unpin, limit: Duration) -> Vec<u8> {
    let mut said = Vec::new();
    let limit = timeout(limit, async {
        let mut piece = [0; BANNER_BYTES];
        while said.len() < BANNER_BYTES && !said.contains(&b'\n') {
            let room = BANNER_BYTES - said.len();
            match stream.read(&mut piece[..room]).await {
                Ok(0) | Err(_) => return,
                Ok(bytes) => said.extend_from_slice(&piece[..bytes]),
            }
        }
    });
    // Out of time or not, what was said decides.
    let _ = limit.await;
    said
}

fn judge(said: &[u8]) -> Probe {
    if said.starts_with(b"SSH-") {
        return Probe::Answers;
    }
    match said.trim_ascii() {
        [] => Probe::Mute,
        other => {
            let line = other.split(|&byte| byte == b'\n').next().unwrap_or(other);
            let text = String::from_utf8_lossy(line.trim_ascii());
            Probe::Stranger(text.chars().take(80).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use tokio::{
        io::AsyncWriteExt,
        net::{TcpListener, TcpSocket},
    };

    /// What is found where somebody takes a connection, says this and hangs up.
    async fn found(said: &'static [u8]) -> Probe {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(said).await.unwrap();
        });
        probe(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)).await
    }

    #[tokio::test]
    async fn an_ssh_server_is_known_by_what_it_says() {
        assert_eq!(found(b"SSH-2.0-OpenSSH_10.0\r\n").await, Probe::Answers);
        assert_eq!(found(b"").await, Probe::Mute);
        let other = found(b"220 mail\x1b[2J ready\r\nmore\r\n").await;
        assert_eq!(other, Probe::Stranger("220 mail\x1b[2J ready".to_owned()));
    }

    #[tokio::test]
    async fn somebody_who_never_stops_talking_is_cut_short() {
        static ENDLESS: [u8; 1 << 20] = [b'x'; 1 << 20];
        let Probe::Stranger(text) = found(&ENDLESS).await else {
            panic!("that is no ssh server");
        };
        assert_eq!(text.len(), 80);
    }

    #[tokio::test]
    async fn a_closed_port_refuses() {
        // Bound but not listening: nobody else can take the port meanwhile.
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let port = socket.local_addr().unwrap().port();
        let found = probe(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)).await;
        assert_eq!(found, Probe::Refused);
    }

    #[test]
    fn every_end_of_a_probe_is_a_sentence() {
        let stranger = Probe::Stranger("220 mail".to_owned());
        assert_eq!(
            stranger.complaint(),
            "what answered on port 22 was not ssh ('220 mail')"
        );
        assert!(Probe::Refused.complaint().contains("no ssh server"));
        assert!(Probe::Silent.complaint().contains("did not answer"));
    }
}

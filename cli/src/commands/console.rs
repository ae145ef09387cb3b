//! `fvm console`: bytes both ways between a VM's serial line and this process' streams.

use super::Context;
use crate::{
    args::one_vm,
    client::ClientError,
    exit::{self, CommandResult, Exit},
    output::RawOutput,
    quantity::Seconds,
    terminal::{RawMode, TerminalError},
};
use fvm_vmm::api::{ApiError, VmNumber, VmReport, routes};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::{Signal, raise},
};
use std::{
    fs::File,
    io::{self, Read},
    os::fd::AsFd,
    thread,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf},
    signal::unix::{SignalKind, signal},
    sync::{mpsc, oneshot},
};

/// `^]`, as with telnet.
const LEAVE: u8 = 0x1d;
/// Pieces of input that wait for a guest that does not read.
const INPUT_PIECES: usize = 256;

/// Arguments of `fvm console`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
What the console has printed before comes first. On a terminal, every key goes to the guest, and ^] \
(Ctrl and the key of the closing bracket) leaves. The VM goes on running.

In a script, standard input goes to the guest, and its end ends nothing: output goes on until the VM \
stops, standard output is closed, or the time of --timeout is over. The exit status is 0 in each case.

Examples:
  fvm console 42
  fvm console 42 --timeout 1s < /dev/null          what has been printed so far
  fvm console 42 < /dev/null | grep -m1 login:     waits for a prompt
  printf 'root\\n' | fvm console 42 --timeout 5s")]
pub(crate) struct Console {
    /// The VM
    #[arg(value_name = "NUM", value_parser = one_vm)]
    vm: VmNumber,
    /// Leave after this time
    #[arg(long, value_name = "TIME")]
    timeout: Option<Seconds>,
}

/// Why the console was left.
enum End {
    /// The user left it, or its time was over, or nobody reads any more.
    Left,
    /// The other side ended it.
    Closed,
    /// A signal asks this process to end.
    Signal(Signal),
}

impl Console {
    pub(super) async fn run(self, context: &Context<'_>) -> CommandResult {
        attach(context, self.vm, self.timeout).await
    }
}

/// Carries bytes both ways until somebody leaves.
pub(super) async fn attach(
    context: &Context<'_>,
    number: VmNumber,
    timeout: Option<Seconds>,
) -> CommandResult {
    let stream = context.client.console(&routes::console(number)).await?;
    let raw = RawMode::enter(io::stdin())?;
    if raw.is_some() {
        context
            .out
            .note(&format!("console of VM {number}, ^] leaves it\r"));
    }
    let end = connect(stream, raw.as_ref(), timeout).await;
    drop(raw);
    match end? {
        End::Left => Ok(Exit::DONE),
        End::Signal(signal) => Ok(Exit::signal(signal as i32)),
        End::Closed => {
            let vm: Result<VmReport, ClientError> = context.client.get(&routes::vm(number)).await;
            let state = vm.map_or_else(|error| error.to_string(), |vm| vm.state.to_string());
            let text = format!("the console of VM {number} is closed: {state}");
            context.out.note(&text);
            Ok(Exit::DONE)
        }
    }
}

async fn connect(
    stream: TokioIo<Upgraded>,
    raw: Option<&RawMode>,
    timeout: Option<Seconds>,
) -> Result<End, ApiError> {
    let (from_guest, to_guest) = tokio::io::split(stream);
    let left = forward_input(to_guest, raw.is_some())?;
    let over = async {
        match timeout {
            Some(timeout) => tokio::time::sleep(timeout.duration()).await,
            None => std::future::pending().await,
        }
    };
    let unread = nobody_reads()?;
    // Listening before anything is shown: from here on, no signal ends us with the terminal raw.
    let signals = Signals::listen()?;
    tokio::select! {
        end = show_output(from_guest) => end,
        () = left => Ok(End::Left),
        () = over => Ok(End::Left),
        () = unread => Ok(End::Left),
        signal = signals.wait(raw) => Ok(End::Signal(signal)),
    }
}

/// Shows what the guest prints until one of the two sides is closed.
async fn show_output(mut from_guest: ReadHalf<TokioIo<Upgraded>>) -> Result<End, ApiError> {
    let output = RawOutput::start();
    let mut buffer = vec![0; 64 * 1024];
    let end = loop {
        let read = tokio::select! {
            read = from_guest.read(&mut buffer) => read,
            () = output.closed() => break End::Left,
        };
        match read {
            Ok(0) | Err(_) => break End::Closed,
            Ok(bytes) => output.write(&buffer[..bytes]).await,
        }
    };
    let finished = output.finish().await;
    finished.map_err(|error| exit::unwritten(&error))?;
    Ok(end)
}

/// Sends what is typed to the guest, from now on and by itself; what it returns ends when the user leaves.
///
/// A guest that does not read must not keep the user from leaving: what is typed meanwhile is lost, as on
/// any serial line. What a script sends waits instead.
fn forward_input(
    mut to_guest: WriteHalf<TokioIo<Upgraded>>,
    typed: bool,
) -> Result<impl Future<Output = ()>, TerminalError> {
    let (sender, mut pieces) = mpsc::channel::<Vec<u8>>(INPUT_PIECES);
    let (leave, left) = oneshot::channel();
    let input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    thread::spawn(move || {
        if read_input(input, &sender, typed) {
            let _ = leave.send(());
        }
    });
    tokio::spawn(async move {
        while let Some(piece) = pieces.recv().await {
            // A guest that is gone is seen on the reading side.
            if to_guest.write_all(&piece).await.is_err() {
                return;
            }
        }
        // The end of our input is not the end of the console: the other half lives on.
        std::future::pending::<()>().await;
    });
    Ok(async {
        // A thread that ends without a word has met the end of its input.
        if left.await.is_err() {
            std::future::pending::<()>().await;
        }
    })
}

/// Ends when nobody reads standard output any more.
///
/// A write would tell, but a guest at its prompt prints nothing: `fvm console 42 | grep -m1 login:` would
/// wait for ever after the line that it waited for.
fn nobody_reads() -> Result<impl Future<Output = ()>, TerminalError> {
    let stdout = io::stdout().as_fd().try_clone_to_owned()?;
    let (gone, closed) = oneshot::channel();
    thread::spawn(move || {
        // Errors and hang-ups are reported unasked; a file never has any.
        let mut watched = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
        while let Err(Errno::EINTR) = poll(&mut watched, PollTimeout::NONE) {}
        let _ = gone.send(());
    });
    Ok(async {
        if closed.await.is_err() {
            std::future::pending::<()>().await;
        }
    })
}

/// Reads input to its end; returns true when the user has typed the key that leaves.
fn read_input(mut input: File, sender: &mpsc::Sender<Vec<u8>>, typed: bool) -> bool {
    let mut buffer = [0; 4096];
    loop {
        let bytes = match input.read(&mut buffer) {
            Ok(0) => return false,
            Ok(bytes) => &buffer[..bytes],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return false,
        };
        if !typed {
            if sender.blocking_send(bytes.to_vec()).is_err() {
                return false;
            }
            continue;
        }
        let leave = bytes.iter().position(|&byte| byte == LEAVE);
        let before = &bytes[..leave.unwrap_or(bytes.len())];
        let _ = sender.try_send(before.to_vec());
        if leave.is_some() {
            return true;
        }
    }
}

/// The signals that would end or stop this process.
struct Signals {
    hangup: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    quit: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    stop: tokio::signal::unix::Signal,
}

impl Signals {
    fn listen() -> Result<Self, TerminalError> {
        let listen = |kind| signal(kind).map_err(TerminalError::Signals);
        Ok(Self {
            hangup: listen(SignalKind::hangup())?,
            interrupt: listen(SignalKind::interrupt())?,
            quit: listen(SignalKind::quit())?,
            terminate: listen(SignalKind::terminate())?,
            stop: listen(SignalKind::from_raw(Signal::SIGTSTP as i32))?,
        })
    }

    /// Waits for one that ends us. One that stops us does so with the terminal as it was before.
    async fn wait(mut self, raw: Option<&RawMode>) -> Signal {
        loop {
            tokio::select! {
                _ = self.hangup.recv() => return Signal::SIGHUP,
                _ = self.interrupt.recv() => return Signal::SIGINT,
                _ = self.quit.recv() => return Signal::SIGQUIT,
                _ = self.terminate.recv() => return Signal::SIGTERM,
                _ = self.stop.recv() => {
                    // Without a terminal to restore, or when it is gone, stopping is all there is to do.
                    let _ = raw.map(RawMode::suspend);
                    let _ = raise(Signal::SIGSTOP);
                    let _ = raw.map(RawMode::resume);
                }
            }
        }
    }
}

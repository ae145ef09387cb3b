//! `fvm console`: bytes both ways between a VM's serial line and this process' streams.

mod input;

use super::{Context, log};
use crate::{
    args::one_vm,
    client::ClientError,
    exit::{self, CommandResult, Exit},
    output::{Output, RawOutput, nobody_reads},
    quantity::Seconds,
    terminal::{RawMode, TerminalError},
};
use fvm_vmm::api::{
    ApiError, ErrorKind, VmNumber, VmReport,
    console::{
        ConsoleEvent, ConsoleQuery, FrameKind, HEAD, InvalidFrame, LogQuery, LogSource, Typist,
        frame_head,
    },
    routes,
};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use nix::sys::signal::Signal;
use std::{convert::Infallible, io, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf},
    sync::mpsc,
    time::{Instant, sleep},
};

/// How long a daemon that has gone may take to come back.
const RETURN_LIMIT: Duration = Duration::from_secs(60);
/// How often it is looked for.
const RETURN_INTERVAL: Duration = Duration::from_millis(200);

type Stream = TokioIo<Upgraded>;

/// Arguments of `fvm console`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
What the console has printed before comes first. On a terminal, every key goes to the guest, and ^] \
(Ctrl and the key of the closing bracket) leaves. The VM goes on running.

Any number of people may look on, and one types: the first who does, until they leave or somebody takes the \
keyboard over with --take. The console stays open while fvmd is restarted, and misses nothing.

In a script, standard input goes to the guest, and its end ends nothing: output goes on until the VM \
stops, standard output is closed, or the time of --timeout is over. The exit status is 0 in each case, and 4 \
if somebody else has the keyboard.

Examples:
  fvm console 42
  fvm console 42 --take
  fvm console 42 --log                             what has been printed, also by a VM that is stopped
  fvm console 42 < /dev/null | grep -m1 login:     waits for a prompt
  printf 'root\\n' | fvm console 42 --timeout 5s")]
pub(crate) struct Console {
    /// The VM
    #[arg(value_name = "NUM", value_parser = one_vm)]
    vm: VmNumber,
    /// Take the keyboard over from whoever types
    #[arg(long, visible_alias = "force")]
    take: bool,
    /// Print the log and leave, as `fvm log` does
    #[arg(long, conflicts_with_all = ["take", "timeout"])]
    log: bool,
    /// Leave after this time
    #[arg(long, value_name = "TIME")]
    timeout: Option<Seconds>,
}

/// Why the console was left.
enum End {
    /// The user left it, or its time was over, or nobody reads any more.
    Left,
    /// The VM has ended.
    Closed,
    /// A signal asks this process to end.
    Signal(Signal),
}

impl Console {
    pub(super) async fn run(self, context: &Context<'_>) -> CommandResult {
        if self.log {
            let query = LogQuery {
                source: LogSource::Console,
                lines: None,
                follow: false,
            };
            return log::print(context, self.vm, &query).await;
        }
        attach(context, self.vm, self.take, self.timeout).await
    }
}

/// Carries bytes both ways until somebody leaves.
pub(super) async fn attach(
    context: &Context<'_>,
    number: VmNumber,
    take: bool,
    timeout: Option<Seconds>,
) -> CommandResult {
    let query = ConsoleQuery {
        take,
        position: None,
    };
    let stream = context
        .client
        .console(&routes::console(number, &query))
        .await?;
    let raw = RawMode::enter(io::stdin())?;
    let screen = Screen {
        number,
        out: context.out,
        output: RawOutput::start(),
        is_raw: raw.is_some(),
        position: 0,
        typist: None,
    };
    if screen.is_raw {
        screen.say(&format!("console of VM {number}, ^] leaves it"));
    }
    let end = look(context, screen, stream, raw.as_ref(), timeout).await;
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

/// Looks on and types until there is a reason to leave.
async fn look(
    context: &Context<'_>,
    screen: Screen<'_>,
    stream: Stream,
    raw: Option<&RawMode>,
    timeout: Option<Seconds>,
) -> Result<End, ApiError> {
    // Listening before anything is shown: from here on, no signal ends us with the terminal raw.
    let signals = input::Signals::listen()?;
    let (keys, left) = input::read(screen.is_raw)?;
    let unread = nobody_reads().map_err(TerminalError::Keep)?;
    let over = async {
        match timeout {
            Some(timeout) => sleep(timeout.duration()).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        end = stay(context, screen, stream, keys) => end,
        () = left => Ok(End::Left),
        () = over => Ok(End::Left),
        () = unread => Ok(End::Left),
        signal = signals.wait(raw) => Ok(End::Signal(signal)),
    }
}

/// Shows and types until the VM ends or nobody reads any more, over any restart of the daemon.
async fn stay(
    context: &Context<'_>,
    mut screen: Screen<'_>,
    mut stream: Stream,
    mut keys: mpsc::Receiver<Vec<u8>>,
) -> Result<End, ApiError> {
    let end = loop {
        let (from_guest, to_guest) = tokio::io::split(stream);
        let end = tokio::select! {
            shown = screen.show(from_guest) => shown?,
            never = send(&mut keys, to_guest) => match never {},
        };
        if let Some(end) = end {
            break end;
        }
        screen.say("fvmd has gone away; waiting for it to come back");
        match again(context, &screen).await? {
            Some(attached) => stream = attached,
            None => break End::Closed,
        }
        screen.say("fvmd is back");
    };
    let finished = screen.output.finish().await;
    finished.map_err(|error| exit::unwritten(&error))?;
    Ok(end)
}

/// Attaches once more, where the output was left; nothing if the VM has ended meanwhile.
async fn again(context: &Context<'_>, screen: &Screen<'_>) -> Result<Option<Stream>, ApiError> {
    let begun = Instant::now();
    let query = ConsoleQuery {
        take: false,
        position: Some(screen.position),
    };
    let path = routes::console(screen.number, &query);
    loop {
        match context.client.console(&path).await {
            Ok(stream) => return Ok(Some(stream)),
            Err(ClientError::Answer(_)) => return Ok(None),
            Err(error) if begun.elapsed() > RETURN_LIMIT => return Err(error.into()),
            Err(_) => sleep(RETURN_INTERVAL).await,
        }
    }
}

/// Sends what is typed to the guest.
async fn send(keys: &mut mpsc::Receiver<Vec<u8>>, mut to_guest: WriteHalf<Stream>) -> Infallible {
    while let Some(piece) = keys.recv().await {
        if to_guest.write_all(&piece).await.is_err() {
            break;
        }
    }
    // The end of our input, or of the connection, is not the end of the console: the reading side sees that.
    std::future::pending().await
}

/// What is shown of a console.
struct Screen<'a> {
    number: VmNumber,
    out: &'a Output,
    output: RawOutput,
    /// There is a user at a terminal, which is raw.
    is_raw: bool,
    /// How many bytes the guest has printed up to what was shown last.
    position: u64,
    typist: Option<Typist>,
}

impl Screen<'_> {
    /// Shows what the guest prints until it ends or nobody reads; nothing if the daemon has gone instead.
    async fn show(&mut self, mut from_guest: ReadHalf<Stream>) -> Result<Option<End>, ApiError> {
        loop {
            let frame = tokio::select! {
                frame = next_frame(&mut from_guest) => frame?,
                () = self.output.closed() => return Ok(Some(End::Left)),
            };
            let Some((kind, bytes)) = frame else {
                return Ok(None);
            };
            match kind {
                FrameKind::Output => {
                    self.output.write(&bytes).await;
                    self.position += bytes.len() as u64;
                }
                FrameKind::Event => {
                    let event = serde_json::from_slice(&bytes).map_err(|error| strange(&error))?;
                    if let Some(end) = self.hear(event)? {
                        return Ok(Some(end));
                    }
                }
            }
        }
    }

    fn hear(&mut self, event: ConsoleEvent) -> Result<Option<End>, ApiError> {
        match event {
            ConsoleEvent::Attached { position, typist } => {
                self.position = position;
                self.typist = typist;
                if let Some(other) = self.typist.as_ref().filter(|typist| !typist.you)
                    && self.is_raw
                {
                    self.say(&format!(
                        "{} types here and you look on; `fvm console {} --take` takes the keyboard over",
                        other.user, self.number
                    ));
                }
            }
            ConsoleEvent::Typist { typist } => {
                let had_it = self.typist.as_ref().is_some_and(|typist| typist.you);
                match &typist {
                    Some(other) if !other.you && had_it => self.say(&format!(
                        "{} has taken the keyboard over; from now on you look on",
                        other.user
                    )),
                    Some(other) if !other.you && self.is_raw => {
                        self.say(&format!("{} types here now and you look on", other.user));
                    }
                    None if !had_it && self.is_raw => {
                        self.say("the keyboard is free: whoever types first has it");
                    }
                    _ => {}
                }
                self.typist = typist;
            }
            ConsoleEvent::Refused { error } if self.is_raw => {
                self.say(&error.message);
                if let Some(hint) = &error.hint {
                    self.say(hint);
                }
            }
            ConsoleEvent::Refused { error } => return Err(error),
            ConsoleEvent::Ended => return Ok(Some(End::Closed)),
        }
        Ok(None)
    }

    /// Says something of the console itself, among what the guest prints.
    fn say(&self, text: &str) {
        if self.is_raw {
            self.out.raw_note(text);
        } else {
            self.out.note(text);
        }
    }
}

/// The next frame; nothing if the connection has ended.
async fn next_frame(
    from_guest: &mut ReadHalf<Stream>,
) -> Result<Option<(FrameKind, Vec<u8>)>, ApiError> {
    let mut head = [0; HEAD];
    if from_guest.read_exact(&mut head).await.is_err() {
        return Ok(None);
    }
    let (kind, length) = frame_head(head).map_err(|error: InvalidFrame| strange(&error))?;
    let mut bytes = vec![0; length];
    let read = from_guest.read_exact(&mut bytes).await;
    Ok(read.is_ok().then_some((kind, bytes)))
}

fn strange(error: &dyn std::error::Error) -> ApiError {
    ApiError::from_error(ErrorKind::Internal, error)
        .hint("fvm and fvmd may be of different versions: `systemctl restart fvmd`")
}

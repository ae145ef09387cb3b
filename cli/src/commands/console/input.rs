//! The keyboard and the signals of a console: what is typed, the key that leaves, and what would end us with the terminal raw.

use crate::terminal::{RawMode, TerminalError};
use nix::sys::signal::{Signal, raise};
use std::{
    fs::File,
    io::{self, Read},
    os::fd::AsFd,
    thread,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, oneshot},
};

/// `^]`, as with telnet.
const LEAVE: u8 = 0x1d;
/// Pieces of input that wait for a guest that does not read.
const INPUT_PIECES: usize = 256;

/// Reads standard input from now on, and by itself; what it returns second ends when the user leaves.
///
/// A guest that does not read must not keep the user from leaving: what is typed meanwhile is lost, as on
/// any serial line. What a script sends waits instead.
pub(super) fn read(
    typed: bool,
) -> Result<(mpsc::Receiver<Vec<u8>>, impl Future<Output = ()>), TerminalError> {
    let (sender, pieces) = mpsc::channel(INPUT_PIECES);
    let (leave, left) = oneshot::channel();
    let input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    thread::spawn(move || {
        if read_input(input, &sender, typed) {
            let _ = leave.send(());
        }
    });
    let left = async {
        // A thread that ends without a word has met the end of its input.
        if left.await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    Ok((pieces, left))
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
pub(super) struct Signals {
    hangup: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    quit: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    stop: tokio::signal::unix::Signal,
}

impl Signals {
    /// From here on, no signal ends us with the terminal raw.
    pub(super) fn listen() -> Result<Self, TerminalError> {
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
    pub(super) async fn wait(mut self, raw: Option<&RawMode>) -> Signal {
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

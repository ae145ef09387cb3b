//! Bytes of a console on their way to standard output.

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use std::{
    io::{self, Write},
    os::fd::AsFd,
    thread,
};
use tokio::sync::{mpsc, oneshot};

/// Pieces that may wait for a slow reader.
const PIECES: usize = 16;

/// Standard output, written as it is by a thread of its own: a reader that takes its time holds up the bytes, but
/// not whoever waits for keys and signals meanwhile.
#[derive(Debug)]
pub(crate) struct RawOutput {
    pieces: mpsc::Sender<Vec<u8>>,
    end: oneshot::Receiver<io::Result<()>>,
}

impl RawOutput {
    /// Takes standard output.
    pub(crate) fn start() -> Self {
        let (pieces, mut waiting) = mpsc::channel::<Vec<u8>>(PIECES);
        let (ended, end) = oneshot::channel();
        thread::spawn(move || {
            let mut stdout = io::stdout();
            let mut result = Ok(());
            while result.is_ok()
                && let Some(piece) = waiting.blocking_recv()
            {
                result = stdout.write_all(&piece).and_then(|()| stdout.flush());
            }
            // Before the channel closes: whoever finds it closed finds the reason here.
            let _ = ended.send(result);
        });
        Self { pieces, end }
    }

    /// Hands bytes on. What can no longer be written is dropped; [`Self::closed`] tells.
    pub(crate) async fn write(&self, bytes: &[u8]) {
        let _ = self.pieces.send(bytes.to_vec()).await;
    }

    /// Waits until nothing can be written any more.
    pub(crate) async fn closed(&self) {
        self.pieces.closed().await;
    }

    /// Waits until all is written. A reader that went away is no error: it has what it wanted.
    pub(crate) async fn finish(self) -> io::Result<()> {
        drop(self.pieces);
        match self.end.await {
            Ok(Err(error)) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
            _ => Ok(()),
        }
    }
}

/// Ends when nobody reads standard output any more.
///
/// A write would tell, but a guest at its prompt prints nothing: `fvm console 42 | grep -m1 login:` would
/// wait for ever after the line that it waited for.
pub(crate) fn nobody_reads() -> io::Result<impl Future<Output = ()>> {
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

//! `fvm connect`: the daemon's socket on standard input and output, for an `fvm --host` elsewhere.

use super::Context;
use crate::exit::{CommandResult, Exit};
use fvm_vmm::api::{ApiError, ErrorKind};
use std::{
    fs::File,
    io::{self, Read, Write},
    net::Shutdown,
    os::{fd::AsFd, unix::net::UnixStream},
    thread,
};

/// Arguments of `fvm connect`.
#[derive(Debug, clap::Args)]
pub(crate) struct Connect {}

impl Connect {
    pub(super) async fn run(self, context: &Context<'_>) -> CommandResult {
        let stream = context.client.raw()?;
        match hand_on(&stream) {
            Ok(()) => Ok(Exit::DONE),
            Err(error) => Err(ApiError::new(
                ErrorKind::Failed,
                format!("the connection to fvmd broke: {error}"),
            )),
        }
    }
}

/// Copies both ways until the daemon has said all; nothing is kept back in a buffer.
fn hand_on(stream: &UnixStream) -> io::Result<()> {
    let to = stream.try_clone()?;
    let mut input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    // Whoever asks may be done with asking long before the answer ends.
    thread::spawn(move || {
        let _ = copy(&mut input, &mut &to);
        let _ = to.shutdown(Shutdown::Write);
    });
    copy(&mut &*stream, &mut output)
}

/// Copies piece by piece. `std::io::copy` splices pipes and sockets, and a splice that waits holds its pipe locked.
fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut piece = vec![0; 64 * 1024];
    loop {
        match from.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(bytes) => to.write_all(&piece[..bytes])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

//! Who is at the other end of a connection.

use crate::manager::Caller;
use axum::{extract::connect_info::Connected, serve::IncomingStream};
use tokio::net::UnixListener;

/// The uid that owns nothing (`linux/highuid.h`, `DEFAULT_OVERFLOWUID`): for a peer that the kernel does
/// not name.
const NOBODY: u32 = 65_534;

impl Connected<IncomingStream<'_, UnixListener>> for Caller {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Self {
            uid: stream
                .io()
                .peer_cred()
                .map_or(NOBODY, |credentials| credentials.uid()),
        }
    }
}

//! A VM's serial console over an upgraded connection: what was printed before, what is printed now, and
//! what is typed.
//!
//! Output is read from the log that QEMU itself writes, so that the replay and what follows come from
//! one place in one order, for any number of viewers. The socket to QEMU is for typing only.

use super::{Shared, blocking, failure, number};
use crate::{
    api::{ApiError, ErrorKind, routes::CONSOLE_PROTOCOL},
    manager::{Caller, ConsoleLine},
};
use axum::{
    body::Body,
    extract::{ConnectInfo, Path, Request, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use std::{sync::Arc, time::Duration};
use tokio::{
    fs::File,
    io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt, ReadHalf, WriteHalf, split},
};

/// How long the log may lag behind the line before it is looked at again.
const LOG_LAG: Duration = Duration::from_millis(25);
/// More than this much of the log is not replayed.
const REPLAY_BYTES: u64 = 256 * 1024;

pub(super) async fn attach(
    State(manager): Shared,
    ConnectInfo(_caller): ConnectInfo<Caller>,
    Path(text): Path<String>,
    mut request: Request,
) -> Response {
    let wants_upgrade = request
        .headers()
        .get(header::UPGRADE)
        .is_some_and(|value| value.as_bytes() == CONSOLE_PROTOCOL.as_bytes());
    if !wants_upgrade {
        let error = ApiError::new(ErrorKind::Usage, "the console needs an upgraded connection")
            .hint(format!(
                "send `Connection: Upgrade` and `Upgrade: {CONSOLE_PROTOCOL}`"
            ));
        return failure(&error);
    }
    let line = match blocking(move || manager.console(number(&text)?)).await {
        Ok(line) => line,
        Err(error) => return failure(&error),
    };
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match upgrade.await {
            Ok(connection) => {
                let vm = line.vm;
                if let Err(error) = relay(connection, line).await {
                    tracing::debug!(%vm, %error, "a console viewer went away");
                }
            }
            Err(error) => tracing::debug!(%error, "a console connection was not upgraded"),
        }
    });
    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    *response.body_mut() = Body::empty();
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static(CONSOLE_PROTOCOL));
    response
}

/// Carries bytes both ways until the viewer leaves or the VM ends.
async fn relay(connection: Upgraded, line: ConsoleLine) -> std::io::Result<()> {
    let (typed, shown) = split(TokioIo::new(connection));
    let line = Arc::new(line);
    let output = show(shown, line.clone());
    let input = pass_on(typed, line);
    tokio::pin!(output, input);
    tokio::select! {
        result = &mut output => result,
        result = &mut input => match result {
            // The viewer has nothing more to type but may still be looking.
            Ok(()) => output.await,
            Err(error) => Err(error),
        },
    }
}

/// Shows the log from its (recent) beginning on.
async fn show(
    mut shown: WriteHalf<TokioIo<Upgraded>>,
    line: Arc<ConsoleLine>,
) -> std::io::Result<()> {
    let mut log = File::open(&line.log).await?;
    let length = log.metadata().await?.len();
    let mut position = log
        .seek(std::io::SeekFrom::Start(
            length.saturating_sub(REPLAY_BYTES),
        ))
        .await?;
    let mut buffer = vec![0; 16 * 1024];
    loop {
        // Asked before reading: what was said before the end is then shown for certain.
        let ended = line.has_ended();
        let read = log.read(&mut buffer).await?;
        if read > 0 {
            position += read as u64;
            shown.write_all(&buffer[..read]).await?;
            shown.flush().await?;
        } else if ended {
            return shown.shutdown().await;
        } else {
            tokio::time::sleep(LOG_LAG).await;
            if log.metadata().await?.len() < position {
                // It was cut short because it had grown too long.
                position = log.seek(std::io::SeekFrom::Start(0)).await?;
            }
        }
    }
}

/// Passes on what is typed.
async fn pass_on(
    mut typed: ReadHalf<TokioIo<Upgraded>>,
    line: Arc<ConsoleLine>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 4096];
    loop {
        let read = typed.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        line.type_in(&buffer[..read]).await?;
    }
}

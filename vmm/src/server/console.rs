//! A VM's serial console over an upgraded connection: what was printed before, what is printed now, and
//! what is typed.
//!
//! Output is read from the log that QEMU itself writes, so that the replay and what follows come from
//! one place in one order, for any number of viewers. The socket to QEMU is for typing only, which one viewer
//! does at a time: the first who types, until it leaves or another takes the keyboard over.

use super::{Shared, audit, blocking, failure, number, tail};
use crate::{
    api::{
        ApiError, ErrorKind,
        console::{self, ConsoleEvent, ConsoleQuery},
        routes::CONSOLE_PROTOCOL,
    },
    manager::{Caller, ConsoleLine},
};
use axum::{
    body::Body,
    extract::{ConnectInfo, Path, Query, Request, State, rejection::QueryRejection},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use tail::Tail;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split},
    sync::mpsc,
};

/// Refusals that may wait to be told.
const REFUSALS: usize = 4;

pub(super) async fn attach(
    State(manager): Shared,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Path(text): Path<String>,
    query: Result<Query<ConsoleQuery>, QueryRejection>,
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
    let Query(query) = match query {
        Ok(query) => query,
        Err(error) => return failure(&ApiError::new(ErrorKind::Usage, error.body_text())),
    };
    let attached = blocking(move || {
        let line = manager.console(caller, number(&text)?)?;
        if query.take {
            let what = format!("take the keyboard of VM {}", line.vm);
            audit::recorded(caller, &what, line.claim(true).map(drop))?;
        }
        Ok(line)
    });
    let line = match attached.await {
        Ok(line) => line,
        Err(error) => return failure(&error),
    };
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match upgrade.await {
            Ok(connection) => {
                let vm = line.vm;
                if let Err(error) = relay(connection, line, query.position).await {
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
async fn relay(
    connection: Upgraded,
    line: ConsoleLine,
    position: Option<u64>,
) -> std::io::Result<()> {
    let (typed, shown) = split(TokioIo::new(connection));
    let line = Arc::new(line);
    let (refuse, refusals) = mpsc::channel(REFUSALS);
    let output = show(shown, &line, position, refusals);
    let input = pass_on(typed, &line, refuse);
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

/// Shows the log, and tells who types.
async fn show(
    mut shown: WriteHalf<TokioIo<Upgraded>>,
    line: &ConsoleLine,
    position: Option<u64>,
    mut refusals: mpsc::Receiver<ApiError>,
) -> std::io::Result<()> {
    let mut log = Tail::open(&line.log, |length| line.begin(length, position)).await?;
    let mut typists = line.typists();
    let typist = *typists.borrow_and_update();
    let attached = ConsoleEvent::Attached {
        position: log.position(),
        typist: line.told(typist),
    };
    shown.write_all(&console::event_frame(&attached)).await?;
    let mut buffer = vec![0; 16 * 1024];
    loop {
        if typists.has_changed().unwrap_or(false) {
            let typist = *typists.borrow_and_update();
            let event = ConsoleEvent::Typist {
                typist: line.told(typist),
            };
            shown.write_all(&console::event_frame(&event)).await?;
        }
        while let Ok(error) = refusals.try_recv() {
            let event = ConsoleEvent::Refused { error };
            shown.write_all(&console::event_frame(&event)).await?;
        }
        // Asked before reading: what was said before the end is then shown for certain.
        let ended = line.has_ended();
        let read = log.read(&mut buffer).await?;
        if read > 0 {
            let frame = console::output_frame(&buffer[..read]);
            shown.write_all(&frame).await?;
        } else if ended {
            let frame = console::event_frame(&ConsoleEvent::Ended);
            shown.write_all(&frame).await?;
            return shown.shutdown().await;
        }
        shown.flush().await?;
        if read == 0 {
            tokio::time::sleep(tail::LAG).await;
        }
    }
}

/// Passes on what is typed, as long as this viewer is the one who types.
async fn pass_on(
    mut typed: ReadHalf<TokioIo<Upgraded>>,
    line: &ConsoleLine,
    refuse: mpsc::Sender<ApiError>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 4096];
    let mut told = None;
    loop {
        let read = typed.read(&mut buffer).await?;
        if read == 0 {
            line.let_go();
            return Ok(());
        }
        match line.claim(false) {
            Ok(newly) => {
                if newly {
                    let what = format!("type on the console of VM {}", line.vm);
                    audit::recorded(line.caller, &what, Ok(())).map_err(std::io::Error::other)?;
                }
                told = None;
                line.type_in(&buffer[..read]).await?;
            }
            // Once, not for every key.
            Err(error) if told.as_ref() != Some(&error) => {
                told = Some(error.clone());
                let _ = refuse.send(error).await;
            }
            Err(_) => {}
        }
    }
}

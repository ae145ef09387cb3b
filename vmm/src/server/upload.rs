//! Taking in an image: the body's pieces go to the importing thread through a short queue.

use super::{Shared, audit, failure, lines};
use crate::{
    api::{ApiError, ErrorKind},
    manager::Caller,
};
use axum::{
    body::{Body, Bytes},
    extract::{ConnectInfo, Path, State},
    response::Response,
};
use futures_util::StreamExt;
use tokio::sync::mpsc;

/// Pieces that may wait for the disk; the socket gives at most some 64 KiB each.
const QUEUE: usize = 64;

pub(super) async fn import(
    State(manager): Shared,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Path(text): Path<String>,
    body: Body,
) -> Response {
    let name = match super::name(&text) {
        Ok(name) => name,
        Err(error) => return failure(&error),
    };
    let mut receiver = pump(body);
    lines::respond(move |progress| {
        let result = manager.import(
            caller,
            &name,
            &mut || receiver.blocking_recv().transpose(),
            progress,
        );
        audit::recorded(caller, &format!("import {name}"), result)
    })
}

/// The pieces of a body as they come; the last one is an error if it broke off.
fn pump(body: Body) -> mpsc::Receiver<Result<Bytes, ApiError>> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        let mut pieces = body.into_data_stream();
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|error| {
                ApiError::new(ErrorKind::Failed, format!("the upload broke off: {error}"))
            });
            let broken = piece.is_err();
            // The import may have failed and gone: then the rest of the body is not wanted.
            if sender.send(piece).await.is_err() || broken {
                break;
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{Router, routing::post};
    use std::{
        io::Write,
        os::unix::net::UnixStream,
        sync::{Arc, Mutex, mpsc},
        time::Duration,
    };
    use tokio::net::UnixListener;

    /// What the importing side sees of an upload whose sender goes away after `sent`.
    fn seen_of(sent: &'static [u8]) -> Vec<Result<usize, ApiError>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let (seen, pieces) = mpsc::channel();
        let seen = Arc::new(Mutex::new(Some(seen)));
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let app = Router::new().route(
            "/",
            post(move |body: Body| async move {
                let seen = seen.lock().unwrap().take().unwrap();
                let mut receiver = pump(body);
                lines::respond(move |_| {
                    while let Some(piece) = receiver.blocking_recv() {
                        let _ = seen.send(piece.map(|bytes| bytes.len()));
                    }
                    Ok(())
                })
            }),
        );
        let listener = runtime
            .block_on(async { UnixListener::bind(&path) })
            .unwrap();
        runtime.spawn(async move { axum::serve(listener, app).await });
        let mut client = UnixStream::connect(&path).unwrap();
        client
            .write_all(b"POST / HTTP/1.1\r\nhost: fvm\r\ntransfer-encoding: chunked\r\n\r\n")
            .unwrap();
        client.write_all(sent).unwrap();
        let mut all = vec![pieces.recv_timeout(Duration::from_secs(60)).unwrap()];
        drop(client);
        loop {
            match pieces.recv_timeout(Duration::from_secs(60)) {
                Ok(piece) => all.push(piece),
                Err(mpsc::RecvTimeoutError::Disconnected) => return all,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    panic!("the end was never seen, after {all:?}")
                }
            }
        }
    }

    #[test]
    fn a_sender_that_goes_away_is_noticed() {
        let seen = seen_of(b"5\r\nhello\r\n");
        assert!(
            seen.last().is_some_and(Result::is_err),
            "taken for a whole upload: {seen:?}"
        );
        let seen = seen_of(b"500\r\nhello");
        assert!(
            seen.last().is_some_and(Result::is_err),
            "taken for a whole upload: {seen:?}"
        );
    }
}

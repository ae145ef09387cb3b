//! Handing out a disk: the block stream of an export, through a short queue.

use super::{Shared, failure, name, number, typed};
use crate::{
    api::{
        ApiError, ErrorKind,
        stream::{self, CONTENT_TYPE},
    },
    manager::{Caller, ExportSource},
};
use axum::{
    body::{Body, Bytes},
    extract::{ConnectInfo, Path, State},
    response::Response,
};
use futures_util::stream as streams;
use std::convert::Infallible;
use tokio::sync::{mpsc, oneshot};

/// Pieces that may wait for the socket; each is some MiB.
const QUEUE: usize = 4;

pub(super) async fn image(
    manager: Shared,
    caller: ConnectInfo<Caller>,
    Path(text): Path<String>,
) -> Response {
    match name(&text) {
        Ok(name) => export(manager, caller, ExportSource::Image(name)).await,
        Err(error) => failure(&error),
    }
}

pub(super) async fn vm(
    manager: Shared,
    caller: ConnectInfo<Caller>,
    Path(text): Path<String>,
) -> Response {
    match number(&text) {
        Ok(number) => export(manager, caller, ExportSource::Vm(number)).await,
        Err(error) => failure(&error),
    }
}

/// Answers with the stream once there is one to come, and with an error otherwise; an error later on is part of the
/// stream.
async fn export(
    State(manager): Shared,
    ConnectInfo(caller): ConnectInfo<Caller>,
    source: ExportSource,
) -> Response {
    respond(move |send| manager.export(caller, &source, send)).await
}

async fn respond(
    work: impl FnOnce(&mut dyn FnMut(Vec<u8>) -> bool) -> Result<(), ApiError> + Send + 'static,
) -> Response {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let (begin, begun) = oneshot::channel();
    tokio::task::spawn_blocking(move || {
        let mut begin = Some(begin);
        let result = work(&mut |piece| {
            if let Some(begin) = begin.take() {
                let _ = begin.send(Ok(()));
            }
            sender.blocking_send(Bytes::from(piece)).is_ok()
        });
        if let Err(error) = result {
            match begin.take() {
                Some(begin) => drop(begin.send(Err(error))),
                // Whoever has gone away need not be told.
                None => drop(sender.blocking_send(stream::failure(&error).into())),
            }
        }
    });
    match begun.await {
        Ok(Ok(())) => typed(CONTENT_TYPE, body(receiver)),
        Ok(Err(error)) => failure(&error),
        Err(_) => failure(
            &ApiError::new(ErrorKind::Internal, "fvmd failed while at work")
                .hint("this is a bug in fvm; `journalctl -u fvmd` has more"),
        ),
    }
}

/// The body that the pieces make. Without the end of the block stream, nobody takes it for whole.
fn body(pieces: mpsc::Receiver<Bytes>) -> Body {
    Body::from_stream(streams::unfold(pieces, |mut pieces| async {
        let piece = pieces.recv().await?;
        Some((Ok::<_, Infallible>(piece), pieces))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{body::to_bytes, http::StatusCode};

    fn broken() -> ApiError {
        ApiError::new(ErrorKind::NotFound, "there is no image 'x'")
    }

    async fn all(response: Response) -> (StatusCode, Vec<u8>) {
        let status = response.status();
        let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, bytes.to_vec())
    }

    #[tokio::test]
    async fn an_error_before_the_stream_is_a_plain_one_and_later_it_is_part_of_it() {
        let (status, bytes) = all(respond(|_| Err(broken())).await).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        let told: ApiError = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(told, broken());

        let response = respond(|send| {
            assert!(send(b"begin".to_vec()));
            Err(broken())
        });
        let (status, bytes) = all(response.await).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(bytes, [b"begin", &stream::failure(&broken())[..]].concat());
    }

    #[tokio::test]
    async fn the_sender_is_told_when_nobody_reads() {
        let (told, mut tell) = mpsc::unbounded_channel();
        let response = respond(move |send| {
            while send(vec![0; 1024]) {}
            let _ = told.send(());
            Ok(())
        });
        drop(response.await);
        assert_eq!(tell.recv().await, Some(()));
    }
}

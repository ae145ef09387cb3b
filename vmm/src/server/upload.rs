//! Taking in an image: the body's pieces go to the importing thread through a short queue.

use super::{Shared, failure, image_name, lines};
use crate::{
    api::{ApiError, ErrorKind},
    manager::Caller,
};
use axum::{
    body::Body,
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
    Path(name): Path<String>,
    body: Body,
) -> Response {
    let name = match image_name(&name) {
        Ok(name) => name,
        Err(error) => return failure(&error),
    };
    let (sender, mut receiver) = mpsc::channel(QUEUE);
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
    lines::respond(move |progress| {
        manager.import(
            caller,
            &name,
            &mut || receiver.blocking_recv().transpose(),
            progress,
        )
    })
}

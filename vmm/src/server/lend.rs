//! The disk of a VM, lent for as long as the client keeps an upgraded connection open.
//!
//! When the client has ended its side, the disk is taken back; then this side ends too, after an `ApiError` as JSON if
//! that did not succeed. So whoever has read to the end knows that the disk is nobody's.

use super::{Shared, audit, failure, number};
use crate::{
    api::{ApiError, ErrorKind, routes::DISK_PROTOCOL},
    manager::Caller,
};
use axum::{
    body::Body,
    extract::{ConnectInfo, Path, Request, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use hyper_util::rt::TokioIo;
use std::sync::mpsc;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::oneshot,
};

pub(super) async fn attach(
    State(manager): Shared,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Path(text): Path<String>,
    mut request: Request,
) -> Response {
    let upgrade = request.headers().get(header::UPGRADE);
    if upgrade.is_none_or(|value| value.as_bytes() != DISK_PROTOCOL.as_bytes()) {
        let error = ApiError::new(
            ErrorKind::Usage,
            "a disk is lent for the time of an upgraded connection",
        )
        .hint(format!(
            "send `Connection: Upgrade` and `Upgrade: {DISK_PROTOCOL}`"
        ));
        return failure(&error);
    }
    let vm = match number(&text) {
        Ok(vm) => vm,
        Err(error) => return failure(&error),
    };
    let (give_back, returned) = mpsc::channel::<()>();
    let (lent, is_lent) = oneshot::channel();
    let work = tokio::spawn(super::blocking(move || {
        let result = manager.lend_disk(
            caller,
            vm,
            || {
                let _ = lent.send(());
            },
            // Nothing is ever sent: it ends when the other end goes, however it goes.
            || {
                let _ = returned.recv();
            },
        );
        audit::recorded(caller, &format!("write to the disk of VM {vm}"), result)
    }));
    let ended = async |work: tokio::task::JoinHandle<Result<(), ApiError>>| {
        work.await.unwrap_or_else(|panic| {
            Err(ApiError::new(
                ErrorKind::Internal,
                format!("fvmd failed while at work: {panic}"),
            ))
        })
    };
    if is_lent.await.is_err() {
        let error = ended(work).await.err().unwrap_or_else(|| {
            ApiError::new(ErrorKind::Internal, "the disk was lent and nobody was told")
        });
        return failure(&error);
    }
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let mut connection = upgraded.await.ok().map(TokioIo::new);
        if let Some(connection) = &mut connection {
            let mut ignored = [0; 256];
            while connection
                .read(&mut ignored)
                .await
                .is_ok_and(|read| read > 0)
            {}
        }
        drop(give_back);
        let result = ended(work).await;
        if let (Some(connection), Err(error)) = (&mut connection, &result) {
            let json = serde_json::to_vec(error).unwrap_or_default();
            // Whoever has gone away is not told.
            let _ = connection.write_all(&json).await;
        }
        if let Some(connection) = &mut connection {
            let _ = connection.shutdown().await;
        }
    });
    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    *response.body_mut() = Body::empty();
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static(DISK_PROTOCOL));
    response
}

//! A VM's log, as it is and as it grows.

use super::{Shared, blocking, failure, number, tail, typed};
use crate::{
    api::{ApiError, ErrorKind, console::LogQuery},
    manager::{VmLog, first_kept, last_lines},
};
use axum::{
    body::{Body, Bytes},
    extract::{Path, Query, State, rejection::QueryRejection},
    response::Response,
};
use futures_util::stream;
use std::fs::File;
use tail::Tail;

/// As much is sent at once.
const PIECE: usize = 64 << 10;

pub(super) async fn read(
    State(manager): Shared,
    Path(text): Path<String>,
    query: Result<Query<LogQuery>, QueryRejection>,
) -> Response {
    let Query(query) = match query {
        Ok(query) => query,
        Err(error) => return failure(&ApiError::new(ErrorKind::Usage, error.body_text())),
    };
    let lines = query.lines;
    let opened = blocking(move || {
        let log = manager.log(number(&text)?, query.source)?;
        let (begin, length) = extent(&log, lines).map_err(|error| {
            let message = format!("cannot read {}: {error}", log.path.display());
            ApiError::new(ErrorKind::Failed, message)
        })?;
        Ok((log, begin, length))
    });
    let (log, begin, length) = match opened.await {
        Ok(opened) => opened,
        Err(error) => return failure(&error),
    };
    match Tail::open(&log.path, |_| begin).await {
        Ok(tail) => {
            let end = (!query.follow).then_some(length);
            typed("application/octet-stream", body(log, tail, end))
        }
        Err(error) => {
            let message = format!("cannot read {}: {error}", log.path.display());
            failure(&ApiError::new(ErrorKind::Failed, message))
        }
    }
}

/// Where what is wanted of a log begins, and where the log ends now.
fn extent(log: &VmLog, lines: Option<u64>) -> std::io::Result<(u64, u64)> {
    let mut file = File::open(&log.path)?;
    let length = file.metadata()?.len();
    let begin = match lines {
        None => first_kept(length),
        Some(count) => last_lines(&mut file, length, count)?,
    };
    Ok((begin, length))
}

/// The log from where `tail` is to `end`, or to the end of the run.
fn body(log: VmLog, tail: Tail, end: Option<u64>) -> Body {
    Body::from_stream(stream::unfold(
        (log, tail),
        move |(log, mut tail)| async move {
            let mut buffer = vec![0; PIECE];
            loop {
                // Asked before reading: what was said before the end is then read for certain.
                let ended = log.has_ended();
                if let Some(end) = end {
                    let left = end.saturating_sub(tail.position());
                    buffer.truncate(usize::try_from(left).unwrap_or(PIECE));
                }
                match tail.read(&mut buffer).await {
                    Ok(0) if ended || end.is_some() => return None,
                    Ok(0) => tokio::time::sleep(tail::LAG).await,
                    Ok(read) => {
                        buffer.truncate(read);
                        return Some((Ok(Bytes::from(buffer)), (log, tail)));
                    }
                    Err(error) => return Some((Err(error), (log, tail))),
                }
            }
        },
    ))
}

//! Streamed responses: one JSON value a line, the last one the report or the error.

use super::{blocking, typed};
use crate::{
    api::{ApiError, Event, Line},
    manager::Progress,
};
use axum::{body::Body, response::Response};
use futures_util::stream;
use serde::Serialize;
use tokio::sync::mpsc;

/// Begins `work` and answers with its lines as they come.
///
/// The work goes on to its end if the client goes away: what it has begun is never left half-done.
pub(super) fn respond<R: Serialize + Send + 'static>(
    work: impl FnOnce(&Progress) -> Result<R, ApiError> + Send + 'static,
) -> Response {
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let events = sender.clone();
        // A client that has gone away is no reason to stop.
        let progress = Progress::new(move |event: Event| {
            let _ = events.send(line(&Line::<()>::Event(event)));
        });
        let last = match blocking(move || work(&progress)).await {
            Ok(report) => Line::Report(report),
            Err(error) => Line::Error(error),
        };
        let _ = sender.send(line(&last));
    });
    body(receiver)
}

/// The response that `lines` make.
fn body(lines: mpsc::UnboundedReceiver<String>) -> Response {
    let lines = stream::unfold(lines, |mut lines| async {
        lines
            .recv()
            .await
            .map(|line| (Ok::<_, std::convert::Infallible>(line), lines))
    });
    typed("application/x-ndjson", Body::from_stream(lines))
}

fn line<R: Serialize>(line: &Line<R>) -> String {
    // Our own types: what could fail is a map whose keys are not text, and there is none.
    let mut text = serde_json::to_string(line).unwrap_or_default();
    text.push('\n');
    text
}

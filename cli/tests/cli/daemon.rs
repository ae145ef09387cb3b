//! A server on a Unix socket: HTTP by hyper, answers by the test.

use crate::run::{Ran, fvm, run};
use fvm_vmm::api::{ApiError, Event, Line, stream};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use std::{
    convert::Infallible,
    io,
    path::{Path, PathBuf},
    pin::Pin,
    process::Command,
    sync::{Arc, Mutex},
};
use tempfile::TempDir;
use tokio::net::UnixListener;

/// What a handler answers with.
pub(crate) type Answer = Response<BoxBody<Bytes, io::Error>>;
type Handler =
    Arc<dyn Fn(Request<Incoming>) -> Pin<Box<dyn Future<Output = Answer> + Send>> + Send + Sync>;

/// A server for the time of a test.
pub(crate) struct Daemon {
    dir: TempDir,
    requests: Arc<Mutex<Vec<String>>>,
    _runtime: tokio::runtime::Runtime,
}

impl Daemon {
    /// Serves every request with `handler`.
    pub(crate) fn new<F, A>(handler: F) -> Self
    where
        F: Fn(Request<Incoming>) -> A + Send + Sync + 'static,
        A: Future<Output = Answer> + Send + 'static,
    {
        let handler: Handler = Arc::new(move |request| Box::pin(handler(request)));
        let dir = tempfile::tempdir().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = {
            let _inside = runtime.enter();
            UnixListener::bind(dir.path().join("fvm.sock")).unwrap()
        };
        let seen = Arc::clone(&requests);
        runtime.spawn(async move {
            loop {
                let (connection, _) = listener.accept().await.unwrap();
                let (handler, seen) = (Arc::clone(&handler), Arc::clone(&seen));
                let service = service_fn(move |request: Request<Incoming>| {
                    let line = format!("{} {}", request.method(), request.uri().path());
                    seen.lock().unwrap().push(line);
                    let answer = handler(request);
                    async move { Ok::<_, Infallible>(answer.await) }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(connection), service)
                        .with_upgrades(),
                );
            }
        });
        Self {
            dir,
            requests,
            _runtime: runtime,
        }
    }

    /// Answers every request with the same.
    pub(crate) fn always(answer: impl Fn() -> Answer + Send + Sync + 'static) -> Self {
        Self::new(move |_| std::future::ready(answer()))
    }

    /// Answers every request with one line.
    pub(crate) fn reports<R: Serialize>(report: R) -> Self {
        let text = serde_json::to_string(&Line::Report(report)).unwrap();
        Self::always(move || whole(StatusCode::OK, text.clone()))
    }

    /// The socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("fvm.sock")
    }

    /// Runs `fvm` against it.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        run(&self.socket(), arguments)
    }

    /// The same, not started yet.
    pub(crate) fn fvm(&self, arguments: &[&str]) -> Command {
        fvm(&self.socket(), arguments)
    }

    /// A place for files of the test.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The requests so far, `GET /v1/vms`.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

/// An answer whose body is this text.
pub(crate) fn whole(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let body = Full::new(body.into()).map_err(|never| match never {});
    let mut answer = Response::new(body.boxed());
    *answer.status_mut() = status;
    answer
}

/// An answer whose body is this report.
pub(crate) fn json(report: &impl Serialize) -> Answer {
    whole(StatusCode::OK, serde_json::to_vec(report).unwrap())
}

/// An answer of lines: events, then the end.
pub(crate) fn lines<R: Serialize>(events: &[Event], end: Result<R, ApiError>) -> Answer {
    let mut text = String::new();
    let events = events.iter().cloned().map(Line::<()>::Event);
    for line in events {
        text.push_str(&serde_json::to_string(&line).unwrap());
        text.push('\n');
    }
    let end = match end {
        Ok(report) => Line::Report(report),
        Err(error) => Line::Error(error),
    };
    text.push_str(&serde_json::to_string(&end).unwrap());
    text.push('\n');
    whole(StatusCode::OK, text)
}

/// An answer that is nothing but this error.
pub(crate) fn refusal(error: &ApiError) -> Answer {
    let status = StatusCode::from_u16(error.kind.http_status()).unwrap();
    whole(status, serde_json::to_vec(error).unwrap())
}

/// The JSON of a request.
pub(crate) async fn read_json<T: serde::de::DeserializeOwned>(request: Request<Incoming>) -> T {
    let body = request.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&body).unwrap()
}

/// What arrived of an upload: its header, and its content, or why the stream was no whole one.
pub(crate) async fn read_upload(
    request: Request<Incoming>,
) -> (
    Option<fvm_vmm::api::ImportHeader>,
    Result<Vec<u8>, stream::StreamError>,
) {
    assert_eq!(request.headers()["content-type"], stream::CONTENT_TYPE);
    let mut body = request.into_body();
    let mut decoder = stream::Decoder::default();
    let mut header = None;
    let mut content = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        decoder.push(&frame.into_data().unwrap());
        loop {
            match decoder.next_item() {
                Ok(None) => break,
                Ok(Some(stream::Item::Header(said))) => header = Some(said),
                Ok(Some(stream::Item::Data { offset, bytes })) => {
                    content.resize(offset as usize, 0);
                    content.extend(bytes);
                }
                Ok(Some(stream::Item::End { content_bytes, .. })) => {
                    content.resize(content_bytes as usize, 0);
                }
                Err(error) => return (header, Err(error)),
            }
        }
    }
    (header, decoder.finish().map(|()| content))
}

//! Talking to `fvmd`: HTTP/1.1 over its Unix socket, one connection for each request.
//!
//! Owns connecting, sending and reading; what a failure means to the user is `crate::exit`'s.

mod body;
mod error;
mod lines;
mod remote;
mod socket;

pub(crate) use body::Content;
pub(crate) use error::ClientError;

use fvm_vmm::api::{Event, routes, stream};
use hyper::{
    Method, Request, StatusCode, Uri,
    body::Bytes,
    client::conn::http1,
    header::{CONNECTION, CONTENT_TYPE, HOST, UPGRADE},
    upgrade::Upgraded,
};
use hyper_util::rt::TokioIo;
use lines::Answer;
pub(crate) use lines::Download;
use remote::Ending;
pub(crate) use remote::Tunnel;
pub(crate) use remote::{InvalidRemote, Remote};
use serde::{Serialize, de::DeserializeOwned};
use socket::{Either, Patient};
use std::{
    io,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::sync::mpsc;

/// How long a question that changes nothing may take.
const QUESTION_LIMIT: Duration = Duration::from_secs(60);

/// Where `fvmd` listens, and how to ask it.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    socket: PathBuf,
    /// Another host, whose daemon it is then.
    remote: Option<Remote>,
}

impl Client {
    /// A client of the daemon that listens on `socket`; connects to nothing yet.
    pub(crate) fn new(socket: PathBuf) -> Self {
        Self {
            socket,
            remote: None,
        }
    }

    /// A client of the daemon of another host.
    pub(crate) fn of_host(remote: Remote) -> Self {
        Self {
            socket: PathBuf::new(),
            remote: Some(remote),
        }
    }

    /// The other host, if the daemon is one's.
    pub(crate) fn remote(&self) -> Option<&Remote> {
        self.remote.as_ref()
    }

    /// The way to VMs for ssh, where they are another host's: `user@host:port`.
    pub(crate) fn jump(&self) -> Option<String> {
        self.remote.as_ref().map(Remote::to_string)
    }

    /// The bare socket, connected.
    pub(crate) fn raw(&self) -> Result<UnixStream, ClientError> {
        UnixStream::connect(&self.socket).map_err(|source| self.unconnected(source))
    }

    /// The socket.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Asks for a report.
    pub(crate) async fn get<R: DeserializeOwned>(&self, path: &str) -> Result<R, ClientError> {
        within_limit(path, async { self.ask(path).await?.report().await }).await
    }

    /// Asks for something that is no report.
    pub(crate) async fn bytes(&self, path: &str) -> Result<Vec<u8>, ClientError> {
        within_limit(path, async { self.ask(path).await?.whole().await }).await
    }

    /// The answer to a question that changes nothing.
    async fn ask(&self, path: &str) -> Result<Answer, ClientError> {
        let request = request(Method::GET, path, None);
        let answer = self.send(request, Content::Whole(None), false).await?;
        answer.ok().await
    }

    /// Has something done, telling events as they come, and returns the report at the end.
    pub(crate) async fn post<R: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        tell: &mut dyn FnMut(Event),
    ) -> Result<R, ClientError> {
        let json = serde_json::to_vec(body).map_err(|source| ClientError::Malformed {
            path: path.to_owned(),
            source,
        })?;
        let content = Content::Whole(Some(json.into()));
        self.change(Method::POST, path, Some("application/json"), content, tell)
            .await
    }

    /// Has something done that needs no further words.
    pub(crate) async fn command<R: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        tell: &mut dyn FnMut(Event),
    ) -> Result<R, ClientError> {
        self.change(method, path, None, Content::Whole(None), tell)
            .await
    }

    /// Sends a block stream piece by piece; an answer may come before its end.
    pub(crate) async fn upload<R: DeserializeOwned>(
        &self,
        path: &str,
        pieces: mpsc::Receiver<Bytes>,
        tell: &mut dyn FnMut(Event),
    ) -> Result<R, ClientError> {
        let content = Content::Pieces(pieces);
        self.change(
            Method::POST,
            path,
            Some(stream::CONTENT_TYPE),
            content,
            tell,
        )
        .await
    }

    /// Asks for a block stream, whose pieces come as they are read.
    pub(crate) async fn download(&self, path: &str) -> Result<Download, ClientError> {
        let request = request(Method::GET, path, None);
        let answer = self.send(request, Content::Whole(None), false).await?;
        Ok(Download(answer.ok().await?))
    }

    /// Opens a byte stream to a VM's console.
    pub(crate) async fn console(&self, path: &str) -> Result<TokioIo<Upgraded>, ClientError> {
        self.upgraded(path, routes::CONSOLE_PROTOCOL).await
    }

    /// Borrows a VM's disk for as long as the connection is open.
    pub(crate) async fn disk(&self, path: &str) -> Result<TokioIo<Upgraded>, ClientError> {
        self.upgraded(path, routes::DISK_PROTOCOL).await
    }

    async fn upgraded(
        &self,
        path: &str,
        protocol: &'static str,
    ) -> Result<TokioIo<Upgraded>, ClientError> {
        let mut request = request(Method::GET, path, None);
        let headers = request.headers_mut();
        headers.insert(
            CONNECTION,
            hyper::header::HeaderValue::from_static("Upgrade"),
        );
        headers.insert(UPGRADE, hyper::header::HeaderValue::from_static(protocol));
        let answer = self.send(request, Content::Whole(None), false).await?;
        if answer.response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let status = answer.response.status().as_u16();
            let path = answer.path.clone();
            answer.ok().await?;
            return Err(ClientError::Status { path, status });
        }
        let upgraded =
            hyper::upgrade::on(answer.response)
                .await
                .map_err(|error| ClientError::Cut {
                    changes: false,
                    source: Some(error),
                })?;
        Ok(TokioIo::new(upgraded))
    }

    async fn change<R: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        content_type: Option<&'static str>,
        content: Content,
        tell: &mut dyn FnMut(Event),
    ) -> Result<R, ClientError> {
        let request = request(method, path, content_type);
        let answer = self.send(request, content, true).await?;
        answer.ok().await?.last_line(tell).await
    }

    async fn send(
        &self,
        request: Request<()>,
        content: Content,
        changes: bool,
    ) -> Result<Answer, ClientError> {
        let path = request.uri().path().to_owned();
        let (stream, ending) = self.connect().await?;
        let answered = async {
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            // Its failure reaches us through the response.
            tokio::spawn(connection.with_upgrades());
            sender.send_request(request.map(|()| content)).await
        };
        match answered.await {
            Ok(response) => Ok(Answer {
                path,
                changes,
                response,
                _ending: ending,
            }),
            Err(source) => Err(self.unanswered(ending, changes, source).await),
        }
    }

    /// Why there was no answer at all.
    async fn unanswered(
        &self,
        ending: Option<Ending>,
        changes: bool,
        source: hyper::Error,
    ) -> ClientError {
        let status = match &ending {
            Some(ending) => ending.status().await,
            None => None,
        };
        match (&self.remote, status) {
            (Some(remote), Some(status)) if status != 0 => ClientError::Remote {
                host: remote.to_string(),
                status,
            },
            _ => ClientError::Cut {
                changes,
                source: Some(source),
            },
        }
    }

    async fn connect(&self) -> Result<(Either, Option<Ending>), ClientError> {
        match &self.remote {
            Some(remote) => {
                let (tunnel, ending) = remote.connect().map_err(|source| ClientError::Ssh {
                    host: remote.to_string(),
                    source,
                })?;
                Ok((Either::Tunnel(tunnel), Some(ending)))
            }
            None => {
                let stream = Patient::connect(&self.socket).await;
                let stream = stream.map_err(|source| self.unconnected(source))?;
                Ok((Either::Socket(stream), None))
            }
        }
    }

    fn unconnected(&self, source: io::Error) -> ClientError {
        let socket = self.socket.clone();
        match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ClientError::NoDaemon { socket, source }
            }
            io::ErrorKind::PermissionDenied => ClientError::Denied { socket, source },
            _ => ClientError::Connect { socket, source },
        }
    }
}

/// What comes of a question, if it comes in time.
async fn within_limit<T>(
    path: &str,
    question: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    let silent = |_| ClientError::Silent {
        path: path.to_owned(),
        limit: QUESTION_LIMIT,
    };
    tokio::time::timeout(QUESTION_LIMIT, question)
        .await
        .map_err(silent)?
}

/// A request without its content. The host's name is nobody's: HTTP/1.1 wants one.
fn request(method: Method, path: &str, content_type: Option<&'static str>) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = method;
    // Our paths are made of checked names and numbers; anything else asks for nothing.
    *request.uri_mut() = path.parse().unwrap_or_else(|_| Uri::from_static("/"));
    let headers = request.headers_mut();
    headers.insert(HOST, hyper::header::HeaderValue::from_static("fvm"));
    if let Some(content_type) = content_type {
        headers.insert(
            CONTENT_TYPE,
            hyper::header::HeaderValue::from_static(content_type),
        );
    }
    request
}

//! Reading answers: a whole JSON value, or one a line as an operation goes on.

use super::ClientError;
use fvm_vmm::api::{ApiError, Event, Line, REPORT_VERSION};
use http_body_util::BodyExt;
use hyper::{
    Response, StatusCode,
    body::{Bytes, Incoming},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// More than any line, and any report, can have.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// An answer on its way in.
pub(super) struct Answer {
    pub(super) path: String,
    pub(super) changes: bool,
    pub(super) response: Response<Incoming>,
    /// The `ssh` that it comes through, which ends when nobody holds it.
    pub(super) _ending: Option<super::remote::Ending>,
}

impl Answer {
    /// The error that a response with a status other than 200 carries; otherwise the answer itself.
    pub(super) async fn ok(self) -> Result<Self, ClientError> {
        let status = self.response.status();
        if status == StatusCode::OK {
            return Ok(self);
        }
        let path = self.path.clone();
        let body = self.whole().await?;
        Err(match serde_json::from_slice::<ApiError>(&body) {
            Ok(error) => ClientError::Answer(error),
            Err(_) => ClientError::Status {
                path,
                status: status.as_u16(),
            },
        })
    }

    /// The report that is the whole body.
    pub(super) async fn report<R: DeserializeOwned>(self) -> Result<R, ClientError> {
        let path = self.path.clone();
        let body = self.whole().await?;
        let malformed = |source| ClientError::Malformed {
            path: path.clone(),
            source,
        };
        let value = serde_json::from_slice(&body).map_err(malformed)?;
        typed(value, &path)
    }

    /// The report at the end of the lines; hands each event to `tell` as it arrives.
    pub(super) async fn last_line<R: DeserializeOwned>(
        mut self,
        tell: &mut dyn FnMut(Event),
    ) -> Result<R, ClientError> {
        let mut pending = Vec::new();
        loop {
            let Some(bytes) = self.next().await? else {
                // The last line may lack its line feed; half a line is what a cut leaves.
                return match self.line(&pending, tell) {
                    Ok(Some(report)) => Ok(report),
                    Ok(None) => Err(self.cut(None)),
                    Err(ClientError::Malformed { source, .. }) if source.is_eof() => {
                        Err(self.cut(None))
                    }
                    Err(error) => Err(error),
                };
            };
            for part in bytes.split_inclusive(|&byte| byte == b'\n') {
                self.grow(&mut pending, part)?;
                if part.ends_with(b"\n") {
                    if let Some(report) = self.line(&pending, tell)? {
                        return Ok(report);
                    }
                    pending.clear();
                }
            }
        }
    }

    /// Takes one line: tells an event, returns the report, fails with the error.
    fn line<R: DeserializeOwned>(
        &self,
        line: &[u8],
        tell: &mut dyn FnMut(Event),
    ) -> Result<Option<R>, ClientError> {
        let line = line.trim_ascii();
        if line.is_empty() {
            return Ok(None);
        }
        match serde_json::from_slice(line) {
            Ok(Line::Event(event)) => {
                tell(event);
                Ok(None)
            }
            Ok(Line::Report(value)) => typed(value, &self.path).map(Some),
            Ok(Line::Error(error)) => Err(ClientError::Answer(error)),
            Err(source) => Err(ClientError::Malformed {
                path: self.path.clone(),
                source,
            }),
        }
    }

    /// All of the body.
    pub(super) async fn whole(mut self) -> Result<Vec<u8>, ClientError> {
        let mut body = Vec::new();
        while let Some(bytes) = self.next().await? {
            self.grow(&mut body, &bytes)?;
        }
        Ok(body)
    }

    async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        loop {
            match self.response.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(self.cut(Some(error))),
                Some(Ok(frame)) => {
                    // Trailers mean nothing here.
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    fn cut(&self, source: Option<hyper::Error>) -> ClientError {
        ClientError::Cut {
            changes: self.changes,
            source,
        }
    }

    fn grow(&self, buffer: &mut Vec<u8>, bytes: &[u8]) -> Result<(), ClientError> {
        if buffer.len() + bytes.len() > MAX_ANSWER_BYTES {
            return Err(ClientError::Endless {
                path: self.path.clone(),
                limit: MAX_ANSWER_BYTES,
            });
        }
        buffer.extend_from_slice(bytes);
        Ok(())
    }
}

/// A block stream on its way in.
pub(crate) struct Download(pub(super) Answer);

impl Download {
    /// The next piece; nothing at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        self.0.next().await
    }
}

/// Gives a report its type, if it is of the version that this program knows.
fn typed<R: DeserializeOwned>(value: Value, path: &str) -> Result<R, ClientError> {
    let theirs = value.get("version").and_then(Value::as_u64);
    if let Some(theirs) = theirs
        && theirs != u64::from(REPORT_VERSION)
    {
        return Err(ClientError::Version { theirs });
    }
    serde_json::from_value(value).map_err(|source| ClientError::Malformed {
        path: path.to_owned(),
        source,
    })
}

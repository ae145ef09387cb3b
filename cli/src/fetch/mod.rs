//! Files from http and https servers, as a stream that survives broken connections.
//!
//! Certificates are checked against the host's own authorities. Proxies come from the environment (`ALL_PROXY`, `HTTPS_PROXY`,
//! `HTTP_PROXY`, `NO_PROXY`). A connection that breaks or stalls is resumed where it broke, but only if the
//! server proves by an entity tag or a date that it is still the same file (RFC 9110, sections 13 and 14).

mod error;
mod url;

pub(crate) use error::FetchError;
pub(crate) use url::Url;

use std::{
    io::{self, Read},
    sync::Arc,
    thread,
    time::Duration,
};
use ureq::{
    Agent, Body, BodyReader, ResponseExt,
    http::{HeaderMap, HeaderName, Response, StatusCode, header},
    tls::{RootCerts, TlsConfig},
};

const MAX_REDIRECTS: u32 = 10;
const CONNECT_LIMIT: Duration = Duration::from_secs(30);
const RESPONSE_LIMIT: Duration = Duration::from_secs(60);
/// How long a connection may be silent before it is taken to be broken.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);
/// How often in a row a broken connection is resumed: at once, then after 1, 2, 4 and 8 seconds.
const MAX_ATTEMPTS: u32 = 5;
/// A connection that brought this much was a good one: the next break is the first one again.
const GOOD_BYTES: u64 = 1 << 20;
/// More than any list of checksums has.
const MAX_TEXT_BYTES: u64 = 1 << 20;

/// A file on its way.
pub(crate) struct Download {
    agent: Agent,
    url: Url,
    /// What a server that has the same file still accepts; `None` if it gives nothing to go by.
    validator: Option<String>,
    body: BodyReader<'static>,
    /// Bytes that have come.
    at: u64,
    total: Option<u64>,
    bounded: bool,
    /// Failed or short connections since the last good one.
    attempts: u32,
    /// Bytes of this connection.
    brought: u64,
}

impl Download {
    /// Asks for a file; its content is still to be read.
    pub(crate) fn open(url: &Url) -> Result<Self, FetchError> {
        let agent = agent();
        let response = get(&agent, url, &[])?;
        if response.status() != StatusCode::OK {
            return Err(refused(url, response.status()));
        }
        let headers = response.headers();
        let total = response.body().content_length();
        Ok(Self {
            validator: validator(headers),
            bounded: total.is_some() || headers.contains_key(header::TRANSFER_ENCODING),
            body: reader(response),
            agent,
            url: url.clone(),
            at: 0,
            total,
            attempts: 0,
            brought: 0,
        })
    }

    /// The length of the file, if the server says it.
    pub(crate) fn total(&self) -> Option<u64> {
        self.total
    }

    /// True if the end of the file can be told from the end of the connection.
    pub(crate) fn is_bounded(&self) -> bool {
        self.bounded
    }

    /// Connects again and has the rest sent.
    fn resume(&mut self, mut cause: io::Error) -> Result<(), FetchError> {
        let Some(validator) = self.validator.clone() else {
            return Err(FetchError::NotResumable { source: cause });
        };
        if self.brought >= GOOD_BYTES {
            self.attempts = 0;
        }
        self.brought = 0;
        while self.attempts < MAX_ATTEMPTS {
            if let Some(doublings) = self.attempts.checked_sub(1) {
                thread::sleep(Duration::from_secs(1 << doublings));
            }
            self.attempts += 1;
            let range = format!("bytes={}-", self.at);
            let asked = [(header::RANGE, &range), (header::IF_RANGE, &validator)];
            match get(&self.agent, &self.url, &asked) {
                Ok(response) if passes_soon(response.status()) => {
                    cause = io::Error::other(refused(&self.url, response.status()));
                }
                Ok(response) => return self.go_on(response, &validator, cause),
                Err(error) => cause = io::Error::other(error),
            }
        }
        Err(FetchError::Broken {
            attempts: self.attempts,
            source: cause,
        })
    }

    /// Takes a response for the rest of the file if it is that.
    fn go_on(
        &mut self,
        response: Response<Body>,
        validator: &str,
        source: io::Error,
    ) -> Result<(), FetchError> {
        match response.status() {
            StatusCode::PARTIAL_CONTENT => {}
            // All of it: `If-Range` has found another file, or the server knows no ranges.
            StatusCode::OK if self::validator(response.headers()).as_deref() == Some(validator) => {
                return Err(FetchError::NoRanges { source });
            }
            StatusCode::OK | StatusCode::RANGE_NOT_SATISFIABLE => return Err(FetchError::Changed),
            status => return Err(refused(&self.url, status)),
        }
        let headers = response.headers();
        let tag = text(headers, &header::ETAG);
        let same_tag = tag.is_none_or(|tag| tag == validator || !validator.starts_with('"'));
        let range = text(headers, &header::CONTENT_RANGE).and_then(content_range);
        let same_range = range.is_some_and(|(start, total)| {
            start == self.at && (total.is_none() || self.total.is_none() || total == self.total)
        });
        if !same_tag || !same_range {
            return Err(FetchError::Changed);
        }
        self.body = reader(response);
        Ok(())
    }
}

impl Read for Download {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let cause = match self.body.read(buffer) {
                Ok(0) if !buffer.is_empty() && self.total.is_some_and(|total| self.at < total) => {
                    io::ErrorKind::UnexpectedEof.into()
                }
                Ok(bytes) => {
                    self.at += bytes as u64;
                    self.brought += bytes as u64;
                    return Ok(bytes);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
                Err(error) => error,
            };
            self.resume(cause).map_err(io::Error::other)?;
        }
    }
}

/// Fetches a short text, such as a list of checksums.
pub(crate) fn text_of(url: &Url) -> Result<String, FetchError> {
    let response = get(&agent(), url, &[])?;
    if response.status() != StatusCode::OK {
        return Err(refused(url, response.status()));
    }
    let mut bytes = Vec::new();
    let read = reader(response)
        .take(MAX_TEXT_BYTES + 1)
        .read_to_end(&mut bytes);
    match read {
        Err(source) => Err(FetchError::Read {
            url: url.shown(),
            source,
        }),
        Ok(_) if bytes.len() as u64 > MAX_TEXT_BYTES => Err(FetchError::TooLong {
            url: url.shown(),
            limit_kib: MAX_TEXT_BYTES >> 10,
        }),
        Ok(_) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
    }
}

fn agent() -> Agent {
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::PlatformVerifier)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build();
    // The proxy is the environment's by default.
    Agent::config_builder()
        .tls_config(tls)
        .http_status_as_error(false)
        .max_redirects(MAX_REDIRECTS)
        .save_redirect_history(true)
        .user_agent(concat!("fvm/", env!("CARGO_PKG_VERSION")))
        // What a checksum is of must not be packed on the way.
        .accept_encoding("identity")
        .timeout_resolve(Some(CONNECT_LIMIT))
        .timeout_connect(Some(CONNECT_LIMIT))
        .timeout_recv_response(Some(RESPONSE_LIMIT))
        .timeout_per_read(Some(SILENCE_LIMIT))
        .build()
        .new_agent()
}

fn get(
    agent: &Agent,
    url: &Url,
    headers: &[(HeaderName, &String)],
) -> Result<Response<Body>, FetchError> {
    let request = headers
        .iter()
        .fold(agent.get(url.uri()), |request, (name, value)| {
            request.header(name, value.as_str())
        });
    let response = request.call().map_err(|source| FetchError::Request {
        url: url.shown(),
        source: Box::new(source),
    })?;
    // Each step of the way counts: whoever answers one unprotected step decides on all that follow.
    let steps = response.get_redirect_history().unwrap_or_default();
    let unprotected = |uri: &&ureq::http::Uri| uri.scheme_str() == Some("http");
    match steps.iter().find(unprotected) {
        Some(to) if url.uri().scheme_str() == Some("https") => Err(FetchError::Unprotected {
            url: url.shown(),
            to: url::shown(to),
        }),
        _ => Ok(response),
    }
}

fn reader(response: Response<Body>) -> BodyReader<'static> {
    response
        .into_body()
        .into_with_config()
        .limit(u64::MAX)
        .reader()
}

fn refused(url: &Url, status: StatusCode) -> FetchError {
    FetchError::Status {
        url: url.shown(),
        status,
    }
}

/// True for what a server says when it has too much to do.
fn passes_soon(status: StatusCode) -> bool {
    status.is_server_error()
        || [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS].contains(&status)
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// What may stand in `If-Range`: a strong entity tag, or a date (RFC 9110, section 13.1.5).
fn validator(headers: &HeaderMap) -> Option<String> {
    let tag = text(headers, &header::ETAG).filter(|tag| tag.starts_with('"'));
    tag.or_else(|| text(headers, &header::LAST_MODIFIED))
        .map(str::to_owned)
}

/// First byte and length of the whole, of `bytes 5-99/100` or `bytes 5-99/*`.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    Some((start.parse().ok()?, total.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_standard_writes_them() {
        assert_eq!(content_range("bytes 5-99/100"), Some((5, Some(100))));
        assert_eq!(content_range("bytes 5-99/*"), Some((5, None)));
        for wrong in [
            "",
            "bytes */100",
            "bytes 5/100",
            "items 5-99/100",
            "bytes x-9/10",
        ] {
            assert_eq!(content_range(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_weak_tag_is_nothing_to_go_by() {
        let mut headers = HeaderMap::new();
        assert_eq!(validator(&headers), None);
        headers.insert(header::ETAG, "W/\"1\"".parse().unwrap());
        assert_eq!(validator(&headers), None);
        headers.insert(
            header::LAST_MODIFIED,
            "Mon, 01 Jan 2024 00:00:00 GMT".parse().unwrap(),
        );
        assert_eq!(
            validator(&headers).unwrap(),
            "Mon, 01 Jan 2024 00:00:00 GMT"
        );
        headers.insert(header::ETAG, "\"1\"".parse().unwrap());
        assert_eq!(validator(&headers).unwrap(), "\"1\"");
    }
}

//! URLs as sources: told from file names, shown without secrets.

use super::FetchError;
use std::path::Path;
use ureq::http::Uri;

/// A URL that can be fetched.
#[derive(Debug, Clone)]
pub(crate) struct Url(Uri);

impl Url {
    /// Takes what has `://` after its first word for a URL; `None` for the name of a file.
    pub(crate) fn parse(text: &Path) -> Option<Result<Self, FetchError>> {
        let text = text.to_str()?;
        let (scheme, _) = text.split_once("://")?;
        if scheme.is_empty() || !scheme.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return None;
        }
        if !["http", "https"].contains(&scheme.to_ascii_lowercase().as_str()) {
            return Some(Err(FetchError::Scheme { url: text.into() }));
        }
        Some(text.parse().map(Self).map_err(|source| {
            let url = text.to_owned();
            FetchError::Malformed { url, source }
        }))
    }

    pub(super) fn uri(&self) -> &Uri {
        &self.0
    }

    /// How it is shown.
    pub(crate) fn shown(&self) -> String {
        shown(&self.0)
    }

    /// The name of the file, which is the last part of the path.
    pub(crate) fn file_name(&self) -> Option<String> {
        let last = self.0.path().rsplit('/').next().unwrap_or_default();
        let name = decoded(last)?;
        (!name.is_empty()).then_some(name)
    }
}

/// Scheme, host and path: user, password and query may be secrets.
pub(super) fn shown(uri: &Uri) -> String {
    let scheme = uri.scheme_str().unwrap_or("http");
    let host = uri.host().unwrap_or_default();
    let port = uri.port().map(|port| format!(":{port}"));
    format!(
        "{scheme}://{host}{}{}",
        port.unwrap_or_default(),
        uri.path()
    )
}

/// Resolves `%41` and the like; `None` if the result is not text.
fn decoded(text: &str) -> Option<String> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let byte = match (first, after) {
            (b'%', [high, low, after @ ..]) => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                rest = after;
                // Two digits below 16 fit.
                (digit(*high)? << 4 | digit(*low)?) as u8
            }
            _ => {
                rest = after;
                first
            }
        };
        out.push(byte);
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(Path::new(text)).unwrap().unwrap()
    }

    #[test]
    fn files_are_no_urls() {
        for file in ["disk.raw", "/a/b", "-", "a b://c", "://x", "./http://x"] {
            assert!(Url::parse(Path::new(file)).is_none(), "{file}");
        }
        assert!(matches!(
            Url::parse(Path::new("ftp://example.org/x")),
            Some(Err(FetchError::Scheme { .. }))
        ));
        assert!(matches!(
            Url::parse(Path::new("http://a b/")),
            Some(Err(FetchError::Malformed { .. }))
        ));
    }

    #[test]
    fn what_is_shown_has_no_secrets() {
        let url = url("https://me:secret@example.org:8443/a/6g__disk%2Dx.xz?token=secret");
        assert_eq!(url.shown(), "https://example.org:8443/a/6g__disk%2Dx.xz");
        assert_eq!(url.file_name().unwrap(), "6g__disk-x.xz");
    }

    #[test]
    fn not_every_url_names_a_file() {
        for text in [
            "http://example.org",
            "http://example.org/a/",
            "http://h/%ff",
        ] {
            assert_eq!(url(text).file_name(), None, "{text}");
        }
    }
}

//! DNS names, as host names and domains are.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::BindingError;

/// A name of one or more labels, as host names and domains are (RFC 1035 section 2.3.1, RFC 1123 section 2.1).
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DnsName(String);

impl DnsName {
    /// The name as text, without a final dot.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its labels, in order.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.0.split('.')
    }
}

impl FromStr for DnsName {
    type Err = BindingError;

    fn from_str(text: &str) -> Result<Self, BindingError> {
        let name = text.strip_suffix('.').unwrap_or(text);
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        // 255 bytes on the wire, of which two are not in the text (RFC 1035, 3.1).
        if name.len() > 253 || !name.split('.').all(label) {
            return Err(BindingError::Name(text.to_owned()));
        }
        Ok(DnsName(name.to_owned()))
    }
}

impl TryFrom<String> for DnsName {
    type Error = BindingError;

    fn try_from(text: String) -> Result<Self, BindingError> {
        text.parse()
    }
}

impl From<DnsName> for String {
    fn from(name: DnsName) -> String {
        name.0
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

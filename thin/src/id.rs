//! Checked identifiers: thin device ids, transaction ids, pool names.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a text or number is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// The kernel keeps thin device ids in 24 bits.
    #[error("thin device id {0} does not fit in 24 bits")]
    ThinId(u64),
    /// See [`PoolName`].
    #[error(
        "pool name {0:?} is not 1 to {max} characters of a-z and 0-9, beginning with a letter",
        max = PoolName::MAX_LEN
    )]
    PoolName(String),
}

/// The number by which the kernel knows a thin volume inside its pool: 24 bits
/// (`MAX_DEV_ID` in `drivers/md/dm-thin.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct ThinId(u32);

impl ThinId {
    /// The largest id.
    pub const MAX: Self = Self((1 << 24) - 1);

    /// The number itself.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u64> for ThinId {
    type Error = InvalidId;
    fn try_from(number: u64) -> Result<Self, InvalidId> {
        u32::try_from(number)
            .ok()
            .map(Self)
            .filter(|id| *id <= Self::MAX)
            .ok_or(InvalidId::ThinId(number))
    }
}

impl From<ThinId> for u64 {
    fn from(id: ThinId) -> u64 {
        id.0.into()
    }
}

impl fmt::Display for ThinId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of the last transaction that a pool's metadata holds.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct TransactionId(pub u64);

impl TransactionId {
    /// The one that follows; it stays at the end of the range, where a commit is then refused.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The short name of a pool, part of every device-mapper name: 1 to 8 characters of `a-z` and `0-9`,
/// beginning with a letter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PoolName(String);

impl PoolName {
    /// The most characters.
    pub const MAX_LEN: usize = 8;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for PoolName {
    type Error = InvalidId;
    fn try_from(name: String) -> Result<Self, InvalidId> {
        let valid = name.len() <= Self::MAX_LEN
            && name.starts_with(|first: char| first.is_ascii_lowercase())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        if valid {
            Ok(Self(name))
        } else {
            Err(InvalidId::PoolName(name))
        }
    }
}

impl TryFrom<&str> for PoolName {
    type Error = InvalidId;
    fn try_from(name: &str) -> Result<Self, InvalidId> {
        name.to_owned().try_into()
    }
}

impl From<PoolName> for String {
    fn from(name: PoolName) -> String {
        name.0
    }
}

impl fmt::Display for PoolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thin_ids_have_24_bits() {
        assert_eq!(ThinId::try_from(0xff_ffff), Ok(ThinId::MAX));
        for number in [0x100_0000, u64::from(u32::MAX) + 1, u64::MAX] {
            assert_eq!(ThinId::try_from(number), Err(InvalidId::ThinId(number)));
        }
    }

    #[test]
    fn pool_names_are_short_and_plain() {
        for good in ["a", "main", "pool1234"] {
            assert_eq!(PoolName::try_from(good).unwrap().as_str(), good);
        }
        for bad in ["", "1a", "Main", "a-b", "ab/c", "ninechars", "a b", "ä"] {
            assert!(PoolName::try_from(bad).is_err(), "{bad:?}");
        }
    }
}

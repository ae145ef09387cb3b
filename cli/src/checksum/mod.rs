//! Checksums of files as they are fetched: what the user expects, and what has come.

mod list;

pub(crate) use list::{ListError, find};

use sha2::{Digest, Sha256, Sha512};
use std::{fmt, str::FromStr};

/// A way to compute a checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Algorithm {
    Sha256,
    Sha512,
}

impl Algorithm {
    /// Both, the stronger one last.
    const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];

    fn bytes(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    /// The one whose checksums have this many hexadecimal digits.
    fn of_digits(digits: usize) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.bytes() * 2 == digits)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sha256 => "SHA-256",
            Self::Sha512 => "SHA-512",
        })
    }
}

/// A checksum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Checksum {
    algorithm: Algorithm,
    digest: Vec<u8>,
}

/// Why a text is no checksum.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not a {algorithm} checksum, which has {} hexadecimal digits", algorithm.bytes() * 2)]
pub(crate) struct InvalidChecksum {
    algorithm: Algorithm,
    text: String,
}

impl Checksum {
    /// Reads hexadecimal digits.
    fn parse(algorithm: Algorithm, text: &str) -> Result<Self, InvalidChecksum> {
        let digits: Option<Vec<u32>> = text.chars().map(|c| c.to_digit(16)).collect();
        match digits {
            Some(digits) if digits.len() == algorithm.bytes() * 2 => Ok(Self {
                algorithm,
                // Two digits below 16 fit.
                digest: digits
                    .chunks_exact(2)
                    .map(|pair| (pair[0] << 4 | pair[1]) as u8)
                    .collect(),
            }),
            _ => Err(InvalidChecksum {
                algorithm,
                text: text.to_owned(),
            }),
        }
    }

    /// How it is computed.
    pub(crate) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.digest
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A checksum given as `--sha256`.
#[derive(Debug, Clone)]
pub(crate) struct Sha256Sum(pub(crate) Checksum);

impl FromStr for Sha256Sum {
    type Err = InvalidChecksum;

    fn from_str(text: &str) -> Result<Self, InvalidChecksum> {
        Checksum::parse(Algorithm::Sha256, text).map(Self)
    }
}

/// A checksum given as `--sha512`.
#[derive(Debug, Clone)]
pub(crate) struct Sha512Sum(pub(crate) Checksum);

impl FromStr for Sha512Sum {
    type Err = InvalidChecksum;

    fn from_str(text: &str) -> Result<Self, InvalidChecksum> {
        Checksum::parse(Algorithm::Sha512, text).map(Self)
    }
}

/// Computes a checksum as bytes come.
#[derive(Debug, Clone)]
pub(crate) enum Summer {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Summer {
    /// With nothing in it yet.
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(Sha256::new()),
            Algorithm::Sha512 => Self::Sha512(Sha512::new()),
        }
    }

    /// Takes in the next bytes.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }

    /// The checksum of all that came.
    pub(crate) fn finish(self) -> Checksum {
        match self {
            Self::Sha256(hasher) => Checksum {
                algorithm: Algorithm::Sha256,
                digest: hasher.finalize().to_vec(),
            },
            Self::Sha512(hasher) => Checksum {
                algorithm: Algorithm::Sha512,
                digest: hasher.finalize().to_vec(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standards_examples_come_out() {
        // FIPS 180-4, the message "abc".
        for (algorithm, expected) in [
            (
                Algorithm::Sha256,
                "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            ),
            (
                Algorithm::Sha512,
                "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
                 2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
            ),
        ] {
            let mut summer = Summer::new(algorithm);
            summer.update(b"a");
            summer.update(b"bc");
            let sum = summer.finish();
            assert_eq!(sum.to_string(), expected);
            assert_eq!(Checksum::parse(algorithm, expected), Ok(sum));
        }
    }

    #[test]
    fn what_has_not_the_right_digits_is_no_checksum() {
        let right = "Ab".repeat(32);
        assert_eq!(
            right.parse::<Sha256Sum>().unwrap().0.to_string(),
            "ab".repeat(32)
        );
        for wrong in [
            "",
            "ab",
            &right[1..],
            &format!("{right}a"),
            &format!("{}g", &right[1..]),
            &format!("+{}", &right[1..]),
            &"é".repeat(32),
        ] {
            assert!(wrong.parse::<Sha256Sum>().is_err(), "{wrong:?}");
        }
        assert!(right.parse::<Sha512Sum>().is_err());
    }
}

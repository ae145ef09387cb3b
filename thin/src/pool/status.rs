//! What a pool says of itself: reading the `thin-pool` status line. Pure.
//!
//! ```text
//! <transaction id> <used>/<total metadata blocks> <used>/<total data blocks> <held root>|-
//!     rw|ro|out_of_data_space  discard_passdown|no_discard_passdown|ignore_discard
//!     error_if_no_space|queue_if_no_space  needs_check|-  <metadata low watermark>
//! ```
//!
//! or `Fail`, or `Error`. Older kernels end sooner and newer ones may add words; only what is there is
//! believed, and words that mean nothing here are passed over.

use std::fmt;

use crate::id::TransactionId;
use crate::units::Bytes;

/// The kernel's metadata block, in which usage is counted (`THIN_METADATA_BLOCK_SIZE`).
const METADATA_BLOCK_BYTES: u64 = 4096;

/// Whether a pool can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PoolMode {
    /// Yes.
    ReadWrite,
    /// No: it has met an error, or has no room for metadata.
    ReadOnly,
    /// Only where space is allocated already.
    OutOfDataSpace,
    /// It does not even read.
    Fail,
}

impl fmt::Display for PoolMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReadWrite => "read-write",
            Self::ReadOnly => "read-only",
            Self::OutOfDataSpace => "out of data space",
            Self::Fail => "failed",
        })
    }
}

/// What becomes of the discards of volumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Discards {
    /// They free chunks, and go on to the backing.
    Passdown,
    /// They free chunks only.
    NoPassdown,
    /// Nothing: the pool ignores them.
    Ignored,
}

/// How full something is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Usage {
    /// Taken.
    pub used: Bytes,
    /// Taken and free.
    pub total: Bytes,
}

impl Usage {
    /// What is left.
    pub const fn free(self) -> Bytes {
        self.total.saturating_sub(self.used)
    }

    /// How much of it is taken, in percent, rounded up: 100 only if nothing is left.
    pub fn percent(self) -> u8 {
        if self.free() == Bytes(0) {
            return 100;
        }
        let (used, total) = (u128::from(self.used.0), u128::from(self.total.0));
        (used * 100).div_ceil(total).min(99) as u8
    }
}

/// A pool's status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolStatus {
    /// The last transaction it holds.
    pub transaction: TransactionId,
    /// Room for the kernel's notes.
    pub metadata: Usage,
    /// Room for blocks of volumes.
    pub data: Usage,
    /// Whether it can be written.
    pub mode: PoolMode,
    /// It must not be used before it has been checked.
    pub needs_check: bool,
    /// What becomes of discards.
    pub discards: Discards,
    /// A full pool fails writes, instead of holding them back.
    pub error_if_no_space: bool,
    /// The block of a metadata snapshot, if somebody holds one.
    pub held_metadata_root: Option<u64>,
    /// The kernel sends an event when less metadata than this is free; `None` if it does not say.
    pub metadata_low_water: Option<Bytes>,
}

impl PoolStatus {
    /// Whether everything works and everything may be trusted.
    pub fn is_well(&self) -> bool {
        self.mode == PoolMode::ReadWrite && !self.needs_check
    }

    /// Whether its metadata can be changed, even if it has no room for data left.
    pub fn takes_metadata(&self) -> bool {
        matches!(self.mode, PoolMode::ReadWrite | PoolMode::OutOfDataSpace) && !self.needs_check
    }

    /// How it is, in words: `read-write`, `read-only and has to be checked`.
    pub fn health(&self) -> String {
        let check = if self.needs_check {
            " and has to be checked"
        } else {
            ""
        };
        format!("{}{check}", self.mode)
    }

    /// Reads a status line; `None` if it is not one. A pool that failed tells no numbers: they are zero.
    pub fn parse(line: &str, chunk: Bytes) -> Option<Self> {
        let line = line.trim();
        if line == "Fail" || line == "Error" {
            return Some(Self {
                mode: PoolMode::Fail,
                ..Self::empty()
            });
        }
        let mut words = line.split_ascii_whitespace();
        let transaction = TransactionId(words.next()?.parse().ok()?);
        let metadata = usage(words.next()?, METADATA_BLOCK_BYTES)?;
        let data = usage(words.next()?, chunk.0)?;
        let held_metadata_root = match words.next()? {
            "-" => None,
            root => Some(root.parse().ok()?),
        };
        let mut status = Self {
            transaction,
            metadata,
            data,
            held_metadata_root,
            ..Self::empty()
        };
        let mut mode = None;
        for word in words {
            match word {
                "rw" => mode = Some(PoolMode::ReadWrite),
                "ro" => mode = Some(PoolMode::ReadOnly),
                "out_of_data_space" => mode = Some(PoolMode::OutOfDataSpace),
                "discard_passdown" => status.discards = Discards::Passdown,
                "no_discard_passdown" => status.discards = Discards::NoPassdown,
                "ignore_discard" => status.discards = Discards::Ignored,
                "error_if_no_space" => status.error_if_no_space = true,
                "queue_if_no_space" => status.error_if_no_space = false,
                "needs_check" => status.needs_check = true,
                number => {
                    if let Ok(blocks) = number.parse::<u64>() {
                        status.metadata_low_water =
                            blocks.checked_mul(METADATA_BLOCK_BYTES).map(Bytes);
                    }
                }
            }
        }
        // Without a mode nobody knows whether it can be written: not a status to act on.
        status.mode = mode?;
        Some(status)
    }

    fn empty() -> Self {
        Self {
            transaction: TransactionId(0),
            metadata: Usage::default(),
            data: Usage::default(),
            mode: PoolMode::Fail,
            needs_check: false,
            discards: Discards::Ignored,
            error_if_no_space: false,
            held_metadata_root: None,
            metadata_low_water: None,
        }
    }
}

/// `used/total`, in blocks of so many bytes.
fn usage(word: &str, block_bytes: u64) -> Option<Usage> {
    let (used, total) = word.split_once('/')?;
    let bytes = |blocks: &str| -> Option<Bytes> {
        blocks
            .parse::<u64>()
            .ok()?
            .checked_mul(block_bytes)
            .map(Bytes)
    };
    Some(Usage {
        used: bytes(used)?,
        total: bytes(total)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK: Bytes = Bytes::kib(64);

    fn parse(line: &str) -> Option<PoolStatus> {
        PoolStatus::parse(line, CHUNK)
    }

    #[test]
    fn a_healthy_pool() {
        let status =
            parse("42 18/4096 30/16384 - rw discard_passdown error_if_no_space - 1024 ").unwrap();
        assert_eq!(
            status,
            PoolStatus {
                transaction: TransactionId(42),
                metadata: Usage {
                    used: Bytes::kib(72),
                    total: Bytes::mib(16)
                },
                data: Usage {
                    used: Bytes::kib(30 * 64),
                    total: Bytes::gib(1)
                },
                mode: PoolMode::ReadWrite,
                needs_check: false,
                discards: Discards::Passdown,
                error_if_no_space: true,
                held_metadata_root: None,
                metadata_low_water: Some(Bytes::mib(4)),
            }
        );
        assert!(status.is_well());
    }

    #[test]
    fn ailing_pools() {
        for (line, health) in [
            (
                "1 1/2 3/4 - ro discard_passdown error_if_no_space needs_check 4",
                "read-only and has to be checked",
            ),
            (
                "1 1/2 4/4 - out_of_data_space discard_passdown error_if_no_space - 4",
                "out of data space",
            ),
            (
                "1 1/2 3/4 - rw discard_passdown error_if_no_space needs_check 4",
                "read-write and has to be checked",
            ),
            ("Fail", "failed"),
            ("Error", "failed"),
        ] {
            let status = parse(line).unwrap();
            assert!(!status.is_well(), "{line}");
            assert_eq!(status.health(), health);
        }
    }

    #[test]
    fn words_of_older_and_newer_kernels() {
        // Without the watermark and the check flag, as Linux 3.x had it.
        let old = parse("0 1/2 3/4 77 rw no_discard_passdown queue_if_no_space").unwrap();
        assert_eq!(old.discards, Discards::NoPassdown);
        assert_eq!(old.held_metadata_root, Some(77));
        assert_eq!(old.metadata_low_water, None);
        assert!(!old.error_if_no_space && old.is_well());
        let ignoring = parse("0 1/2 3/4 - rw ignore_discard error_if_no_space - 9").unwrap();
        assert_eq!(ignoring.discards, Discards::Ignored);
        assert!(parse("0 1/2 3/4 - rw discard_passdown some_new_word - 9").is_some());
    }

    #[test]
    fn what_is_not_a_status_is_not_read_as_one() {
        for line in [
            "",
            "rw",
            "1 1/2 3/4",
            "1 1/2 3/4 -",
            "1 1/2 3/4 - -",
            "x 1/2 3/4 - rw",
            "-1 1/2 3/4 - rw",
            "1 12 3/4 - rw",
            "1 1/2 3/ - rw",
            "1 1/2 3/18446744073709551615 - rw",
            "1 1/2 3/4 x rw",
            "Failing",
        ] {
            assert_eq!(parse(line), None, "{line:?}");
        }
    }

    #[test]
    fn percent_says_full_only_when_full() {
        let usage = |used, total| {
            Usage {
                used: Bytes(used),
                total: Bytes(total),
            }
            .percent()
        };
        assert_eq!(usage(0, 100), 0);
        assert_eq!(usage(1, 1000), 1);
        assert_eq!(usage(700, 1000), 70);
        assert_eq!(usage(999_999, 1_000_000), 99);
        assert_eq!(usage(100, 100), 100);
        assert_eq!(usage(0, 0), 100);
        assert_eq!(usage(u64::MAX - 1, u64::MAX), 99);
    }
}

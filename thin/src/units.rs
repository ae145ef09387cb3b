//! Quantities: bytes and 512-byte sectors, so that one is never taken for the other.

use std::fmt;
use std::ops::{Add, Sub};

use serde::{Deserialize, Serialize};

/// Bytes in one sector of the block layer (`SECTOR_SIZE` in `linux/blk_types.h`).
pub const SECTOR_BYTES: u64 = 512;

/// A number of bytes.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Bytes(pub u64);

impl Bytes {
    /// So many KiB.
    pub const fn kib(n: u64) -> Self {
        Self(n << 10)
    }

    /// So many MiB.
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }

    /// So many GiB.
    pub const fn gib(n: u64) -> Self {
        Self(n << 30)
    }

    /// The whole sectors in it; a part of a sector does not count.
    pub const fn sectors(self) -> Sectors {
        Sectors(self.0 / SECTOR_BYTES)
    }

    /// The largest multiple of `unit` that is not larger; itself if `unit` is zero.
    pub const fn round_down(self, unit: Self) -> Self {
        match self.0.checked_rem(unit.0) {
            Some(rest) => Self(self.0 - rest),
            None => self,
        }
    }

    /// The smallest multiple of `unit` that is not smaller, or `None` where that overflows.
    pub const fn round_up(self, unit: Self) -> Option<Self> {
        if unit.0 == 0 {
            return Some(self);
        }
        match self.0.checked_next_multiple_of(unit.0) {
            Some(bytes) => Some(Self(bytes)),
            None => None,
        }
    }

    /// Whether it is a whole number of `unit`s.
    pub const fn is_multiple_of(self, unit: Self) -> bool {
        self.0.is_multiple_of(unit.0)
    }

    /// What is left after taking `other` away, nothing if that is more.
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Add for Bytes {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl Sub for Bytes {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
}

impl fmt::Display for Bytes {
    /// Exact, in the largest unit that divides it: `64 KiB`, `1000 bytes`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
            if self.0 != 0 && self.0.trailing_zeros() >= shift {
                return write!(f, "{} {unit}", self.0 >> shift);
            }
        }
        write!(f, "{} bytes", self.0)
    }
}

/// A number of 512-byte sectors, the unit of device-mapper tables.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Sectors(pub u64);

impl Sectors {
    /// The same length in bytes, or `None` where that overflows.
    pub const fn checked_bytes(self) -> Option<Bytes> {
        match self.0.checked_mul(SECTOR_BYTES) {
            Some(bytes) => Some(Bytes(bytes)),
            None => None,
        }
    }
}

impl fmt::Display for Sectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} sectors", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_exactly() {
        for (bytes, text) in [
            (Bytes(0), "0 bytes"),
            (Bytes(1000), "1000 bytes"),
            (Bytes::kib(64), "64 KiB"),
            (Bytes::mib(1536), "1536 MiB"),
            (Bytes::gib(2048), "2 TiB"),
        ] {
            assert_eq!(bytes.to_string(), text);
        }
    }

    #[test]
    fn rounding_keeps_multiples_and_never_overflows() {
        let unit = Bytes::kib(64);
        assert_eq!(Bytes(65537).round_down(unit), unit);
        assert_eq!(Bytes(65537).round_up(unit), Some(Bytes::kib(128)));
        assert_eq!(unit.round_up(unit), Some(unit));
        assert_eq!(Bytes(u64::MAX).round_up(unit), None);
        assert_eq!(Bytes(7).round_down(Bytes(0)), Bytes(7));
        assert_eq!(Sectors(u64::MAX).checked_bytes(), None);
    }
}

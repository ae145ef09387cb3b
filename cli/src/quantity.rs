//! Sizes and durations as people write and read them.
//!
//! Units are powers of 1024, in both directions: `6G` and `6GiB` are the same.

use fvm_vmm::api::{DiskSize, TTL_S};
use std::{fmt, str::FromStr, time::Duration};

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) u64);

/// Why a size or a duration was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidQuantity {
    /// Not a size.
    #[error("'{0}' is not a size: use a whole number with K, M, G or T, such as 6G")]
    Size(String),
    /// A size without a unit that nobody can mean.
    #[error("'{0}' would be {0} bytes: add a unit, such as {0}G")]
    NoUnit(u64),
    /// Not a size of memory.
    #[error("'{0}' is not an amount of memory: use whole MiB (512) or a unit (512M, 4G)")]
    Memory(String),
    /// Not a time to live.
    #[error("'{0}' is not a time to live: use minutes, hours, days or weeks (30m, 8h, 7d, 2w)")]
    TimeToLive(String),
    /// Not a duration.
    #[error("'{0}' is not a duration: use seconds (90) or a unit (90s, 5m, 1h)")]
    Duration(String),
}

/// Splits `6GiB` into 6 and `GiB`.
fn split(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit.trim_start()))
}

/// Bytes of `number` units, or nothing if the unit is unknown or the product too large.
fn bytes_of(number: u64, unit: &str) -> Option<u64> {
    let power = match unit.to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        "K" | "KIB" => 1,
        "M" | "MIB" => 2,
        "G" | "GIB" => 3,
        "T" | "TIB" => 4,
        _ => return None,
    };
    number.checked_mul(1024_u64.pow(power))
}

impl FromStr for Bytes {
    type Err = InvalidQuantity;

    fn from_str(text: &str) -> Result<Self, InvalidQuantity> {
        let invalid = || InvalidQuantity::Size(text.to_owned());
        let (number, unit) = split(text).ok_or_else(invalid)?;
        if unit.is_empty() && number < 4096 {
            return Err(InvalidQuantity::NoUnit(number));
        }
        bytes_of(number, unit).map(Self).ok_or_else(invalid)
    }
}

/// Reads the size that a disk is to have: `20G`, or `+5G` for so much more than it has.
pub(crate) fn disk_size(text: &str) -> Result<DiskSize, InvalidQuantity> {
    match text.strip_prefix('+') {
        Some(more) => more.parse().map(|Bytes(bytes)| DiskSize::By(bytes)),
        None => text.parse().map(|Bytes(bytes)| DiskSize::To(bytes)),
    }
}

impl fmt::Display for Bytes {
    /// `512 B`, `2.0 GiB`, `61 MiB`: two figures at least, the unit that keeps the number below 1024.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        let mut value = self.0 as f64;
        let mut unit = 0;
        // What would be rounded to 1024 belongs to the next unit.
        while value >= 1023.5 && unit + 1 < UNITS.len() {
            value /= 1024.0;
            unit += 1;
        }
        let decimals = usize::from(unit > 0 && value < 9.95);
        f.pad(&format!("{value:.decimals$} {}", UNITS[unit]))
    }
}

/// An amount of memory in MiB: `512` and `512M` are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mebibytes(pub(crate) u64);

impl FromStr for Mebibytes {
    type Err = InvalidQuantity;

    fn from_str(text: &str) -> Result<Self, InvalidQuantity> {
        const MIB: u64 = 1024 * 1024;
        let invalid = || InvalidQuantity::Memory(text.to_owned());
        let (number, unit) = split(text).ok_or_else(invalid)?;
        let bytes = bytes_of(number, if unit.is_empty() { "M" } else { unit });
        match bytes {
            Some(bytes) if bytes > 0 && bytes.is_multiple_of(MIB) => Ok(Self(bytes / MIB)),
            _ => Err(invalid()),
        }
    }
}

/// A duration of at least a second: `90`, `90s`, `5m`, `1h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seconds(pub(crate) u32);

impl Seconds {
    /// The same for a clock.
    pub(crate) fn duration(self) -> Duration {
        Duration::from_secs(self.0.into())
    }
}

impl FromStr for Seconds {
    type Err = InvalidQuantity;

    fn from_str(text: &str) -> Result<Self, InvalidQuantity> {
        let invalid = || InvalidQuantity::Duration(text.to_owned());
        let (number, unit) = split(text).ok_or_else(invalid)?;
        let factor = match unit {
            "" | "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return Err(invalid()),
        };
        let seconds = number
            .checked_mul(factor)
            .and_then(|seconds| u32::try_from(seconds).ok());
        match seconds {
            Some(seconds) if seconds > 0 => Ok(Self(seconds)),
            _ => Err(invalid()),
        }
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s", self.0)
    }
}

/// Reads how long a VM is to be kept, in seconds: `30m`, `8h`, `7d`, `2w`.
pub(crate) fn time_to_live(text: &str) -> Result<u64, InvalidQuantity> {
    let invalid = || InvalidQuantity::TimeToLive(text.to_owned());
    let (number, unit) = split(text).ok_or_else(invalid)?;
    let factor = match unit {
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        "w" => 604_800,
        _ => return Err(invalid()),
    };
    number
        .checked_mul(factor)
        .filter(|seconds| TTL_S.contains(seconds))
        .ok_or_else(invalid)
}

/// How long something has been going on, roughly: `12s`, `5m 3s`, `2h 10m`, `3d 4h`.
pub(crate) fn rough_duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, _, _) => format!("{hours}h {}m", minutes % 60),
        (..) => format!("{days}d {}h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [
            ("6G", 6 << 30),
            ("10GiB", 10 << 30),
            ("10 gib", 10 << 30),
            ("512M", 512 << 20),
            ("1t", 1 << 40),
            ("65536", 65536),
            ("512B", 512),
            ("0K", 0),
        ] {
            assert_eq!(text.parse::<Bytes>(), Ok(Bytes(bytes)), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in [
            "",
            "G",
            "x",
            "-6G",
            "+6G",
            "1.5G",
            "6GB",
            "6Gi",
            "6G6",
            "99999999T",
            "6",
        ] {
            assert!(text.parse::<Bytes>().is_err(), "{text} was accepted");
        }
        assert_eq!("6".parse::<Bytes>(), Err(InvalidQuantity::NoUnit(6)));
    }

    #[test]
    fn a_disk_is_told_its_size_or_how_much_more() {
        assert_eq!(disk_size("20G"), Ok(DiskSize::To(20 << 30)));
        assert_eq!(disk_size("+512M"), Ok(DiskSize::By(512 << 20)));
        for text in ["", "+", "+-5G", "++5G", "-5G", "5", "+5"] {
            assert!(disk_size(text).is_err(), "{text} was accepted");
        }
    }

    #[test]
    fn sizes_are_shown_with_two_figures() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (61 << 20, "61 MiB"),
            (2 << 30, "2.0 GiB"),
            ((2 << 30) - 1, "2.0 GiB"),
            ((1 << 30) - 1, "1.0 GiB"),
            (20 << 30, "20 GiB"),
            (u64::MAX, "16 EiB"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), text, "{bytes}");
        }
    }

    #[test]
    fn memory_is_in_mib_unless_said_otherwise() {
        assert_eq!("512".parse(), Ok(Mebibytes(512)));
        assert_eq!("512M".parse(), Ok(Mebibytes(512)));
        assert_eq!("4G".parse(), Ok(Mebibytes(4096)));
        assert_eq!("2048K".parse(), Ok(Mebibytes(2)));
        for text in ["", "0", "1K", "x", "-1", "512MB"] {
            assert!(text.parse::<Mebibytes>().is_err(), "{text} was accepted");
        }
    }

    #[test]
    fn durations_are_read() {
        for (text, seconds) in [("90", 90), ("90s", 90), ("5m", 300), ("1h", 3600)] {
            assert_eq!(text.parse(), Ok(Seconds(seconds)), "{text}");
        }
        for text in ["", "0", "0s", "-1", "1.5s", "5 parsecs", "9999999999h"] {
            assert!(text.parse::<Seconds>().is_err(), "{text} was accepted");
        }
    }

    #[test]
    fn times_to_live_are_read() {
        for (text, seconds) in [
            ("1m", 60),
            ("8h", 28_800),
            ("7d", 604_800),
            ("2w", 1_209_600),
        ] {
            assert_eq!(time_to_live(text), Ok(seconds), "{text}");
        }
        for text in ["", "8", "0h", "1s", "-8h", "1.5h", "999w", "9999999999999w"] {
            assert!(time_to_live(text).is_err(), "{text} was accepted");
        }
    }

    #[test]
    fn durations_are_shown_roughly() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (61, "1m 1s"),
            (7800, "2h 10m"),
            (273_600, "3d 4h"),
        ] {
            assert_eq!(rough_duration(seconds), text);
        }
    }
}

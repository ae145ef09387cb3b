//! VM numbers, and the sets of them that a command line names.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// The number of a VM: the host part of its address.
pub type VmNumber = u32;

/// More VMs than any one request may name.
const MAX_VMS: usize = 4096;

/// Why a list of VM numbers was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidVmSet {
    /// Nothing was named.
    #[error("no VM number given")]
    Empty,
    /// Not a number or a range.
    #[error("'{0}' is not a VM number: use 42, 42,44 or 50-59")]
    NotANumber(String),
    /// A range whose end comes before its start.
    #[error("the range {0}-{1} runs backwards")]
    Backwards(VmNumber, VmNumber),
    /// More than one request may name.
    #[error("more than {MAX_VMS} VMs named")]
    TooMany,
}

/// A set of VM numbers, ascending and without repeats: `42`, `42,44`, `50-59`, `'41 42'`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<VmNumber>", into = "Vec<VmNumber>")]
pub struct VmSet(Vec<VmNumber>);

impl VmSet {
    /// The union of several sets, as several arguments of a command name it.
    ///
    /// # Errors
    /// When nothing, or too much, is named.
    pub fn union(sets: impl IntoIterator<Item = Self>) -> Result<Self, InvalidVmSet> {
        sets.into_iter()
            .flat_map(|set| set.0)
            .collect::<Vec<_>>()
            .try_into()
    }

    /// The numbers, ascending.
    pub fn numbers(&self) -> &[VmNumber] {
        &self.0
    }
}

impl TryFrom<Vec<VmNumber>> for VmSet {
    type Error = InvalidVmSet;

    fn try_from(mut numbers: Vec<VmNumber>) -> Result<Self, InvalidVmSet> {
        numbers.sort_unstable();
        numbers.dedup();
        match numbers.len() {
            0 => Err(InvalidVmSet::Empty),
            n if n > MAX_VMS => Err(InvalidVmSet::TooMany),
            _ => Ok(Self(numbers)),
        }
    }
}

impl From<VmSet> for Vec<VmNumber> {
    fn from(set: VmSet) -> Self {
        set.0
    }
}

impl From<VmNumber> for VmSet {
    fn from(number: VmNumber) -> Self {
        Self(vec![number])
    }
}

impl FromStr for VmSet {
    type Err = InvalidVmSet;

    fn from_str(text: &str) -> Result<Self, InvalidVmSet> {
        let number = |part: &str| {
            // `parse` alone would take "+42".
            if part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) {
                return Err(InvalidVmSet::NotANumber(
                    part.escape_debug().take(40).collect(),
                ));
            }
            part.parse::<VmNumber>()
                .map_err(|_| InvalidVmSet::NotANumber(part.chars().take(40).collect()))
        };
        let mut numbers = Vec::new();
        let parts = text
            .split([',', ' ', '\t', '\n'])
            .filter(|part| !part.is_empty());
        for part in parts {
            if let Some((first, last)) = part.split_once('-') {
                let (first, last) = (number(first)?, number(last)?);
                if first > last {
                    return Err(InvalidVmSet::Backwards(first, last));
                }
                if (last - first) as usize >= MAX_VMS {
                    return Err(InvalidVmSet::TooMany);
                }
                numbers.extend(first..=last);
            } else {
                numbers.push(number(part)?);
            }
            if numbers.len() > MAX_VMS * 2 {
                return Err(InvalidVmSet::TooMany);
            }
        }
        numbers.try_into()
    }
}

impl fmt::Display for VmSet {
    /// The shortest way to write it: `42,44,50-59`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        let mut rest = self.0.as_slice();
        while let Some(&first) = rest.first() {
            let run = rest
                .iter()
                .zip(first..)
                .take_while(|&(&n, expected)| n == expected)
                .count();
            match run {
                1 => write!(f, "{separator}{first}")?,
                _ => write!(f, "{separator}{first}-{}", rest[run - 1])?,
            }
            rest = &rest[run..];
            separator = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> Vec<VmNumber> {
        text.parse::<VmSet>().unwrap().into()
    }

    #[test]
    fn every_documented_spelling_is_read() {
        assert_eq!(set("42"), [42]);
        assert_eq!(set("42,44"), [42, 44]);
        assert_eq!(set("50-53"), [50, 51, 52, 53]);
        assert_eq!(set("42 43"), [42, 43]);
        assert_eq!(set("44,42-43, 42"), [42, 43, 44]);
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in [
            "",
            ",",
            "x",
            "-1",
            "4-",
            "1-2-3",
            "9-5",
            "+4",
            "99999999999",
            "0-99999999",
            "4\u{1b}",
        ] {
            assert!(bad.parse::<VmSet>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn shown_as_short_as_possible_and_read_back() {
        for text in ["42", "42,44", "50-59", "1-2,4,6-8"] {
            assert_eq!(text.parse::<VmSet>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn json_goes_through_the_same_check() {
        assert!(serde_json::from_str::<VmSet>("[]").is_err());
        assert_eq!(
            serde_json::from_str::<VmSet>("[3,1,3]").unwrap().numbers(),
            [1, 3]
        );
    }
}

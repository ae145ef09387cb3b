//! VM numbers, and the sets of them that a command line names.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, str::FromStr};

/// The number of a VM, which is the host part of its address; or `base`, for the VM that edits an image itself.
///
/// In JSON it is a number, or the word `base`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VmNumber(u32);

impl VmNumber {
    /// The VM that edits an image itself. No VM has the number 0: there the address would be the subnet's own.
    pub const BASE: Self = Self(0);

    /// A VM's number.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// True for `base`.
    pub fn is_base(self) -> bool {
        self == Self::BASE
    }

    /// The number as the state store and names on disk have it: 0 for `base`.
    pub fn get(self) -> u32 {
        self.0
    }
}

/// The word that stands for [`VmNumber::BASE`].
const BASE_WORD: &str = "base";

impl From<u32> for VmNumber {
    fn from(number: u32) -> Self {
        Self(number)
    }
}

impl fmt::Display for VmNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_base() {
            f.pad(BASE_WORD)
        } else {
            fmt::Display::fmt(&self.0, f)
        }
    }
}

impl FromStr for VmNumber {
    type Err = InvalidVmSet;

    fn from_str(text: &str) -> Result<Self, InvalidVmSet> {
        if text == BASE_WORD {
            return Ok(Self::BASE);
        }
        let refused = || InvalidVmSet::NotANumber(text.escape_debug().take(40).collect());
        // `parse` alone would take "+42".
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(refused());
        }
        match text.parse() {
            Ok(number @ 1..) => Ok(Self(number)),
            _ => Err(refused()),
        }
    }
}

impl Serialize for VmNumber {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.is_base() {
            serializer.serialize_str(BASE_WORD)
        } else {
            serializer.serialize_u32(self.0)
        }
    }
}

impl<'de> Deserialize<'de> for VmNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Number(u32),
            Word(String),
        }
        match Form::deserialize(deserializer)? {
            Form::Number(number @ 1..) => Ok(Self(number)),
            Form::Word(word) if word == BASE_WORD => Ok(Self::BASE),
            _ => Err(de::Error::custom("not a VM number")),
        }
    }
}

/// More VMs than any one request may name.
const MAX_VMS: usize = 4096;

/// Why a list of VM numbers was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidVmSet {
    /// Nothing was named.
    #[error("no VM number given")]
    Empty,
    /// Not a number or a range.
    #[error("'{0}' is not a VM number: use 42, 42,44, 50-59 or base")]
    NotANumber(String),
    /// A range whose end comes before its start.
    #[error("the range {0}-{1} runs backwards")]
    Backwards(VmNumber, VmNumber),
    /// More than one request may name.
    #[error("more than {MAX_VMS} VMs named")]
    TooMany,
}

/// A set of VM numbers, ascending and without repeats: `42`, `42,44`, `50-59`, `'41 42'`, `base`.
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
        let mut numbers = Vec::new();
        let parts = text
            .split([',', ' ', '\t', '\n'])
            .filter(|part| !part.is_empty());
        for part in parts {
            if let Some((first, last)) = part.split_once('-') {
                let (first, last): (VmNumber, VmNumber) = (first.parse()?, last.parse()?);
                if first.is_base() || last.is_base() {
                    return Err(InvalidVmSet::NotANumber(part.to_owned()));
                }
                if first > last {
                    return Err(InvalidVmSet::Backwards(first, last));
                }
                if (last.0 - first.0) as usize >= MAX_VMS {
                    return Err(InvalidVmSet::TooMany);
                }
                numbers.extend((first.0..=last.0).map(VmNumber));
            } else {
                numbers.push(part.parse()?);
            }
            if numbers.len() > MAX_VMS * 2 {
                return Err(InvalidVmSet::TooMany);
            }
        }
        numbers.try_into()
    }
}

impl fmt::Display for VmSet {
    /// The shortest way to write it: `base,42,44,50-59`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        let mut rest = self.0.as_slice();
        while let Some(&first) = rest.first() {
            let run = rest
                .iter()
                .zip(first.0..)
                .take_while(|&(n, expected)| n.0 == expected)
                .count();
            // The base VM is not the number before 1.
            let run = if first.is_base() { 1 } else { run };
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

    fn set(text: &str) -> Vec<u32> {
        let numbers: Vec<VmNumber> = text.parse::<VmSet>().unwrap().into();
        numbers.into_iter().map(VmNumber::get).collect()
    }

    #[test]
    fn every_documented_spelling_is_read() {
        assert_eq!(set("42"), [42]);
        assert_eq!(set("42,44"), [42, 44]);
        assert_eq!(set("50-53"), [50, 51, 52, 53]);
        assert_eq!(set("42 43"), [42, 43]);
        assert_eq!(set("44,42-43, 42"), [42, 43, 44]);
        assert_eq!(set("base"), [0]);
        assert_eq!(set("42,base"), [0, 42]);
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
            "1-99999999",
            "4\u{1b}",
            "0",
            "0-2",
            "Base",
            "base-3",
            "1-base",
        ] {
            assert!(bad.parse::<VmSet>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn shown_as_short_as_possible_and_read_back() {
        for text in ["42", "42,44", "50-59", "1-2,4,6-8", "base", "base,1-2,7"] {
            assert_eq!(text.parse::<VmSet>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn json_goes_through_the_same_check() {
        assert!(serde_json::from_str::<VmSet>("[]").is_err());
        assert!(serde_json::from_str::<VmSet>("[0]").is_err());
        assert!(serde_json::from_str::<VmSet>("[\"bass\"]").is_err());
        let read = serde_json::from_str::<VmSet>("[3,1,\"base\",3]").unwrap();
        assert_eq!(read.numbers(), [VmNumber::BASE, 1.into(), 3.into()]);
        assert_eq!(serde_json::to_string(&read).unwrap(), "[\"base\",1,3]");
    }
}

//! Names that users choose, checked where they enter.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{name}' is not a valid {what} name: use 1 to {max} letters, digits, '.', '-' or '_', beginning with a letter or digit"
)]
pub struct InvalidName {
    what: &'static str,
    name: String,
    max: usize,
}

fn check(what: &'static str, name: &str, max: usize) -> Result<(), InvalidName> {
    let ok = (1..=max).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
    if ok {
        Ok(())
    } else {
        // The name may be anything: keep control characters and its length off the terminal.
        let shown = name
            .chars()
            .take(max)
            .map(|c| if c.is_control() { '?' } else { c })
            .collect();
        Err(InvalidName {
            what,
            name: shown,
            max,
        })
    }
}

macro_rules! checked_name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                check($what, text, $max)?;
                Ok(Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

checked_name! {
    /// The name of an image: 1 to 64 letters, digits, `.`, `-` or `_`.
    ImageName, "image", 64
}

checked_name! {
    /// The name of a further disk among those of its VM: 1 to 20 letters, digits, `.`, `-` or `_`. A guest reads it as the
    /// disk's serial number, and a virtio disk's has no more (`VIRTIO_BLK_ID_BYTES` in Linux's `virtio_blk.h`).
    DiskName, "disk", 20
}

checked_name! {
    /// The name of a snapshot among those of its VM: 1 to 64 letters, digits, `.`, `-` or `_`.
    SnapshotName, "snapshot", 64
}

checked_name! {
    /// The name of a profile: 1 to 64 letters, digits, `.`, `-` or `_`. No image has the same.
    ProfileName, "profile", 64
}

checked_name! {
    /// The name of a group of VMs: 1 to 64 letters, digits, `.`, `-` or `_`.
    GroupName, "group", 64
}

checked_name! {
    /// The name of a VM as the host sees it, such as `fvm-debian-42`; the same alphabet, up to 96 long.
    VmName, "VM", 96
}

checked_name! {
    /// The name of a network: 1 to 11 letters, digits, `.`, `-` or `_`, so that its bridge can be called after it.
    NetworkName, "network", 11
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_on_every_way_in() {
        for good in ["debian", "Debian-13.1_x", "9front", "a"] {
            assert_eq!(good.parse::<ImageName>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            ".hidden",
            "-x",
            "a/b",
            "a b",
            "ä",
            "a\n",
            &"x".repeat(65),
        ] {
            assert!(bad.parse::<ImageName>().is_err(), "{bad:?} was accepted");
            let json = serde_json::to_string(bad).unwrap();
            assert!(
                serde_json::from_str::<ImageName>(&json).is_err(),
                "{bad:?} came in by JSON"
            );
        }
    }

    #[test]
    fn a_refused_name_is_shown_without_control_characters() {
        let error = "a\u{1b}[31m".parse::<ImageName>().unwrap_err().to_string();
        assert!(
            error.contains("a?[31m") && !error.contains('\u{1b}'),
            "{error}"
        );
    }
}

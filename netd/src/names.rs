//! Every name the kernel sees from this crate: links and nftables tables.
//!
//! A name is built here and parsed back here, so that reconcile can list exactly what is fvm's and
//! touch nothing else. Links have at most 15 bytes (`IFNAMSIZ` 16 with its NUL, `linux/if.h`).

use std::fmt;

/// The longest link name the kernel takes, in bytes (`IFNAMSIZ - 1`).
pub const LINK_NAME_MAX: usize = 15;

/// What every link name of fvm begins with.
pub const LINK_PREFIX: &str = "fvm";

/// The bridge of the default network. No tap has this name, since VM numbers begin at 1.
pub const DEFAULT_BRIDGE: &str = "fvm0";

/// The longest name of a network beside the default one, in bytes: what [`LINK_NAME_MAX`] leaves of its bridge's.
pub const NETWORK_NAME_MAX: usize = LINK_NAME_MAX - LINK_PREFIX.len() - 1;

/// The bridge of a network beside the default one: `fvm-lab`. No tap has such a name.
pub fn bridge_of(network: &str) -> String {
    format!("{LINK_PREFIX}-{network}")
}

/// The network whose bridge has this name, if it is one that [`bridge_of`] gives.
pub fn network_of(bridge: &str) -> Option<&str> {
    bridge.strip_prefix(LINK_PREFIX)?.strip_prefix('-')
}

/// The name of both nftables tables, `inet fvm` and `bridge fvm`.
pub const NFT_TABLE: &str = "fvm";

/// The largest VM number that link names hold: the host part of a /8.
pub const VM_NUMBER_MAX: u32 = 0xff_ffff;

/// The largest index of a network interface card of one VM.
pub const NIC_MAX: u8 = 15;

/// One network interface card of one VM: what a tap stands for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nic {
    vm: u32,
    index: u8,
}

/// A VM number or card index that has no link name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "VM {vm}, network card {index}: VM numbers are 1 to {VM_NUMBER_MAX} and cards 0 to {NIC_MAX}"
)]
pub struct NicError {
    /// The VM number asked for.
    pub vm: u32,
    /// The card index asked for.
    pub index: u8,
}

impl Nic {
    /// Network card `index` (0 is the first) of VM number `vm`.
    pub const fn new(vm: u32, index: u8) -> Result<Self, NicError> {
        if vm == 0 || vm > VM_NUMBER_MAX || index > NIC_MAX {
            return Err(NicError { vm, index });
        }
        Ok(Nic { vm, index })
    }

    /// The VM's number.
    pub const fn vm(self) -> u32 {
        self.vm
    }

    /// The card's index; 0 is the first.
    pub const fn index(self) -> u8 {
        self.index
    }

    /// The name of the card's tap: `fvm42`, or `fvm42.1` for the second card of VM 42.
    pub fn tap(self) -> String {
        match self.index {
            0 => format!("{LINK_PREFIX}{}", self.vm),
            index => format!("{LINK_PREFIX}{}.{index}", self.vm),
        }
    }

    /// The card whose tap has this name, or `None` if the name is not one that [`Nic::tap`] gives.
    pub fn from_tap(name: &str) -> Option<Self> {
        let rest = name.strip_prefix(LINK_PREFIX)?;
        let (vm, index) = rest.split_once('.').unwrap_or((rest, "0"));
        let nic = Nic::new(vm.parse().ok()?, index.parse().ok()?).ok()?;
        // Only the canonical spelling is ours: not `fvm042`, `fvm+42` or `fvm42.0`.
        (nic.tap() == name).then_some(nic)
    }
}

impl fmt::Display for Nic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.tap())
    }
}

impl fmt::Debug for Nic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nic({self})")
    }
}

/// Whether the kernel takes this as a link name (`dev_valid_name` in `net/core/dev.c`).
pub fn is_link_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= LINK_NAME_MAX
        && name != "."
        && name != ".."
        && !name
            .bytes()
            .any(|b| b == b'/' || b == b':' || b.is_ascii_whitespace() || b == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tap_name_fits_a_link() {
        // Length grows with each number, so the largest of both is the longest of all.
        let longest = Nic::new(VM_NUMBER_MAX, NIC_MAX).unwrap().tap();
        assert_eq!(longest, "fvm16777215.15");
        assert!(longest.len() <= LINK_NAME_MAX);
        assert!(is_link_name(&longest));
    }

    #[test]
    fn tap_names_are_parsed_back() {
        for (vm, index, name) in [
            (1, 0, "fvm1"),
            (42, 0, "fvm42"),
            (42, 1, "fvm42.1"),
            (VM_NUMBER_MAX, NIC_MAX, "fvm16777215.15"),
        ] {
            let nic = Nic::new(vm, index).unwrap();
            assert_eq!(nic.tap(), name);
            assert_eq!(Nic::from_tap(name), Some(nic));
        }
    }

    #[test]
    fn bridges_are_called_after_their_networks() {
        let longest = "n".repeat(NETWORK_NAME_MAX);
        assert!(is_link_name(&bridge_of(&longest)));
        assert_eq!(network_of(&bridge_of(&longest)), Some(longest.as_str()));
        for other in ["br-lab", "fvm0", "fvm42.1", "lab"] {
            assert_eq!(network_of(other), None, "{other}");
        }
    }

    #[test]
    fn names_of_others_are_not_ours() {
        for name in [
            DEFAULT_BRIDGE,
            "fvm",
            "fvm042",
            "fvm42.0",
            "fvm42.01",
            "fvm42.16",
            "fvm+42",
            "fvm-42",
            &bridge_of("lab"),
            "fvm42.",
            "fvm.1",
            "fvm16777216",
            "fvmbr",
            "vnet42",
            "xfvm42",
            "fvm42 ",
        ] {
            assert_eq!(Nic::from_tap(name), None, "{name}");
        }
    }

    #[test]
    fn numbers_without_a_name_are_refused() {
        assert!(Nic::new(0, 0).is_err());
        assert!(Nic::new(VM_NUMBER_MAX + 1, 0).is_err());
        assert!(Nic::new(1, NIC_MAX + 1).is_err());
    }

    #[test]
    fn link_names_are_judged_as_the_kernel_does() {
        for good in ["a", "fvm0", "fvm42.1", "123456789012345"] {
            assert!(is_link_name(good), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            "1234567890123456",
            "a/b",
            "a:b",
            "a b",
            "a\tb",
            "a\0",
        ] {
            assert!(!is_link_name(bad), "{bad:?}");
        }
    }
}

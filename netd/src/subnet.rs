//! IPv4 subnets: the arithmetic of "subnet base + N".

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An IPv4 subnet with at least two usable hosts (a /8 to a /30), its base address without host bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subnet {
    base: Ipv4Addr,
    prefix: u8,
}

/// A text or a pair of values that is not a subnet fvm can serve.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubnetError {
    /// Not of the form `a.b.c.d/n`.
    #[error("{0:?} is not a subnet; one looks like 192.168.22.0/24")]
    Syntax(String),
    /// The prefix is out of range.
    #[error("{base}/{prefix}: the prefix must be 8 to 30")]
    Prefix {
        /// The base address.
        base: Ipv4Addr,
        /// The prefix asked for.
        prefix: u8,
    },
    /// Bits are set beyond the prefix.
    #[error("{base}/{prefix} has host bits set; the subnet is {network}/{prefix}")]
    HostBits {
        /// The address given.
        base: Ipv4Addr,
        /// The prefix given.
        prefix: u8,
        /// The base it ought to have.
        network: Ipv4Addr,
    },
}

impl Subnet {
    /// The subnet with this base and prefix length.
    pub fn new(base: Ipv4Addr, prefix: u8) -> Result<Self, SubnetError> {
        if !(8..=30).contains(&prefix) {
            return Err(SubnetError::Prefix { base, prefix });
        }
        let network = Ipv4Addr::from_bits(base.to_bits() & mask_bits(prefix));
        if network != base {
            return Err(SubnetError::HostBits {
                base,
                prefix,
                network,
            });
        }
        Ok(Subnet { base, prefix })
    }

    /// The base address: the network address.
    pub const fn base(self) -> Ipv4Addr {
        self.base
    }

    /// The prefix length.
    pub const fn prefix(self) -> u8 {
        self.prefix
    }

    /// The netmask.
    pub const fn netmask(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(mask_bits(self.prefix))
    }

    /// The broadcast address of the subnet.
    pub const fn broadcast(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.base.to_bits() | !mask_bits(self.prefix))
    }

    /// The address `base + number`, or `None` if that is not a host address of the subnet.
    pub fn host(self, number: u32) -> Option<Ipv4Addr> {
        let host = Ipv4Addr::from_bits(self.base.to_bits().checked_add(number)?);
        self.is_host(host).then_some(host)
    }

    /// Whether the address lies in the subnet.
    pub const fn contains(self, address: Ipv4Addr) -> bool {
        address.to_bits() & mask_bits(self.prefix) == self.base.to_bits()
    }

    /// Whether the address is one that a host of the subnet can have.
    pub fn is_host(self, address: Ipv4Addr) -> bool {
        self.contains(address) && address != self.base && address != self.broadcast()
    }

    /// Whether the subnet and `base/prefix` share an address; any prefix length is accepted.
    pub const fn overlaps(self, base: Ipv4Addr, prefix: u8) -> bool {
        let shorter = if prefix < self.prefix {
            prefix
        } else {
            self.prefix
        };
        let mask = mask_bits(shorter);
        self.base.to_bits() & mask == base.to_bits() & mask
    }
}

/// The netmask of a prefix length, as bits; anything above 32 counts as 32.
pub(crate) const fn mask_bits(prefix: u8) -> u32 {
    match prefix {
        0 => 0,
        1..=32 => u32::MAX << (32 - prefix),
        33.. => u32::MAX,
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

impl fmt::Debug for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Subnet {
    type Err = SubnetError;

    fn from_str(text: &str) -> Result<Self, SubnetError> {
        let syntax = || SubnetError::Syntax(text.to_owned());
        let (base, prefix) = text.split_once('/').ok_or_else(syntax)?;
        let base = base.parse().map_err(|_| syntax())?;
        let prefix = prefix.parse().map_err(|_| syntax())?;
        Subnet::new(base, prefix)
    }
}

impl TryFrom<String> for Subnet {
    type Error = SubnetError;

    fn try_from(text: String) -> Result<Self, SubnetError> {
        text.parse()
    }
}

impl From<Subnet> for String {
    fn from(subnet: Subnet) -> String {
        subnet.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        text.parse().unwrap()
    }

    #[test]
    fn number_n_has_address_base_plus_n() {
        let lab = subnet("192.168.22.0/24");
        assert_eq!(lab.host(42), Some(Ipv4Addr::new(192, 168, 22, 42)));
        assert_eq!(lab.host(0), None, "the network address");
        assert_eq!(lab.host(255), None, "the broadcast address");
        assert_eq!(lab.host(256), None);
        assert_eq!(
            subnet("10.0.0.0/8").host(65_536),
            Some(Ipv4Addr::new(10, 1, 0, 0))
        );
        assert_eq!(subnet("255.0.0.0/8").host(u32::MAX), None);
    }

    #[test]
    fn masks() {
        assert_eq!(
            subnet("192.168.22.0/24").netmask(),
            Ipv4Addr::new(255, 255, 255, 0)
        );
        assert_eq!(
            subnet("10.0.0.4/30").netmask(),
            Ipv4Addr::new(255, 255, 255, 252)
        );
        assert_eq!(
            subnet("10.0.0.4/30").broadcast(),
            Ipv4Addr::new(10, 0, 0, 7)
        );
    }

    #[test]
    fn overlap_is_sharing_an_address() {
        let lab = subnet("192.168.22.0/24");
        for (base, prefix, shares) in [
            ([192, 168, 22, 0], 24, true),
            ([192, 168, 0, 0], 16, true),
            ([192, 168, 22, 128], 25, true),
            ([192, 168, 22, 7], 32, true),
            ([192, 168, 23, 0], 24, false),
            ([192, 168, 21, 255], 32, false),
            ([10, 0, 0, 0], 8, false),
            ([0, 0, 0, 0], 0, true),
        ] {
            assert_eq!(
                lab.overlaps(base.into(), prefix),
                shares,
                "{base:?}/{prefix}"
            );
        }
    }

    #[test]
    fn what_is_not_a_subnet_is_refused() {
        for text in [
            "",
            "192.168.22.0",
            "192.168.22.0/",
            "192.168.22.0/x",
            "192.168.22/24",
            "::/8",
        ] {
            assert!(
                matches!(text.parse::<Subnet>(), Err(SubnetError::Syntax(_))),
                "{text}"
            );
        }
        assert!(matches!(
            "10.0.0.0/7".parse::<Subnet>(),
            Err(SubnetError::Prefix { .. })
        ));
        assert!(matches!(
            "10.0.0.0/31".parse::<Subnet>(),
            Err(SubnetError::Prefix { .. })
        ));
        let error = "192.168.22.1/24".parse::<Subnet>().unwrap_err();
        assert!(error.to_string().contains("192.168.22.0/24"), "{error}");
    }
}

//! Ethernet addresses, and how a VM's is made.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::names::Nic;

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// The broadcast address.
    pub const BROADCAST: MacAddr = MacAddr([0xff; 6]);

    /// Whether this names one station: neither a group address nor all zeros.
    pub const fn is_station(self) -> bool {
        let [first, ..] = self.0;
        first & 1 == 0 && u64::from_be_bytes(self.widened()) != 0
    }

    const fn widened(self) -> [u8; 8] {
        let [a, b, c, d, e, f] = self.0;
        [0, 0, a, b, c, d, e, f]
    }

    /// The address of a VM's network card: the same after delete and create, different for every
    /// card of this host, and most likely different from those of other hosts.
    ///
    /// Layout: the card's index and the "locally administered" bit in the first byte (the quadrant
    /// IEEE 802c-2017 leaves to local administrators), 24 bits of the host's id, 16 bits of the VM's
    /// number. What a number has above 16 bits is added to the host's part without carry, so
    /// that two cards of one host never share an address.
    pub fn of_nic(host: &HostId, nic: Nic) -> MacAddr {
        derive(host, nic.vm(), nic.index())
    }

    /// The address of the bridge, which must not change when taps come and go: the place of VM 0.
    pub fn of_bridge(host: &HostId) -> MacAddr {
        derive(host, 0, 0)
    }

    /// The address of the bridge of a network beside the default one: one that no other of the host's is likely to
    /// have.
    pub fn of_network(host: &HostId, name: &str) -> MacAddr {
        let digest = Sha256::new()
            .chain_update(host.0)
            .chain_update(name)
            .finalize();
        let mut bytes = [0x02, 0, 0, 0, 0, 0];
        bytes
            .iter_mut()
            .skip(1)
            .zip(digest)
            .for_each(|(to, from)| *to = from);
        MacAddr(bytes)
    }
}

fn derive(host: &HostId, number: u32, index: u8) -> MacAddr {
    let [h0, h1, h2] = host.0;
    let [n0, n1, n2, n3] = number.to_be_bytes();
    MacAddr([index << 4 | 0x02, h0, h1 ^ n0, h2 ^ n1, n2, n3])
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not an Ethernet address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an Ethernet address (six hexadecimal bytes joined by colons)")]
pub struct MacError(String);

impl FromStr for MacAddr {
    type Err = MacError;

    fn from_str(text: &str) -> Result<Self, MacError> {
        let bad = || MacError(text.to_owned());
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().ok_or_else(bad)?;
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(bad());
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| bad())?;
        }
        match parts.next() {
            None => Ok(MacAddr(bytes)),
            Some(_) => Err(bad()),
        }
    }
}

impl TryFrom<String> for MacAddr {
    type Error = MacError;

    fn try_from(text: String) -> Result<Self, MacError> {
        text.parse()
    }
}

impl From<MacAddr> for String {
    fn from(mac: MacAddr) -> String {
        mac.to_string()
    }
}

/// What tells this host from others in the addresses it makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostId([u8; 3]);

/// The host's id could not be read.
#[derive(Debug, thiserror::Error)]
pub enum HostIdError {
    /// The file is not readable.
    #[error("cannot read the host's id from {path}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file holds no id, as on an image that was never booted.
    #[error("{path} holds no machine id; `systemd-machine-id-setup` makes one")]
    Empty {
        /// The file.
        path: String,
    },
}

impl HostId {
    /// The id of this host, from `/etc/machine-id`.
    pub fn of_this_host() -> Result<Self, HostIdError> {
        HostId::from_file(Path::new("/etc/machine-id"))
    }

    /// The id in a file like `/etc/machine-id` (machine-id(5)).
    pub fn from_file(path: &Path) -> Result<Self, HostIdError> {
        let shown = || path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|source| HostIdError::Read {
            path: shown(),
            source,
        })?;
        match text.trim() {
            "" | "uninitialized" => Err(HostIdError::Empty { path: shown() }),
            id => Ok(HostId::from_text(id)),
        }
    }

    /// The id made of any text that names a host.
    ///
    /// The text is hashed with a word of our own, as machine-id(5) asks: what leaves the host in
    /// packets must not give the machine id away.
    pub fn from_text(text: &str) -> Self {
        let digest = Sha256::new()
            .chain_update("fvm mac\0")
            .chain_update(text)
            .finalize();
        match digest.first_chunk() {
            Some(id) => HostId(*id),
            None => HostId([0; 3]),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::names::VM_NUMBER_MAX;

    #[test]
    fn text_form_round_trips_and_rejects_the_rest() {
        let mac: MacAddr = "52:54:00:AB:cd:01".parse().unwrap();
        assert_eq!(mac.to_string(), "52:54:00:ab:cd:01");
        assert_eq!(
            serde_json::to_string(&mac).unwrap(),
            "\"52:54:00:ab:cd:01\""
        );
        for bad in [
            "",
            "52:54:00:ab:cd",
            "52:54:00:ab:cd:01:02",
            "52-54-00-ab-cd-01",
            "5254:0:ab:cd:1:2",
            "+2:54:00:ab:cd:01",
            "52:54:00:ab:cd:zz",
        ] {
            assert!(bad.parse::<MacAddr>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_card_keeps_its_address() {
        let host = HostId::from_text("8f1c1a0e6d0b4d5bb2a5f5f0a1b2c3d4");
        let mac = MacAddr::of_nic(&host, Nic::new(42, 0).unwrap());
        // Fixed here on purpose: guests know this address, so a change would be seen by all of them.
        assert_eq!(mac.to_string(), "02:79:86:22:00:2a");
    }

    #[test]
    fn cards_of_one_host_never_share_an_address() {
        let host = HostId::from_text("a host");
        let mut seen = HashSet::from([MacAddr::of_bridge(&host)]);
        for vm in (1..=300)
            .chain(65_500..65_600)
            .chain(131_000..131_200)
            .chain([VM_NUMBER_MAX])
        {
            for index in [0, 1, 15] {
                let mac = MacAddr::of_nic(&host, Nic::new(vm, index).unwrap());
                assert!(mac.is_station());
                assert_eq!(mac.0[0] & 0x0f, 0x02, "locally administered");
                assert!(seen.insert(mac), "{vm} {index}");
            }
        }
    }

    #[test]
    fn hosts_differ() {
        let nic = Nic::new(42, 0).unwrap();
        assert_ne!(
            MacAddr::of_nic(&HostId::from_text("one"), nic),
            MacAddr::of_nic(&HostId::from_text("two"), nic)
        );
    }

    #[test]
    fn a_host_without_an_id_is_told_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("machine-id");
        assert!(matches!(
            HostId::from_file(&path),
            Err(HostIdError::Read { .. })
        ));
        for empty in ["", "\n", "uninitialized\n"] {
            std::fs::write(&path, empty).unwrap();
            assert!(matches!(
                HostId::from_file(&path),
                Err(HostIdError::Empty { .. })
            ));
        }
        std::fs::write(&path, "8f1c\n").unwrap();
        assert_eq!(HostId::from_file(&path).unwrap(), HostId::from_text("8f1c"));
    }
}

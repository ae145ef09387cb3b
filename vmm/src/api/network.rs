//! Networks that VMs are on.

use super::{NetworkName, REPORT_VERSION, VmNumber};
use serde::{Deserialize, Serialize};
use std::{fmt, net::Ipv4Addr, str::FromStr};

/// Where guests get to beyond their network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkMode {
    /// Out, behind the host's address.
    #[default]
    Nat,
    /// Out and in, by their own addresses.
    Route,
    /// To each other and to the host, no further.
    Isolated,
    /// They are on a bridge of the host's own, where others give addresses.
    Bridge,
}

impl NetworkMode {
    /// Every mode.
    pub const ALL: [Self; 4] = [Self::Nat, Self::Route, Self::Isolated, Self::Bridge];

    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nat => "nat",
            Self::Route => "route",
            Self::Isolated => "isolated",
            Self::Bridge => "bridge",
        }
    }
}

impl fmt::Display for NetworkMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a text is no mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{}' is not nat, route, isolated or bridge", .0.escape_debug())]
pub struct InvalidMode(String);

impl FromStr for NetworkMode {
    type Err = InvalidMode;

    fn from_str(text: &str) -> Result<Self, InvalidMode> {
        let mode = Self::ALL.into_iter().find(|mode| mode.as_str() == text);
        mode.ok_or_else(|| InvalidMode(text.to_owned()))
    }
}

/// Makes a network; for root.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateNetwork {
    /// Where guests get to beyond it.
    #[serde(default)]
    pub mode: NetworkMode,
    /// Its subnet, `10.64.0.0/24`; without it, one that is free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet: Option<String>,
    /// The bridge of the host's own, with the mode `bridge` alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge: Option<String>,
    /// Keep guests from each other; they reach the host and what is beyond it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub isolate_guests: bool,
}

/// Gives a VM one more network card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddNic {
    /// The VM.
    pub vm: VmNumber,
    /// The network; without it, the default one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkName>,
    /// What the guest sees: `virtio`, `e1000e`…
    pub model: String,
}

/// Takes a network card from a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveNic {
    /// The VM.
    pub vm: VmNumber,
    /// The card's place among the VM's, from 0.
    pub card: u32,
}

/// A card on a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkCard {
    /// The VM.
    pub vm: VmNumber,
    /// The card's place among the VM's, from 0.
    pub card: u32,
    /// Its MAC address.
    pub mac: String,
    /// The VM's address on the network, if this card has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Ipv4Addr>,
}

/// A network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetReport {
    /// `REPORT_VERSION`.
    pub version: u32,
    /// Its name, as templates give it.
    pub name: String,
    /// Whether it is the one that LIBVIRT_NETWORK stands for.
    pub is_default: bool,
    /// Where guests get to beyond it.
    pub mode: NetworkMode,
    /// Its bridge.
    pub bridge: String,
    /// Its subnet; none where others give addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet: Option<String>,
    /// The host's address on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<Ipv4Addr>,
    /// Whether guests are kept from each other.
    pub isolate_guests: bool,
    /// Why it does not work at present, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// The cards on it, by VM.
    pub cards: Vec<NetworkCard>,
}

/// All networks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetList {
    /// `REPORT_VERSION`.
    pub version: u32,
    /// The default one, then the others by name.
    pub networks: Vec<NetReport>,
}

impl NetList {
    /// A list of this version.
    pub fn new(networks: Vec<NetReport>) -> Self {
        Self {
            version: REPORT_VERSION,
            networks,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::InvalidName;

    #[test]
    fn modes_are_words() {
        for mode in NetworkMode::ALL {
            assert_eq!(mode.as_str().parse(), Ok(mode));
            assert_eq!(serde_json::to_value(mode).unwrap(), mode.as_str());
        }
        let error = "Nat\u{1b}".parse::<NetworkMode>().unwrap_err().to_string();
        assert_eq!(error, "'Nat\\u{1b}' is not nat, route, isolated or bridge");
    }

    #[test]
    fn a_networks_name_leaves_room_for_its_bridges() {
        let name = |text: &str| -> Result<NetworkName, InvalidName> { text.parse() };
        name("lab-2.west_").unwrap();
        for bad in ["", "lab-2.west_1", "a/b", "-lab"] {
            name(bad).unwrap_err();
        }
    }
}

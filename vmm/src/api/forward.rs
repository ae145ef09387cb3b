//! Ports of the host that lead to VMs.

use super::VmNumber;
use serde::{Deserialize, Serialize};
use std::{fmt, net::Ipv4Addr, num::NonZeroU16, str::FromStr};

/// A port of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NetPort {
    /// Whether it is one of UDP; else it is one of TCP.
    #[serde(default)]
    pub udp: bool,
    /// Its number.
    pub port: u16,
}

impl NetPort {
    /// The protocol's name in lower case.
    pub const fn protocol(self) -> &'static str {
        if self.udp { "udp" } else { "tcp" }
    }
}

impl fmt::Display for NetPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} port {}",
            if self.udp { "UDP" } else { "TCP" },
            self.port
        )
    }
}

/// Why a text names no forward.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{text}' is not HOSTPORT:NUM:PORT, such as 2242:42:22: ports are 1 to 65535, and NUM is one VM"
)]
pub struct InvalidForward {
    text: String,
}

/// What leads where, without the protocol: `2242:42:22`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForwardPlan {
    /// The host's port.
    pub host_port: NonZeroU16,
    /// The VM.
    pub vm: VmNumber,
    /// The VM's port.
    pub vm_port: NonZeroU16,
}

impl FromStr for ForwardPlan {
    type Err = InvalidForward;

    fn from_str(text: &str) -> Result<Self, InvalidForward> {
        let invalid = || InvalidForward {
            text: text.chars().take(40).flat_map(char::escape_debug).collect(),
        };
        let parts: Vec<&str> = text.split(':').collect();
        let [host_port, vm, vm_port] = parts[..] else {
            return Err(invalid());
        };
        let port = |text: &str| text.parse().map_err(|_| invalid());
        Ok(Self {
            host_port: port(host_port)?,
            vm: vm.parse().map_err(|_| invalid())?,
            vm_port: port(vm_port)?,
        })
    }
}

/// Has a port of the host lead to one of a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddForward {
    /// The protocol.
    #[serde(default)]
    pub udp: bool,
    /// The host's port.
    pub host_port: NonZeroU16,
    /// The VM.
    pub vm: VmNumber,
    /// The VM's port.
    pub vm_port: NonZeroU16,
}

/// One forward.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardReport {
    /// `REPORT_VERSION`.
    pub version: u32,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// The host's port.
    pub host_port: u16,
    /// The VM.
    pub vm: VmNumber,
    /// Its address; none if the network was changed so that it has none, and nothing is forwarded until it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Ipv4Addr>,
    /// Its port.
    pub vm_port: u16,
    /// The user who made it.
    pub owner_uid: u32,
}

/// All forwards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardList {
    /// `REPORT_VERSION`.
    pub version: u32,
    /// By the host's port.
    pub forwards: Vec<ForwardReport>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forward_is_three_numbers() {
        let plan: ForwardPlan = "2242:42:22".parse().unwrap();
        assert_eq!(
            (plan.host_port.get(), plan.vm, plan.vm_port.get()),
            (2242, 42.into(), 22)
        );
        assert_eq!(
            "1:base:1".parse::<ForwardPlan>().unwrap().vm,
            VmNumber::BASE
        );
        for bad in [
            "",
            "2242",
            "2242:42",
            "2242:42:22:1",
            "0:42:22",
            "65536:42:22",
            "1:42-43:1",
            "1:x:1",
            "1:42:",
            "-1:42:1",
            " 1:42:1",
        ] {
            let error = bad.parse::<ForwardPlan>().unwrap_err().to_string();
            assert!(error.contains("2242:42:22"), "{bad}: {error}");
        }
    }
}

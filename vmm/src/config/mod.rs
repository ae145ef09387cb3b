//! `/etc/fvm/fvm.toml`: read once at start and again by `fvm init`, checked as a whole.

mod dhcp;
mod pool;
mod quota;

pub use dhcp::Dhcp;
pub use pool::PoolConfig;
pub use quota::{Allowance, Quotas};

use crate::api::VmNumber;
use dhcp::{BootTable, DhcpTable};
use fvm_netd::Subnet;
use serde::Deserialize;
use std::{
    io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

/// The host part of the gateway's address.
const GATEWAY: u32 = 1;

/// The numbers of VMs on a /24: those of fast-vm. Outside there is room for hosts that are not VMs.
const SMALL_SUBNET_NUMBERS: (u32, u32) = (20, 220);

/// From what every host takes (RFC 791) to what a tap carries: 65535 without the Ethernet header (`MAX_MTU` in
/// `drivers/net/tun.c`).
const MTU_BYTES: std::ops::RangeInclusive<u32> = 576..=65_521;

/// The subnet of a new host.
pub const DEFAULT_SUBNET: &str = "192.168.22.0/24";

/// Why the configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It could not be read.
    #[error("reading {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not TOML, or has a key or value that fvm does not know.
    #[error("{path} is malformed: {problem}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What and where.
        problem: String,
    },
    /// A value makes no sense.
    #[error("{path}: {key}: {problem}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// What is wrong with its value.
        problem: String,
    },
}

/// The configuration, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The subnet of `fvm0`.
    pub subnet: Subnet,
    /// The lowest number a VM may have.
    pub first_number: u32,
    /// The highest number a VM may have.
    pub last_number: u32,
    /// DNS servers that guests are told; empty for the host's own.
    pub dns: Vec<Ipv4Addr>,
    /// The domain that guests are told.
    pub domain: String,
    /// How long a lease runs, in seconds.
    pub lease_time_s: u32,
    /// The largest packet on `fvm0`, in bytes.
    pub mtu: u32,
    /// What guests are told beside this.
    pub dhcp: Dhcp,
    /// VM number N runs as this uid and gid plus N.
    pub uid_base: u32,
    /// Only its owner may stop, delete or change a VM.
    pub owner_only: bool,
    /// How long a VM that has expired can still be brought back, in seconds.
    pub undelete_s: u64,
    /// How the pool is looked after.
    pub pool: PoolConfig,
    /// What each user may have.
    pub quotas: Quotas,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    network: NetworkTable,
    #[serde(default)]
    vm: VmTable,
    #[serde(default)]
    pool: pool::PoolTable,
    #[serde(default)]
    quota: Quotas,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NetworkTable {
    subnet: String,
    first_number: Option<u32>,
    last_number: Option<u32>,
    #[serde(default)]
    dns: Vec<Ipv4Addr>,
    #[serde(default = "default_domain")]
    domain: String,
    #[serde(default = "default_lease_time_s")]
    lease_time_s: u32,
    #[serde(default = "default_mtu")]
    mtu: u32,
    #[serde(default)]
    dhcp: DhcpTable,
    boot: Option<BootTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VmTable {
    #[serde(default = "default_uid_base")]
    uid_base: u32,
    #[serde(default)]
    owner_only: bool,
    #[serde(default = "default_undelete_hours")]
    undelete_hours: u32,
}

impl Default for VmTable {
    fn default() -> Self {
        Self {
            uid_base: default_uid_base(),
            owner_only: false,
            undelete_hours: default_undelete_hours(),
        }
    }
}

fn default_domain() -> String {
    "fvm.internal".into()
}

fn default_lease_time_s() -> u32 {
    3600
}

/// That of Ethernet (RFC 894).
fn default_mtu() -> u32 {
    1500
}

/// Somebody who finds their VM gone in the morning has the day.
fn default_undelete_hours() -> u32 {
    24
}

/// Above what systemd gives to containers (524288 to 1879048191) and below 2^31, where some programs
/// take a uid for a negative number.
fn default_uid_base() -> u32 {
    1_900_000_000
}

impl Config {
    /// Reads the file; `None` if there is none, that is, on a host that has not been set up.
    ///
    /// # Errors
    /// When it cannot be read, is malformed, or has a value that makes no sense.
    pub fn load(path: &Path) -> Result<Option<Self>, ConfigError> {
        match std::fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(ConfigError::Read {
                path: path.to_owned(),
                source,
            }),
            Ok(text) => Self::parse(&text, path).map(Some),
        }
    }

    /// Checks the text of the file; `path` is only for messages.
    ///
    /// # Errors
    /// When it is malformed or has a value that makes no sense.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let File {
            network,
            vm,
            pool,
            quota,
        } = toml::from_str(text).map_err(|error| ConfigError::Malformed {
            path: path.to_owned(),
            problem: error.to_string().trim_end().to_owned(),
        })?;
        let invalid = |key, problem: String| ConfigError::Invalid {
            path: path.to_owned(),
            key,
            problem,
        };

        let subnet: Subnet = network
            .subnet
            .parse()
            .map_err(|error| invalid("network.subnet", format!("'{}': {error}", network.subnet)))?;
        let (first, last) = default_numbers(&subnet);
        let first_number = network.first_number.unwrap_or(first);
        let last_number = network.last_number.unwrap_or(last);
        let possible = GATEWAY + 1..=last_host_number(&subnet);
        if !possible.contains(&first_number) || !possible.contains(&last_number) {
            let (low, high) = possible.into_inner();
            return Err(invalid(
                "network.first_number and last_number",
                format!(
                    "{first_number} to {last_number} is not within {low} to {high}, the hosts of {subnet} without its gateway"
                ),
            ));
        }
        if first_number > last_number {
            return Err(invalid(
                "network.first_number and last_number",
                format!("{first_number} to {last_number} runs backwards"),
            ));
        }
        if !(60..=31_536_000).contains(&network.lease_time_s) {
            return Err(invalid(
                "network.lease_time_s",
                "must be 60 to 31536000 seconds".into(),
            ));
        }
        if !MTU_BYTES.contains(&network.mtu) {
            let (least, most) = MTU_BYTES.into_inner();
            return Err(invalid(
                "network.mtu",
                format!("must be {least} to {most} bytes"),
            ));
        }
        let dhcp = Dhcp::check(network.dhcp, network.boot, subnet)
            .map_err(|(key, problem)| invalid(key, problem))?;
        let label = |text: &str| {
            (1..=63).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !text.starts_with('-')
                && !text.ends_with('-')
        };
        if network.domain.len() > 200 || !network.domain.split('.').all(label) {
            return Err(invalid(
                "network.domain",
                format!("'{}' is not a domain name", network.domain.escape_debug()),
            ));
        }
        if vm.uid_base < 65_536
            || vm
                .uid_base
                .checked_add(last_number)
                .is_none_or(|top| top >= i32::MAX as u32)
        {
            return Err(invalid(
                "vm.uid_base",
                "must be at least 65536, and with the highest VM number added stay below 2^31 - 1"
                    .into(),
            ));
        }
        let pool = pool
            .check()
            .map_err(|(key, problem)| invalid(key, problem))?;
        Ok(Self {
            subnet,
            first_number,
            last_number,
            dns: network.dns,
            domain: network.domain,
            lease_time_s: network.lease_time_s,
            mtu: network.mtu,
            dhcp,
            uid_base: vm.uid_base,
            owner_only: vm.owner_only,
            undelete_s: u64::from(vm.undelete_hours) * 3600,
            pool,
            quotas: quota,
        })
    }

    /// The text of a new host's file.
    pub fn new_file(subnet: &Subnet) -> String {
        let (first, last) = default_numbers(subnet);
        include_str!("../fvm.toml")
            .replace("@SUBNET@", &subnet.to_string())
            .replace("@FIRST@", &first.to_string())
            .replace("@LAST@", &last.to_string())
    }

    /// The host part of a VM's address, which is also in the names of its taps: its number, and for the base VM the
    /// one below the first number; `None` if that is the gateway's or the subnet's.
    pub fn host_number(&self, vm: VmNumber) -> Option<u32> {
        if vm.is_base() {
            (self.first_number > GATEWAY + 1).then(|| self.first_number - 1)
        } else {
            Some(vm.get())
        }
    }

    /// The VM that has this host part: the way back from [`Self::host_number`].
    pub fn vm_at(&self, host_number: u32) -> VmNumber {
        if self.host_number(VmNumber::BASE) == Some(host_number) {
            VmNumber::BASE
        } else {
            VmNumber::new(host_number)
        }
    }

    /// The uid and gid that a VM's QEMU runs as. The base VM has the first: no VM has the number 0.
    pub fn uid_of(&self, vm: VmNumber) -> u32 {
        self.uid_base + vm.get()
    }

    /// The uid and gid that looks into disks for the daemon: above all VMs'.
    pub fn helper_uid(&self) -> u32 {
        self.uid_base + self.last_number + 1
    }
}

/// The number of the last address below the broadcast address.
fn last_host_number(subnet: &Subnet) -> u32 {
    subnet.broadcast().to_bits() - subnet.base().to_bits() - 1
}

/// fast-vm's numbers on a /24; all hosts but the gateway and the base VM on any other subnet.
fn default_numbers(subnet: &Subnet) -> (u32, u32) {
    match subnet.prefix() {
        24 => SMALL_SUBNET_NUMBERS,
        _ => (GATEWAY + 2, last_host_number(subnet)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text, Path::new("fvm.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn the_file_of_a_new_host_is_the_documented_default() {
        let config = parse(&Config::new_file(&DEFAULT_SUBNET.parse().unwrap())).unwrap();
        assert_eq!(config.subnet.to_string(), DEFAULT_SUBNET);
        assert_eq!((config.first_number, config.last_number), (20, 220));
        // The values the file spells out are those that apply without it.
        assert_eq!(
            config,
            parse(&format!("[network]\nsubnet = '{DEFAULT_SUBNET}'")).unwrap()
        );
    }

    #[test]
    fn a_larger_subnet_gives_all_its_hosts_but_the_gateway_and_the_base_vm() {
        let config = parse("[network]\nsubnet = '10.20.0.0/16'").unwrap();
        assert_eq!((config.first_number, config.last_number), (3, 65534));
        assert_eq!(config.host_number(VmNumber::BASE), Some(2));
    }

    #[test]
    fn the_base_vm_has_the_address_below_the_first_and_never_the_gateways() {
        let config = |first: u32| {
            parse(&format!(
                "[network]\nsubnet = '192.168.22.0/24'\nfirst_number = {first}"
            ))
            .unwrap()
        };
        let usual = config(20);
        assert_eq!(usual.host_number(VmNumber::BASE), Some(19));
        for vm in [VmNumber::BASE, 20.into(), 220.into()] {
            assert_eq!(usual.vm_at(usual.host_number(vm).unwrap()), vm);
        }
        let crowded = config(2);
        assert_eq!(crowded.host_number(VmNumber::BASE), None);
        assert_eq!(crowded.vm_at(2), 2.into());
    }

    #[test]
    fn a_mistake_is_named_by_its_key() {
        for (text, expected) in [
            ("[network]\nsubnet = '192.168.22.5/24'", "network.subnet"),
            ("[network]\nsubnet = 'x'", "network.subnet"),
            (
                "[network]\nsubnet = '192.168.22.0/24'\nsubnets = 1",
                "subnets",
            ),
            (
                "[network]\nsubnet = '192.168.22.0/24'\nfirst_number = 1",
                "first_number",
            ),
            (
                "[network]\nsubnet = '192.168.22.0/24'\nlast_number = 255",
                "last_number",
            ),
            (
                "[network]\nsubnet = '192.168.22.0/24'\nlease_time_s = 1",
                "lease_time_s",
            ),
            (
                "[network]\nsubnet = '192.168.22.0/24'\ndomain = 'a b'",
                "network.domain",
            ),
            (
                "[network]\nsubnet = '192.168.22.0/24'\n[vm]\nuid_base = 0",
                "vm.uid_base",
            ),
            (
                "[network]\nsubnet = '192.168.22.0/24'\n[vm]\nowner_only = 'yes'",
                "owner_only",
            ),
            (
                "[network]\nsubnet = '192.168.22.0/24'\n[pool]\nwatermark_percent = 101",
                "pool.watermark_percent",
            ),
            (
                "[network]\nsubnet = '192.168.22.0/24'\n[pool]\nextend_at_percent = 0",
                "pool.extend_at_percent",
            ),
            (
                "[network]\nsubnet = '192.168.22.0/24'\n[pool]\nextend_by_percent = 0",
                "pool.extend_by_percent",
            ),
            (
                "[network]\nsubnet = '192.168.22.0/24'\n[pool]\nextend_limit_gib = 9999999999",
                "pool.extend_limit_gib",
            ),
            (
                "[network]\nsubnet = '192.168.22.0/24'\n[pool]\nlimit = 1",
                "limit",
            ),
            ("network = 7", "network"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expected), "{text:?} gave {error:?}");
        }
    }
}

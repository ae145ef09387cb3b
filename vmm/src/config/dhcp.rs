//! `[network.dhcp]` and `[network.boot]`: what guests are told beside their addresses.

use fvm_netd::{
    Subnet,
    dhcp::{Boot, BootFile, DnsName, StaticRoute},
};
use serde::Deserialize;
use std::{collections::BTreeMap, net::Ipv4Addr};

/// The longest text that goes into one option without being split (RFC 3396).
const TEXT_MAX: usize = 255;

/// Client architectures by name (IANA, "Processor Architecture Types"; RFC 4578, section 2.1).
const ARCHITECTURES: [(&str, u16); 5] = [
    ("bios", 0),
    ("efi-x86", 6),
    ("efi-x86-64", 7),
    ("efi-arm32", 10),
    ("efi-arm64", 11),
];

/// What guests are told, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dhcp {
    /// Domains to search; empty for the network's own alone.
    pub search: Vec<DnsName>,
    /// Time servers.
    pub ntp: Vec<Ipv4Addr>,
    /// Routes beside the default route.
    pub routes: Vec<StaticRoute>,
    /// Time zone by the name that the TZ database has for it.
    pub timezone: Option<String>,
    /// Time zone as a POSIX TZ string.
    pub posix_timezone: Option<String>,
    /// For how long a client that can do without IPv4 shall, in seconds.
    pub ipv6_only_wait_s: Option<u32>,
    /// Answer with an ACK at once where the client allows it.
    pub rapid_commit: bool,
    /// Answer only frames that come from the client they speak for.
    pub strict_client: bool,
    /// Answer what relay agents within guests pass on.
    pub relay: bool,
    /// What network boot gets.
    pub boot: Option<Boot>,
}

/// `[network.dhcp]` as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DhcpTable {
    search: Vec<String>,
    ntp: Vec<Ipv4Addr>,
    routes: Vec<String>,
    timezone: Option<String>,
    posix_timezone: Option<String>,
    ipv6_only_wait_s: Option<u32>,
    rapid_commit: bool,
    strict_client: bool,
    relay: bool,
}

impl Default for DhcpTable {
    fn default() -> Self {
        Self {
            search: Vec::new(),
            ntp: Vec::new(),
            routes: Vec::new(),
            timezone: None,
            posix_timezone: None,
            ipv6_only_wait_s: None,
            rapid_commit: true,
            strict_client: false,
            relay: false,
        }
    }
}

/// `[network.boot]` as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BootTable {
    next_server: Option<Ipv4Addr>,
    #[serde(default)]
    files: BTreeMap<String, String>,
    default_file: Option<String>,
    ipxe_script: Option<String>,
    http_url: Option<String>,
}

/// A key and what is wrong with its value.
pub(super) type Problem = (&'static str, String);

impl Dhcp {
    /// Checks both tables; routes must leave by a host of `subnet`.
    pub(super) fn check(
        table: DhcpTable,
        boot: Option<BootTable>,
        subnet: Subnet,
    ) -> Result<Self, Problem> {
        let search = table
            .search
            .iter()
            .map(|text| {
                text.parse().map_err(|error: fvm_netd::dhcp::BindingError| {
                    ("network.dhcp.search", error.to_string())
                })
            })
            .collect::<Result<_, _>>()?;
        if let Some(server) = table.ntp.iter().find(|server| !is_host(**server)) {
            return Err(("network.dhcp.ntp", not_a_host(*server)));
        }
        let routes = table
            .routes
            .iter()
            .map(|text| route(text, subnet).map_err(|problem| ("network.dhcp.routes", problem)))
            .collect::<Result<_, _>>()?;
        check_text("network.dhcp.timezone", table.timezone.as_deref())?;
        check_text(
            "network.dhcp.posix_timezone",
            table.posix_timezone.as_deref(),
        )?;
        Ok(Self {
            search,
            ntp: table.ntp,
            routes,
            timezone: table.timezone,
            posix_timezone: table.posix_timezone,
            ipv6_only_wait_s: table.ipv6_only_wait_s,
            rapid_commit: table.rapid_commit,
            strict_client: table.strict_client,
            relay: table.relay,
            boot: boot.map(check_boot).transpose()?,
        })
    }
}

fn is_host(address: Ipv4Addr) -> bool {
    !(address.is_unspecified() || address.is_multicast() || address.is_broadcast())
}

fn not_a_host(address: Ipv4Addr) -> String {
    format!("{address} is not the address of a host")
}

/// `10.0.0.0/8 via 192.168.22.30`, as ip-route(8) writes it.
fn route(text: &str, subnet: Subnet) -> Result<StaticRoute, String> {
    let malformed = || {
        format!(
            "'{}' is not of the form \"10.0.0.0/8 via 192.168.22.30\"",
            text.escape_debug()
        )
    };
    let words: Vec<&str> = text.split_whitespace().collect();
    let [destination, "via", router] = words[..] else {
        return Err(malformed());
    };
    let (base, prefix) = destination.split_once('/').ok_or_else(malformed)?;
    let base: Ipv4Addr = base.parse().map_err(|_| malformed())?;
    let prefix = prefix.parse().map_err(|_| malformed())?;
    let router: Ipv4Addr = router.parse().map_err(|_| malformed())?;
    let route = StaticRoute::new(base, prefix, router).map_err(|error| error.to_string())?;
    if route.destination() != base {
        return Err(format!(
            "{destination} has host bits set; the network is {}/{prefix}",
            route.destination()
        ));
    }
    if prefix == 0 {
        return Err("the default route is the gateway's and is told without this".into());
    }
    if !subnet.is_host(router) {
        return Err(format!(
            "guests do not reach {router}: it is not a host of {subnet}"
        ));
    }
    Ok(route)
}

fn check_boot(table: BootTable) -> Result<Boot, Problem> {
    if let Some(server) = table.next_server.filter(|server| !is_host(*server)) {
        return Err(("network.boot.next_server", not_a_host(server)));
    }
    let mut files: Vec<BootFile> = Vec::new();
    for (name, file) in table.files {
        let architecture = architecture(&name).ok_or_else(|| {
            let names: Vec<_> = ARCHITECTURES.iter().map(|(name, _)| *name).collect();
            let problem = format!(
                "'{}' is no architecture: {}, or a number of the IANA registry",
                name.escape_debug(),
                names.join(", ")
            );
            ("network.boot.files", problem)
        })?;
        check_text("network.boot.files", Some(&file))?;
        if files.iter().any(|other| other.architecture == architecture) {
            let problem = format!("architecture {architecture} is named twice");
            return Err(("network.boot.files", problem));
        }
        files.push(BootFile { architecture, file });
    }
    for (key, text) in [
        ("network.boot.default_file", &table.default_file),
        ("network.boot.ipxe_script", &table.ipxe_script),
        ("network.boot.http_url", &table.http_url),
    ] {
        check_text(key, text.as_deref())?;
    }
    Ok(Boot {
        next_server: table.next_server,
        files,
        default_file: table.default_file,
        ipxe_script: table.ipxe_script,
        http_url: table.http_url,
    })
}

fn architecture(name: &str) -> Option<u16> {
    let named = ARCHITECTURES.iter().find(|(known, _)| *known == name);
    named
        .map(|(_, number)| *number)
        .or_else(|| name.parse().ok())
}

fn check_text(key: &'static str, text: Option<&str>) -> Result<(), Problem> {
    let Some(text) = text else { return Ok(()) };
    if text.is_empty() || text.len() > TEXT_MAX || !text.bytes().all(|b| b.is_ascii_graphic()) {
        let problem = format!(
            "'{}' is not a text of 1 to {TEXT_MAX} ASCII characters without blanks",
            text.escape_debug()
        );
        return Err((key, problem));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use std::path::Path;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text, Path::new("fvm.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn every_option_of_dhcp_is_taken() {
        let config = parse(
            "[network]
            subnet = '192.168.22.0/24'
            mtu = 9000
            [network.dhcp]
            search = ['lab.example', 'example']
            ntp = ['192.168.22.1']
            routes = ['10.0.0.0/8 via 192.168.22.30', '172.16.1.1/32 via 192.168.22.31']
            timezone = 'Europe/Prague'
            posix_timezone = 'CET-1CEST,M3.5.0,M10.5.0/3'
            ipv6_only_wait_s = 1800
            rapid_commit = false
            strict_client = true
            relay = true
            [network.boot]
            next_server = '192.168.22.1'
            files = { bios = 'pxelinux.0', efi-x86-64 = 'grub.efi', 16 = 'http.efi' }
            default_file = 'undionly.kpxe'
            ipxe_script = 'http://192.168.22.1/boot.ipxe'
            http_url = 'http://192.168.22.1/grub.efi'",
        )
        .unwrap();
        assert_eq!(config.mtu, 9000);
        let dhcp = config.dhcp;
        let shown: Vec<String> = dhcp
            .routes
            .iter()
            .map(|r| format!("{}/{} {}", r.destination(), r.prefix(), r.router()))
            .collect();
        assert_eq!(
            shown,
            ["10.0.0.0/8 192.168.22.30", "172.16.1.1/32 192.168.22.31"]
        );
        let search: Vec<&str> = dhcp.search.iter().map(|name| name.as_str()).collect();
        assert_eq!(search, ["lab.example", "example"]);
        assert_eq!(
            (dhcp.rapid_commit, dhcp.strict_client, dhcp.relay),
            (false, true, true)
        );
        assert_eq!(dhcp.ipv6_only_wait_s, Some(1800));
        let mut files: Vec<_> = dhcp
            .boot
            .unwrap()
            .files
            .into_iter()
            .map(|file| (file.architecture, file.file))
            .collect();
        files.sort();
        let wanted = [(0, "pxelinux.0"), (7, "grub.efi"), (16, "http.efi")];
        assert_eq!(
            files,
            wanted.map(|(number, file)| (number, file.to_owned()))
        );
    }

    #[test]
    fn a_mistake_in_what_guests_are_told_is_named_by_its_key() {
        for (text, expected) in [
            ("mtu = 575", "network.mtu"),
            ("mtu = 65522", "network.mtu"),
            ("dhcp.search = ['a b']", "network.dhcp.search"),
            ("dhcp.ntp = ['224.0.1.1']", "network.dhcp.ntp"),
            ("dhcp.routes = ['10.0.0.0/8']", "network.dhcp.routes"),
            (
                "dhcp.routes = ['10.0.0.1/8 via 192.168.22.30']",
                "10.0.0.0/8",
            ),
            (
                "dhcp.routes = ['10.0.0.0/33 via 192.168.22.30']",
                "at most 32",
            ),
            (
                "dhcp.routes = ['0.0.0.0/0 via 192.168.22.30']",
                "default route",
            ),
            (
                "dhcp.routes = ['10.0.0.0/8 via 192.168.23.30']",
                "192.168.23.30",
            ),
            ("dhcp.timezone = ''", "network.dhcp.timezone"),
            ("dhcp.timezone = 'a\tb'", "network.dhcp.timezone"),
            (
                "dhcp.posix_timezone = 'CET 1'",
                "network.dhcp.posix_timezone",
            ),
            ("dhcp.lease = 1", "lease"),
            ("boot.next_server = '0.0.0.0'", "network.boot.next_server"),
            ("boot.files = { amiga = 'x' }", "efi-x86-64"),
            ("boot.files = { bios = 'x', 0 = 'y' }", "twice"),
            ("boot.http_url = ''", "network.boot.http_url"),
        ] {
            let error =
                parse(&format!("[network]\nsubnet = '192.168.22.0/24'\n{text}")).unwrap_err();
            assert!(error.contains(expected), "{text:?} gave {error:?}");
        }
        // A file as long as an option takes is taken, one longer is not.
        let boot = |length| {
            let file = "x".repeat(length);
            parse(&format!(
                "[network]\nsubnet = '192.168.22.0/24'\nboot.default_file = '{file}'"
            ))
        };
        assert!(boot(255).is_ok());
        assert!(boot(256).unwrap_err().contains("network.boot.default_file"));
    }
}

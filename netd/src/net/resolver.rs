//! The host's own DNS servers, to be handed to guests.

use std::io;
use std::net::Ipv4Addr;
use std::path::Path;

/// The host's resolver configuration could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the host's DNS servers from {path}")]
pub struct ResolverError {
    /// The file.
    pub path: String,
    /// Why.
    pub source: io::Error,
}

const RESOLV_CONF: &str = "/etc/resolv.conf";
/// The servers that systemd-resolved itself asks (systemd-resolved.service(8)).
const RESOLVED_UPSTREAM: &str = "/run/systemd/resolve/resolv.conf";

/// The IPv4 DNS servers of the host that a guest can reach too, in their order.
///
/// They are those of `/etc/resolv.conf`; when that names only a resolver on the host's own loopback,
/// as with systemd-resolved, the ones which that resolver asks. Empty if there are none.
pub fn host_resolvers() -> Result<Vec<Ipv4Addr>, ResolverError> {
    resolvers_from(Path::new(RESOLV_CONF), Path::new(RESOLVED_UPSTREAM))
}

/// Whom a DNS server on this host asks about names that it does not know: what [`host_resolvers`] gives, and if
/// there is none, resolvers on the host's own loopback.
pub fn forwarders() -> Result<Vec<Ipv4Addr>, ResolverError> {
    forwarders_from(Path::new(RESOLV_CONF), Path::new(RESOLVED_UPSTREAM))
}

fn forwarders_from(first: &Path, upstream: &Path) -> Result<Vec<Ipv4Addr>, ResolverError> {
    let servers = resolvers_from(first, upstream)?;
    if servers.is_empty() {
        Ok(named(&read(first)?))
    } else {
        Ok(servers)
    }
}

fn resolvers_from(first: &Path, upstream: &Path) -> Result<Vec<Ipv4Addr>, ResolverError> {
    let servers = reachable(&read(first)?);
    if servers.is_empty() {
        Ok(reachable(&read(upstream)?))
    } else {
        Ok(servers)
    }
}

fn read(path: &Path) -> Result<String, ResolverError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(source) => Err(ResolverError {
            path: path.display().to_string(),
            source,
        }),
    }
}

/// Those of them that a guest can reach too.
fn reachable(text: &str) -> Vec<Ipv4Addr> {
    let mut servers = named(text);
    servers.retain(|address| !address.is_loopback());
    servers
}

/// The `nameserver` lines of resolv.conf(5) that hold a usable IPv4 address.
fn named(text: &str) -> Vec<Ipv4Addr> {
    let mut servers: Vec<Ipv4Addr> = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if words.next() != Some("nameserver") {
            continue;
        }
        let Some(address) = words.next().and_then(|word| word.parse::<Ipv4Addr>().ok()) else {
            continue;
        };
        if !address.is_unspecified() && !servers.contains(&address) {
            servers.push(address);
        }
    }
    servers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolvers(first: Option<&str>, upstream: Option<&str>) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let paths = [dir.path().join("resolv.conf"), dir.path().join("upstream")];
        for (path, text) in paths.iter().zip([first, upstream]) {
            if let Some(text) = text {
                std::fs::write(path, text).unwrap();
            }
        }
        let found = resolvers_from(&paths[0], &paths[1]).unwrap();
        found.iter().map(Ipv4Addr::to_string).collect()
    }

    #[test]
    fn the_hosts_servers_in_order() {
        let text = "# comment\nsearch lab\nnameserver 9.9.9.9 # quad\n nameserver\t1.1.1.1\n\
                    nameserver 9.9.9.9\nnameserver ::1\nnameserver\nnameserver x\noptions edns0\n";
        assert_eq!(
            resolvers(Some(text), Some("nameserver 8.8.8.8\n")),
            ["9.9.9.9", "1.1.1.1"]
        );
    }

    #[test]
    fn a_loopback_resolver_is_replaced_by_what_it_asks() {
        let stub = "nameserver 127.0.0.53\noptions edns0 trust-ad\n";
        assert_eq!(
            resolvers(Some(stub), Some("nameserver 10.0.0.2\n")),
            ["10.0.0.2"]
        );
        assert_eq!(
            resolvers(Some(stub), Some("nameserver 127.0.0.1\n")),
            [""; 0]
        );
        assert_eq!(resolvers(Some(stub), None), [""; 0]);
    }

    #[test]
    fn a_forwarder_asks_the_loopback_if_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let paths = [dir.path().join("resolv.conf"), dir.path().join("upstream")];
        std::fs::write(&paths[0], "nameserver 127.0.0.53\n").unwrap();
        let found = || forwarders_from(&paths[0], &paths[1]).unwrap();
        assert_eq!(found(), [Ipv4Addr::new(127, 0, 0, 53)]);
        std::fs::write(&paths[1], "nameserver 10.0.0.2\n").unwrap();
        assert_eq!(found(), [Ipv4Addr::new(10, 0, 0, 2)]);
    }

    #[test]
    fn a_host_without_configuration_has_none() {
        assert_eq!(resolvers(None, None), [""; 0]);
    }

    #[test]
    fn an_unreadable_file_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let error = resolvers_from(dir.path(), Path::new("/nonexistent")).unwrap_err();
        assert_eq!(error.path, dir.path().display().to_string());
    }
}

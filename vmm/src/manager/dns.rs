//! DNS for guests: what `fvm-netd` is told to serve, and by which sockets.

use super::{
    error::{Result, failed},
    host::Host,
    netd::Netd,
};
use fvm_netd::{
    control::Client,
    dns::{DNS_PORT, DnsConfig},
    net::{self, DnsSockets},
};
use std::{
    net::SocketAddrV4,
    time::{Duration, Instant},
};

/// How often the host's own DNS servers are looked up.
const SERVERS_INTERVAL: Duration = Duration::from_secs(5);

/// What is to be served, unless another program has the gateway's port.
pub(super) fn config(host: &Host) -> Result<Option<DnsConfig>> {
    if host.dns_trouble.is_some() {
        return Ok(None);
    }
    let domain = host.config.domain.parse();
    Ok(Some(DnsConfig {
        domain: domain
            .map_err(|error: fvm_netd::dhcp::BindingError| failed("naming guests", &error))?,
        subnet: host.network.subnet,
        gateway: host.network.gateway,
        upstreams: upstreams()?,
    }))
}

impl Netd {
    /// Serves DNS no more; the network is about to go.
    pub(super) fn end_dns(&self) -> Result<()> {
        let mut link = self.lock();
        match link.dns.take() {
            Some(_) => self.call(&mut link, Client::end_dns),
            None => Ok(()),
        }
    }

    /// Has DNS ask the servers that the host asks now, if these are others than before.
    pub(super) fn follow_servers(&self) -> Result<()> {
        let mut link = self.lock();
        let now = Instant::now();
        let due = link
            .servers_checked
            .is_none_or(|checked| now.duration_since(checked) >= SERVERS_INTERVAL);
        let Some(dns) = link.dns.as_mut().filter(|_| due) else {
            return Ok(());
        };
        let servers = upstreams()?;
        let changed = dns.upstreams != servers;
        dns.upstreams = servers;
        let dns = dns.clone();
        link.servers_checked = Some(now);
        if changed {
            tracing::info!(servers = ?dns.upstreams, "the host asks other DNS servers");
            self.call(&mut link, |client| {
                serve_dns(client, &dns);
                Ok(())
            })?;
        }
        Ok(())
    }
}

/// Has DNS served. Without it guests have no names, which is logged; they have their addresses.
pub(super) fn serve_dns(client: &mut Client, dns: &DnsConfig) {
    let served = DnsSockets::open(dns.gateway)
        .map_err(|error| failed("opening sockets for DNS", &error))
        .and_then(|sockets| {
            client
                .serve_dns(dns, &sockets)
                .map_err(|error| failed("fvm-netd", &error))
        });
    if let Err(error) = served {
        tracing::error!(error = %error.message, "DNS is not served");
    }
}

/// Whom the host itself asks.
fn upstreams() -> Result<Vec<SocketAddrV4>> {
    let servers =
        net::forwarders().map_err(|error| failed("finding the host's DNS servers", &error))?;
    let at_port = |address| SocketAddrV4::new(address, DNS_PORT);
    Ok(servers.into_iter().map(at_port).collect())
}

//! DNS for guests: what `fvm-netd` is told to serve, and by which sockets.

use super::{
    error::{Result, failed},
    host::Host,
    netd::Netd,
    networks::GuestNetwork,
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

/// What is to be served on a network of fvm's, unless another program has the gateway's port.
pub(super) fn config(host: &Host, network: &GuestNetwork) -> Result<Option<DnsConfig>> {
    let Some(own) = network
        .own
        .as_ref()
        .filter(|_| network.dns_trouble.is_none())
    else {
        return Ok(None);
    };
    let domain = host.config.domain.parse();
    Ok(Some(DnsConfig {
        domain: domain
            .map_err(|error: fvm_netd::dhcp::BindingError| failed("naming guests", &error))?,
        subnet: own.subnet,
        gateway: own.gateway,
        upstreams: upstreams()?,
    }))
}

impl Netd {
    /// Has DNS ask the servers that the host asks now, if these are others than before.
    pub(super) fn follow_servers(&self) -> Result<()> {
        let mut link = self.lock();
        let now = Instant::now();
        let due = link
            .servers_checked
            .is_none_or(|checked| now.duration_since(checked) >= SERVERS_INTERVAL);
        if !due || link.networks.is_empty() {
            return Ok(());
        }
        let servers = upstreams()?;
        link.servers_checked = Some(now);
        let mut changed = Vec::new();
        for dns in link.networks.values_mut().filter_map(|it| it.dns.as_mut()) {
            if dns.upstreams != servers {
                dns.upstreams.clone_from(&servers);
                changed.push(dns.clone());
            }
        }
        if changed.is_empty() {
            return Ok(());
        }
        tracing::info!(?servers, "the host asks other DNS servers");
        self.call(&mut link, |client| {
            changed.iter().for_each(|dns| serve_dns(client, dns));
            Ok(())
        })
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

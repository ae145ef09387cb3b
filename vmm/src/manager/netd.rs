//! The link to `fvm-netd`: bindings are told it before a guest can ask, and told it again whenever it
//! was restarted.
//!
//! `fvm-netd` remembers nothing over a restart, and nothing needs to be remembered: every binding follows
//! from a VM's row. A thread watches the connection; when it breaks, it connects anew and tells all.

use super::{
    Manager,
    cards::{Card, cards, main_card},
    dns,
    error::{Result, failed},
    host::Host,
    seed,
};
use crate::{
    api::{ApiError, DhcpExchange, ErrorKind, VmNumber},
    store::{SeedRow, VmRow},
};
use fvm_netd::{
    control::{Client, ClientError, LoggedExchange, PortBinding, PortLog},
    dhcp::{Binding, DnsName, LeaseTimes, Outcome},
    dns::DnsConfig,
    names::Nic,
    net,
};
use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    thread,
    time::{Duration, Instant},
};

/// How long `fvm-netd` may take to answer; systemd may have to start it first, on a host that is busy.
const TIMEOUT: Duration = Duration::from_secs(20);
/// How often the connection is looked at. A client asks again after some 4 s (RFC 2131, 4.1), so a
/// restarted `fvm-netd` knows everything again before that.
const WATCH_INTERVAL: Duration = Duration::from_millis(250);

/// The link. Not connected until somebody needs it.
#[derive(Debug)]
pub(super) struct Netd {
    socket: PathBuf,
    link: Mutex<Link>,
}

#[derive(Debug, Default)]
pub(super) struct Link {
    client: Option<Client>,
    /// What is to be served: the ports of VMs that run or are about to.
    ports: BTreeMap<String, Binding>,
    /// What is to be served on networks, by their gateways.
    pub(super) networks: BTreeMap<Ipv4Addr, Service>,
    /// When it was last looked at whether the host still asks the same servers.
    pub(super) servers_checked: Option<Instant>,
}

/// What is served on a network beside DHCP: cloud-init's data always.
#[derive(Debug, Default)]
pub(super) struct Service {
    pub(super) dns: Option<DnsConfig>,
    /// Why cloud-init's data are not served, if so.
    pub(super) seeds_trouble: Option<String>,
}

impl Netd {
    pub(super) fn new(socket: PathBuf) -> Self {
        Self {
            socket,
            link: Mutex::default(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Link> {
        // The worst that a panic leaves is a connection in disorder, which is then made anew.
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls; with a connection that was made anew, and told all ports, if there was none.
    pub(super) fn call<T>(
        &self,
        link: &mut Link,
        ask: impl Fn(&mut Client) -> std::result::Result<T, ClientError>,
    ) -> Result<T> {
        if let Some(client) = link
            .client
            .as_mut()
            .filter(|client| !client.is_disconnected())
        {
            match ask(client) {
                Err(error) if error.is_disconnected() => {}
                other => return other.map_err(|error| failed("fvm-netd", &error)),
            }
        }
        link.client = None;
        let mut client =
            Client::connect(&self.socket, TIMEOUT).map_err(|error| unreachable(&error))?;
        resync(&mut client, &link.ports)?;
        for (gateway, service) in &mut link.networks {
            if let Some(dns) = &service.dns {
                dns::serve_dns(&mut client, dns);
            }
            service.seeds_trouble = seed::serve(&mut client, *gateway);
        }
        client
            .serve_only_at(link.networks.keys().copied())
            .map_err(|error| failed("fvm-netd", &error))?;
        let result = ask(&mut client).map_err(|error| failed("fvm-netd", &error));
        link.client = Some(client);
        result
    }

    /// Why guests get no address at present, if so.
    pub(super) fn trouble(&self) -> Option<String> {
        self.call(&mut self.lock(), |client| client.ports().map(drop))
            .err()
            .map(|error| error.message)
    }

    /// Has a port served from now on.
    pub(super) fn bind(&self, port: Port) -> Result<()> {
        let mut link = self.lock();
        let result = self.call(&mut link, |client| client.bind(port.as_binding()));
        if result.is_ok() {
            link.ports.insert(port.name, port.binding);
        }
        result
    }

    /// Has a port served no more; one that is not served is fine.
    pub(super) fn unbind(&self, nic: Nic) -> Result<()> {
        let mut link = self.lock();
        let port = nic.tap();
        link.ports.remove(&port);
        self.call(&mut link, |client| client.unbind(&port))
            .map(drop)
    }

    /// Has exactly these ports served, and the networks of the host.
    pub(super) fn set_ports(
        &self,
        host: &Host,
        ports: impl IntoIterator<Item = Port>,
    ) -> Result<()> {
        let networks = services(host)?;
        let mut link = self.lock();
        link.networks = networks;
        link.ports = ports
            .into_iter()
            .map(|port| (port.name, port.binding))
            .collect();
        link.client = None;
        self.call(&mut link, |_| Ok(()))
    }

    /// Has the networks of the host served and no others.
    pub(super) fn serve_networks(&self, host: &Host) -> Result<()> {
        let networks = services(host)?;
        let mut link = self.lock();
        link.networks = networks;
        link.client = None;
        self.call(&mut link, |_| Ok(()))
    }

    /// Serves no network any more; they are about to go.
    pub(super) fn end_networks(&self) -> Result<()> {
        let mut link = self.lock();
        link.networks.clear();
        self.call(&mut link, |client| client.serve_only_at([]))
    }

    /// The last exchanges on a port, and whether it has been granted its address. Nothing is
    /// known while `fvm-netd` cannot be asked.
    pub(super) fn exchanges(&self, nic: Nic) -> (Vec<DhcpExchange>, bool) {
        match self.call(&mut self.lock(), |client| client.port_log(&nic.tap())) {
            Ok(Some(log)) => (
                log.exchanges.iter().map(exchange).collect(),
                log.lease.is_some(),
            ),
            Ok(None) => Default::default(),
            Err(error) => {
                tracing::warn!(port = %nic, error = %error.message, "cannot read the port's log");
                Default::default()
            }
        }
    }

    /// What was said on a port; `None` if it is not served.
    pub(super) fn port_log(&self, nic: Nic) -> Result<Option<PortLog>> {
        self.call(&mut self.lock(), |client| client.port_log(&nic.tap()))
    }

    /// Connects anew if the connection broke while ports are to be served; says whether it did.
    fn mend(&self) -> Result<bool> {
        let mut link = self.lock();
        let broken = link.client.as_ref().is_none_or(Client::is_disconnected);
        let nothing = link.ports.is_empty() && link.networks.is_empty();
        if !broken || nothing {
            return Ok(false);
        }
        self.call(&mut link, |_| Ok(())).map(|()| true)
    }
}

/// What is to be served on the networks that are fvm's own.
fn services(host: &Host) -> Result<BTreeMap<Ipv4Addr, Service>> {
    let mut services = BTreeMap::new();
    for network in host.networks() {
        if let Some(own) = &network.own {
            let service = Service {
                dns: dns::config(host, &network)?,
                seeds_trouble: None,
            };
            services.insert(own.gateway, service);
        }
    }
    Ok(services)
}

/// Has exactly these ports served by a `fvm-netd` that may know nothing of them.
fn resync(client: &mut Client, ports: &BTreeMap<String, Binding>) -> Result<()> {
    let mut open = Vec::with_capacity(ports.len());
    for (name, binding) in ports {
        match net::dhcp_socket(name) {
            Ok(socket) => open.push((name, binding, socket)),
            // A VM that is just ending has no tap any more; the others must go on.
            Err(error) => tracing::warn!(port = name, %error, "port not served"),
        }
    }
    let bindings = open.iter().map(|(port, binding, socket)| PortBinding {
        port: port.as_str(),
        binding,
        socket: socket.as_fd(),
    });
    let dropped = client
        .resync(bindings)
        .map_err(|error| failed("fvm-netd", &error))?;
    if !dropped.is_empty() {
        tracing::warn!(?dropped, "ports that fvm-netd served for nobody");
    }
    Ok(())
}

fn unreachable(error: &ClientError) -> ApiError {
    ApiError::from_error(ErrorKind::HostNotAble, error)
        .hint("`systemctl status fvm-netd.socket fvm-netd` tells why")
}

pub(super) fn exchange(logged: &LoggedExchange) -> DhcpExchange {
    let exchange = &logged.exchange;
    let message = exchange
        .message
        .map_or_else(|| "unreadable frame".into(), |kind| kind.to_string());
    DhcpExchange {
        at_ms: logged.at_unix_ms,
        asked: match exchange.asked {
            Some(address) => format!("{message} {address}"),
            None => message,
        },
        answered: match &exchange.outcome {
            Outcome::Answered {
                message,
                address: Some(address),
                ..
            } => format!("{message} {address}"),
            Outcome::Answered {
                message,
                address: None,
                ..
            } => message.to_string(),
            Outcome::Silent { cause } => format!("nothing: {cause}"),
        },
    }
}

/// A port of a running VM, with the socket to serve it by.
#[derive(Debug)]
pub(super) struct Port {
    name: String,
    binding: Binding,
    socket: OwnedFd,
}

impl Port {
    fn as_binding(&self) -> PortBinding<'_> {
        PortBinding {
            port: &self.name,
            binding: &self.binding,
            socket: self.socket.as_fd(),
        }
    }

    /// The port of a card whose tap is there.
    fn open(
        host: &Host,
        vm: &VmRow,
        card: &Card<'_>,
        own: &net::Network,
        address: Ipv4Addr,
        seed: Option<&SeedRow>,
    ) -> Result<Self> {
        let name = card.place.tap();
        let socket =
            net::dhcp_socket(&name).map_err(|error| failed("opening a port for DHCP", &error))?;
        Ok(Self {
            binding: Binding {
                seed: seed.map(|seed| seed::served(vm, seed)),
                ..binding(host, vm, card, own, address)?
            },
            name,
            socket,
        })
    }
}

/// What the guest behind a card is told. It follows from the VM's row alone: the row is the lease.
fn binding(
    host: &Host,
    vm: &VmRow,
    card: &Card<'_>,
    own: &net::Network,
    address: Ipv4Addr,
) -> Result<Binding> {
    let mut binding = Binding::new(
        host.host_number(vm.number)?,
        card.mac,
        address,
        own.subnet,
        own.gateway,
        own.mac,
    );
    if own.mode == net::Mode::Isolated {
        binding.gateway = None;
    }
    let name = |text: &str| -> Result<DnsName> {
        text.parse()
            .map_err(|error: fvm_netd::dhcp::BindingError| failed("naming the guest", &error))
    };
    let config = &host.config;
    binding.dns_servers = host.dns(&card.network)?;
    let host_name = name(&host_name(&vm.name, vm.number))?;
    binding.dns_names = vec![host_name.clone(), name(&short_name(vm.number))?];
    binding.host_name = Some(host_name);
    binding.domain_name = Some(name(&config.domain)?);
    binding.lease = LeaseTimes::of_lease(config.lease_time_s)
        .map_err(|error| failed("the lease time", &error))?;
    binding.mtu = u16::try_from(own.mtu).ok();
    let dhcp = &config.dhcp;
    binding.search_domains = match dhcp.search.as_slice() {
        [] => binding.domain_name.iter().cloned().collect(),
        search => search.to_vec(),
    };
    binding.ntp_servers.clone_from(&dhcp.ntp);
    // By hosts of the default network.
    if own.bridge == host.network.bridge {
        binding.routes.clone_from(&dhcp.routes);
    }
    binding.tzdb_timezone.clone_from(&dhcp.timezone);
    binding.posix_timezone.clone_from(&dhcp.posix_timezone);
    binding.ipv6_only_wait_s = dhcp.ipv6_only_wait_s;
    binding.rapid_commit = dhcp.rapid_commit;
    binding.strict_client = dhcp.strict_client;
    binding.relay = dhcp.relay;
    binding.boot.clone_from(&dhcp.boot);
    Ok(binding)
}

/// A VM's name as a host name: what a label cannot hold (RFC 1123, 2.1) becomes a hyphen. A name too long for
/// a label, as an image with a long name makes it, gives way to `vm42`.
pub(super) fn host_name(vm_name: &str, number: VmNumber) -> String {
    let label: String = vm_name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    match label.parse::<DnsName>() {
        Ok(_) => label,
        Err(_) => format!("vm{number}"),
    }
}

/// What a VM is called by its number: `vm42`, or `base`.
fn short_name(number: VmNumber) -> String {
    match number.is_base() {
        true => "base".to_owned(),
        false => format!("vm{number}"),
    }
}

/// Gives a running VM's tap the network's MTU: what its guest is told, its port must carry.
fn follow_mtu(card: &Card<'_>, own: &net::Network) -> Result<()> {
    net::set_tap_mtu(card.place, own.mtu)
        .map_err(|error| failed(format!("setting the MTU of {}", card.place.tap()), &error))
}

impl Manager {
    /// Makes `fvm-netd` serve exactly the ports of the VMs that run.
    pub(super) fn resync_netd(&self, host: &Host) -> Result<()> {
        let mut ports = Vec::new();
        for machine in self.machines.all_up() {
            let Some(row) = self.store.vm(machine.number)? else {
                continue;
            };
            for card in cards(host, &row)? {
                if let Some(own) = &card.network.own
                    && let Err(error) = follow_mtu(&card, own)
                {
                    tracing::warn!(vm = %row.number, error = %error.message, "MTU not set");
                }
                match self.open_port(host, &row, &card) {
                    Ok(port) => ports.extend(port),
                    Err(error) => {
                        tracing::warn!(vm = %row.number, error = %error.message, "port not served");
                    }
                }
            }
        }
        self.netd.set_ports(host, ports)
    }

    /// The port of a card whose tap is there; none if DHCP gives the card no address.
    pub(super) fn open_port(
        &self,
        host: &Host,
        vm: &VmRow,
        card: &Card<'_>,
    ) -> Result<Option<Port>> {
        let (Some(own), Some(address)) = (&card.network.own, card.leased_address()) else {
            return Ok(None);
        };
        let seed = self.store.seed(vm.number)?;
        Port::open(host, vm, card, own, address, seed.as_ref()).map(Some)
    }

    /// The card by which a VM is reached; none if DHCP gives no card of it an address.
    pub(super) fn main_card(&self, host: &Host, vm: &VmRow) -> Result<Option<Nic>> {
        Ok(main_card(&cards(host, vm)?).map(|card| card.place))
    }

    /// Watches the connection to `fvm-netd` as long as the manager is there.
    pub(super) fn watch_netd(self: &Arc<Self>) -> std::io::Result<()> {
        let manager = Arc::downgrade(self);
        thread::Builder::new()
            .name("netd".into())
            .spawn(move || watch(&manager))
            .map(drop)
    }
}

fn watch(manager: &Weak<Manager>) {
    let mut complained = false;
    while let Some(manager) = manager.upgrade() {
        if let Err(error) = manager.netd.follow_servers() {
            tracing::debug!(error = %error.message, "DNS servers not looked up");
        }
        match manager.netd.mend() {
            Ok(true) => {
                tracing::info!("fvm-netd was restarted and knows every port again");
                complained = false;
            }
            Ok(false) => {}
            Err(error) => {
                if !complained {
                    tracing::error!(error = %error.message, "fvm-netd cannot be told about the ports");
                }
                complained = true;
            }
        }
        drop(manager);
        thread::sleep(WATCH_INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_vm_has_a_host_name() {
        let long = format!("fvm-{}-42", "x".repeat(64));
        for (vm_name, expected) in [
            ("fvm-debian-42", "fvm-debian-42"),
            ("fvm-Debian_13.1-42", "fvm-Debian-13-1-42"),
            (long.as_str(), "vm42"),
        ] {
            let name = host_name(vm_name, 42.into());
            assert_eq!(name, expected);
            assert!(name.parse::<DnsName>().is_ok());
        }
    }
}

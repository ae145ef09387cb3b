//! Networks beside the default one: made and deleted by root, in the store, up while the host is.
//!
//! The row comes first and goes first: a bridge of fvm's without a row is taken away when the daemon starts.

use super::{
    Manager, Progress,
    cards::cards,
    error::{Failures, Result, failed},
    host::Host,
};
use crate::{
    api::{
        ApiError, CreateNetwork, ErrorKind, NetList, NetReport, NetworkCard, NetworkMode,
        NetworkName, REPORT_VERSION,
    },
    config::Config,
    manager::Caller,
    store::{NetworkRow, NicRow, VmRow},
};
use fvm_netd::{HostId, MacAddr, Subnet, names, net};
use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    sync::{Arc, PoisonError, RwLock},
};

/// The subnets that are proposed are the first of these that is free: the second byte of `10.x.0.0`.
const PROPOSED: std::ops::RangeInclusive<u8> = 64..=127;

/// A network that cards of VMs can be on.
#[derive(Debug, Clone)]
pub(super) struct GuestNetwork {
    /// Its name in templates.
    pub(super) name: String,
    pub(super) mode: NetworkMode,
    /// The bridge that taps are ports of.
    pub(super) bridge: String,
    /// Guests on it are kept from each other.
    pub(super) isolate_guests: bool,
    /// What fvm makes and serves; nothing on a bridge of the host's own.
    pub(super) own: Option<net::Network>,
    /// Why its gateway serves no DNS, if so.
    pub(super) dns_trouble: Option<String>,
    /// Why it is not there, if so.
    pub(super) trouble: Option<String>,
}

impl GuestNetwork {
    /// The default one.
    pub(super) fn default_of(network: net::Network, dns_trouble: Option<String>) -> Self {
        Self {
            name: network.bridge.clone(),
            mode: NetworkMode::Nat,
            bridge: network.bridge.clone(),
            isolate_guests: false,
            own: Some(network),
            dns_trouble,
            trouble: None,
        }
    }

    /// A bridge of the host's own.
    fn foreign(name: &str, bridge: &str, isolate_guests: bool) -> Self {
        Self {
            name: name.to_owned(),
            mode: NetworkMode::Bridge,
            bridge: bridge.to_owned(),
            isolate_guests,
            own: None,
            dns_trouble: None,
            trouble: None,
        }
    }

    fn of_row(row: &NetworkRow, config: &Config, id: &HostId) -> Result<Self> {
        let malformed = |error: &dyn std::error::Error| {
            failed("the state store holds a malformed network", error)
        };
        let mode: NetworkMode = row.mode.parse().map_err(|error| malformed(&error))?;
        let net_mode = match mode {
            NetworkMode::Nat => net::Mode::Nat,
            NetworkMode::Route => net::Mode::Route,
            NetworkMode::Isolated => net::Mode::Isolated,
            NetworkMode::Bridge => {
                let bridge = row.bridge.as_deref().unwrap_or_default();
                return Ok(Self::foreign(&row.name, bridge, row.isolate_guests));
            }
        };
        let text = row.subnet.as_deref().unwrap_or_default();
        let subnet: Subnet = text.parse().map_err(|error| malformed(&error))?;
        let bridge = names::bridge_of(&row.name);
        Ok(Self {
            name: row.name.clone(),
            mode,
            bridge: bridge.clone(),
            isolate_guests: row.isolate_guests,
            own: Some(net::Network {
                bridge,
                mac: MacAddr::of_network(id, &row.name),
                subnet,
                gateway: gateway(subnet)?,
                mtu: config.mtu,
                mode: net_mode,
                forwards: Vec::new(),
            }),
            dns_trouble: None,
            trouble: None,
        })
    }

    /// Brings it up, and notes what keeps it from working.
    fn bring_up(&mut self) -> Result<Vec<net::Change>> {
        let Some(network) = &self.own else {
            let there = net::is_bridge(&self.bridge)
                .map_err(|error| failed(format!("looking for {}", self.bridge), &error))?;
            return match there {
                true => Ok(Vec::new()),
                false => Err(refused(format!(
                    "this host has no bridge '{}'",
                    self.bridge.escape_debug()
                ))
                .hint("`ip link show type bridge` lists those that it has")),
            };
        };
        let report = net::ensure_network(network)
            .map_err(|error| failed(format!("bringing the network {} up", self.name), &error))?;
        self.dns_trouble = dns_trouble(network.gateway);
        Ok(report.changes)
    }
}

/// Why DNS cannot be served at a gateway, if so. Sockets are opened for good when `fvm-netd` gets them; what another
/// program has is found out now.
pub(super) fn dns_trouble(gateway: Ipv4Addr) -> Option<String> {
    let error = net::DnsSockets::open(gateway).err()?;
    let trouble = failed("no DNS for guests", &error).message;
    tracing::warn!("{trouble}: they are told the host's servers");
    Some(trouble)
}

fn gateway(subnet: Subnet) -> Result<Ipv4Addr> {
    subnet.host(1).ok_or_else(|| {
        ApiError::new(
            ErrorKind::Usage,
            format!("{subnet} has no room for a gateway"),
        )
    })
}

fn refused(message: String) -> ApiError {
    ApiError::new(ErrorKind::Refused, message)
}

/// The networks beside the default one, by name.
#[derive(Debug, Default)]
pub(super) struct Networks(RwLock<BTreeMap<String, Arc<GuestNetwork>>>);

impl Networks {
    fn all(&self) -> Vec<Arc<GuestNetwork>> {
        let networks = self.0.read().unwrap_or_else(PoisonError::into_inner);
        networks.values().cloned().collect()
    }

    fn insert(&self, network: GuestNetwork) {
        let mut networks = self.0.write().unwrap_or_else(PoisonError::into_inner);
        networks.insert(network.name.clone(), Arc::new(network));
    }

    fn remove(&self, name: &str) {
        let mut networks = self.0.write().unwrap_or_else(PoisonError::into_inner);
        networks.remove(name);
    }
}

impl Host {
    /// Every network that fvm knows by name, the default one first.
    pub(super) fn networks(&self) -> Vec<Arc<GuestNetwork>> {
        let first = GuestNetwork::default_of(self.network.clone(), self.dns_trouble.clone());
        let mut all = vec![Arc::new(first)];
        all.extend(self.others.all());
        all
    }

    /// The network of this name.
    pub(super) fn network_named(&self, name: &str) -> Option<Arc<GuestNetwork>> {
        self.networks()
            .into_iter()
            .find(|network| network.name == name)
    }

    /// What is behind a bridge of this name: a network of fvm's, or one of the host's own.
    pub(super) fn network_on_bridge(&self, bridge: &str) -> Arc<GuestNetwork> {
        let own = |network: &Arc<GuestNetwork>| network.own.is_some() && network.bridge == bridge;
        let found = self.networks().into_iter().find(own);
        found.unwrap_or_else(|| Arc::new(GuestNetwork::foreign(bridge, bridge, false)))
    }

    /// The network that a card is on.
    pub(super) fn network_of(&self, nic: &NicRow) -> Result<Arc<GuestNetwork>> {
        if nic.is_bridge {
            return Ok(Arc::new(GuestNetwork::foreign(
                &nic.network,
                &nic.network,
                false,
            )));
        }
        self.network_named(&nic.network).ok_or_else(|| {
            ApiError::new(
                ErrorKind::Internal,
                format!("there is no network '{}' any more", nic.network),
            )
        })
    }
}

impl Manager {
    /// Brings the networks of the store up. One that fails does not keep the others from working.
    pub(super) fn bring_networks_up(&self, config: &Config, id: &HostId) -> Result<Networks> {
        let networks = Networks::default();
        for row in self.store.networks()? {
            let mut network = GuestNetwork::of_row(&row, config, id)?;
            match network.bring_up() {
                Ok(changes) => self.note_changes(&changes)?,
                Err(error) => {
                    tracing::error!(network = row.name, error = %error.message, "not up");
                    network.trouble = Some(error.message);
                }
            }
            networks.insert(network);
        }
        Ok(networks)
    }

    /// Logs what was changed on the host, and keeps what has to be undone.
    pub(super) fn note_changes(&self, changes: &[net::Change]) -> Result<()> {
        for change in changes {
            tracing::info!("{change}");
            if *change == net::Change::IpForwardEnabled {
                self.store
                    .set_setting(super::init::IP_FORWARD_IS_OURS, "yes")?;
            }
        }
        Ok(())
    }

    /// Every network.
    ///
    /// # Errors
    /// When the host is not set up or the store fails.
    pub fn network_list(&self) -> Result<NetList> {
        let host = self.host()?;
        let rows = self.store.vms()?;
        let reports = host
            .networks()
            .into_iter()
            .map(|network| report(&host, &rows, &network));
        Ok(NetList::new(reports.collect::<Result<_>>()?))
    }

    /// One network.
    ///
    /// # Errors
    /// When there is none of this name, the host is not set up, or the store fails.
    pub fn network(&self, name: &NetworkName) -> Result<NetReport> {
        let host = self.host()?;
        let network = host
            .network_named(name.as_str())
            .ok_or_else(|| no_network(&host, name.as_str()))?;
        report(&host, &self.store.vms()?, &network)
    }

    /// Makes a network.
    ///
    /// # Errors
    /// When the caller is not root, there is one of this name, it would conflict with something on this host, or a step
    /// fails; then there is none.
    pub fn create_network(
        &self,
        caller: Caller,
        name: &NetworkName,
        request: &CreateNetwork,
        _progress: &Progress,
    ) -> Result<NetReport> {
        check_root(caller)?;
        // While `init` makes everything anew, and while VMs are made, networks neither come nor go.
        let _setup = self.setup_lock.lock(());
        let _alone = self.networks_lock.lock(());
        let host = self.host()?;
        if host.network_named(name.as_str()).is_some() {
            return Err(refused(format!("there is a network '{name}' already"))
                .hint(format!("`fvm net show {name}` shows it")));
        }
        let row = plan(&host, name, request)?;
        let mut network = GuestNetwork::of_row(&row, &host.config, &host.id)?;
        self.store.insert_network(&row)?;
        let brought_up = network
            .bring_up()
            .and_then(|changes| self.note_changes(&changes));
        if let Err(error) = brought_up {
            self.store.delete_network(&row.name)?;
            return Err(match take_away(&network.bridge, network.own.is_some()) {
                Ok(()) => error,
                Err(left) => error.detail(format!("left behind: {}", left.message)),
            });
        }
        host.others.insert(network.clone());
        if network.own.is_some() {
            // The network is there; it is served from the next time that fvm-netd can be asked.
            self.netd.serve_networks(&host)?;
        }
        tracing::info!(network = %name, uid = caller.uid, "made");
        report(&host, &[], &network)
    }

    /// Takes a network away.
    ///
    /// # Errors
    /// When the caller is not root, there is no such network, it is the default one, cards are on it, or a step fails.
    pub fn delete_network(&self, caller: Caller, name: &NetworkName) -> Result<NetReport> {
        check_root(caller)?;
        // While `init` makes everything anew, and while VMs are made, networks neither come nor go.
        let _setup = self.setup_lock.lock(());
        let _alone = self.networks_lock.lock(());
        let host = self.host()?;
        let network = host
            .network_named(name.as_str())
            .ok_or_else(|| no_network(&host, name.as_str()))?;
        let report = report(&host, &self.store.vms()?, &network)?;
        if report.is_default {
            return Err(refused(format!("{name} is the default network"))
                .hint("`sudo fvm init --remove` takes it away with everything else"));
        }
        if let Some(card) = report.cards.first() {
            let (vm, number) = (card.vm, card.card);
            return Err(refused(format!(
                "there are cards on the network {name}: {} of VM {vm}{}",
                number,
                match report.cards.len() {
                    1 => String::new(),
                    many => format!(" and {} more", many - 1),
                }
            ))
            .hint(format!(
                "`fvm net show {name}` shows them; `fvm nic remove` takes one away, `fvm delete` a VM with all of them"
            )));
        }
        self.store.delete_network(name.as_str())?;
        host.others.remove(name.as_str());
        let mut failures = Failures::default();
        if network.own.is_some() {
            failures.keep(self.netd.serve_networks(&host));
        }
        failures.keep(take_away(&network.bridge, network.own.is_some()));
        failures.into_result()?;
        tracing::info!(network = %name, uid = caller.uid, "deleted");
        Ok(report)
    }

    /// Takes away bridges of networks that are not in the store.
    pub(super) fn remove_stray_networks(&self, host: &Host) -> Result<()> {
        let _alone = self.networks_lock.lock(());
        let bridges = net::list_bridges().map_err(|error| failed("listing bridges", &error))?;
        let mut failures = Failures::default();
        for (bridge, mac) in bridges {
            let Some(name) = names::network_of(&bridge) else {
                continue;
            };
            let is_ours = mac == Some(MacAddr::of_network(&host.id, name));
            if is_ours && host.network_named(name).is_none() {
                tracing::warn!(bridge, "removing a network that is left over");
                failures.keep(take_away(&bridge, true));
            }
        }
        failures.into_result()
    }
}

/// Takes away what fvm has made for a network; nothing if the bridge is the host's own.
fn take_away(bridge: &str, is_own: bool) -> Result<()> {
    if !is_own {
        return Ok(());
    }
    let report = net::remove_network(bridge, net::RemoveOptions::default());
    let mut failures = Failures::default();
    for error in &report.failures {
        failures.keep::<()>(Err(failed(format!("taking {bridge} away"), error)));
    }
    failures.into_result()
}

fn check_root(caller: Caller) -> Result<()> {
    match caller.is_root() {
        true => Ok(()),
        false => Err(refused("only root may make and delete networks".to_owned())
            .hint("run it with sudo; everybody may use the networks that are there")),
    }
}

/// The error of a network that is not there.
pub(super) fn no_network(host: &Host, name: &str) -> ApiError {
    let names: Vec<String> = host
        .networks()
        .iter()
        .map(|network| network.name.clone())
        .collect();
    ApiError::new(
        ErrorKind::NotFound,
        format!("there is no network '{}'", name.escape_debug()),
    )
    .hint(format!(
        "there are {}; `sudo fvm net create` makes others",
        names.join(", ")
    ))
}

/// What a request asks for, checked.
fn plan(host: &Host, name: &NetworkName, request: &CreateNetwork) -> Result<NetworkRow> {
    let usage = |message: String| ApiError::new(ErrorKind::Usage, message);
    let mut row = NetworkRow {
        name: name.to_string(),
        mode: request.mode.to_string(),
        subnet: None,
        bridge: None,
        isolate_guests: request.isolate_guests,
    };
    if request.mode == NetworkMode::Bridge {
        let bridge = request.bridge.as_deref().ok_or_else(|| {
            usage("the mode bridge needs the name of a bridge".to_owned()).hint("--bridge br0")
        })?;
        if request.subnet.is_some() {
            return Err(usage(
                "on a bridge of the host's own, fvm has no subnet".to_owned(),
            ));
        }
        if host.network_on_bridge(bridge).own.is_some() {
            return Err(refused(format!("{bridge} is a bridge of fvm's own")));
        }
        row.bridge = Some(bridge.to_owned());
        return Ok(row);
    }
    if request.bridge.is_some() {
        return Err(
            usage(format!("the mode {} has a bridge of its own", request.mode))
                .hint("--mode bridge leads to one of the host's"),
        );
    }
    let subnet: Subnet = match &request.subnet {
        Some(text) => text
            .parse()
            .map_err(|error| usage(format!("'{}': {error}", text.escape_debug())))?,
        None => free_subnet(host, name)?,
    };
    check_subnet(host, name, subnet)?;
    row.subnet = Some(subnet.to_string());
    Ok(row)
}

/// Refuses a subnet that overlaps with another of fvm's or with something on this host.
fn check_subnet(host: &Host, name: &NetworkName, subnet: Subnet) -> Result<()> {
    for other in host.networks() {
        if let Some(own) = &other.own
            && own.subnet.overlaps(subnet.base(), subnet.prefix())
        {
            return Err(refused(format!(
                "{subnet} overlaps with {}, the subnet of the network {}",
                own.subnet, other.name
            )));
        }
    }
    let wanted = net::Network {
        bridge: names::bridge_of(name.as_str()),
        mac: MacAddr::of_network(&host.id, name.as_str()),
        subnet,
        gateway: gateway(subnet)?,
        ..host.network.clone()
    };
    net::check_conflicts(&wanted).map_err(|error| ApiError::from_error(ErrorKind::Refused, &error))
}

/// A subnet of the default one's size that nothing on this host is in the way of.
fn free_subnet(host: &Host, name: &NetworkName) -> Result<Subnet> {
    let prefix = host.config.subnet.prefix().max(16);
    let all = PROPOSED.filter_map(|byte| Subnet::new(Ipv4Addr::new(10, byte, 0, 0), prefix).ok());
    let mut free = all.filter(|subnet| check_subnet(host, name, *subnet).is_ok());
    free.next().ok_or_else(|| {
        refused("no subnet was found that is free".to_owned())
            .hint("give one: --subnet 10.5.0.0/24")
    })
}

fn report(host: &Host, rows: &[VmRow], network: &GuestNetwork) -> Result<NetReport> {
    let mut on_it = Vec::new();
    for row in rows {
        for card in cards(host, row)? {
            if card.network.name == network.name && !card.nic.is_bridge {
                on_it.push(NetworkCard {
                    vm: row.number,
                    card: card.nic.index,
                    mac: card.nic.mac.clone(),
                    address: card.leased_address(),
                });
            }
        }
    }
    Ok(NetReport {
        version: REPORT_VERSION,
        name: network.name.clone(),
        is_default: network.name == host.network.bridge,
        mode: network.mode,
        bridge: network.bridge.clone(),
        subnet: network.own.as_ref().map(|own| own.subnet.to_string()),
        gateway: network.own.as_ref().map(|own| own.gateway),
        isolate_guests: network.isolate_guests,
        trouble: network.trouble.clone().or(network.dns_trouble.clone()),
        cards: on_it,
    })
}

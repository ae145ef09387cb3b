//! The network cards of VMs: which network each is on, and which address it has there.
//!
//! On each network of fvm's, VM *N* has the address base + *N*. Its first card there is told so by DHCP; a further card is
//! told nothing, but may send from that address too.

use super::{
    error::{Result, failed},
    host::Host,
    networks::{GuestNetwork, no_network},
};
use crate::{
    api::{ApiError, ErrorKind, VmNumber},
    domain::{Domain, Interface, NicModel, NicSource},
    store::{NicRow, VmRow},
};
use fvm_netd::{MacAddr, mac::MacError, names::Nic};
use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc};

/// A card, as its row and its network have it.
#[derive(Debug)]
pub(super) struct Card<'v> {
    pub(super) nic: &'v NicRow,
    /// What its tap is called by.
    pub(super) place: Nic,
    pub(super) mac: MacAddr,
    pub(super) network: Arc<GuestNetwork>,
    /// The VM's address on the network; none where others give addresses.
    pub(super) address: Option<Ipv4Addr>,
    /// Whether it is the VM's first card on the network.
    pub(super) is_first: bool,
}

impl Card<'_> {
    /// The address that DHCP gives it.
    pub(super) fn leased_address(&self) -> Option<Ipv4Addr> {
        self.address.filter(|_| self.is_first)
    }
}

/// A VM's cards, in their order.
pub(super) fn cards<'v>(host: &Host, vm: &'v VmRow) -> Result<Vec<Card<'v>>> {
    let mut cards: Vec<Card<'v>> = Vec::with_capacity(vm.nics.len());
    for nic in &vm.nics {
        let network = host.network_of(nic)?;
        let mac = nic
            .mac
            .parse()
            .map_err(|error: MacError| failed("the state store holds a malformed card", &error))?;
        let same = |other: &Card<'_>| other.network.bridge == network.bridge;
        cards.push(Card {
            nic,
            place: place(host, vm.number, nic.index)?,
            mac,
            address: address(host, vm.number, &network)?,
            is_first: !cards.iter().any(same),
            network,
        });
    }
    Ok(cards)
}

/// The card that has the VM's address, by which it is reached: the first that DHCP answers.
pub(super) fn main_card<'c, 'v>(cards: &'c [Card<'v>]) -> Option<&'c Card<'v>> {
    cards.iter().find(|card| card.leased_address().is_some())
}

fn place(host: &Host, vm: VmNumber, index: u32) -> Result<Nic> {
    let index = u8::try_from(index)
        .map_err(|error| failed("the state store holds a malformed card", &error))?;
    host.nic(vm, index)
}

/// The address of a VM on a network; none where others give addresses.
fn address(host: &Host, vm: VmNumber, network: &GuestNetwork) -> Result<Option<Ipv4Addr>> {
    let Some(own) = &network.own else {
        return Ok(None);
    };
    let address = own.subnet.host(host.host_number(vm)?);
    address.map(Some).ok_or_else(|| {
        ApiError::new(
            ErrorKind::HostNotAble,
            format!(
                "VM {vm} has no address in {}, the subnet of the network {}",
                own.subnet, network.name
            ),
        )
    })
}

/// A card that a template asks for as number `index` of a VM, with the MAC address that it keeps.
pub(super) fn planned(host: &Host, vm: VmNumber, index: u32, wanted: &Interface) -> Result<NicRow> {
    let place = u8::try_from(index)
        .ok()
        .and_then(|index| host.nic(vm, index).ok());
    let place = place.ok_or_else(|| {
        ApiError::new(
            ErrorKind::Usage,
            format!("a VM has at most {NIC_COUNT} network cards"),
        )
    })?;
    let network = match &wanted.source {
        NicSource::Bridge(bridge) => host.network_on_bridge(bridge),
        NicSource::Network(name) => host.network_named(name).ok_or_else(|| {
            let error = no_network(host, name);
            ApiError {
                message: format!("network card {index}: {}", error.message),
                ..error
            }
        })?,
    };
    // One that has no address in the subnet is told so now rather than at its start.
    address(host, vm, &network).map_err(|error| ApiError {
        kind: ErrorKind::Usage,
        ..error
    })?;
    let mac = match &wanted.mac {
        Some(text) => text
            .parse::<MacAddr>()
            .map_err(|error| failed("the template", &error))?,
        None => MacAddr::of_nic(&host.id, place),
    };
    Ok(NicRow {
        index,
        mac: mac.to_string(),
        network: network.name.clone(),
        model: wanted.is_added().then(|| wanted.model.as_str().to_owned()),
        is_bridge: matches!(wanted.source, NicSource::Bridge(_)) && network.own.is_none(),
    })
}

/// Gives a machine the cards that its VM has: those of the template that were not taken from it, and those that were added.
pub(super) fn put_in(domain: &mut Domain, vm: &VmRow) -> Result<()> {
    let mut given = std::mem::take(&mut domain.devices.interfaces)
        .into_iter()
        .zip(0u32..)
        .map(|(card, index)| (index, card))
        .collect::<BTreeMap<_, _>>();
    for nic in &vm.nics {
        let card = match &nic.model {
            Some(model) => Some(added(nic, model)?),
            None => given.remove(&nic.index),
        };
        domain.devices.interfaces.extend(card);
    }
    Ok(())
}

/// A card that was added, as the machine has it.
fn added(nic: &NicRow, model: &str) -> Result<Interface> {
    let source = match nic.is_bridge {
        true => NicSource::Bridge(nic.network.clone()),
        false => NicSource::Network(nic.network.clone()),
    };
    Ok(Interface::added(nic.index, source, self::model(model)?))
}

/// The model of a card that has this word.
pub(super) fn model(word: &str) -> Result<NicModel> {
    let mut words = NicModel::WORDS.iter();
    let found = words.find(|(known, _)| *known == word);
    found.map(|(_, model)| *model).ok_or_else(|| {
        let known: Vec<&str> = NicModel::WORDS.iter().map(|(known, _)| *known).collect();
        ApiError::new(
            ErrorKind::Usage,
            format!(
                "there is no network card of model '{}'",
                word.escape_debug()
            ),
        )
        .hint(format!("there are {}", known.join(", ")))
    })
}

/// How many cards a VM can have.
const NIC_COUNT: u8 = fvm_netd::names::NIC_MAX + 1;

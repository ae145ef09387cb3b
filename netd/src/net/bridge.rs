//! The bridge of a network and the gateway's address on it.

use super::link::{LinkSettings, Links};
use super::{Change, Error, Network};
use crate::MacAddr;

/// Makes the bridge as the network wants it.
pub(super) fn ensure(network: &Network) -> Result<Vec<Change>, Error> {
    let name = &network.bridge;
    let mut links = Links::open()?;
    let mut changes = Vec::new();
    if links.find(name)?.is_none() {
        links.add_bridge(name, network.mac)?;
        changes.push(Change::BridgeCreated {
            bridge: name.clone(),
        });
    }
    let bridge = links.require(name)?;
    if !bridge.is_bridge {
        return Err(Error::WrongKind {
            name: name.clone(),
            expected: "bridge",
        });
    }
    let created = !changes.is_empty();
    let settings = LinkSettings {
        up: !bridge.up,
        mac: (bridge.mac != Some(network.mac)).then_some(network.mac),
        mtu: (bridge.mtu != network.mtu).then_some(network.mtu),
        controller: None,
        no_ipv6_link_local: created,
    };
    if created || settings.up || settings.mac.is_some() || settings.mtu.is_some() {
        links.set(&bridge, settings)?;
    }
    if !created && (settings.up || settings.mac.is_some() || settings.mtu.is_some()) {
        changes.push(Change::BridgeConfigured {
            bridge: name.clone(),
        });
    }

    let prefix = network.subnet.prefix();
    let wanted =
        |found: &super::link::Address| found.address == network.gateway && found.prefix == prefix;
    let present: Vec<_> = links
        .addresses()?
        .into_iter()
        .filter(|address| address.link == bridge.index)
        .collect();
    for stale in present.iter().filter(|address| !wanted(address)) {
        links.delete_address(&bridge, stale)?;
        changes.push(Change::AddressRemoved {
            address: stale.address,
            prefix: stale.prefix,
            bridge: name.clone(),
        });
    }
    if !present.iter().any(wanted) {
        links.add_address(&bridge, network.gateway, prefix)?;
        changes.push(Change::AddressAdded {
            address: network.gateway,
            prefix,
            bridge: name.clone(),
        });
    }
    Ok(changes)
}

/// Deletes the bridge, and its address and routes with it.
pub(super) fn remove(name: &str) -> Result<Option<Change>, Error> {
    let mut links = Links::open()?;
    let Some(bridge) = links.find(name)? else {
        return Ok(None);
    };
    if !bridge.is_bridge {
        return Err(Error::WrongKind {
            name: name.to_owned(),
            expected: "bridge",
        });
    }
    let removed = links.delete(&bridge)?;
    Ok(removed.then(|| Change::BridgeRemoved {
        bridge: name.to_owned(),
    }))
}

/// Every bridge of the host, with its Ethernet address.
pub fn list_bridges() -> Result<Vec<(String, Option<MacAddr>)>, Error> {
    let links = Links::open()?.all()?.into_iter();
    let bridges = links.filter(|link| link.is_bridge);
    Ok(bridges.map(|link| (link.name, link.mac)).collect())
}

/// Whether the host has a bridge of this name.
pub fn is_bridge(name: &str) -> Result<bool, Error> {
    if !crate::names::is_link_name(name) {
        return Ok(false);
    }
    Ok(Links::open()?
        .find(name)?
        .is_some_and(|link| link.is_bridge))
}

//! Who may send what: one element for each VM's port in the sets of the bridge table.
//!
//! A port without an element can send nothing (DHCP requests excepted, which `fvm-netd` reads from
//! the tap itself), so a tap that was made but not admitted is closed.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use nftables::batch::Batch;
use nftables::schema::{Element, NfListObject};
use nftables::types::NfFamily;
use serde::{Deserialize, Serialize};

use super::firewall::{self, Listing};
use super::{Error, nft, rules};
use crate::MacAddr;
use crate::names::NFT_TABLE;

/// The addresses a port may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admission {
    /// The port: a tap's name.
    pub port: String,
    /// The guest's Ethernet address.
    pub mac: MacAddr,
    /// The guest's IPv4 address; without one the port is on a bridge where others give addresses.
    pub address: Option<Ipv4Addr>,
    /// Let it send from any address, as a lab within the guest needs.
    pub trusted: bool,
}

/// How often a rule of the bridge table has dropped a frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropCounter {
    /// The counter's name in the table.
    pub name: String,
    /// What it counts.
    pub meaning: String,
    /// Frames dropped.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Lets each port send from its addresses and no others, whatever it was allowed before.
///
/// All ports change in one transaction; admitting what is admitted already changes nothing.
pub fn admit(admissions: &[Admission]) -> Result<(), Error> {
    if admissions.is_empty() {
        return Ok(());
    }
    let wanted: Vec<(&str, Vec<String>)> = admissions.iter().flat_map(elements_of).collect();
    let mut batch = Batch::new();
    if let Some(present) = firewall::bridge_table()? {
        let is_ours = |port: &str| admissions.iter().any(|admission| admission.port == port);
        for (set, key) in present_elements(&present) {
            let keep = wanted
                .iter()
                .any(|(name, wanted)| *name == set && wanted == key);
            if !keep && key.first().is_some_and(|port| is_ours(port)) {
                batch.delete(element(set, key));
            }
        }
    }
    for (set, key) in &wanted {
        batch.add(element(set, key));
    }
    nft::apply(batch, "admit ports")
}

/// Lets these ports send nothing any more. A port that was not admitted is no error.
pub fn expel(ports: &[&str]) -> Result<(), Error> {
    let Some(present) = firewall::bridge_table()? else {
        return Ok(());
    };
    let mut batch = Batch::new();
    let mut any = false;
    for (set, key) in present_elements(&present) {
        if key
            .first()
            .is_some_and(|port| ports.contains(&port.as_str()))
        {
            batch.delete(element(set, key));
            any = true;
        }
    }
    if any {
        nft::apply(batch, "expel ports")
    } else {
        Ok(())
    }
}

/// The ports admitted, by name. A port with only a part of its elements is left out.
pub fn admitted() -> Result<Vec<Admission>, Error> {
    let Some(present) = firewall::bridge_table()? else {
        return Ok(Vec::new());
    };
    let mut macs = BTreeMap::new();
    for key in present.elements(rules::SET_MAC) {
        if let [port, mac] = key.as_slice()
            && let Ok(mac) = mac.parse::<MacAddr>()
        {
            macs.insert(port.as_str(), mac);
        }
    }
    let addresses: BTreeMap<&str, Ipv4Addr> = present
        .elements(rules::SET_IP)
        .iter()
        .filter_map(|key| match key.as_slice() {
            [port, address] => Some((port.as_str(), address.parse().ok()?)),
            _ => None,
        })
        .collect();
    let has = |set, port: &str| {
        let mut keys = present.elements(set).iter();
        keys.any(|key| key.first().is_some_and(|name| name == port))
    };
    Ok(macs
        .into_iter()
        .filter_map(|(port, mac)| {
            Some(Admission {
                port: port.to_owned(),
                mac,
                address: match addresses.get(port) {
                    Some(address) => Some(*address),
                    None if has(rules::SET_FOREIGN, port) => None,
                    None => return None,
                },
                trusted: has(rules::SET_TRUSTED, port),
            })
        })
        .collect())
}

/// What has been dropped since the table was made, by cause.
pub fn drop_counters() -> Result<Vec<DropCounter>, Error> {
    let Some(present) = firewall::bridge_table()? else {
        return Ok(Vec::new());
    };
    Ok(rules::COUNTERS
        .iter()
        .map(|(name, meaning)| {
            let (packets, bytes) = present.counter(name);
            DropCounter {
                name: (*name).to_owned(),
                meaning: (*meaning).to_owned(),
                packets,
                bytes,
            }
        })
        .collect())
}

fn elements_of(admission: &Admission) -> Vec<(&'static str, Vec<String>)> {
    let port = || admission.port.clone();
    let mut elements = vec![
        (rules::SET_MAC, vec![port(), admission.mac.to_string()]),
        match admission.address {
            Some(address) => (rules::SET_IP, vec![port(), address.to_string()]),
            None => (rules::SET_FOREIGN, vec![port()]),
        },
    ];
    if admission.trusted {
        elements.push((rules::SET_TRUSTED, vec![port()]));
    }
    elements
}

fn present_elements(table: &Listing) -> impl Iterator<Item = (&'static str, &Vec<String>)> {
    rules::SETS.iter().flat_map(|(set, _)| {
        table
            .elements(set)
            .iter()
            .map(move |element| (*set, element))
    })
}

fn element(set: &'static str, key: &[String]) -> NfListObject<'static> {
    let value = match key {
        [port, value] => rules::concat([rules::text(port), rules::text(value)]),
        [port, ..] => rules::text(port),
        [] => rules::text(""),
    };
    NfListObject::Element(Element {
        family: NfFamily::Bridge,
        table: NFT_TABLE.into(),
        name: set.into(),
        elem: vec![value].into(),
    })
}

//! Puts the rules into the kernel and reads back what is there, one `nft` call for each.
//!
//! Each rule carries a digest of its whole chain as its comment, so that one listing tells whether
//! a chain is as this version wants it; if not, chains are replaced in one transaction, while sets
//! (the VMs admitted) and counters stay.

use std::collections::HashMap;

use nftables::batch::Batch;
use nftables::schema::{
    Chain, Counter, FlushObject, NfCmd, NfListObject, Rule, Set, SetTypeValue, Table,
};
use nftables::types::{NfChainPolicy, NfFamily};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::nft::{apply, list};
use super::rules::{self, ChainPlan};
use super::{Change, Error, Network, Warning};
use crate::names::NFT_TABLE;

/// Makes both tables hold what they ought to for this network.
pub(super) fn ensure(network: &Network) -> Result<Vec<Change>, Error> {
    let mut batch = Batch::new();
    let mut changes = Vec::new();
    let tables = our_tables()?;
    for (family, plans) in [
        (NfFamily::Bridge, rules::bridge_chains()),
        (NfFamily::INet, rules::network_chains(network)),
    ] {
        let present = match tables.contains(&family) {
            true => Some(list_table(family)?),
            false => None,
        };
        if present
            .as_ref()
            .is_some_and(|table| plans.iter().all(|plan| table.holds(plan)))
        {
            continue;
        }
        plan_table(&mut batch, family, &plans, present.as_ref());
        let table = table_name(family);
        changes.push(match present {
            None => Change::FirewallInstalled { table },
            Some(_) => Change::FirewallUpdated { table },
        });
    }
    if !changes.is_empty() {
        apply(batch, "install the firewall rules")?;
    }
    Ok(changes)
}

/// Takes this network's chains away, and both tables with them if it was the last network.
pub(super) fn remove(bridge: &str) -> Result<Vec<Change>, Error> {
    let tables = our_tables()?;
    let mut batch = Batch::new();
    let mut changes = Vec::new();
    let names = rules::network_chain_names(bridge);
    let mut others = false;
    if tables.contains(&NfFamily::INet) {
        let inet = list_table(NfFamily::INet)?;
        others = inet.chains.keys().any(|chain| !names.contains(chain));
        let ours: Vec<&String> = names
            .iter()
            .filter(|name| inet.chains.contains_key(*name))
            .collect();
        if others && !ours.is_empty() {
            for name in ours {
                delete_chain(&mut batch, NfFamily::INet, name);
            }
            changes.push(Change::FirewallUpdated {
                table: table_name(NfFamily::INet),
            });
        }
    }
    if !others {
        for family in &tables {
            batch.delete(NfListObject::Table(table(*family)));
            changes.push(Change::FirewallRemoved {
                table: table_name(*family),
            });
        }
    }
    if !changes.is_empty() {
        apply(batch, "remove the firewall rules")?;
    }
    Ok(changes)
}

/// Chains of others that drop what no rule accepts, on the way through the host or into it; such a drop wins over
/// our accept.
pub(super) fn foreign_drops() -> Result<Vec<Warning>, Error> {
    let chains = list(&["list", "chains"])?;
    let is = |chain: &Value, key: &str, value: &str| {
        chain.get(key).and_then(Value::as_str) == Some(value)
    };
    Ok(objects(&chains, "chain")
        .filter(|chain| {
            ["forward", "input"]
                .iter()
                .any(|hook| is(chain, "hook", hook))
                && is(chain, "policy", "drop")
                && !is(chain, "table", NFT_TABLE)
                && ["ip", "inet"]
                    .iter()
                    .any(|family| is(chain, "family", family))
        })
        .map(|chain| {
            let part = |key| chain.get(key).and_then(Value::as_str).unwrap_or_default();
            let name = format!("{} {} {}", part("family"), part("table"), part("name"));
            match is(chain, "hook", "input") {
                true => Warning::InputPolicyDrop { chain: name },
                false => Warning::ForwardPolicyDrop { chain: name },
            }
        })
        .collect())
}

/// One of our tables as listed: chains with the comments of their rules, sets, counters.
pub(super) struct Listing {
    chains: HashMap<String, Vec<Option<String>>>,
    sets: HashMap<String, Vec<Vec<String>>>,
    counters: HashMap<String, (u64, u64)>,
}

impl Listing {
    fn holds(&self, plan: &ChainPlan) -> bool {
        let digest = digest(plan);
        self.chains.get(&plan.name).is_some_and(|comments| {
            comments.len() == plan.rules.len()
                && comments
                    .iter()
                    .all(|comment| comment.as_deref() == Some(&digest))
        })
    }

    /// The elements of a set, each as the parts of its key.
    pub(super) fn elements(&self, set: &str) -> &[Vec<String>] {
        self.sets.get(set).map(Vec::as_slice).unwrap_or_default()
    }

    /// Packets and bytes of a counter.
    pub(super) fn counter(&self, name: &str) -> (u64, u64) {
        self.counters.get(name).copied().unwrap_or_default()
    }
}

/// Lists the bridge table, or `None` if it is not there.
pub(super) fn bridge_table() -> Result<Option<Listing>, Error> {
    match our_tables()?.contains(&NfFamily::Bridge) {
        true => list_table(NfFamily::Bridge).map(Some),
        false => Ok(None),
    }
}

fn list_table(family: NfFamily) -> Result<Listing, Error> {
    let listed = list(&["list", "table", family_name(family), NFT_TABLE])?;
    let name_of = |object: &Value, key: &str| -> Option<String> {
        object.get(key).and_then(Value::as_str).map(str::to_owned)
    };
    let mut chains: HashMap<String, Vec<Option<String>>> = objects(&listed, "chain")
        .filter_map(|chain| Some((name_of(chain, "name")?, Vec::new())))
        .collect();
    for rule in objects(&listed, "rule") {
        if let Some(comments) = name_of(rule, "chain").and_then(|chain| chains.get_mut(&chain)) {
            comments.push(name_of(rule, "comment"));
        }
    }
    let sets = objects(&listed, "set")
        .filter_map(|set| {
            let elements = set.get("elem").and_then(Value::as_array);
            Some((
                name_of(set, "name")?,
                elements.into_iter().flatten().map(key_parts).collect(),
            ))
        })
        .collect();
    let number = |object: &Value, key: &str| object.get(key).and_then(Value::as_u64).unwrap_or(0);
    let counters = objects(&listed, "counter")
        .filter_map(|counter| {
            Some((
                name_of(counter, "name")?,
                (number(counter, "packets"), number(counter, "bytes")),
            ))
        })
        .collect();
    Ok(Listing {
        chains,
        sets,
        counters,
    })
}

/// The parts of a set element: `{"concat": ["fvm42", "192.168.22.42"]}` or a plain string.
fn key_parts(element: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    match element.get("concat").and_then(Value::as_array) {
        Some(parts) => parts.iter().filter_map(text).collect(),
        None => text(element).into_iter().collect(),
    }
}

fn plan_table(
    batch: &mut Batch<'static>,
    family: NfFamily,
    plans: &[ChainPlan],
    present: Option<&Listing>,
) {
    batch.add(NfListObject::Table(table(family)));
    // Emptied first, since a chain that is jumped to cannot be deleted.
    let stale: Vec<&ChainPlan> = plans
        .iter()
        .filter(|plan| present.is_some_and(|table| table.chains.contains_key(&plan.name)))
        .collect();
    for plan in &stale {
        batch.add_cmd(NfCmd::Flush(FlushObject::Chain(chain(family, &plan.name))));
    }
    for plan in &stale {
        batch.delete(NfListObject::Chain(chain(family, &plan.name)));
    }
    if family == NfFamily::Bridge {
        for (name, key) in rules::SETS {
            batch.add(NfListObject::Set(Box::new(Set {
                family,
                table: NFT_TABLE.into(),
                name: name.into(),
                set_type: match key {
                    [single] => SetTypeValue::Single(*single),
                    several => SetTypeValue::Concatenated(several.into()),
                },
                ..Set::default()
            })));
        }
        for (name, _) in rules::COUNTERS {
            batch.add(NfListObject::Counter(Counter {
                family,
                table: NFT_TABLE.into(),
                name: name.into(),
                ..Counter::default()
            }));
        }
    }
    for plan in plans {
        let mut wanted = chain(family, &plan.name);
        if let Some(hook) = &plan.hook {
            wanted._type = Some(hook.kind);
            wanted.hook = Some(hook.hook);
            wanted.prio = Some(hook.priority);
            wanted.policy = Some(NfChainPolicy::Accept);
        }
        batch.add(NfListObject::Chain(wanted));
        let digest = digest(plan);
        for rule in &plan.rules {
            batch.add(NfListObject::Rule(Rule {
                family,
                table: NFT_TABLE.into(),
                chain: plan.name.clone().into(),
                expr: rule.clone().into(),
                comment: Some(digest.clone().into()),
                ..Rule::default()
            }));
        }
    }
}

fn delete_chain(batch: &mut Batch<'static>, family: NfFamily, name: &str) {
    batch.add_cmd(NfCmd::Flush(FlushObject::Chain(chain(family, name))));
    batch.delete(NfListObject::Chain(chain(family, name)));
}

fn digest(plan: &ChainPlan) -> String {
    let hook = plan
        .hook
        .as_ref()
        .map(|hook| (hook.kind, hook.hook, hook.priority));
    // Both parts are plain data; if they could not be written they could not be applied either.
    let text = serde_json::to_string(&(hook, &plan.rules)).unwrap_or_default();
    let hash = Sha256::digest(text.as_bytes());
    hash.iter()
        .take(8)
        .fold("fvm ".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

fn table(family: NfFamily) -> Table<'static> {
    Table {
        family,
        name: NFT_TABLE.into(),
        handle: None,
    }
}

fn chain(family: NfFamily, name: &str) -> Chain<'static> {
    Chain {
        family,
        table: NFT_TABLE.into(),
        name: name.to_owned().into(),
        ..Chain::default()
    }
}

fn family_name(family: NfFamily) -> &'static str {
    match family {
        NfFamily::IP => "ip",
        NfFamily::IP6 => "ip6",
        NfFamily::INet => "inet",
        NfFamily::ARP => "arp",
        NfFamily::Bridge => "bridge",
        NfFamily::NetDev => "netdev",
    }
}

fn table_name(family: NfFamily) -> String {
    format!("{} {NFT_TABLE}", family_name(family))
}

/// Which of our tables are there.
fn our_tables() -> Result<Vec<NfFamily>, Error> {
    let tables = list(&["list", "tables"])?;
    let there = |family: &NfFamily| {
        objects(&tables, "table").any(|table| {
            table.get("name").and_then(Value::as_str) == Some(NFT_TABLE)
                && table.get("family").and_then(Value::as_str) == Some(family_name(*family))
        })
    };
    Ok([NfFamily::Bridge, NfFamily::INet]
        .into_iter()
        .filter(there)
        .collect())
}

/// The objects of one kind in a listing (libnftables-json(5), "Global structure").
fn objects<'a>(listing: &'a Value, kind: &'a str) -> impl Iterator<Item = &'a Value> {
    let all = listing.get("nftables").and_then(Value::as_array);
    all.into_iter()
        .flatten()
        .filter_map(move |object| object.get(kind))
}

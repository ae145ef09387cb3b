//! Networks and the cards on them.

use super::{Look, Show};
use crate::output::{
    style::Tone,
    table::{Table, cell, number},
};
use fvm_vmm::api::{NetList, NetReport};

/// What has to be known of a network beside its mode.
fn remarks(network: &NetReport) -> String {
    let mut remarks = Vec::new();
    if network.is_default {
        remarks.push("LIBVIRT_NETWORK");
    }
    if network.isolate_guests {
        remarks.push("guests apart");
    }
    remarks.extend(network.trouble.as_deref());
    remarks.join(", ")
}

impl Show for NetList {
    fn show(&self, look: &Look) -> String {
        let mut table = Table::new(["NAME", "MODE", "SUBNET", "BRIDGE", "CARDS", ""]);
        for network in &self.networks {
            table.row([
                cell(&network.name),
                cell(network.mode.as_str()),
                cell(network.subnet.as_deref().unwrap_or_default()),
                cell(&network.bridge),
                number(network.cards.len()),
                cell(remarks(network)).tone(match network.trouble {
                    Some(_) => Tone::Bad,
                    None => Tone::Dim,
                }),
            ]);
        }
        table.show(look.palette)
    }
}

impl Show for NetReport {
    fn show(&self, look: &Look) -> String {
        let mut table = Table::plain();
        let mut line = |name: &str, value: &str| {
            table.row([cell(name).tone(Tone::Dim), cell(value)]);
        };
        line("network", &self.name);
        line("mode", self.mode.as_str());
        line("bridge", &self.bridge);
        if let Some(subnet) = &self.subnet {
            line("subnet", subnet);
        }
        if let Some(gateway) = self.gateway {
            line("gateway", &gateway.to_string());
        }
        let remarks = remarks(self);
        if !remarks.is_empty() {
            line("", &remarks);
        }
        for card in &self.cards {
            let at = card.address.map(|address| format!(", {address}"));
            let text = format!(
                "VM {}, card {}, {}{}",
                card.vm,
                card.card,
                card.mac,
                at.unwrap_or_default()
            );
            line("", &text);
        }
        table.show(look.palette)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fvm_vmm::api::{NetworkCard, NetworkMode, REPORT_VERSION};

    fn lab() -> NetReport {
        NetReport {
            version: REPORT_VERSION,
            name: "lab".to_owned(),
            is_default: false,
            mode: NetworkMode::Isolated,
            bridge: "fvm-lab".to_owned(),
            subnet: Some("10.64.0.0/24".to_owned()),
            gateway: Some([10, 64, 0, 1].into()),
            isolate_guests: true,
            trouble: None,
            cards: vec![NetworkCard {
                vm: 42.into(),
                card: 1,
                mac: "52:54:00:00:00:2a".to_owned(),
                address: Some([10, 64, 0, 42].into()),
            }],
        }
    }

    #[test]
    fn networks_are_a_table() {
        let lan = NetReport {
            name: "lan".to_owned(),
            mode: NetworkMode::Bridge,
            bridge: "br0".to_owned(),
            subnet: None,
            gateway: None,
            isolate_guests: false,
            trouble: Some("this host has no bridge 'br0'".to_owned()),
            cards: Vec::new(),
            ..lab()
        };
        assert_eq!(
            NetList::new(vec![lab(), lan]).show(&Look::fixed()),
            "\
NAME  MODE      SUBNET        BRIDGE   CARDS
lab   isolated  10.64.0.0/24  fvm-lab      1  guests apart
lan   bridge                  br0          0  this host has no bridge 'br0'
"
        );
    }

    #[test]
    fn a_network_is_shown_with_its_cards() {
        assert_eq!(
            lab().show(&Look::fixed()),
            "\
network  lab
mode     isolated
bridge   fvm-lab
subnet   10.64.0.0/24
gateway  10.64.0.1
         guests apart
         VM 42, card 1, 52:54:00:00:00:2a, 10.64.0.42
"
        );
    }
}

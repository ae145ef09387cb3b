//! Network interfaces on taps that fvm made.

use super::{ArgumentError, Builder, insert, object, place};
use crate::domain::{Domain, Interface, NicModel};
use crate::qemu::{NicBacking, pci::Layout};
use serde_json::Value;

/// What a running QEMU is told of a card that is plugged in.
#[derive(Debug, Clone, PartialEq)]
pub struct PluggedCard {
    /// The arguments of `netdev_add`.
    pub netdev: Value,
    /// The arguments of `device_add`.
    pub device: Value,
}

/// The id of the host's end of an interface; a tap that is handed to a running QEMU is called by it, too.
pub fn netdev_id(alias: &str) -> String {
    format!("host{alias}")
}

/// A card to be plugged into a running machine, whose tap QEMU has by the name [`netdev_id`].
pub fn plugged_card(
    domain: &Domain,
    layout: &Layout,
    nic: &Interface,
    mac: &str,
) -> Result<PluggedCard, ArgumentError> {
    let netdev = netdev_id(&nic.alias);
    let mut device = object! {
        "driver": nic_device(nic.model),
        "mac": mac,
        "netdev": netdev,
    };
    device.insert("id".to_owned(), nic.alias.as_str().into());
    place(domain, layout, &mut device, &nic.alias)?;
    Ok(PluggedCard {
        netdev: serde_json::json!({"type": "tap", "id": netdev, "fd": netdev}),
        device: Value::Object(device),
    })
}

impl Builder<'_> {
    pub(super) fn interfaces(&mut self) -> Result<(), ArgumentError> {
        let (domain, given) = (self.domain, self.given);
        for (position, nic) in domain.devices.interfaces.iter().enumerate() {
            let backing = given
                .nics
                .get(position)
                .ok_or_else(|| ArgumentError::NoNic {
                    alias: nic.alias.clone(),
                })?;
            self.interface(nic, backing)?;
        }
        Ok(())
    }

    fn interface(&mut self, nic: &Interface, backing: &NicBacking) -> Result<(), ArgumentError> {
        let netdev = netdev_id(&nic.alias);
        let queues = backing.tap_fds.len();
        let mut properties = object! {
            "driver": nic_device(nic.model),
            "mac": backing.mac,
        };
        if !backing.tap_fds.is_empty() {
            let mut tap = object! {"type": "tap", "id": netdev};
            let plural = if queues > 1 { "fds" } else { "fd" };
            insert(&mut tap, plural, Some(numbers(&backing.tap_fds)));
            // With the emulated cards vhost does nothing but warn.
            let vhost = nic.model == NicModel::Virtio && nic.vhost != Some(false);
            if vhost && backing.vhost_fds.len() == queues {
                insert(&mut tap, "vhost", Some(true));
                let plural = if queues > 1 { "vhostfds" } else { "vhostfd" };
                insert(&mut tap, plural, Some(numbers(&backing.vhost_fds)));
            }
            let origins = nic.origin.at(&["", "source", "driver", "model"]);
            self.vector.json("-netdev", tap).because(origins);
            insert(&mut properties, "netdev", Some(netdev));
        }
        if queues > 1 {
            insert(&mut properties, "mq", Some(true));
            // Two for each queue pair, one for control, one for configuration; in memory there are no vectors.
            insert(
                &mut properties,
                "vectors",
                (!nic.pci.mmio).then_some(2 * queues + 2),
            );
        }
        insert(&mut properties, "host_mtu", nic.mtu);
        insert(&mut properties, "bootindex", nic.boot_index);
        insert(&mut properties, "rombar", nic.rom_bar.map(u32::from));
        if !nic.rom_enabled {
            insert(&mut properties, "romfile", Some(""));
        }
        self.pci_device(&nic.alias, properties)?
            .because(
                nic.origin
                    .without(&["source", "target", "link", "filterref"]),
            );
        Ok(())
    }
}

fn numbers(fds: &[u32]) -> String {
    let fds: Vec<String> = fds.iter().map(u32::to_string).collect();
    fds.join(":")
}

fn nic_device(model: NicModel) -> &'static str {
    match model {
        NicModel::Virtio => "virtio-net-pci",
        NicModel::E1000 => "e1000",
        NicModel::E1000e => "e1000e",
        NicModel::Rtl8139 => "rtl8139",
        NicModel::Igb => "igb",
        NicModel::Vmxnet3 => "vmxnet3",
        NicModel::SpaprVlan => "spapr-vlan",
    }
}

//! Network interfaces.

use super::disk_read::boot_order;
use crate::domain::address::{self, PciPlace};
use crate::domain::error::Result;
use crate::domain::node::{Node, Value, words};
use crate::domain::origin::Origin;

words! {
    /// The card that the guest sees.
    pub enum NicModel {
        /// virtio.
        Virtio = "virtio",
        /// Intel 82540EM.
        E1000 = "e1000",
        /// Intel 82574L.
        E1000e = "e1000e",
        /// Realtek 8139.
        Rtl8139 = "rtl8139",
        /// Intel 82576.
        Igb = "igb",
        /// VMware's paravirtual card.
        Vmxnet3 = "vmxnet3",
        /// POWER's virtual card.
        SpaprVlan = "spapr-vlan",
    }
}

/// What the interface is joined to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NicSource {
    /// A network by its name.
    Network(String),
    /// A bridge by its name.
    Bridge(String),
}

impl NicSource {
    /// The name of the network or bridge.
    pub fn name(&self) -> &str {
        match self {
            Self::Network(name) | Self::Bridge(name) => name,
        }
    }
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// The device's id in QEMU.
    pub alias: String,
    /// Where it stands in the template.
    pub origin: Origin,
    /// What it is joined to.
    pub source: NicSource,
    /// The card.
    pub model: NicModel,
    /// The address that the template gives; without one fvm makes it.
    pub mac: Option<String>,
    /// Whether the guest sees a cable in the card at the start.
    pub link_up: bool,
    /// Whether the kernel moves the packets (vhost); `None` if it can.
    pub vhost: Option<bool>,
    /// The number of queue pairs.
    pub queues: Option<u32>,
    /// The greatest packet that the guest is told of.
    pub mtu: Option<u32>,
    /// The place in the boot order, from 1.
    pub boot_index: Option<u32>,
    /// Whether the card's option ROM is shown.
    pub rom_bar: Option<bool>,
    /// Whether the card has its option ROM at all.
    pub rom_enabled: bool,
    /// The place on the PCI bus.
    pub pci: PciPlace,
}

impl Interface {
    /// Card `index` of a machine that was added to those of its template.
    pub fn added(index: u32, source: NicSource, model: NicModel) -> Self {
        Self {
            alias: format!("net{index}"),
            origin: Origin::default(),
            source,
            model,
            mac: None,
            link_up: true,
            vhost: None,
            queues: None,
            mtu: None,
            boot_index: None,
            rom_bar: None,
            rom_enabled: true,
            pci: PciPlace::default(),
        }
    }

    /// Whether it was added to those of the template.
    pub fn is_added(&self) -> bool {
        self.origin == Origin::default()
    }
}

/// Reads `<interface>`.
pub(crate) fn interface(node: &Node<'_>) -> Result<Interface> {
    let kind = node.need("type")?;
    let is_network = match kind.str() {
        "network" => true,
        "bridge" => false,
        other => {
            return Err(kind.refuse_with(
                format!("fvm does not support interfaces of type {other:?}"),
                "supported values here: network, bridge",
            ));
        }
    };
    let source = node.need_child("source", |source| {
        if is_network {
            // What libvirt reports of a running machine.
            source.ignore_attr("portid");
            source.ignore_attr("bridge");
            Ok(NicSource::Network(source.need("network")?.non_empty()?))
        } else {
            Ok(NicSource::Bridge(source.need("bridge")?.non_empty()?))
        }
    })?;
    let mac = node.child("mac", |mac| mac_address(&mac.need("address")?))?;
    let model = node.child("model", |model| model.need("type")?.choice(NicModel::WORDS))?;
    let driver = node.child("driver", |driver| {
        let vhost = driver
            .attr("name")
            .map(|name| name.choice(&[("vhost", true), ("qemu", false)]))
            .transpose()?;
        let queues = match driver.attr("queues") {
            None => None,
            Some(value) => match value.number()? {
                queues @ 1..=256 => Some(queues),
                _ => return Err(value.refuse("must be from 1 to 256")),
            },
        };
        Ok((vhost, queues))
    })?;
    let (vhost, queues) = driver.unwrap_or_default();
    if node
        .child("target", |target| target.need("dev")?.non_empty())?
        .is_some()
    {
        node.warn("fvm names the host's end of an interface itself; target/@dev is not used");
    }
    let link_up = node.child("link", |link| {
        link.need("state")?.choice(&[("up", true), ("down", false)])
    })?;
    node.child("filterref", |filter| {
        // fvm keeps every guest to its own addresses anyway.
        let kept = [
            "clean-traffic",
            "no-mac-spoofing",
            "no-ip-spoofing",
            "no-arp-spoofing",
        ];
        filter.need("filter")?.choice(&kept.map(|name| (name, ())))
    })?;
    let mtu = node.child("mtu", |mtu| {
        let size = mtu.need("size")?;
        match size.number()? {
            bytes @ 68..=65535 => Ok(bytes),
            _ => Err(size.refuse("must be from 68 to 65535")),
        }
    })?;
    let rom = node.child("rom", |rom| {
        let enabled = rom.attr("enabled").map_or(Ok(true), |v| v.yes_no())?;
        Ok((rom.attr("bar").map(|v| v.on_off()).transpose()?, enabled))
    })?;
    let (rom_bar, rom_enabled) = rom.unwrap_or((None, true));
    node.ignore_children("alias");
    let interface = Interface {
        alias: String::new(),
        origin: node.origin(),
        source,
        // libvirt's own default, the card that every old guest knows.
        model: model.unwrap_or(NicModel::Rtl8139),
        mac,
        link_up: link_up.unwrap_or(true),
        vhost,
        queues,
        mtu,
        boot_index: boot_order(node)?,
        rom_bar,
        rom_enabled,
        pci: address::pci(node)?,
    };
    let needs_virtio = interface.queues.is_some() || interface.mtu.is_some();
    if needs_virtio && interface.model != NicModel::Virtio {
        return Err(node.refuse("queues and mtu need model type='virtio'"));
    }
    Ok(interface)
}

/// Six pairs of hexadecimal digits that are a unicast address, in lower case.
fn mac_address(value: &Value<'_>) -> Result<String> {
    let text = value.str();
    let parts: Vec<&str> = text.split(':').collect();
    let bytes: Vec<u8> = parts
        .iter()
        .filter(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()))
        .filter_map(|part| u8::from_str_radix(part, 16).ok())
        .collect();
    if parts.len() != 6 || bytes.len() != 6 {
        return Err(value.refuse(format!(
            "{text:?} is not a MAC address like 52:54:00:12:34:56"
        )));
    }
    if bytes[0] & 1 == 1 {
        return Err(
            value.refuse("a guest's MAC address cannot be a group address (odd first byte)")
        );
    }
    Ok(text.to_ascii_lowercase())
}

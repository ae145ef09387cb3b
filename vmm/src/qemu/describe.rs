//! The completed domain as XML: the template with everything filled in that fvm chose, for people
//! and for the hooks that look up where a network card sits.

use super::pci::{Beside, BridgeDevice, Layout, Place};
use crate::domain::xml::Element;
use crate::domain::{
    self, Additions, Controller, ControllerKind, Domain, DriveAddress, Interface, Macros,
    NicSource, TemplateError, UsbAddress,
};

/// What fvm chose for a VM beyond its template.
#[derive(Debug, Clone)]
pub struct Chosen<'c> {
    /// The domain, with the overrides of its VM and all that it was given.
    pub domain: &'c Domain,
    /// What it was given beside its template.
    pub additions: &'c Additions,
    /// The VM's identity.
    pub uuid: &'c str,
    /// The exact machine type, if it is known.
    pub machine: Option<&'c str>,
    /// The MAC addresses of the interfaces, in order.
    pub macs: &'c [String],
    /// The PCI addresses.
    pub layout: &'c Layout,
}

/// Writes `template` with all macros replaced and everything filled in.
pub fn completed_xml(
    template: &str,
    macros: &Macros,
    chosen: &Chosen<'_>,
) -> Result<String, TemplateError> {
    let mut root = domain::tree_with(template, macros, chosen.additions)?;
    root.child_mut("name").text.clone_from(&chosen.domain.name);
    if !root.children.iter().any(|child| child.name == "uuid") {
        let after_name = root.children.iter().position(|child| child.name == "name");
        let position = after_name.map_or(0, |position| position + 1);
        root.children.insert(position, Element::new("uuid"));
    }
    root.child_mut("uuid").text = chosen.uuid.to_owned();
    sizes(&mut root, chosen.domain);
    if let Some(machine) = chosen.machine {
        root.child_mut("os")
            .child_mut("type")
            .set("machine", machine);
    }
    devices(root.child_mut("devices"), chosen);
    Ok(domain::write::write(&root))
}

fn sizes(root: &mut Element, domain: &Domain) {
    for (name, kib) in [
        ("memory", domain.memory.total_kib),
        ("currentMemory", domain.memory.current_kib),
    ] {
        let element = root.child_mut(name);
        element.set("unit", "KiB");
        element.text = kib.to_string();
    }
    let vcpu = root.child_mut("vcpu");
    vcpu.text = domain.vcpus.max.to_string();
    vcpu.attributes.retain(|(name, _)| name != "current");
    if domain.vcpus.current < domain.vcpus.max {
        vcpu.set("current", domain.vcpus.current);
    }
}

fn devices(element: &mut Element, chosen: &Chosen<'_>) {
    let devices = &chosen.domain.devices;
    let place = |alias: &str| {
        if let Some(beside) = chosen.layout.beside.get(alias) {
            return Some(beside_element(*beside));
        }
        let place = chosen.layout.places.get(alias)?;
        Some(pci_element(place))
    };
    let mut disks = devices.disks.iter();
    let nics = || devices.interfaces.iter().zip(chosen.macs);
    let mut number = 0..;
    element.children.retain_mut(|child| {
        if child.name != "interface" {
            return true;
        }
        let alias = number.next().map(|number: u32| format!("net{number}"));
        let mut given = nics().filter(|(nic, _)| !nic.is_added());
        // One that is not there was taken from the VM.
        let Some((nic, mac)) = given.find(|(nic, _)| Some(&nic.alias) == alias.as_ref()) else {
            return false;
        };
        child.child_mut("mac").set("address", mac);
        finish(child, &nic.alias, place(&nic.alias));
        true
    });
    for (nic, mac) in nics().filter(|(nic, _)| nic.is_added()) {
        let mut child = added_interface(nic, mac);
        finish(&mut child, &nic.alias, place(&nic.alias));
        element.children.push(child);
    }
    for child in &mut element.children {
        if child.name == "disk"
            && let Some(disk) = disks.next()
        {
            let usb = disk.usb.as_ref().map(usb_element);
            let address = place(&disk.alias)
                .or(usb)
                .or(disk.drive.map(DriveAddress::element));
            finish(child, &disk.alias, address);
        }
    }
    let usb_place = |alias: &str| {
        let hubs = devices.hubs.iter().map(|d| (&d.alias, &d.usb));
        let inputs = devices.inputs.iter().map(|d| (&d.alias, &d.usb));
        let sounds = devices.sounds.iter().map(|d| (&d.alias, &d.usb));
        let redirects = devices.redirects.iter().map(|d| (&d.alias, &d.usb));
        let mut all = hubs.chain(inputs).chain(sounds).chain(redirects);
        let (_, usb) = all.find(|(other, _)| *other == alias)?;
        usb.as_ref().map(usb_element)
    };
    let videos = videos_in_template_order(element, chosen.domain);
    let vio_serials = devices.serials.iter();
    let vio_serials = vio_serials.filter(|serial| place(&serial.alias).is_some());
    let simple: [(&str, Vec<&String>); 14] = [
        ("video", videos),
        ("serial", vio_serials.map(|d| &d.alias).collect()),
        ("input", devices.inputs.iter().map(|d| &d.alias).collect()),
        (
            "redirdev",
            devices.redirects.iter().map(|d| &d.alias).collect(),
        ),
        ("hub", devices.hubs.iter().map(|d| &d.alias).collect()),
        ("panic", devices.panics.iter().map(|d| &d.alias).collect()),
        (
            "channel",
            devices.channels.iter().map(|d| &d.alias).collect(),
        ),
        ("sound", devices.sounds.iter().map(|d| &d.alias).collect()),
        (
            "memballoon",
            devices.balloon.iter().map(|d| &d.alias).collect(),
        ),
        ("rng", devices.rngs.iter().map(|d| &d.alias).collect()),
        (
            "watchdog",
            devices.watchdogs.iter().map(|d| &d.alias).collect(),
        ),
        ("vsock", devices.vsock.iter().map(|d| &d.alias).collect()),
        ("tpm", devices.tpm.iter().map(|d| &d.alias).collect()),
        ("iommu", devices.iommu.iter().map(|d| &d.alias).collect()),
    ];
    for (name, aliases) in simple {
        let given = element
            .children
            .iter_mut()
            .filter(|child| child.name == name);
        for (child, alias) in given.zip(&aliases) {
            finish(child, alias, place(alias).or_else(|| usb_place(alias)));
        }
    }
    let has_balloon = element
        .children
        .iter()
        .any(|child| child.name == "memballoon");
    if let (Some(balloon), false) = (&devices.balloon, has_balloon) {
        let mut child = Element::new("memballoon").with("model", "virtio");
        finish(&mut child, &balloon.alias, place(&balloon.alias));
        element.children.push(child);
    }
    controllers(element, chosen, &place);
}

/// A card that was added to those of the template.
fn added_interface(nic: &Interface, mac: &str) -> Element {
    let (kind, name) = match &nic.source {
        NicSource::Network(name) => ("network", name),
        NicSource::Bridge(name) => ("bridge", name),
    };
    let mut interface = Element::new("interface").with("type", kind);
    interface.children = vec![
        Element::new("mac").with("address", mac),
        Element::new("source").with(kind, name),
        Element::new("model").with("type", nic.model.as_str()),
    ];
    interface
}

/// The graphics cards as the template has them: the domain has the primary one first.
fn videos_in_template_order<'d>(element: &Element, domain: &'d Domain) -> Vec<&'d String> {
    let mut aliases: Vec<&String> = domain.devices.videos.iter().map(|d| &d.alias).collect();
    let is_primary = |video: &Element| {
        let mut models = video.children.iter().filter(|child| child.name == "model");
        models.any(|model| model.attribute("primary") == Some("yes"))
    };
    let mut given = element
        .children
        .iter()
        .filter(|child| child.name == "video");
    if let Some(primary) = given.position(is_primary)
        && primary < aliases.len()
    {
        aliases[..=primary].rotate_left(1);
    }
    aliases
}

/// Fills in the template's controllers and adds those that it did not name.
fn controllers(
    element: &mut Element,
    chosen: &Chosen<'_>,
    place: &dyn Fn(&str) -> Option<Element>,
) {
    let mut left: Vec<&Controller> = chosen.domain.devices.controllers.iter().collect();
    for child in element
        .children
        .iter_mut()
        .filter(|child| child.name == "controller")
    {
        let index = child.attribute("index").map(str::to_owned);
        let model = child.attribute("model").map(str::to_owned);
        let found = left.iter().position(|controller| {
            child.attribute("type") == Some(controller.kind.word())
                && index
                    .as_ref()
                    .is_none_or(|index| *index == controller.index.to_string())
                && controller
                    .usb_model()
                    .is_none_or(|usb| model.as_ref().is_none_or(|model| model == usb.as_str()))
        });
        if let Some(found) = found {
            let controller = left.remove(found);
            child.set("index", controller.index);
            finish(child, &controller.alias, place(&controller.alias));
        }
    }
    for controller in left {
        let mut child = Element::new("controller")
            .with("type", controller.kind.word())
            .with("index", controller.index);
        if let Some(model) = model_of(&controller.kind) {
            child.set("model", model);
        }
        finish(&mut child, &controller.alias, place(&controller.alias));
        element.children.push(child);
    }
    let named = |index: u8| {
        let controllers = &chosen.domain.devices.controllers;
        controllers
            .iter()
            .any(|c| c.pci_model().is_some() && c.index == u32::from(index))
    };
    for bridge in chosen
        .layout
        .bridges
        .iter()
        .filter(|bridge| !named(bridge.index))
    {
        let alias = format!("pci.{}", bridge.index);
        let mut child = Element::new("controller")
            .with("type", "pci")
            .with("index", bridge.index)
            .with("model", bridge.device.model().as_str());
        let target = Element::new("target");
        child.children.extend(match bridge.device {
            BridgeDevice::PcieRootPort => Some(
                target
                    .with("chassis", bridge.chassis)
                    .with("port", format!("{:#x}", bridge.port.unwrap_or(0))),
            ),
            BridgeDevice::PciBridge => Some(target.with("chassisNr", bridge.chassis)),
            _ => None,
        });
        finish(&mut child, &alias, place(&alias));
        element.children.push(child);
    }
}

fn model_of(kind: &ControllerKind) -> Option<&'static str> {
    match kind {
        ControllerKind::Usb { model, .. } => Some(model.map_or("none", |model| model.as_str())),
        ControllerKind::Scsi { model, .. } => Some(model.as_str()),
        ControllerKind::Pci { model, .. } => Some(model.as_str()),
        _ => None,
    }
}

fn finish(child: &mut Element, alias: &str, address: Option<Element>) {
    child.replace_child(Element::new("alias").with("name", alias));
    if let Some(address) = address {
        child.replace_child(address);
    }
}

fn pci_element(place: &Place) -> Element {
    let element = place.address.element();
    if place.multifunction {
        element.with("multifunction", "on")
    } else {
        element
    }
}

fn beside_element(beside: Beside) -> Element {
    let element = Element::new("address");
    match beside {
        Beside::Mmio => element.with("type", "virtio-mmio"),
        Beside::Vio(register) => element
            .with("type", "spapr-vio")
            .with("reg", format!("{register:#010x}")),
    }
}

fn usb_element(usb: &UsbAddress) -> Element {
    Element::new("address")
        .with("type", "usb")
        .with("bus", usb.bus)
        .with("port", &usb.port)
}

#[cfg(test)]
mod tests {
    use super::super::pci;
    use super::*;

    const LINUX: &str = include_str!("../../../templates/linux.xml");

    fn complete(template: &str, change: impl FnOnce(&mut Domain)) -> (String, Layout, Macros) {
        let macros = Macros::new("vm-42", "vg", "fvm0", 42, "image");
        let (mut domain, _) = domain::load(template, &macros).expect("good");
        change(&mut domain);
        let layout = pci::assign(&domain).expect("fits");
        let chosen = Chosen {
            domain: &domain,
            additions: &Additions::default(),
            uuid: "6f2c1d7e-0000-4000-8000-00000000002a",
            machine: (domain.os.machine == "pc").then_some("pc-i440fx-7.2"),
            macs: &vec!["52:54:00:00:00:2a".to_owned(); domain.devices.interfaces.len()],
            layout: &layout,
        };
        let text = completed_xml(template, &macros, &chosen).expect("good");
        (text, layout, macros)
    }

    #[test]
    fn a_hook_finds_the_slot_of_the_network_card() {
        let (text, ..) = complete(LINUX, |domain| domain.set_memory_mib(256));
        let (_, nic) = text.split_once("<interface").expect("an interface");
        let (nic, _) = nic.split_once("</interface>").expect("its end");
        assert!(nic.contains(
            "<address type='pci' domain='0x0000' bus='0x00' slot='0x02' function='0x0'/>"
        ));
        assert!(nic.contains("<mac address='52:54:00:00:00:2a'/>"));
        assert!(nic.contains("<source network='fvm0'/>"));
        assert!(
            text.contains(
                "<name>vm-42</name>\n  <uuid>6f2c1d7e-0000-4000-8000-00000000002a</uuid>"
            )
        );
        assert!(text.contains("<memory unit='KiB'>262144</memory>"));
        assert!(text.contains("machine='pc-i440fx-7.2'"));
        assert!(
            text.contains("<address type='drive' controller='0' bus='0' target='0' unit='0'/>")
        );
    }

    #[test]
    fn cards_that_were_added_and_removed_are_told() {
        let (text, _, macros) = complete(LINUX, |domain| {
            let source = NicSource::Network("lab".to_owned());
            let added = Interface::added(3, source, crate::domain::NicModel::E1000);
            domain.devices.interfaces = vec![added];
        });
        assert_eq!(text.matches("<interface").count(), 1, "{text}");
        let (again, _) = domain::load(&text, &macros).expect("good");
        let [card] = again.devices.interfaces.as_slice() else {
            panic!("not one card: {text}");
        };
        assert_eq!(card.source.name(), "lab");
        assert_eq!(card.mac.as_deref(), Some("52:54:00:00:00:2a"));
        assert!(card.pci.address.is_some(), "{text}");
    }

    #[test]
    fn completed_once_it_stays_as_it_is() {
        let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/domains");
        let mut count = 0;
        for entry in std::fs::read_dir(directory).expect("the test domains") {
            let path = entry.expect("an entry").path();
            if path.extension().is_none_or(|extension| extension != "xml") {
                continue;
            }
            count += 1;
            let template = std::fs::read_to_string(&path).expect("text");
            // One address for all cards will do here.
            let template =
                template.replace("<interface type='network'>", "<interface type='bridge'>");
            let (text, layout, macros) = complete(&template, |_| {});
            let (again, _) = domain::load(&text, &macros)
                .unwrap_or_else(|error| panic!("{}: {error}\n{text}", path.display()));
            let places = pci::assign(&again).expect("fits").places;
            assert_eq!(places, layout.places, "{}", path.display());
        }
        assert!(count > 100);
    }
}

//! The documented layouts; `tests/libvirt_machines.rs` compares many more with libvirt's.

use super::*;
use crate::domain::{self, Macros};

fn layout(machine: &str, devices: &str) -> Result<Layout, PciError> {
    let text = format!(
        "<domain><name>a</name><memory unit='MiB'>64</memory>
         <os><type machine='{machine}'>hvm</type></os><devices>{devices}</devices></domain>"
    );
    let macros = Macros::new("a", "vg", "net", 1, "image");
    let (domain, _) = domain::load(&text, &macros).expect("a good template");
    assign(&domain)
}

fn addresses(layout: &Layout, aliases: &[&str]) -> Vec<String> {
    let address = |alias: &&str| layout.places[*alias].address.to_string();
    aliases.iter().map(address).collect()
}

const DISK: &str = "<disk type='block'><source dev='/dev/x'/><target dev='sda' bus='scsi'/></disk>";
const EHCI: &str = "<controller type='usb' index='0' model='ich9-ehci1'/>";
const SCSI: &str = "<controller type='scsi' index='0' model='virtio-scsi'/>";
const NIC: &str = "<interface type='bridge'><source bridge='b'/><model type='virtio'/></interface>";
const REST: &str = "<memballoon model='virtio'/>
    <rng model='virtio'><backend model='random'/></rng><watchdog model='i6300esb'/>";
const VIDEO: &str = "<video><model type='cirrus'/></video>";

fn headless() -> String {
    [DISK, EHCI, SCSI, NIC, REST].concat()
}

#[test]
fn a_headless_template_has_its_network_card_in_slot_2() {
    let layout = layout("pc", &headless()).expect("fits");
    assert_eq!(
        addresses(
            &layout,
            &["net0", "usb", "scsi0", "balloon0", "rng0", "watchdog0"]
        ),
        [
            "00:02.0", "00:03.7", "00:04.0", "00:05.0", "00:06.0", "00:07.0"
        ]
    );
    assert!(layout.bridges.is_empty());
    assert!(layout.places.values().all(|place| !place.multifunction));
}

#[test]
fn with_video_the_network_card_is_in_slot_3() {
    let layout = layout("pc", &[VIDEO, &headless()].concat()).expect("fits");
    assert_eq!(
        addresses(&layout, &["video0", "net0", "usb"]),
        ["00:02.0", "00:03.0", "00:04.7"]
    );
}

#[test]
fn a_pinned_network_card_moves_the_usb_controller() {
    let pinned = NIC.replace("</interface>", "<address type='pci' slot='3'/></interface>");
    let layout = layout("pc", &headless().replace(NIC, &pinned)).expect("fits");
    assert_eq!(
        addresses(&layout, &["net0", "usb", "scsi0"]),
        ["00:03.0", "00:02.7", "00:04.0"]
    );
}

#[test]
fn a_default_machine_has_the_usb_of_its_chipset() {
    let layout = layout("pc", NIC).expect("fits");
    assert_eq!(
        addresses(&layout, &["usb", "net0", "balloon0"]),
        ["00:01.2", "00:02.0", "00:03.0"]
    );
}

#[test]
fn q35_has_root_ports_for_express_a_bridge_for_the_rest_and_a_spare() {
    let layout = layout("q35", &[SCSI, NIC, REST].concat()).expect("fits");
    assert_eq!(
        addresses(
            &layout,
            &[
                "ide",
                "net0",
                "scsi0",
                "usb",
                "balloon0",
                "rng0",
                "watchdog0"
            ]
        ),
        [
            "00:1f.2", "02:00.0", "03:00.0", "04:00.0", "05:00.0", "06:00.0", "07:01.0"
        ]
    );
    let ports: Vec<String> = layout
        .bridges
        .iter()
        .map(|bridge| {
            let place = layout.places[&format!("pci.{}", bridge.index)];
            format!(
                "{} {} {:?}",
                place.address,
                bridge.device.as_str(),
                bridge.port
            )
        })
        .collect();
    assert_eq!(
        ports,
        [
            "00:01.0 pcie-root-port Some(8)",
            "00:01.1 pcie-root-port Some(9)",
            "00:01.2 pcie-root-port Some(10)",
            "00:01.3 pcie-root-port Some(11)",
            "00:01.4 pcie-root-port Some(12)",
            "00:01.5 pcie-root-port Some(13)",
            "01:00.0 pcie-pci-bridge None",
            "00:01.6 pcie-root-port Some(14)",
        ]
    );
    assert!(layout.places["pci.1"].multifunction && !layout.places["pci.2"].multifunction);
}

#[test]
fn q35_puts_the_screen_in_slot_1_and_the_ports_after_it() {
    let layout = layout("q35", &[VIDEO, NIC].concat()).expect("fits");
    assert_eq!(
        addresses(&layout, &["video0", "pci.1"]),
        ["00:01.0", "00:02.0"]
    );
}

#[test]
fn a_full_bus_gets_a_bridge() {
    let layout = layout("pc", &NIC.repeat(31)).expect("fits");
    assert_eq!(
        addresses(&layout, &["pci.1", "net0", "net27", "net28"]),
        ["00:02.0", "00:03.0", "00:1e.0", "00:1f.0"]
    );
    assert_eq!(layout.places["net29"].address.to_string(), "01:01.0");
    assert_eq!(layout.bridges.len(), 1);
}

#[test]
fn impossible_addresses_are_refused() {
    let cause = |address: &str| {
        let nic = NIC.replace(
            "</interface>",
            &format!("<address type='pci' {address}/></interface>"),
        );
        match layout("pc", &nic) {
            Err(PciError::Device { alias, source }) => {
                assert_eq!(alias, "net0");
                *source
            }
            other => panic!("{other:?}"),
        }
    };
    assert!(matches!(cause("slot='1'"), PciError::Taken { .. }));
    assert!(matches!(cause("slot='0'"), PciError::NoSlot { .. }));
    let two = NIC
        .replace("</interface>", "<address type='pci' slot='5'/></interface>")
        .repeat(2);
    let error = layout("pc", &two).expect_err("both in slot 5");
    assert!(error.to_string().contains("net1"));
    let moved = "<controller type='usb' index='0' model='piix3-uhci'><address type='pci' slot='9'/></controller>";
    assert!(matches!(layout("pc", moved), Err(PciError::Fixed { .. })));
}

#[test]
fn a_layout_is_kept_as_text() {
    let layout = layout("q35", &headless()).expect("fits");
    let text = serde_json::to_string(&layout).expect("JSON");
    assert!(text.contains(r#""net0":{"address":"02:00.0""#), "{text}");
    assert_eq!(
        serde_json::from_str::<Layout>(&text).expect("the same"),
        layout
    );
}

#[test]
fn a_disk_is_plugged_in_where_nothing_is_and_moves_nothing() {
    let machine = |machine: &str| {
        let text = format!(
            "<domain><name>a</name><memory unit='MiB'>64</memory>
             <os><type machine='{machine}'>hvm</type></os><devices>{}</devices></domain>",
            headless()
        );
        let macros = Macros::new("a", "vg", "net", 1, "image");
        domain::load(&text, &macros).expect("a good template").0
    };
    for (name, first, count) in [("pc", "00:08.0", 24), ("q35", "", 1)] {
        let domain = machine(name);
        let mut layout = assign(&domain).expect("fits");
        for number in 0..count {
            let address = free_place(&domain, &layout).expect("a free place");
            let taken = layout.places.values().any(|place| place.address == address);
            assert!(!taken, "{name}: {address}");
            if number == 0 && !first.is_empty() {
                assert_eq!(address.to_string(), first);
            }
            let place = Place {
                address,
                multifunction: false,
            };
            layout.places.insert(format!("disk{number}"), place);
        }
        assert_eq!(free_place(&domain, &layout), Err(PciError::Full), "{name}");
    }
}

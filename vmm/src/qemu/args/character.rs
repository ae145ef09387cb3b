//! Serial lines, virtio consoles, channels and the USB devices of viewers.

use super::vector::List;
use super::{ArgumentError, Builder, insert, object};
use crate::domain::{CharacterBackend, ElementId, SerialKind, VirtioSerialAddress};
use crate::qemu::pci::Beside;

/// QEMU's name for what is behind the character device with this alias.
pub fn chardev_id(alias: &str) -> String {
    format!("char{alias}")
}

/// The part of a character device that is not the guest's.
const BACKEND: [&str; 1] = ["source"];

impl Builder<'_> {
    pub(super) fn serial_lines(&mut self) {
        let domain = self.domain;
        for serial in &domain.devices.serials {
            let chardev = self.chardev(
                &serial.alias,
                serial.backend,
                serial.origin.at(&["", "target"]),
            );
            let mut device = match SerialKind::of(domain.os.kind) {
                SerialKind::Isa => object! {"driver": "isa-serial", "index": serial.port},
                SerialKind::Vio => object! {"driver": "spapr-vty"},
                // The machine has it by itself, and only wants to know what is behind it.
                SerialKind::System => {
                    self.vector
                        .value("-serial", format!("chardev:{chardev}"))
                        .because(serial.origin.without(&BACKEND));
                    continue;
                }
            };
            insert(&mut device, "id", Some(serial.alias.as_str()));
            insert(&mut device, "chardev", Some(chardev));
            if let Some(Beside::Vio(register)) = self.given.layout.beside.get(&serial.alias) {
                insert(&mut device, "reg", Some(*register));
            }
            self.vector
                .json("-device", device)
                .because(serial.origin.without(&BACKEND));
        }
    }

    pub(super) fn virtio_ports(&mut self) {
        let domain = self.domain;
        for channel in &domain.devices.channels {
            let chardev = self.chardev(&channel.alias, channel.backend, channel.origin.at(&[""]));
            let mut port = virtio_port("virtserialport", &channel.alias, channel.address);
            port.insert("chardev".to_owned(), chardev.into());
            port.insert("name".to_owned(), channel.name.as_str().into());
            self.vector
                .json("-device", port)
                .because(channel.origin.without(&BACKEND));
        }
        for console in &domain.devices.consoles {
            let chardev = self.chardev(
                &console.alias,
                console.backend,
                console.origin.at(&["", "target"]),
            );
            let mut port = virtio_port("virtconsole", &console.alias, console.address);
            port.insert("chardev".to_owned(), chardev.into());
            self.vector
                .json("-device", port)
                .because(console.origin.without(&BACKEND));
        }
    }

    pub(super) fn redirects(&mut self) -> Result<(), ArgumentError> {
        let domain = self.domain;
        for redirect in &domain.devices.redirects {
            let chardev = chardev_id(&redirect.alias);
            let list = List::starting("spicevmc")
                .with("id", &chardev)
                .with("name", "usbredir");
            self.vector
                .list("-chardev", list)
                .because(redirect.origin.at(&[""]));
            let mut properties = object! {
                "driver": "usb-redir", "id": redirect.alias, "chardev": chardev,
            };
            insert(&mut properties, "bootindex", redirect.boot_index);
            self.usb_place(&mut properties, redirect.usb.as_ref());
            self.device(properties)?.because(redirect.origin.all());
        }
        Ok(())
    }

    /// Adds what is behind a character device and returns its id.
    ///
    /// Without a socket what the guest writes is thrown away.
    fn chardev(
        &mut self,
        alias: &str,
        backend: CharacterBackend,
        origins: Vec<ElementId>,
    ) -> String {
        let id = chardev_id(alias);
        let list = match (backend, self.given.sockets.get(alias)) {
            (CharacterBackend::SpiceAgent, _) => List::starting("spicevmc")
                .with("id", &id)
                .with("name", "vdagent"),
            (CharacterBackend::Socket, Some(socket)) => List::starting("socket")
                .with("id", &id)
                .with("fd", socket.fd)
                .with("server", "on")
                .with("wait", "off")
                .with_some("logfile", socket.log_path.as_ref())
                .with_some("logappend", socket.log_path.as_ref().map(|_| "on")),
            (CharacterBackend::Socket | CharacterBackend::Null, _) => {
                List::starting("null").with("id", &id)
            }
        };
        self.vector.list("-chardev", list).because(origins);
        id
    }
}

fn virtio_port(
    driver: &str,
    alias: &str,
    address: Option<VirtioSerialAddress>,
) -> super::JsonObject {
    let VirtioSerialAddress { controller, port } = address.unwrap_or(VirtioSerialAddress {
        controller: 0,
        port: 1,
    });
    object! {
        "driver": driver,
        "id": alias,
        "bus": format!("virtio-serial{controller}.0"),
        "nr": port,
    }
}

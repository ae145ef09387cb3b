//! The devices of a few properties: input, sound, watchdog, balloon, rng, panic, vsock, TPM.

use super::controller::BUILT_IN;
use super::vector::List;
use super::{ArgumentError, Builder, JsonObject, insert, object};
use crate::domain::{
    GraphicsKind, Input, InputBus, InputKind, IommuModel, MachineKind, PanicModel, Sound,
    SoundModel, UsbAddress, WatchdogModel,
};

impl Builder<'_> {
    /// Puts a USB device on its port.
    pub(super) fn usb_place(&self, properties: &mut JsonObject, place: Option<&UsbAddress>) {
        if let Some(place) = place {
            let bus = match place.bus {
                0 => "usb.0".to_owned(),
                bus => format!("usb{bus}.0"),
            };
            insert(properties, "bus", Some(bus));
            insert(properties, "port", Some(place.port.as_str()));
        }
    }

    pub(super) fn hubs(&mut self) -> Result<(), ArgumentError> {
        let domain = self.domain;
        for hub in &domain.devices.hubs {
            let mut properties = object! {"driver": "usb-hub", "id": hub.alias};
            self.usb_place(&mut properties, hub.usb.as_ref());
            self.device(properties)?.because(hub.origin.all());
        }
        Ok(())
    }

    /// Before all other devices, whose addresses it translates.
    pub(super) fn iommu(&mut self) -> Result<(), ArgumentError> {
        let domain = self.domain;
        let Some(iommu) = &domain.devices.iommu else {
            return Ok(());
        };
        if iommu.model == IommuModel::Virtio {
            self.pci_device(&iommu.alias, object! {"driver": "virtio-iommu-pci"})?
                .because(iommu.origin.all());
            return Ok(());
        }
        let mut properties = object! {"driver": "intel-iommu", "id": iommu.alias};
        insert(
            &mut properties,
            "intremap",
            iommu.interrupt_remapping.map(super::on_off),
        );
        insert(&mut properties, "caching-mode", iommu.caching_mode);
        insert(
            &mut properties,
            "eim",
            iommu.extended_interrupts.map(super::on_off),
        );
        insert(&mut properties, "device-iotlb", iommu.device_iotlb);
        insert(&mut properties, "aw-bits", iommu.address_bits);
        self.device(properties)?.because(iommu.origin.all());
        Ok(())
    }

    pub(super) fn inputs(&mut self) -> Result<(), ArgumentError> {
        let domain = self.domain;
        for input in &domain.devices.inputs {
            self.input(input)?;
        }
        Ok(())
    }

    fn input(&mut self, input: &Input) -> Result<(), ArgumentError> {
        let driver = match (input.bus, input.kind) {
            // Every machine has them.
            (InputBus::Ps2, _) => {
                self.vector.remark(input.origin.all(), BUILT_IN);
                return Ok(());
            }
            (InputBus::Usb, InputKind::Mouse) => "usb-mouse",
            (InputBus::Usb, InputKind::Tablet) => "usb-tablet",
            (InputBus::Usb, InputKind::Keyboard) => "usb-kbd",
            (InputBus::Virtio, InputKind::Mouse) => "virtio-mouse-pci",
            (InputBus::Virtio, InputKind::Tablet) => "virtio-tablet-pci",
            (InputBus::Virtio, InputKind::Keyboard) => "virtio-keyboard-pci",
        };
        let mut properties = object! {"driver": driver};
        if input.bus == InputBus::Virtio {
            self.pci_device(&input.alias, properties)?
                .because(input.origin.all());
            return Ok(());
        }
        insert(&mut properties, "id", Some(input.alias.as_str()));
        self.usb_place(&mut properties, input.usb.as_ref());
        self.device(properties)?.because(input.origin.all());
        Ok(())
    }

    pub(super) fn sounds(&mut self) -> Result<(), ArgumentError> {
        let domain = self.domain;
        let devices = &domain.devices;
        if devices.sounds.is_empty() && devices.graphics.is_empty() {
            return Ok(());
        }
        let spice = devices
            .graphics
            .iter()
            .any(|g| g.kind == GraphicsKind::Spice);
        let driver = if spice { "spice" } else { "none" };
        let screens = devices.graphics.iter().flat_map(|g| g.origin.at(&[""]));
        let cards = devices.sounds.iter().flat_map(|s| s.origin.at(&[""]));
        self.vector
            .json("-audiodev", object! {"id": "audio1", "driver": driver})
            .because(screens.chain(cards));
        for sound in &devices.sounds {
            self.sound(sound)?;
        }
        Ok(())
    }

    fn sound(&mut self, sound: &Sound) -> Result<(), ArgumentError> {
        let driver = match sound.model {
            SoundModel::Ich6 => "intel-hda",
            SoundModel::Ich9 => "ich9-intel-hda",
            SoundModel::Ac97 => "AC97",
            SoundModel::Es1370 => "ES1370",
            SoundModel::Usb => "usb-audio",
        };
        let mut properties = object! {"driver": driver};
        let hda = matches!(sound.model, SoundModel::Ich6 | SoundModel::Ich9);
        if !hda {
            insert(&mut properties, "audiodev", Some("audio1"));
        }
        if sound.model == SoundModel::Usb {
            insert(&mut properties, "id", Some(sound.alias.as_str()));
            self.usb_place(&mut properties, sound.usb.as_ref());
            self.device(properties)?.because(sound.origin.all());
            return Ok(());
        }
        self.pci_device(&sound.alias, properties)?
            .because(sound.origin.without(&["codec"]));
        let said = sound.origin.at(&["codec"]);
        let codecs: &[&str] = match sound.codecs.as_slice() {
            [] if hda => &["hda-duplex"],
            codecs => codecs,
        };
        for (number, codec) in codecs.iter().enumerate() {
            self.device(object! {
                "driver": codec,
                "id": format!("{}-codec{number}", sound.alias),
                "bus": format!("{}.0", sound.alias),
                "cad": number,
                "audiodev": "audio1",
            })?
            // Without a word about codecs the card has its usual one.
            .because(match said.get(number) {
                Some(codec) => vec![*codec],
                None => sound.origin.at(&[""]),
            });
        }
        Ok(())
    }

    pub(super) fn watchdogs(&mut self) -> Result<(), ArgumentError> {
        let domain = self.domain;
        for watchdog in &domain.devices.watchdogs {
            match watchdog.model {
                WatchdogModel::I6300esb => {
                    self.pci_device(&watchdog.alias, object! {"driver": "i6300esb"})?
                        .because(watchdog.origin.all());
                }
                WatchdogModel::Ib700 => {
                    self.device(object! {"driver": "ib700", "id": watchdog.alias})?
                        .because(watchdog.origin.all());
                }
                WatchdogModel::Itco => self.vector.remark(watchdog.origin.all(), BUILT_IN),
            }
        }
        // The chipset always has a watchdog; by default it cannot reset the machine.
        if domain.os.kind == MachineKind::Q35 {
            self.global("ICH9-LPC.noreboot=off");
        }
        Ok(())
    }

    pub(super) fn balloon(&mut self) -> Result<(), ArgumentError> {
        let domain = self.domain;
        let Some(balloon) = &domain.devices.balloon else {
            return Ok(());
        };
        let mut properties = object! {"driver": "virtio-balloon-pci"};
        insert(&mut properties, "deflate-on-oom", balloon.autodeflate);
        insert(
            &mut properties,
            "free-page-reporting",
            balloon.free_page_reporting,
        );
        insert(
            &mut properties,
            "guest-stats-polling-interval",
            balloon.stats_period_s,
        );
        self.pci_device(&balloon.alias, properties)?
            .because(balloon.origin.all());
        Ok(())
    }

    pub(super) fn rngs(&mut self) -> Result<(), ArgumentError> {
        let domain = self.domain;
        for rng in &domain.devices.rngs {
            let source = format!("obj{}", rng.alias);
            self.vector
                .json(
                    "-object",
                    object! {"qom-type": "rng-random", "id": source, "filename": rng.path},
                )
                .because(rng.origin.at(&["", "backend"]));
            let mut properties = object! {"driver": "virtio-rng-pci", "rng": source};
            insert(
                &mut properties,
                "max-bytes",
                rng.rate.map(|(bytes, _)| bytes),
            );
            insert(
                &mut properties,
                "period",
                rng.rate.map(|(_, period)| period),
            );
            self.pci_device(&rng.alias, properties)?
                .because(rng.origin.without(&["backend"]));
        }
        Ok(())
    }

    pub(super) fn panics(&mut self) -> Result<(), ArgumentError> {
        let domain = self.domain;
        for panic in &domain.devices.panics {
            match panic.model {
                PanicModel::Isa => {
                    self.device(object! {"driver": "pvpanic", "ioport": 0x505})?
                        .because(panic.origin.all());
                }
                PanicModel::Pvpanic => {
                    self.pci_device(&panic.alias, object! {"driver": "pvpanic-pci"})?
                        .because(panic.origin.all());
                }
                // A flag of the processor, which `cpu` sets.
                PanicModel::Hyperv => {}
                PanicModel::Pseries => self.vector.remark(panic.origin.all(), BUILT_IN),
            }
        }
        Ok(())
    }

    pub(super) fn tpm(&mut self) -> Result<(), ArgumentError> {
        let (domain, given) = (self.domain, self.given);
        let Some(tpm) = &domain.devices.tpm else {
            return Ok(());
        };
        let alias = &tpm.alias;
        let socket = given.sockets.get(alias);
        let socket = socket.ok_or_else(|| ArgumentError::NoTpm {
            alias: alias.clone(),
        })?;
        let chardev = List::starting("socket")
            .with("id", "chrtpm")
            .with("fd", socket.fd);
        let emulator = List::starting("emulator")
            .with("id", format!("tpm-{alias}"))
            .with("chardev", "chrtpm");
        for (option, list) in [("-chardev", chardev), ("-tpmdev", emulator)] {
            self.vector
                .list(option, list)
                .because(tpm.origin.at(&["", "backend"]));
        }
        let driver = match domain.os.kind {
            MachineKind::Virt => "tpm-tis-device",
            _ => tpm.model.as_str(),
        };
        self.device(object! {
            "driver": driver,
            "tpmdev": format!("tpm-{alias}"),
            "id": alias,
        })?
        .because(tpm.origin.without(&["backend"]));
        let version = tpm.origin.at(&["backend"]);
        self.vector.remark(
            version,
            "fvm starts swtpm with it, which QEMU finds behind the socket",
        );
        Ok(())
    }

    pub(super) fn vsock(&mut self) -> Result<(), ArgumentError> {
        let (domain, given) = (self.domain, self.given);
        let Some(vsock) = &domain.devices.vsock else {
            return Ok(());
        };
        let alias = &vsock.alias;
        let cid = vsock.cid.or(given.vsock_cid);
        let cid = cid.ok_or_else(|| ArgumentError::NoContextId {
            alias: alias.clone(),
        })?;
        let mut properties = object! {"driver": "vhost-vsock-pci", "guest-cid": cid};
        if let Some(fd) = given.vsock_fd {
            insert(&mut properties, "vhostfd", Some(fd.to_string()));
        }
        self.pci_device(alias, properties)?
            .because(vsock.origin.all());
        Ok(())
    }
}

//! Ports of virtio-serial controllers.

use super::Place;
use crate::domain::address::VirtioSerialAddress;
use crate::domain::error::Result;
use crate::domain::model::Domain;
use std::collections::BTreeSet;

/// Ports of channels and virtio consoles: consoles may have port 0, channels start at 1.
pub(super) fn virtio_serial_ports(domain: &mut Domain, place: &Place) -> Result<()> {
    let devices = &mut domain.devices;
    let given = devices.channels.iter().map(|c| c.address);
    let given = given
        .chain(devices.consoles.iter().map(|c| c.address))
        .flatten();
    let mut taken: BTreeSet<(u32, u32)> = BTreeSet::new();
    for address in given {
        if !taken.insert((address.controller, address.port)) {
            return Err(place.refuse("two virtio-serial ports have the same address"));
        }
    }
    let mut choose = |first: u32| -> Result<VirtioSerialAddress> {
        let port = (first..31)
            .find(|port| taken.insert((0, *port)))
            .ok_or_else(|| place.refuse("the virtio-serial controller has no free port"))?;
        Ok(VirtioSerialAddress {
            controller: 0,
            port,
        })
    };
    for channel in &mut devices.channels {
        if channel.address.is_none() {
            channel.address = Some(choose(1)?);
        }
    }
    for console in &mut devices.consoles {
        if console.address.is_none() {
            console.address = Some(choose(0)?);
        }
    }
    Ok(())
}

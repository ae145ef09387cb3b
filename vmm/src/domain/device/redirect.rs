//! USB devices of a viewer, handed through to the guest.

use super::disk_read::boot_order;
use crate::domain::address::{self, UsbAddress};
use crate::domain::error::Result;
use crate::domain::node::Node;
use crate::domain::origin::Origin;

/// A USB port for a device of whoever looks at the SPICE screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// The device's id in QEMU.
    pub alias: String,
    /// Where it stands in the template.
    pub origin: Origin,
    /// The place in the boot order, from 1.
    pub boot_index: Option<u32>,
    /// The place on the USB bus.
    pub usb: Option<UsbAddress>,
}

/// Reads `<redirdev>`.
pub(crate) fn redirect(node: &Node<'_>) -> Result<Redirect> {
    if let Some(bus) = node.attr("bus") {
        bus.expect("usb")?;
    }
    node.need("type")?.expect("spicevmc")?;
    node.ignore_children("alias");
    Ok(Redirect {
        alias: String::new(),
        origin: node.origin(),
        boot_index: boot_order(node)?,
        usb: address::usb(node)?,
    })
}

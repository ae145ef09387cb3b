//! Graphics and video.

use crate::domain::address::{self, PciPlace};
use crate::domain::error::Result;
use crate::domain::node::{Node, Value, words};
use crate::domain::origin::Origin;

words! {
    /// How the screen is reached.
    pub enum GraphicsKind {
        /// SPICE.
        Spice = "spice",
        /// VNC.
        Vnc = "vnc",
    }
}

/// A screen that can be reached from outside: only through fvm, which hands each viewer's connection
/// to QEMU, so there is no port and no password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Graphics {
    /// Where it stands in the template.
    pub origin: Origin,
    /// How.
    pub kind: GraphicsKind,
    /// The layout of the viewer's keyboard, by QEMU's name for it, of VNC.
    pub keymap: Option<String>,
}

words! {
    /// The graphics card.
    pub enum VideoModel {
        /// The standard VGA card.
        Vga = "vga",
        /// Cirrus Logic GD5446.
        Cirrus = "cirrus",
        /// QXL, for SPICE.
        Qxl = "qxl",
        /// virtio.
        Virtio = "virtio",
        /// A linear frame buffer without VGA.
        Bochs = "bochs",
        /// VMware SVGA II.
        Vmvga = "vmvga",
    }
}

/// A graphics card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Video {
    /// The device's id in QEMU.
    pub alias: String,
    /// Where it stands in the template.
    pub origin: Origin,
    /// The card.
    pub model: VideoModel,
    /// Whether it is the one that the firmware uses.
    pub primary: bool,
    /// Memory in KiB.
    pub vram_kib: Option<u32>,
    /// The first memory bar of QXL in KiB.
    pub ram_kib: Option<u32>,
    /// The frame buffer's part of it in KiB.
    pub vgamem_kib: Option<u32>,
    /// The number of screens.
    pub heads: Option<u32>,
    /// The place on the PCI bus.
    pub pci: PciPlace,
}

/// Reads `<graphics>`.
pub(crate) fn graphics(node: &Node<'_>) -> Result<Graphics> {
    let kind = node.need("type")?.choice(GraphicsKind::WORDS)?;
    let mut own_address = false;
    for name in ["port", "tlsPort", "autoport", "websocket", "listen"] {
        let unset = ["-1", "yes"];
        if let Some(value) = node.attr(name) {
            own_address |= !unset.contains(&value.str());
        }
    }
    node.each("listen", |listen| {
        for name in ["type", "address", "network", "socket"] {
            own_address |= listen
                .attr(name)
                .is_some_and(|value| name != "type" && !value.str().is_empty());
        }
        Ok(())
    })?;
    if own_address {
        node.warn("the screen is reached through fvm only, not on an address of its own");
    }
    let keymap = node.attr("keymap").map(|name| {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        match name.str().chars().all(plain) {
            true => name.non_empty(),
            false => Err(name.refuse_with(
                format!("{:?} is not the name of a layout", name.str()),
                "names are like en-us, de, fr-ca",
            )),
        }
    });
    let keymap = keymap.transpose()?;
    for name in [
        "image",
        "jpeg",
        "zlib",
        "playback",
        "streaming",
        "mouse",
        "clipboard",
        "filetransfer",
    ] {
        // These tune how SPICE compresses what it sends; the guest does not see them.
        node.ignore_children(name);
    }
    node.child("gl", |gl| {
        let enable = gl.need("enable")?;
        no_host_gpu(&enable)
    })?;
    for name in ["passwd", "passwdValidTo", "connected"] {
        if node.attr(name).is_some() {
            node.warn(format!(
                "{name} is not used: the screen is reached through fvm only"
            ));
        }
    }
    Ok(Graphics {
        origin: node.origin(),
        kind,
        keymap: keymap.filter(|_| kind == GraphicsKind::Vnc),
    })
}

/// Guests draw for themselves.
fn no_host_gpu(value: &Value<'_>) -> Result<()> {
    match value.yes_no()? {
        false => Ok(()),
        true => Err(value.refuse_with(
            "fvm does not hand the host's graphics card to guests",
            "write 'no', or leave the element out",
        )),
    }
}

/// Reads `<video>`; `None` is the template's "no video".
pub(crate) fn video(node: &Node<'_>) -> Result<Option<Video>> {
    let pci = address::pci(node)?;
    node.ignore_children("alias");
    node.need_child("model", |model| {
        let kind = model.need("type")?;
        if kind.str() == "none" {
            return Ok(None);
        }
        let number = |name: &str| model.attr(name).map(|value| value.number()).transpose();
        let kind = kind.choice(VideoModel::WORDS)?;
        model.child("acceleration", |acceleration| {
            let mut all = ["accel2d", "accel3d"].iter();
            all.try_for_each(|name| {
                let value = acceleration.attr(name);
                value.map_or(Ok(()), |value| no_host_gpu(&value))
            })
        })?;
        Ok(Some(Video {
            alias: String::new(),
            origin: node.origin(),
            model: kind,
            primary: model
                .attr("primary")
                .map_or(Ok(false), |value| value.yes_no())?,
            vram_kib: number("vram")?,
            ram_kib: match kind {
                VideoModel::Qxl => number("ram")?,
                _ => None,
            },
            vgamem_kib: match kind {
                VideoModel::Qxl => number("vgamem")?,
                _ => None,
            },
            heads: match (kind, number("heads")?) {
                (VideoModel::Qxl | VideoModel::Virtio, heads) => heads,
                (_, None | Some(1)) => None,
                _ => return Err(model.refuse("this card has one screen only")),
            },
            pci,
        }))
    })
}

//! Sound cards, and where their sound goes.

use crate::domain::address::{self, PciPlace, UsbAddress};
use crate::domain::error::Result;
use crate::domain::node::{Node, words};
use crate::domain::origin::Origin;

words! {
    /// The sound card.
    pub enum SoundModel {
        /// Intel HDA of ICH6.
        Ich6 = "ich6",
        /// Intel HDA of ICH9.
        Ich9 = "ich9",
        /// Intel 82801AA AC97.
        Ac97 = "ac97",
        /// Ensoniq ES1370.
        Es1370 = "es1370",
        /// USB audio.
        Usb = "usb",
    }
}

/// A sound card; what the guest plays is heard through SPICE, or by nobody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sound {
    /// The device's id in QEMU.
    pub alias: String,
    /// Where it stands in the template.
    pub origin: Origin,
    /// Which.
    pub model: SoundModel,
    /// The codecs of an HDA card, as QEMU names them; its default if empty.
    pub codecs: Vec<&'static str>,
    /// The place on the PCI bus.
    pub pci: PciPlace,
    /// The place on the USB bus.
    pub usb: Option<UsbAddress>,
}

/// Reads `<sound>`.
pub(crate) fn sound(node: &Node<'_>) -> Result<Sound> {
    let model = node.need("model")?.choice(SoundModel::WORDS)?;
    node.ignore_children("alias");
    // There is one end for the sound of all cards.
    node.ignore_children("audio");
    let codecs = match model {
        SoundModel::Ich6 | SoundModel::Ich9 => node.each("codec", |codec| {
            codec.need("type")?.choice(&[
                ("duplex", "hda-duplex"),
                ("micro", "hda-micro"),
                ("output", "hda-output"),
            ])
        })?,
        _ => Vec::new(),
    };
    let (mut pci, mut usb) = (PciPlace::default(), None);
    match model {
        SoundModel::Usb => usb = address::usb(node)?,
        _ => pci = address::pci(node)?,
    }
    Ok(Sound {
        alias: String::new(),
        origin: node.origin(),
        model,
        codecs,
        pci,
        usb,
    })
}

/// Reads `<audio>`: the host's end of the sound, which is the SPICE viewer's if there is a SPICE screen, and nobody's
/// otherwise.
pub(crate) fn audio(node: &Node<'_>) -> Result<()> {
    node.need("id")?.number::<u32>()?;
    let kind = node.need("type")?;
    let of_the_host = [
        "alsa",
        "coreaudio",
        "dbus",
        "file",
        "jack",
        "oss",
        "pipewire",
        "pulseaudio",
        "sdl",
    ];
    let words: Vec<(&str, bool)> = [("none", false), ("spice", false)]
        .into_iter()
        .chain(of_the_host.map(|word| (word, true)))
        .collect();
    if kind.choice(&words)? {
        node.warn(format!(
            "the host plays no sound: type {:?} is not used, only SPICE viewers hear the guest",
            kind.str()
        ));
    }
    for name in [
        "timerPeriod",
        "runtimeDir",
        "serverName",
        "path",
        "tryMMap",
        "exclusive",
        "dspPolicy",
        "driver",
    ] {
        node.ignore_attr(name);
    }
    for name in ["input", "output"] {
        node.ignore_children(name);
    }
    Ok(())
}

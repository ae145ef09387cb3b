//! Screens and graphics cards.

use super::vector::List;
use super::{ArgumentError, Builder, insert, object};
use crate::domain::{Arch, GraphicsKind, Video, VideoModel};

impl Builder<'_> {
    /// Without a screen QEMU must be told so, or it opens a window.
    pub(super) fn screens(&mut self) -> Result<(), ArgumentError> {
        let domain = self.domain;
        if domain.devices.graphics.is_empty() {
            self.vector.value("-display", "none");
        }
        for graphics in &domain.devices.graphics {
            // Neither listens: a viewer's connection can come in by QMP's `add_client` only.
            match graphics.kind {
                GraphicsKind::Vnc => {
                    self.vector
                        .list("-vnc", List::starting("none").with("audiodev", "audio1"))
                        .because(graphics.origin.all());
                    if let Some(keymap) = &graphics.keymap {
                        self.vector
                            .value("-k", keymap)
                            .because(graphics.origin.at(&[""]));
                    }
                }
                GraphicsKind::Spice => {
                    let spice = List::default()
                        .with("port", 0)
                        .with("disable-ticketing", "on")
                        .with("seamless-migration", "on");
                    self.vector
                        .list("-spice", spice)
                        .because(graphics.origin.all());
                }
            }
        }
        for video in &domain.devices.videos {
            self.video(video)?;
        }
        Ok(())
    }

    fn video(&mut self, video: &Video) -> Result<(), ArgumentError> {
        let driver = match (video.model, video.primary) {
            (VideoModel::Vga, true) => "VGA",
            (VideoModel::Vga, false) => "secondary-vga",
            (VideoModel::Cirrus, _) => "cirrus-vga",
            (VideoModel::Qxl, true) => "qxl-vga",
            (VideoModel::Qxl, false) => "qxl",
            // ARM has no VGA for it to be compatible with.
            (VideoModel::Virtio, true) if self.domain.os.arch != Arch::Aarch64 => "virtio-vga",
            (VideoModel::Virtio, _) => "virtio-gpu-pci",
            (VideoModel::Bochs, _) => "bochs-display",
            (VideoModel::Vmvga, _) => "vmware-svga",
        };
        let mut properties = object! {"driver": driver};
        let mib = |kib: Option<u32>, least: u32| kib.map_or(least, |kib| kib.div_ceil(1024));
        match video.model {
            VideoModel::Qxl => {
                insert(
                    &mut properties,
                    "ram_size",
                    Some(u64::from(mib(video.ram_kib, 64)) << 20),
                );
                insert(
                    &mut properties,
                    "vram_size",
                    Some(u64::from(mib(video.vram_kib, 64)) << 20),
                );
                insert(&mut properties, "vram64_size_mb", Some(0));
                insert(
                    &mut properties,
                    "vgamem_mb",
                    Some(mib(video.vgamem_kib, 16)),
                );
                insert(
                    &mut properties,
                    "max_outputs",
                    Some(video.heads.unwrap_or(1)),
                );
            }
            VideoModel::Virtio => {
                insert(
                    &mut properties,
                    "max_outputs",
                    Some(video.heads.unwrap_or(1)),
                );
            }
            VideoModel::Vga | VideoModel::Vmvga => {
                insert(&mut properties, "vgamem_mb", Some(mib(video.vram_kib, 16)));
            }
            VideoModel::Bochs => {
                let bytes = u64::from(mib(video.vram_kib, 16)) << 20;
                insert(&mut properties, "vgamem", Some(bytes));
            }
            VideoModel::Cirrus => {}
        }
        self.pci_device(&video.alias, properties)?
            .because(video.origin.all());
        Ok(())
    }
}

//! The devices of a template, a file for each family.
//!
//! Every device that QEMU knows by an id has an `alias`, libvirt's name for it (`net0`,
//! `scsi0-0-0-0`); reading leaves it empty and `complete` fills it in.

mod character;
mod controller;
mod disk;
mod disk_read;
mod display;
mod interface;
mod limits;
mod redirect;
mod simple;
mod sound;
mod tpm;

pub use character::{Channel, CharacterBackend, Console, ConsoleTarget, Serial, SerialKind};
pub use controller::{Controller, ControllerKind, PciModel, ScsiModel, UsbModel};
pub use disk::{Cache, Disk, DiskBus, DiskDevice, DiskSource, ErrorPolicy, IoMode};
pub use display::{Graphics, GraphicsKind, Video, VideoModel};
pub use interface::{Interface, NicModel, NicSource};
pub use limits::{IoLimit, IoLimits};
pub use redirect::Redirect;
pub use simple::{
    Balloon, Hub, Input, InputBus, InputKind, Iommu, IommuModel, Panic, PanicModel, Rng, Vsock,
    Watchdog, WatchdogAction, WatchdogModel,
};
pub use sound::{Sound, SoundModel};
pub use tpm::{Tpm, TpmModel, TpmVersion};

pub(crate) use character::{channel, console, serial};
pub(crate) use controller::{TemplateController, controller};
pub(crate) use disk_read::{disk, nvme_namespace, target_index, target_name};
pub(crate) use display::{graphics, video};
pub(crate) use interface::interface;
pub(crate) use redirect::redirect;
pub(crate) use simple::{balloon, hub, input, iommu, panic, rng, vsock, watchdog};
pub(crate) use sound::{audio, sound};
pub(crate) use tpm::tpm;

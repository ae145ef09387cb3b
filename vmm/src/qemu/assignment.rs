//! What fvm gives a machine beyond its template: names, descriptors, paths, the QEMU to run.

use super::fds::FdSet;
use super::pci::Layout;
use super::probe::Capabilities;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// How the guest's code is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accel {
    /// By the processor, through KVM.
    Kvm,
    /// By emulation.
    Tcg,
}

impl Accel {
    /// QEMU's name for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }
}

/// What a disk of the template really is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskBacking {
    /// A path that QEMU may open: `/dev/fdset/N`, or a file of the VM's own.
    pub path: String,
    /// Whether it is a block device.
    pub is_block_device: bool,
}

/// The host's end of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NicBacking {
    /// The MAC address; the template's, if it gives one.
    pub mac: String,
    /// The tap's descriptors in QEMU, one for each queue; none leaves the interface unplugged.
    pub tap_fds: Vec<u32>,
    /// The descriptors of `/dev/vhost-net` in QEMU, as many, or none.
    pub vhost_fds: Vec<u32>,
}

/// A listening socket behind a character device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketBacking {
    /// The socket's descriptor in QEMU.
    pub fd: u32,
    /// Where QEMU appends all that the guest writes, also with nobody connected.
    pub log_path: Option<String>,
}

/// The two flash images of a UEFI machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirmwareBacking {
    /// The firmware's code, read-only.
    pub code: String,
    /// The VM's own variables.
    pub vars: String,
}

/// Everything that is fvm's to decide about one start of one machine.
#[derive(Debug, Clone)]
pub struct Assignment {
    /// The VM's name, which QEMU's process also carries.
    pub name: String,
    /// The VM's identity.
    pub uuid: String,
    /// How its code is run.
    pub accel: Accel,
    /// The QEMU that will run it.
    pub qemu: Capabilities,
    /// The exact machine type, kept with the VM; without one, the template's.
    pub machine: Option<String>,
    /// The PCI addresses, kept with the VM.
    pub layout: Layout,
    /// What each disk is, by its target (`sda`); a disk without an entry is an empty drive.
    pub disks: BTreeMap<String, DiskBacking>,
    /// The interfaces' other ends, in the template's order.
    pub nics: Vec<NicBacking>,
    /// The sockets of serial lines, consoles, channels and the like, by the device's alias.
    pub sockets: BTreeMap<String, SocketBacking>,
    /// Listening sockets for QMP, each for one client at a time.
    pub monitors: Vec<u32>,
    /// The flash images, for UEFI.
    pub firmware: Option<FirmwareBacking>,
    /// The sets behind the paths `/dev/fdset/N`.
    pub fd_sets: Vec<FdSet>,
    /// The VM's run directory.
    pub run_directory: PathBuf,
    /// Whether the guest stands still until told to go on.
    pub start_paused: bool,
    /// The guest's context id for vsock, if the template leaves it open.
    pub vsock_cid: Option<u32>,
    /// The descriptor of `/dev/vhost-vsock` in QEMU.
    pub vsock_fd: Option<u32>,
}

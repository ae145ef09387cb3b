//! Taps: one for each network card of a VM, gone when the last descriptor of it is closed.

use std::fs::OpenOptions;
use std::os::fd::{AsFd, OwnedFd};

use super::Error;
use super::link::{LinkSettings, Links};
use crate::names::{self, Nic};
use crate::sys;

/// How a tap is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TapOptions {
    /// How many queues, each a descriptor of its own; 1 for a card without multi-queue.
    pub queues: u16,
    /// Frames carry a virtio-net header, so that checksums and segmentation are left to the kernel.
    pub vnet_hdr: bool,
    /// The largest packet, in bytes: that of the network; `None` for the bridge's own.
    pub mtu: Option<u32>,
    /// It reaches the host and what is beyond it, but no other port that is isolated too.
    pub isolated: bool,
}

impl Default for TapOptions {
    fn default() -> Self {
        TapOptions {
            queues: 1,
            vnet_hdr: true,
            mtu: None,
            isolated: false,
        }
    }
}

/// A tap that lives as long as one of its descriptors.
#[derive(Debug)]
pub struct Tap {
    /// Its name.
    pub name: String,
    /// Its interface index.
    pub ifindex: u32,
    /// One descriptor for each queue, for QEMU.
    pub fds: Vec<OwnedFd>,
}

/// Makes a tap that is not there yet, attaches it to the bridge and puts it up.
///
/// It is not persistent: when the returned descriptors and all copies of them are closed, the
/// kernel removes it. Nothing can be sent by it before [`super::admit`].
pub fn create_tap(nic: Nic, bridge: &str, options: TapOptions) -> Result<Tap, Error> {
    let name = nic.tap();
    let mut links = Links::open()?;
    let controller = links.require(bridge)?;
    if !controller.is_bridge {
        return Err(Error::WrongKind {
            name: bridge.to_owned(),
            expected: "bridge",
        });
    }
    if links.find(&name)?.is_some() {
        return Err(Error::Tun {
            action: "create tap",
            name,
            source: std::io::Error::from_raw_os_error(libc::EEXIST),
        });
    }
    let mut flags = libc::IFF_TAP | libc::IFF_NO_PI;
    if options.vnet_hdr {
        flags |= libc::IFF_VNET_HDR;
    }
    if options.queues > 1 {
        flags |= libc::IFF_MULTI_QUEUE;
    }
    let fds = (0..options.queues.max(1))
        .map(|_| open_queue(&name, flags))
        .collect::<Result<Vec<_>, _>>()?;
    let tap = links.require(&name)?;
    links.set(
        &tap,
        LinkSettings {
            mtu: Some(options.mtu.unwrap_or(controller.mtu)),
            controller: Some(controller.index),
            no_ipv6_link_local: true,
            ..LinkSettings::default()
        },
    )?;
    if options.isolated {
        links.isolate_port(&tap)?;
    }
    links.set(
        &tap,
        LinkSettings {
            up: true,
            ..LinkSettings::default()
        },
    )?;
    Ok(Tap {
        name,
        ifindex: tap.index,
        fds,
    })
}

fn open_queue(name: &str, flags: i32) -> Result<OwnedFd, Error> {
    let failed = |action| {
        let name = name.to_owned();
        move |source| Error::Tun {
            action,
            name,
            source,
        }
    };
    let tun = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
        .map_err(failed("open /dev/net/tun for"))?;
    sys::tun_set_interface(tun.as_fd(), name, flags).map_err(failed("create tap"))?;
    Ok(tun.into())
}

/// Gives a tap this MTU, in bytes; nothing changes if it has it.
pub fn set_tap_mtu(nic: Nic, mtu: u32) -> Result<(), Error> {
    let mut links = Links::open()?;
    let tap = links.require(&nic.tap())?;
    if tap.mtu == mtu {
        return Ok(());
    }
    links.set(
        &tap,
        LinkSettings {
            mtu: Some(mtu),
            ..LinkSettings::default()
        },
    )
}

/// Deletes a tap of fvm's by its card; says whether it was there.
///
/// For reconcile: a tap normally goes with the process that holds it.
pub fn remove_tap(nic: Nic) -> Result<bool, Error> {
    let mut links = Links::open()?;
    match links.find(&nic.tap())? {
        None => Ok(false),
        Some(link) if !link.is_tun => Err(Error::WrongKind {
            name: link.name,
            expected: "tap",
        }),
        Some(link) => links.delete(&link),
    }
}

/// The cards whose taps exist, by the names that only fvm gives.
pub fn list_taps() -> Result<Vec<Nic>, Error> {
    let mut nics: Vec<Nic> = Links::open()?
        .all()?
        .iter()
        .filter(|link| link.is_tun)
        .filter_map(|link| names::Nic::from_tap(&link.name))
        .collect();
    nics.sort_unstable();
    Ok(nics)
}

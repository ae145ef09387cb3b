//! Links and addresses: reading them, making them, changing them.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoBridge, InfoBridgePort, InfoData, InfoKind,
    InfoPortData, InfoPortKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;

use super::Error;
use super::netlink::Netlink;
use crate::MacAddr;

/// A link as the kernel reports it, as far as this crate asks.
#[derive(Debug, Clone)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) is_bridge: bool,
    pub(super) is_tun: bool,
    pub(super) up: bool,
    pub(super) mac: Option<MacAddr>,
    pub(super) mtu: u32,
    /// The index of the bridge it is a port of.
    pub(super) controller: Option<u32>,
}

/// An IPv4 address on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) link: u32,
    pub(super) address: Ipv4Addr,
    pub(super) prefix: u8,
}

/// An IPv4 unicast route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) destination: Ipv4Addr,
    pub(super) prefix: u8,
    /// The one link it leaves by, if it names one.
    pub(super) link: Option<u32>,
}

/// What to set on a link; `None` leaves a property as it is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LinkSettings {
    pub(super) up: bool,
    pub(super) mac: Option<MacAddr>,
    pub(super) mtu: Option<u32>,
    pub(super) controller: Option<u32>,
    /// Give it no IPv6 link-local address, so that the host says nothing of its own there.
    pub(super) no_ipv6_link_local: bool,
}

/// Links and addresses of the network namespace of the calling thread.
pub(super) struct Links(Netlink);

impl Links {
    pub(super) fn open() -> Result<Self, Error> {
        Netlink::open().map(Links).map_err(|source| Error::Link {
            action: "open",
            object: "a netlink socket".to_owned(),
            source,
        })
    }

    /// Every link.
    pub(super) fn all(&mut self) -> Result<Vec<Link>, Error> {
        let answer = self
            .0
            .dump(RouteNetlinkMessage::GetLink(LinkMessage::default()))
            .map_err(failed("list", "links"))?;
        Ok(answer.into_iter().filter_map(link_of).collect())
    }

    /// The link with this name.
    pub(super) fn find(&mut self, name: &str) -> Result<Option<Link>, Error> {
        let mut message = LinkMessage::default();
        message
            .attributes
            .push(LinkAttribute::IfName(name.to_owned()));
        match self.0.get(RouteNetlinkMessage::GetLink(message)) {
            Ok(answer) => Ok(link_of(answer)),
            Err(error) if is(&error, Errno::ENODEV) => Ok(None),
            Err(error) => Err(failed("look up", name)(error)),
        }
    }

    /// The link with this name, or [`Error::NoLink`].
    pub(super) fn require(&mut self, name: &str) -> Result<Link, Error> {
        self.find(name)?.ok_or_else(|| Error::NoLink {
            name: name.to_owned(),
        })
    }

    /// Makes a bridge that forwards at once: no spanning tree, no delay, no querying of its ports.
    pub(super) fn add_bridge(&mut self, name: &str, mac: MacAddr) -> Result<(), Error> {
        let mut message = LinkMessage::default();
        message.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::Address(mac.0.to_vec()),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Bridge),
                LinkInfo::Data(InfoData::Bridge(vec![
                    InfoBridge::StpState(netlink_packet_route::link::BridgeStpState::Disabled),
                    InfoBridge::ForwardDelay(0),
                    // Snooping without a querier makes multicast between guests stop after minutes.
                    InfoBridge::MulticastSnooping(false),
                ])),
            ]),
        ];
        self.0
            .change(
                RouteNetlinkMessage::NewLink(message),
                NLM_F_CREATE | NLM_F_EXCL,
            )
            .map_err(failed("make bridge", name))
    }

    /// Sets properties of a link.
    pub(super) fn set(&mut self, link: &Link, settings: LinkSettings) -> Result<(), Error> {
        let mut message = LinkMessage::default();
        message.header.index = link.index;
        if settings.up {
            message.header.flags = LinkFlags::Up;
            message.header.change_mask = LinkFlags::Up;
        }
        let attributes = &mut message.attributes;
        attributes.extend(
            settings
                .mac
                .map(|mac| LinkAttribute::Address(mac.0.to_vec())),
        );
        attributes.extend(settings.mtu.map(LinkAttribute::Mtu));
        attributes.extend(settings.controller.map(LinkAttribute::Controller));
        if settings.no_ipv6_link_local {
            attributes.push(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(
                vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)],
            )]));
        }
        self.0
            .change(RouteNetlinkMessage::SetLink(message), 0)
            .map_err(failed("configure", &link.name))
    }

    /// Keeps a bridge's port apart from others that are kept apart.
    pub(super) fn isolate_port(&mut self, link: &Link) -> Result<(), Error> {
        let mut message = LinkMessage::default();
        message.header.index = link.index;
        // The kernel takes what concerns a port in this message alone, for a link that is there, too (`rtnl_newlink`).
        message.attributes = vec![LinkAttribute::LinkInfo(vec![
            LinkInfo::PortKind(InfoPortKind::Bridge),
            LinkInfo::PortData(InfoPortData::BridgePort(vec![InfoBridgePort::Isolated(
                true,
            )])),
        ])];
        self.0
            .change(RouteNetlinkMessage::NewLink(message), 0)
            .map_err(failed("isolate", &link.name))
    }

    /// Deletes a link; says whether it was there.
    pub(super) fn delete(&mut self, link: &Link) -> Result<bool, Error> {
        let mut message = LinkMessage::default();
        message.header.index = link.index;
        match self.0.change(RouteNetlinkMessage::DelLink(message), 0) {
            Ok(()) => Ok(true),
            Err(error) if is(&error, Errno::ENODEV) => Ok(false),
            Err(error) => Err(failed("delete", &link.name)(error)),
        }
    }

    /// Every IPv4 address.
    pub(super) fn addresses(&mut self) -> Result<Vec<Address>, Error> {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet;
        let answer = self
            .0
            .dump(RouteNetlinkMessage::GetAddress(message))
            .map_err(failed("list", "addresses"))?;
        Ok(answer.into_iter().filter_map(address_of).collect())
    }

    /// Puts an IPv4 address on a link.
    pub(super) fn add_address(
        &mut self,
        link: &Link,
        address: Ipv4Addr,
        prefix: u8,
    ) -> Result<(), Error> {
        let message = address_message(link, address, prefix);
        self.0
            .change(
                RouteNetlinkMessage::NewAddress(message),
                NLM_F_CREATE | NLM_F_REPLACE,
            )
            .map_err(failed(
                "add address",
                &format!("{address}/{prefix} to {}", link.name),
            ))
    }

    /// Takes an IPv4 address off a link.
    pub(super) fn delete_address(&mut self, link: &Link, address: &Address) -> Result<(), Error> {
        let Address {
            address, prefix, ..
        } = *address;
        self.0
            .change(
                RouteNetlinkMessage::DelAddress(address_message(link, address, prefix)),
                0,
            )
            .map_err(failed(
                "delete address",
                &format!("{address}/{prefix} of {}", link.name),
            ))
    }

    /// Every IPv4 unicast route of every table.
    pub(super) fn routes(&mut self) -> Result<Vec<Route>, Error> {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        let answer = self
            .0
            .dump(RouteNetlinkMessage::GetRoute(message))
            .map_err(failed("list", "routes"))?;
        Ok(answer.into_iter().filter_map(route_of).collect())
    }

    /// The names of all links by index.
    pub(super) fn names(&mut self) -> Result<HashMap<u32, String>, Error> {
        Ok(self
            .all()?
            .into_iter()
            .map(|link| (link.index, link.name))
            .collect())
    }
}

fn failed<'a>(action: &'static str, object: &'a str) -> impl FnOnce(std::io::Error) -> Error + 'a {
    move |source| Error::Link {
        action,
        object: object.to_owned(),
        source,
    }
}

fn is(error: &std::io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno as i32)
}

fn link_of(message: RouteNetlinkMessage) -> Option<Link> {
    let RouteNetlinkMessage::NewLink(message) = message else {
        return None;
    };
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        is_bridge: false,
        is_tun: false,
        up: message.header.flags.contains(LinkFlags::Up),
        mac: None,
        mtu: 0,
        controller: None,
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Address(bytes) => link.mac = bytes.try_into().ok().map(MacAddr),
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::Controller(index) => link.controller = Some(index),
            LinkAttribute::LinkInfo(infos) => {
                link.is_bridge |= infos.contains(&LinkInfo::Kind(InfoKind::Bridge));
                link.is_tun |= infos.contains(&LinkInfo::Kind(InfoKind::Tun));
            }
            _ => {}
        }
    }
    Some(link)
}

fn address_message(link: &Link, address: Ipv4Addr, prefix: u8) -> AddressMessage {
    let broadcast = address.to_bits() | !crate::subnet::mask_bits(prefix);
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = prefix;
    message.header.index = link.index;
    message.attributes = vec![
        AddressAttribute::Local(IpAddr::V4(address)),
        AddressAttribute::Address(IpAddr::V4(address)),
        AddressAttribute::Broadcast(Ipv4Addr::from_bits(broadcast)),
    ];
    message
}

fn address_of(message: RouteNetlinkMessage) -> Option<Address> {
    let RouteNetlinkMessage::NewAddress(message) = message else {
        return None;
    };
    // On a point-to-point link `Address` is the peer; `Local` is ours.
    let find = |local: bool| {
        message
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                AddressAttribute::Local(IpAddr::V4(found)) if local => Some(*found),
                AddressAttribute::Address(IpAddr::V4(found)) if !local => Some(*found),
                _ => None,
            })
    };
    Some(Address {
        link: message.header.index,
        address: find(true).or_else(|| find(false))?,
        prefix: message.header.prefix_len,
    })
}

fn route_of(message: RouteNetlinkMessage) -> Option<Route> {
    let RouteNetlinkMessage::NewRoute(message) = message else {
        return None;
    };
    if message.header.kind != RouteType::Unicast {
        return None;
    }
    let mut route = Route {
        destination: Ipv4Addr::UNSPECIFIED,
        prefix: message.header.destination_prefix_length,
        link: None,
    };
    for attribute in message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => route.destination = address,
            RouteAttribute::Oif(index) => route.link = Some(index),
            _ => {}
        }
    }
    Some(route)
}

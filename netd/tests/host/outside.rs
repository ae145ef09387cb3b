//! A network outside the host, and guests that are there without having asked for an address.

use std::net::Ipv4Addr;

use crate::lab::{Lab, Namespace, ip};

/// The address of the network outside.
pub(crate) const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
/// The host's address there.
pub(crate) const HOST: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

/// A network outside the host, with a route back to the guests' subnet.
pub(crate) fn outside(lab: &Lab) -> Namespace {
    let outside = Namespace::new();
    ip(&[
        "link",
        "add",
        "uplink",
        "type",
        "veth",
        "peer",
        "name",
        "eth0",
        "netns",
        &outside.path(),
    ]);
    ip(&["address", "add", &format!("{HOST}/24"), "dev", "uplink"]);
    ip(&["link", "set", "uplink", "up"]);
    let subnet = lab.subnet().to_string();
    outside.run(|| {
        ip(&["address", "add", &format!("{OUTSIDE}/24"), "dev", "eth0"]);
        ip(&["link", "set", "eth0", "up"]);
        ip(&["route", "add", &subnet, "via", &HOST.to_string()]);
    });
    outside
}

/// A guest with its address set by hand, since this is not about DHCP.
pub(crate) fn guest(lab: &Lab, vm: u32) -> Namespace {
    let guest = lab.namespace_guest(vm);
    let address = format!("{}/{}", lab.address(vm), lab.subnet().prefix());
    let gateway = lab.network.gateway.to_string();
    guest.run(|| {
        ip(&["address", "add", &address, "dev", "eth0"]);
        ip(&["route", "add", "default", "via", &gateway]);
    });
    guest
}

//! Why nothing was said.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::MessageType;
use crate::MacAddr;

/// The cause for which a frame was not answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "cause", rename_all = "snake_case")]
pub enum Silence {
    /// The frame carries a VLAN tag; a guest's port has none.
    #[error("the frame has a VLAN tag")]
    VlanTagged,
    /// The frame is longer than any message.
    #[error("the frame is too long")]
    TooLong,
    /// The frame is no IPv4 packet with a UDP datagram.
    #[error("not an IPv4 packet with a UDP datagram")]
    NotUdp,
    /// The packet is a fragment.
    #[error("a fragment of a packet")]
    Fragment,
    /// The IPv4 header has options or is shorter than it can be.
    #[error("an IPv4 header of an unusual length")]
    HeaderLength,
    /// A length field says more or less than there is.
    #[error("a length field that does not fit the packet")]
    Length,
    /// The IPv4 header checksum is wrong.
    #[error("a wrong IPv4 header checksum")]
    HeaderChecksum,
    /// The UDP checksum is wrong.
    #[error("a wrong UDP checksum")]
    UdpChecksum,
    /// The datagram is not from a client to a server.
    #[error("UDP from port {source_port} to {destination_port} is not from a client to a server")]
    Ports {
        /// The source port.
        source_port: u16,
        /// The destination port.
        destination_port: u16,
    },
    /// The packet is addressed to another server.
    #[error("addressed to {destination}, which is another server")]
    OtherDestination {
        /// Its destination.
        destination: Ipv4Addr,
    },
    /// The message is shorter than a message can be.
    #[error("too short for a DHCP message")]
    TooShort,
    /// The magic cookie is not there.
    #[error("no DHCP magic cookie")]
    Cookie,
    /// The message claims to be a reply.
    #[error("a reply, not a request")]
    NotARequest,
    /// The hardware address is not an Ethernet address.
    #[error("hardware type {kind} with addresses of {length} bytes is not Ethernet")]
    Hardware {
        /// `htype`.
        kind: u8,
        /// `hlen`.
        length: u8,
    },
    /// The hardware address is a group's or zero.
    #[error("{address} is not the address of one station")]
    NotAStation {
        /// The address.
        address: MacAddr,
    },
    /// The frame's source is not the client that the message names.
    #[error("sent by {source_mac} on behalf of {client}")]
    ForeignClient {
        /// The frame's source.
        source_mac: MacAddr,
        /// `chaddr`.
        client: MacAddr,
    },
    /// An option runs past its field or has an impossible length or value.
    #[error("option {code} is malformed")]
    MalformedOption {
        /// The option.
        code: u8,
    },
    /// No message type: a BOOTP request.
    #[error("a BOOTP request")]
    Bootp,
    /// The message passed a relay agent, which a guest's port has not.
    #[error("relayed")]
    Relayed,
    /// A message type that a server does not answer.
    #[error("a {message} is not for a server")]
    NotAnswered {
        /// The type.
        message: MessageType,
    },
    /// No VM is bound to the port.
    #[error("no VM is bound to the port")]
    Unbound,
    /// The client has chosen another server.
    #[error("the client has chosen server {server}")]
    OtherServer {
        /// Its choice.
        server: Ipv4Addr,
    },
    /// A REQUEST that names no address.
    #[error("asks for no address")]
    NoAddressAsked,
    /// An INFORM for an address that is not the port's.
    #[error("informs of {address}, which is not the port's")]
    OtherInform {
        /// The address.
        address: Ipv4Addr,
    },
    /// A DECLINE; the address stays the port's.
    #[error("the guest declined {address}: something else answers for it")]
    Declined {
        /// The address.
        address: Ipv4Addr,
    },
    /// A RELEASE; the address stays the port's.
    #[error("the guest released {address}")]
    Released {
        /// The address.
        address: Ipv4Addr,
    },
    /// The reply could not be sent.
    #[error("the reply could not be sent: {error}")]
    SendFailed {
        /// The kernel's answer.
        error: String,
    },
}

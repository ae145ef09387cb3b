//! Numbers of the protocol: option codes and message types.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Option codes (the IANA registry "BOOTP Vendor Extensions and DHCP Options").
pub(crate) mod code {
    pub(crate) const PAD: u8 = 0; // RFC 2132, as far as not said otherwise
    pub(crate) const SUBNET_MASK: u8 = 1;
    pub(crate) const ROUTER: u8 = 3;
    pub(crate) const DNS_SERVERS: u8 = 6;
    pub(crate) const HOST_NAME: u8 = 12;
    pub(crate) const DOMAIN_NAME: u8 = 15;
    pub(crate) const INTERFACE_MTU: u8 = 26;
    pub(crate) const BROADCAST_ADDRESS: u8 = 28;
    pub(crate) const NTP_SERVERS: u8 = 42;
    pub(crate) const REQUESTED_ADDRESS: u8 = 50;
    pub(crate) const LEASE_TIME: u8 = 51;
    pub(crate) const OVERLOAD: u8 = 52;
    pub(crate) const MESSAGE_TYPE: u8 = 53;
    pub(crate) const SERVER_ID: u8 = 54;
    pub(crate) const PARAMETER_LIST: u8 = 55;
    pub(crate) const MESSAGE: u8 = 56;
    pub(crate) const MAX_MESSAGE_SIZE: u8 = 57;
    pub(crate) const RENEWAL_TIME: u8 = 58;
    pub(crate) const REBINDING_TIME: u8 = 59;
    pub(crate) const VENDOR_CLASS: u8 = 60;
    pub(crate) const CLIENT_ID: u8 = 61;
    pub(crate) const TFTP_SERVER: u8 = 66;
    pub(crate) const BOOT_FILE: u8 = 67;
    pub(crate) const USER_CLASS: u8 = 77; // RFC 3004
    pub(crate) const RAPID_COMMIT: u8 = 80; // RFC 4039
    pub(crate) const RELAY_INFORMATION: u8 = 82; // RFC 3046
    pub(crate) const CLIENT_ARCHITECTURE: u8 = 93; // RFC 4578
    pub(crate) const CLIENT_MACHINE_ID: u8 = 97; // RFC 4578
    pub(crate) const POSIX_TIMEZONE: u8 = 100; // RFC 4833
    pub(crate) const TZDB_TIMEZONE: u8 = 101; // RFC 4833
    pub(crate) const IPV6_ONLY: u8 = 108; // RFC 8925
    pub(crate) const DOMAIN_SEARCH: u8 = 119; // RFC 3397
    pub(crate) const CLASSLESS_ROUTES: u8 = 121; // RFC 3442
    pub(crate) const IPXE: u8 = 175; // what iPXE encapsulates its own options in
    pub(crate) const END: u8 = 255;
}

/// What kind of message it is (option 53, RFC 2132 section 9.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageType {
    /// A client looks for servers.
    Discover,
    /// A server offers an address.
    Offer,
    /// A client asks for an address, or for more time with it.
    Request,
    /// A client has found the address in use by another.
    Decline,
    /// A server grants what was asked.
    Ack,
    /// A server refuses what was asked.
    Nak,
    /// A client gives its address back.
    Release,
    /// A client with an address of its own asks for configuration.
    Inform,
    /// A type of a later RFC, such as LEASEQUERY (RFC 4388).
    Other(u8),
}

impl MessageType {
    /// The number on the wire.
    pub const fn number(self) -> u8 {
        match self {
            MessageType::Discover => 1,
            MessageType::Offer => 2,
            MessageType::Request => 3,
            MessageType::Decline => 4,
            MessageType::Ack => 5,
            MessageType::Nak => 6,
            MessageType::Release => 7,
            MessageType::Inform => 8,
            MessageType::Other(number) => number,
        }
    }

    /// The type with this number on the wire.
    pub const fn from_number(number: u8) -> Self {
        match number {
            1 => MessageType::Discover,
            2 => MessageType::Offer,
            3 => MessageType::Request,
            4 => MessageType::Decline,
            5 => MessageType::Ack,
            6 => MessageType::Nak,
            7 => MessageType::Release,
            8 => MessageType::Inform,
            other => MessageType::Other(other),
        }
    }
}

impl fmt::Display for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MessageType::Discover => "DISCOVER",
            MessageType::Offer => "OFFER",
            MessageType::Request => "REQUEST",
            MessageType::Decline => "DECLINE",
            MessageType::Ack => "ACK",
            MessageType::Nak => "NAK",
            MessageType::Release => "RELEASE",
            MessageType::Inform => "INFORM",
            MessageType::Other(number) => return write!(f, "message type {number}"),
        })
    }
}

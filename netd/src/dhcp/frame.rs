//! Ethernet, IPv4 and UDP around a message: taken off with every field checked, put on in full.

use std::net::Ipv4Addr;

use super::{FrameNotes, Silence};
use crate::MacAddr;

/// UDP ports (RFC 2131, section 4.1).
pub const SERVER_PORT: u16 = 67;
/// The port replies go to.
pub const CLIENT_PORT: u16 = 68;

const ETHERNET_LEN: usize = 14;
const IPV4_LEN: usize = 20;
const UDP_LEN: usize = 8;
/// Bytes before the message in a frame without VLAN tag and IPv4 options.
pub const HEADERS_LEN: usize = ETHERNET_LEN + IPV4_LEN + UDP_LEN;
/// IPv4 and UDP header: what a message's size limit counts beside the message.
pub const PACKET_HEADERS_LEN: usize = IPV4_LEN + UDP_LEN;

const ETHERTYPE_IPV4: u16 = 0x0800; // RFC 894
const ETHERTYPES_VLAN: [u16; 2] = [0x8100, 0x88a8]; // IEEE 802.1Q
const PROTOCOL_UDP: u8 = 17;
const TTL: u8 = 64;
const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS_OR_OFFSET: u16 = 0x3fff;

/// A UDP datagram to a server's port, out of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// The frame's source.
    pub source_mac: MacAddr,
    /// The packet's source.
    pub source: Ipv4Addr,
    /// The packet's destination.
    pub destination: Ipv4Addr,
    /// The UDP source port.
    pub source_port: u16,
    /// The message.
    pub payload: &'a [u8],
}

/// Where a reply goes and comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope {
    /// The frame's destination.
    pub destination_mac: MacAddr,
    /// The frame's source.
    pub source_mac: MacAddr,
    /// The packet's source.
    pub source: Ipv4Addr,
    /// The packet's destination.
    pub destination: Ipv4Addr,
    /// The UDP destination port.
    pub destination_port: u16,
}

/// Takes the datagram out of a frame that a guest sent, or says what is wrong with it.
pub fn parse(frame: &[u8], notes: FrameNotes) -> Result<Datagram<'_>, Silence> {
    if notes.truncated {
        return Err(Silence::TooLong);
    }
    if notes.vlan_tagged {
        return Err(Silence::VlanTagged);
    }
    let (ethernet, packet) = frame
        .split_first_chunk::<ETHERNET_LEN>()
        .ok_or(Silence::NotUdp)?;
    let [_, _, _, _, _, _, s0, s1, s2, s3, s4, s5, t0, t1] = *ethernet;
    let ethertype = u16::from_be_bytes([t0, t1]);
    if ETHERTYPES_VLAN.contains(&ethertype) {
        return Err(Silence::VlanTagged);
    }
    let (ipv4, _) = packet
        .split_first_chunk::<IPV4_LEN>()
        .ok_or(Silence::NotUdp)?;
    let [
        version,
        _,
        l0,
        l1,
        _,
        _,
        f0,
        f1,
        _,
        protocol,
        _,
        _,
        a0,
        a1,
        a2,
        a3,
        b0,
        b1,
        b2,
        b3,
    ] = *ipv4;
    if ethertype != ETHERTYPE_IPV4 || version >> 4 != 4 || protocol != PROTOCOL_UDP {
        return Err(Silence::NotUdp);
    }
    if version & 0x0f != 5 {
        return Err(Silence::HeaderLength);
    }
    if checksum(0, ipv4) != 0 {
        return Err(Silence::HeaderChecksum);
    }
    if u16::from_be_bytes([f0, f1]) & MORE_FRAGMENTS_OR_OFFSET != 0 {
        return Err(Silence::Fragment);
    }
    // Behind the packet there may be padding up to the shortest Ethernet frame.
    let total = usize::from(u16::from_be_bytes([l0, l1]));
    let datagram = packet.get(IPV4_LEN..total).ok_or(Silence::Length)?;
    let (udp, payload) = datagram
        .split_first_chunk::<UDP_LEN>()
        .ok_or(Silence::Length)?;
    let [p0, p1, q0, q1, u0, u1, c0, c1] = *udp;
    if usize::from(u16::from_be_bytes([u0, u1])) != datagram.len() {
        return Err(Silence::Length);
    }
    let source = Ipv4Addr::new(a0, a1, a2, a3);
    let destination = Ipv4Addr::new(b0, b1, b2, b3);
    let sent = u16::from_be_bytes([c0, c1]);
    // Zero means "none" (RFC 768). A partial one is of no meaning: the frame never left this host.
    if sent != 0
        && !notes.checksum_partial
        && checksum(pseudo_header(source, destination, datagram.len()), datagram) != 0
    {
        return Err(Silence::UdpChecksum);
    }
    let source_port = u16::from_be_bytes([p0, p1]);
    let destination_port = u16::from_be_bytes([q0, q1]);
    if destination_port != SERVER_PORT {
        return Err(Silence::Ports {
            source_port,
            destination_port,
        });
    }
    let source_mac = MacAddr([s0, s1, s2, s3, s4, s5]);
    Ok(Datagram {
        source_mac,
        source,
        destination,
        source_port,
        payload,
    })
}

/// Room for the headers at the front of an empty buffer; the message is appended behind it.
pub fn reserve_headers(frame: &mut Vec<u8>) {
    frame.clear();
    frame.resize(HEADERS_LEN, 0);
}

/// Fills in the headers of a frame whose message stands behind the room of [`reserve_headers`].
pub fn write_headers(frame: &mut [u8], envelope: &Envelope) {
    let Some((headers, message)) = frame.split_first_chunk_mut::<HEADERS_LEN>() else {
        return;
    };
    // A message has at most some 1500 bytes, so both lengths fit.
    let udp_len = (UDP_LEN + message.len()) as u16;
    let total = udp_len + IPV4_LEN as u16;
    let (ethernet, rest) = headers.split_at_mut(ETHERNET_LEN);
    let (ipv4, udp) = rest.split_at_mut(IPV4_LEN);

    put(
        ethernet,
        [
            &envelope.destination_mac.0,
            &envelope.source_mac.0,
            &ETHERTYPE_IPV4.to_be_bytes(),
        ],
    );
    put(
        ipv4,
        [
            &[0x45, 0],
            &total.to_be_bytes(),
            &[0, 0],
            &DONT_FRAGMENT.to_be_bytes(),
            &[TTL, PROTOCOL_UDP, 0, 0],
            &envelope.source.octets(),
            &envelope.destination.octets(),
        ],
    );
    let sum = checksum(0, ipv4);
    put(ipv4.get_mut(10..).unwrap_or_default(), [&sum.to_be_bytes()]);

    let (source_port, destination_port) = (SERVER_PORT, envelope.destination_port);
    put(
        udp,
        [
            &source_port.to_be_bytes(),
            &destination_port.to_be_bytes(),
            &udp_len.to_be_bytes(),
            &[0, 0],
        ],
    );
    let pseudo = pseudo_header(envelope.source, envelope.destination, usize::from(udp_len));
    let sum = !fold(add_words(add_words(pseudo, udp), message));
    // A sum of zero is sent as its other form, since zero means "none" (RFC 768).
    let sum = if sum == 0 { 0xffff } else { sum };
    put(udp.get_mut(6..).unwrap_or_default(), [&sum.to_be_bytes()]);
}

fn put<const N: usize>(mut room: &mut [u8], parts: [&[u8]; N]) {
    for part in parts {
        let Some((target, rest)) = room.split_at_mut_checked(part.len()) else {
            return;
        };
        target.copy_from_slice(part);
        room = rest;
    }
}

fn pseudo_header(source: Ipv4Addr, destination: Ipv4Addr, udp_len: usize) -> u32 {
    let sum = add_words(add_words(0, &source.octets()), &destination.octets());
    sum + u32::from(PROTOCOL_UDP) + udp_len as u32
}

/// The Internet checksum (RFC 1071) of bytes, on top of a sum so far.
fn checksum(start: u32, bytes: &[u8]) -> u16 {
    !fold(add_words(start, bytes))
}

/// Adds big-endian words; a frame is too short to overflow 32 bits.
fn add_words(start: u32, bytes: &[u8]) -> u32 {
    let (words, last) = bytes.as_chunks::<2>();
    let sum = words.iter().fold(start, |sum, word| {
        sum + u32::from(u16::from_be_bytes(*word))
    });
    sum + last.first().map_or(0, |byte| u32::from(*byte) << 8)
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

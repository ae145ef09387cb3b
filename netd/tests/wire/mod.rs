//! Frames as a client writes and reads them, written apart from the product's own code.
#![allow(
    unreachable_pub,
    dead_code,
    reason = "shared by test programs that each use a part of it"
)]

use std::net::Ipv4Addr;

use dhcproto::v4::{self, DhcpOption, OptionCode};
use dhcproto::{Decodable, Decoder};
use fvm_netd::MacAddr;

/// The VM's address in most tests.
pub const A: Ipv4Addr = Ipv4Addr::new(192, 168, 22, 42);
/// Another VM's.
pub const B: Ipv4Addr = Ipv4Addr::new(192, 168, 22, 43);
/// The server's.
pub const S: Ipv4Addr = Ipv4Addr::new(192, 168, 22, 1);
pub const ANY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
pub const ALL: Ipv4Addr = Ipv4Addr::BROADCAST;

pub const GUEST: MacAddr = MacAddr([0x02, 0x11, 0x22, 0x33, 0x00, 0x2a]);
pub const OTHER: MacAddr = MacAddr([0x02, 0x99, 0x99, 0x99, 0x00, 0x01]);
pub const BRIDGE: MacAddr = MacAddr([0x02, 0x11, 0x22, 0x33, 0x00, 0x00]);
pub const XID: u32 = 0xdead_0042;

pub const DISCOVER: u8 = 1;
pub const OFFER: u8 = 2;
pub const REQUEST: u8 = 3;
pub const DECLINE: u8 = 4;
pub const ACK: u8 = 5;
pub const NAK: u8 = 6;
pub const RELEASE: u8 = 7;
pub const INFORM: u8 = 8;

/// A client's frame, every field of which can be set wrong.
#[derive(Clone)]
pub struct Ask {
    pub eth_src: MacAddr,
    pub eth_dst: MacAddr,
    pub ip_src: Ipv4Addr,
    pub ip_dst: Ipv4Addr,
    pub ports: (u16, u16),
    pub op: u8,
    pub htype: u8,
    pub hlen: u8,
    pub xid: u32,
    pub flags: u16,
    pub ciaddr: Ipv4Addr,
    pub giaddr: Ipv4Addr,
    pub chaddr: MacAddr,
    pub sname: Vec<u8>,
    pub file: Vec<u8>,
    pub cookie: [u8; 4],
    /// Everything behind the cookie but END.
    pub options: Vec<u8>,
    pub end: bool,
    /// Padding of the message, in bytes.
    pub pad_to: usize,
}

impl Ask {
    /// A message of this type with no other option, by broadcast.
    pub fn new(message_type: u8) -> Self {
        Ask {
            eth_src: GUEST,
            eth_dst: MacAddr::BROADCAST,
            ip_src: ANY,
            ip_dst: ALL,
            ports: (68, 67),
            op: 1,
            htype: 1,
            hlen: 6,
            xid: XID,
            flags: 0,
            ciaddr: ANY,
            giaddr: ANY,
            chaddr: GUEST,
            sname: Vec::new(),
            file: Vec::new(),
            cookie: [99, 130, 83, 99],
            options: vec![53, 1, message_type],
            end: true,
            pad_to: 300,
        }
    }

    /// A client that has the address asks its server for more time (RENEWING).
    pub fn renew(address: Ipv4Addr) -> Self {
        Ask {
            eth_dst: BRIDGE,
            ip_src: address,
            ip_dst: S,
            ciaddr: address,
            ..Ask::new(REQUEST)
        }
    }

    /// The same, asking anyone (REBINDING).
    pub fn rebind(address: Ipv4Addr) -> Self {
        Ask {
            ip_src: address,
            ciaddr: address,
            ..Ask::new(REQUEST)
        }
    }

    pub fn option(mut self, code: u8, value: &[u8]) -> Self {
        self.options.push(code);
        self.options
            .push(u8::try_from(value.len()).expect("one option's value"));
        self.options.extend(value);
        self
    }

    /// Asks for an address (option 50).
    pub fn asking(self, address: Ipv4Addr) -> Self {
        self.option(50, &address.octets())
    }

    /// Names a server (option 54).
    pub fn naming(self, server: Ipv4Addr) -> Self {
        self.option(54, &server.octets())
    }

    /// Asks for these options (option 55).
    pub fn wanting(self, codes: &[u8]) -> Self {
        self.option(55, codes)
    }

    pub fn with_mac(mut self, mac: MacAddr) -> Self {
        self.eth_src = mac;
        self.chaddr = mac;
        self
    }

    /// The DHCP message alone.
    pub fn message(&self) -> Vec<u8> {
        let mut bytes = vec![self.op, self.htype, self.hlen, 0];
        bytes.extend(self.xid.to_be_bytes());
        bytes.extend([0, 3]);
        bytes.extend(self.flags.to_be_bytes());
        for address in [self.ciaddr, ANY, ANY, self.giaddr] {
            bytes.extend(address.octets());
        }
        bytes.extend(self.chaddr.0);
        bytes.resize(44, 0);
        bytes.extend(&self.sname);
        bytes.resize(44 + 64, 0);
        bytes.extend(&self.file);
        bytes.resize(44 + 64 + 128, 0);
        bytes.extend(self.cookie);
        bytes.extend(&self.options);
        if self.end {
            bytes.push(255);
        }
        if bytes.len() < self.pad_to {
            bytes.resize(self.pad_to, 0);
        }
        bytes
    }

    /// The whole frame, with true lengths and checksums.
    pub fn frame(&self) -> Vec<u8> {
        udp_frame(
            self.eth_src,
            self.eth_dst,
            self.ip_src,
            self.ip_dst,
            self.ports,
            &self.message(),
        )
    }
}

/// A UDP datagram in a frame, with true lengths and checksums.
pub fn udp_frame(
    eth_src: MacAddr,
    eth_dst: MacAddr,
    ip_src: Ipv4Addr,
    ip_dst: Ipv4Addr,
    ports: (u16, u16),
    payload: &[u8],
) -> Vec<u8> {
    let udp_len = u16::try_from(payload.len() + 8).expect("a datagram's length");
    let mut udp = Vec::new();
    udp.extend(ports.0.to_be_bytes());
    udp.extend(ports.1.to_be_bytes());
    udp.extend(udp_len.to_be_bytes());
    udp.extend([0, 0]);
    udp.extend(payload);
    let mut pseudo = Vec::new();
    pseudo.extend(ip_src.octets());
    pseudo.extend(ip_dst.octets());
    pseudo.extend([0, 17]);
    pseudo.extend(udp_len.to_be_bytes());
    pseudo.extend(&udp);
    let sum = internet_sum(&pseudo);
    udp[6..8].copy_from_slice(&sum.to_be_bytes());

    let mut ip = vec![0x45, 0];
    ip.extend((udp_len + 20).to_be_bytes());
    ip.extend([0, 7, 0, 0, 64, 17, 0, 0]);
    ip.extend(ip_src.octets());
    ip.extend(ip_dst.octets());
    let sum = internet_sum(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());

    let mut frame = Vec::new();
    frame.extend(eth_dst.0);
    frame.extend(eth_src.0);
    frame.extend([0x08, 0x00]);
    frame.extend(ip);
    frame.extend(udp);
    frame
}

/// A broadcast ARP request of this sender for this address (RFC 826), padded to a whole frame.
pub fn arp_request(sender: MacAddr, from: Ipv4Addr, wanted: Ipv4Addr) -> Vec<u8> {
    let mut frame = [MacAddr::BROADCAST.0, sender.0].concat();
    frame.extend([0x08, 0x06, 0, 1, 0x08, 0x00, 6, 4, 0, 1]);
    frame.extend(sender.0);
    frame.extend(from.octets());
    frame.extend([0; 6]);
    frame.extend(wanted.octets());
    frame.resize(60, 0);
    frame
}

/// The Internet checksum in its plainest form (RFC 1071, section 4.1).
pub fn internet_sum(bytes: &[u8]) -> u16 {
    let mut sum = 0_u64;
    for pair in bytes.chunks(2) {
        sum += u64::from(pair[0]) * 256 + u64::from(pair.get(1).copied().unwrap_or(0));
    }
    while sum > 0xffff {
        sum = sum % 0x1_0000 + sum / 0x1_0000;
    }
    !u16::try_from(sum).expect("folded")
}

/// A reply as a client takes it apart: by its own eyes, and by another implementation's decoder.
#[derive(Debug)]
pub struct Reply {
    pub eth_src: MacAddr,
    pub eth_dst: MacAddr,
    pub ip_src: Ipv4Addr,
    pub ip_dst: Ipv4Addr,
    pub ports: (u16, u16),
    pub message: Vec<u8>,
    pub decoded: v4::Message,
}

impl Reply {
    /// Takes a frame apart; panics at anything a strict client would not take.
    pub fn parse(frame: &[u8]) -> Reply {
        let address = |at: usize| Ipv4Addr::from(<[u8; 4]>::try_from(&frame[at..at + 4]).unwrap());
        let number = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
        let mac = |at: usize| MacAddr(frame[at..at + 6].try_into().unwrap());
        assert_eq!(number(12), 0x0800, "EtherType");
        assert_eq!(frame[14], 0x45, "IPv4 without options");
        assert_eq!(usize::from(number(16)) + 14, frame.len(), "IPv4 length");
        assert_eq!(internet_sum(&frame[14..34]), 0, "IPv4 header checksum");
        assert_eq!(frame[23], 17, "UDP");
        assert_eq!(usize::from(number(38)) + 34, frame.len(), "UDP length");
        assert_ne!(number(40), 0, "a full checksum");
        let mut pseudo = frame[26..34].to_vec();
        pseudo.extend([0, 17]);
        pseudo.extend(&frame[38..40]);
        pseudo.extend(&frame[34..]);
        assert_eq!(internet_sum(&pseudo), 0, "UDP checksum");
        let message = frame[42..].to_vec();
        assert!(message.len() >= 300, "BOOTP's shortest message");
        let decoded = v4::Message::decode(&mut Decoder::new(&message)).expect("decodes");
        assert_eq!(message[0], 2, "op");
        assert_eq!(&message[236..240], [99, 130, 83, 99], "cookie");
        Reply {
            eth_src: mac(6),
            eth_dst: mac(0),
            ip_src: address(26),
            ip_dst: address(30),
            ports: (number(34), number(36)),
            message,
            decoded,
        }
    }

    /// Codes and values as they stand, parts of long options apart.
    pub fn raw_options(&self) -> Vec<(u8, Vec<u8>)> {
        let mut found = Vec::new();
        let mut at = 240;
        loop {
            match self.message[at] {
                255 => break,
                0 => at += 1,
                code => {
                    let end = at + 2 + usize::from(self.message[at + 1]);
                    found.push((code, self.message[at + 2..end].to_vec()));
                    at = end;
                }
            }
        }
        assert!(
            self.message[at + 1..].iter().all(|byte| *byte == 0),
            "only padding behind END"
        );
        found
    }

    pub fn codes(&self) -> Vec<u8> {
        self.raw_options().iter().map(|(code, _)| *code).collect()
    }

    /// The value of an option, its parts joined.
    pub fn value(&self, code: u8) -> Option<Vec<u8>> {
        let parts: Vec<_> = self
            .raw_options()
            .into_iter()
            .filter(|(found, _)| *found == code)
            .collect();
        (!parts.is_empty()).then(|| parts.into_iter().flat_map(|(_, value)| value).collect())
    }

    pub fn kind(&self) -> u8 {
        let value = self.value(53).expect("a message type");
        assert_eq!(value.len(), 1);
        value[0]
    }

    pub fn seconds(&self, code: u8) -> Option<u32> {
        self.value(code)
            .map(|value| u32::from_be_bytes(value.try_into().unwrap()))
    }

    pub fn decoded_option(&self, code: OptionCode) -> Option<&DhcpOption> {
        self.decoded.opts().get(code)
    }
}

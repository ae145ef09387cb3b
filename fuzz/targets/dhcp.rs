//! DHCP: whatever a guest sends, the answer is about the address of its port or there is none.

#![no_main]
#![allow(missing_docs)]

use fvm_netd::{
    MacAddr, Subnet,
    dhcp::{Binding, FrameNotes, Outcome, respond},
};
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

const GUEST: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 42]);
const HOST: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 1]);
/// Ethernet, IPv4 and UDP.
const HEADERS: usize = 14 + 20 + 8;

static BINDING: LazyLock<Binding> = LazyLock::new(|| {
    let subnet: Subnet = "192.168.22.0/24".parse().expect("a subnet");
    let host = |number| subnet.host(number).expect("in the subnet");
    let mut binding = Binding::new(42, GUEST, host(42), subnet, host(1), HOST);
    binding.relay = true;
    binding.rapid_commit = true;
    binding.dns_servers = vec![host(1)];
    binding.host_name = "vm42".parse().ok();
    binding.domain_name = "fvm.internal".parse().ok();
    binding.search_domains = binding.domain_name.iter().cloned().collect();
    binding
});

/// A client's message as the guest's kernel would send it, without a checksum of UDP's.
fn frame(message: &[u8]) -> Vec<u8> {
    let udp_len = u16::try_from(8 + message.len()).unwrap_or(u16::MAX);
    let mut ip = [
        &[0x45, 0][..],
        &(20 + udp_len).to_be_bytes(),
        &[0, 0, 0, 0, 64, 17, 0, 0],
        &[0, 0, 0, 0, 255, 255, 255, 255],
    ]
    .concat();
    let words = ip
        .chunks(2)
        .map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    ip[10..12].copy_from_slice(&(!(folded as u16)).to_be_bytes());
    [
        &[0xff; 6][..],
        &GUEST.0,
        &[8, 0],
        &ip,
        &[0, 68, 0, 67],
        &udp_len.to_be_bytes(),
        &[0, 0],
        message,
    ]
    .concat()
}

fuzz_target!(|bytes: &[u8]| {
    let mut reply = Vec::new();
    for (frame, is_whole) in [(frame(bytes), true), (bytes.to_vec(), false)] {
        let exchange = respond(&frame, FrameNotes::default(), Some(&BINDING), &mut reply);
        let answered = matches!(exchange.outcome, Outcome::Answered { .. });
        assert_eq!(answered, !reply.is_empty(), "it says otherwise");
        if answered {
            let yours = reply
                .get(HEADERS + 16..HEADERS + 20)
                .expect("a whole reply");
            assert!(
                yours == [0; 4] || yours == BINDING.address.octets(),
                "somebody else's address: {yours:?}, {is_whole}"
            );
        }
    }
});

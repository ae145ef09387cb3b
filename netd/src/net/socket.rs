//! The socket by which `fvm-netd` hears one port and answers on it.
//!
//! A packet socket bound to the tap itself knows which guest spoke, which no socket above the bridge
//! can. It must ask for every protocol: a port's frames are taken over by the bridge before
//! handlers of single protocols see them. The filter in the kernel keeps everything but DHCP
//! requests away, and is locked, so that whoever gets the descriptor hears no more than that.

use std::os::fd::{AsFd, OwnedFd};

use libc::sock_filter;

use super::Error;
use super::link::Links;
use crate::sys;

/// A packet socket for the DHCP requests that come in by this port, ready to be handed on.
pub fn dhcp_socket(port: &str) -> Result<OwnedFd, Error> {
    let link = Links::open()?.require(port)?;
    let failed = |action| {
        let port = port.to_owned();
        move |source| Error::PacketSocket {
            action,
            port,
            source,
        }
    };
    let socket = sys::packet_socket().map_err(failed("open a packet socket"))?;
    // The filter comes before the bind, so that nothing else is ever queued.
    sys::attach_and_lock_filter(socket.as_fd(), &DHCP_REQUESTS)
        .map_err(failed("attach the packet filter"))?;
    sys::packet_enable(socket.as_fd(), libc::PACKET_IGNORE_OUTGOING)
        .map_err(failed("ignore our own frames"))?;
    sys::packet_enable(socket.as_fd(), libc::PACKET_AUXDATA)
        .map_err(failed("ask for checksum states"))?;
    sys::packet_bind(socket.as_fd(), link.index).map_err(failed("bind a packet socket"))?;
    Ok(socket)
}

const fn op(code: u32, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    }
}

/// IPv4, UDP, not a later fragment, destination port 67 (RFC 894, 791, 768, 2131).
#[rustfmt::skip]
static DHCP_REQUESTS: [sock_filter; 11] = {
    use libc::{BPF_ABS, BPF_B, BPF_H, BPF_IND, BPF_JEQ, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_LDX,
               BPF_MSH, BPF_RET};
    [
        op(BPF_LD | BPF_H | BPF_ABS, 0, 0, 12),             // EtherType
        op(BPF_JMP | BPF_JEQ | BPF_K, 0, 8, 0x0800),        // IPv4
        op(BPF_LD | BPF_B | BPF_ABS, 0, 0, 23),             // protocol
        op(BPF_JMP | BPF_JEQ | BPF_K, 0, 6, 17),            // UDP
        op(BPF_LD | BPF_H | BPF_ABS, 0, 0, 20),             // flags and fragment offset
        op(BPF_JMP | BPF_JSET | BPF_K, 4, 0, 0x1fff),       // no offset
        op(BPF_LDX | BPF_B | BPF_MSH, 0, 0, 14),            // length of the IP header
        op(BPF_LD | BPF_H | BPF_IND, 0, 0, 16),             // destination port
        op(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 67),
        op(BPF_RET | BPF_K, 0, 0, 0x4_0000),                // the whole frame
        op(BPF_RET | BPF_K, 0, 0, 0),
    ]
};

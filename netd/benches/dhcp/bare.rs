//! The ceiling: the least that a server on such ports can do. It checks nothing and knows nothing; it turns a request round
//! in its buffer and sends it back.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use fvm_netd::net;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{MsgFlags, recv, send};

use crate::lab::Lab;
use crate::wire::{ACK, DISCOVER, OFFER, internet_sum};
use crate::world::{FIRST, pin_server};

/// A thread that answers, until it is told to end.
pub(crate) struct Responder {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Responder {
    pub(crate) fn end(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Answers on all taps of the calling thread's namespace.
pub(crate) fn serve(lab: &Lab, taps: u32) -> Responder {
    let ports: Vec<(OwnedFd, [u8; 4])> = (FIRST..FIRST + taps)
        .map(|vm| {
            (
                net::dhcp_socket(&format!("fvm{vm}")).unwrap(),
                lab.address(vm).octets(),
            )
        })
        .collect();
    let gateway = lab.network.gateway.octets();
    let over = Arc::new(AtomicBool::new(false));
    let until = Arc::clone(&over);
    let thread = std::thread::spawn(move || {
        pin_server();
        answer(&ports, gateway, &until);
    });
    Responder {
        over,
        thread: Some(thread),
    }
}

fn answer(ports: &[(OwnedFd, [u8; 4])], gateway: [u8; 4], over: &AtomicBool) {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
    for (index, (socket, _)) in ports.iter().enumerate() {
        epoll
            .add(
                socket.as_fd(),
                EpollEvent::new(EpollFlags::EPOLLIN, index as u64),
            )
            .unwrap();
    }
    let mut events = [EpollEvent::empty(); 64];
    let mut frame = [0; 2048];
    while !over.load(Ordering::Relaxed) {
        let ready = epoll.wait(&mut events, EpollTimeout::from(50_u8)).unwrap();
        for event in events.iter().take(ready) {
            let (socket, address) = &ports[event.data() as usize];
            while let Ok(len) = recv(socket.as_raw_fd(), &mut frame, MsgFlags::MSG_DONTWAIT) {
                if len > 285 {
                    let len = turn_round(&mut frame, *address, gateway);
                    let _ = send(socket.as_raw_fd(), &frame[..len], MsgFlags::MSG_DONTWAIT);
                }
            }
        }
    }
}

/// Makes the reply of a request, and says how long it is.
fn turn_round(frame: &mut [u8], address: [u8; 4], gateway: [u8; 4]) -> usize {
    const LEN: usize = 42 + 300;
    const OPTIONS: usize = 42 + 240;
    let kind = if frame[OPTIONS + 2] == DISCOVER {
        OFFER
    } else {
        ACK
    };
    let client: [u8; 6] = frame[6..12].try_into().unwrap_or_default();
    frame[..6].copy_from_slice(&client);
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
    frame[14..24].copy_from_slice(&[0x45, 0, 1, 72, 0, 0, 0x40, 0, 64, 17]);
    frame[24..26].copy_from_slice(&[0, 0]);
    frame[26..30].copy_from_slice(&gateway);
    frame[30..34].copy_from_slice(&address);
    let sum = internet_sum(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    // Ports, length, no checksum.
    frame[34..42].copy_from_slice(&[0, 67, 0, 68, 1, 52, 0, 0]);
    frame[42] = 2;
    frame[42 + 16..42 + 20].copy_from_slice(&address);
    let options = [
        53, 1, kind, 54, 4, gateway[0], gateway[1], gateway[2], gateway[3], 51, 4, 0, 0, 14, 16,
        255,
    ];
    frame[OPTIONS..LEN].fill(0);
    frame[OPTIONS..OPTIONS + options.len()].copy_from_slice(&options);
    LEN
}

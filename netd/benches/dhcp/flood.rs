//! What a guest that floods its port costs the others.

use std::fs;
use std::os::fd::OwnedFd;
use std::process::Child;
use std::time::{Duration, Instant};

use fvm_netd::names::Nic;
use fvm_netd::net::{self, TapOptions};

use crate::lab::Lab;
use crate::load::{Clients, Load, Round};
use crate::median;
use crate::wire::{Ask, DISCOVER, udp_frame};
use crate::world::{FIRST, serve_by_fvm};

/// How many guests are well-behaved.
const GUESTS: u32 = 40;
/// Leases a second of all of them together: well within the limit of each.
const OFFERED: u32 = 500;
/// What fvm-netd reads of one guest, as always.
const LIMIT: u32 = 100;
/// How many packets the other guest sends in a turn, evenly.
const HOSTILE: usize = 100_000;
const ROUNDS: usize = 7;

pub(crate) fn run(turn: Duration) {
    let (quiet, loud, before, after) = std::thread::spawn(move || measure(turn))
        .join()
        .expect("a flood");
    println!(
        "\n{OFFERED} leases/s of {GUESTS} guests, while another sends {HOSTILE} hostile packets in each turn"
    );
    println!("p99 when quiet, µs:   {:.0}", quiet.p99_us);
    println!(
        "p99 in the flood, µs: {:.0} ({:.2} times), {} lost",
        loud.p99_us,
        loud.p99_us / quiet.p99_us,
        loud.lost
    );
    println!("memory of fvm-netd:   {before} KiB before, {after} KiB after");
}

/// The memory that a process has, in KiB.
fn memory_kib(child: &Child) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn measure(turn: Duration) -> (Round, Round, u64, u64) {
    let lab = Lab::new("the flood", &[]).expect("root");
    let mut ends = Vec::new();
    for vm in FIRST..=FIRST + GUESTS {
        let options = TapOptions {
            mtu: Some(lab.network.mtu),
            ..TapOptions::default()
        };
        let mut tap =
            net::create_tap(Nic::new(vm, 0).unwrap(), &lab.network.bridge, options).unwrap();
        net::admit(&[lab.admission(vm)]).unwrap();
        ends.append(&mut tap.fds);
    }
    let mut netd = serve_by_fvm(&lab, GUESTS + 1, LIMIT);
    let hostile = ends.pop().expect("the last one");
    let who: Vec<_> = (0..GUESTS)
        .map(|tap| (tap as usize, lab.mac(FIRST + tap), lab.address(FIRST + tap)))
        .collect();
    let mut clients = Clients::new(ends, &who, lab.network.gateway);
    let load = Load::Offered {
        per_second: OFFERED,
    };
    clients.run(load, turn);
    let (mut quiet, mut loud) = (Vec::new(), Vec::new());
    let before = memory_kib(&netd);
    for _ in 0..ROUNDS {
        quiet.push(clients.run(load, turn));
        std::thread::scope(|scope| {
            scope.spawn(|| flood(&hostile, turn));
            loud.push(clients.run(load, turn));
        });
    }
    let after = memory_kib(&netd);
    netd.kill().unwrap();
    netd.wait().unwrap();
    (middle(&quiet), middle(&loud), before, after)
}

/// Sends all of it within one turn.
fn flood(tap: &OwnedFd, turn: Duration) {
    let frames: Vec<_> = (0..HOSTILE).map(hostile_frame).collect();
    let start = Instant::now();
    for (number, frame) in frames.iter().enumerate() {
        nix::unistd::write(tap, frame).unwrap();
        if number % 100 == 99 {
            let due = turn.mul_f64(number as f64 / HOSTILE as f64);
            std::thread::sleep(due.saturating_sub(start.elapsed()));
        }
    }
}

/// Of several turns the middle of each number, and all that was lost.
fn middle(rounds: &[Round]) -> Round {
    let of = |what: fn(&Round) -> f64| median(rounds.iter().map(what).collect());
    Round {
        per_second: of(|round| round.per_second),
        median_us: of(|round| round.median_us),
        p99_us: of(|round| round.p99_us),
        lost: rounds.iter().map(|round| round.lost).sum(),
    }
}

/// One of several kinds of what no client sends.
fn hostile_frame(number: usize) -> Vec<u8> {
    let ask = Ask {
        xid: number as u32,
        ..Ask::new(DISCOVER)
    };
    let frame = match number % 4 {
        // A good request, but far too often.
        0 => ask.frame(),
        // An option that is longer than the message.
        1 => ask.option(12, &[b'x'; 255]).frame()[..300].to_vec(),
        // No cookie.
        2 => Ask {
            cookie: [0; 4],
            ..ask
        }
        .frame(),
        // Nothing but the port is right.
        _ => udp_frame(
            ask.eth_src,
            ask.eth_dst,
            ask.ip_src,
            ask.ip_dst,
            ask.ports,
            &[number as u8; 64],
        ),
    };
    [&[0; 10], &frame[..]].concat()
}

//! How many leases a second, and how soon: `fvm-netd` beside other DHCP servers on the same machine.
//!
//! `make bench-dhcp`, as root. Every server that is installed (dnsmasq, Kea, ISC dhcpd) and the least that a server can be
//! (`bare.rs`: the ceiling) has a network namespace of its own with the same taps, and serves the same clients, pinned to one
//! processor while the clients have another. They take turns in short rounds, and the median of each one's rounds counts, so
//! that what else the machine does strikes all alike. Only the ratios mean anything elsewhere.
//!
//! `fvm-netd` runs as always: without rights, with its firewall, with all checks; only its limit for each guest is lifted, since
//! it is that limit that would be measured. A second part measures what a flood on one port does to the others, with the limit.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for people who measure: it prints, and what fails ends it"
)]

#[path = "../../tests/host/lab.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with tests")]
mod lab;
#[path = "../../tests/wire/mod.rs"]
mod wire;

mod bare;
mod flood;
mod load;
mod peers;
mod world;

use std::time::Duration;

use clap::Parser;
use load::{Load, Round};
use world::{Server, World};

/// So many requests are under way at a time when nothing but the server sets the pace.
const OUTSTANDING: usize = 8;

#[derive(Parser)]
#[command(about = "fvm-netd beside other DHCP servers")]
struct Options {
    /// How many taps the clients are spread over
    #[arg(long, value_delimiter = ',', default_values_t = [1, 50, 200])]
    taps: Vec<u32>,
    /// How often each server has its turn
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long a turn is, in milliseconds
    #[arg(long, default_value_t = 1000)]
    turn_ms: u64,
    /// Leases a second that are asked for when the clients set the pace
    #[arg(long, default_value_t = 2000)]
    offered: u32,
    /// Only these servers
    #[arg(long, value_delimiter = ',')]
    servers: Vec<String>,
    /// `cargo bench` says this; it changes nothing
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let options = Options::parse();
    if !lab::can_run("the bench", &[]) {
        std::process::exit(1);
    }
    let wanted = |server: &Server| {
        options.servers.is_empty() || options.servers.iter().any(|name| name == server.name())
    };
    let servers: Vec<Server> = Server::ALL.into_iter().filter(wanted).collect();
    let (servers, missing): (Vec<_>, Vec<_>) = servers.into_iter().partition(Server::is_installed);
    for server in missing {
        println!(
            "{} is not installed, and left out (package {})",
            server.name(),
            server.package()
        );
    }
    let turn = Duration::from_millis(options.turn_ms);
    for &taps in &options.taps {
        let pace = [
            Load::Closed {
                outstanding: OUTSTANDING,
            },
            Load::Offered {
                per_second: options.offered,
            },
        ];
        let mut worlds: Vec<World> = servers
            .iter()
            .map(|&server| World::new(server, taps))
            .collect();
        for load in pace {
            let mut results = vec![Vec::new(); worlds.len()];
            // The first round finds everything cold.
            for round in 0..=options.rounds {
                for (world, results) in worlds.iter_mut().zip(&mut results) {
                    let result = world.run(load, turn);
                    if round > 0 {
                        results.push(result);
                    }
                }
            }
            print(taps, load, &servers, &results);
        }
    }
    if wanted(&Server::Fvm) {
        flood::run(turn);
    }
}

/// The middle one of some numbers.
fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(f64::NAN)
}

fn print(taps: u32, load: Load, servers: &[Server], results: &[Vec<Round>]) {
    let of = |rounds: &[Round], what: fn(&Round) -> f64| median(rounds.iter().map(what).collect());
    println!("\n{load}, {taps} tap{}", if taps == 1 { "" } else { "s" });
    println!(
        "{:<22}{:>10}{:>12}{:>12}{:>8}",
        "", "leases/s", "median µs", "p99 µs", "lost"
    );
    let mut rates = Vec::new();
    for (server, rounds) in servers.iter().zip(results) {
        let rate = of(rounds, |round| round.per_second);
        let lost: u64 = rounds.iter().map(|round| round.lost).sum();
        println!(
            "{:<22}{rate:>10.0}{:>12.0}{:>12.0}{lost:>8}",
            server.name(),
            of(rounds, |round| round.median_us),
            of(rounds, |round| round.p99_us),
        );
        rates.push((*server, rate));
    }
    let rate_of = |wanted: Server| {
        rates
            .iter()
            .find(|(server, _)| *server == wanted)
            .map(|(_, rate)| *rate)
    };
    let best_peer = rates
        .iter()
        .filter(|(server, _)| server.is_peer())
        .map(|(_, rate)| *rate)
        .reduce(f64::max);
    if let (Load::Closed { .. }, Some(own)) = (load, rate_of(Server::Fvm)) {
        if let Some(best) = best_peer {
            println!("fvm-netd / best peer: {:.2}", own / best);
        }
        if let Some(ceiling) = rate_of(Server::Bare) {
            println!("fvm-netd / ceiling:   {:.2}", own / ceiling);
        }
    }
}

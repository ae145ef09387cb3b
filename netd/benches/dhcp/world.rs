//! One server, and everything around it: a namespace, a bridge, taps, clients.

use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fvm_netd::MacAddr;
use fvm_netd::control::{Client, PortBinding};
use fvm_netd::names::Nic;
use fvm_netd::net::{self, TapOptions};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::lab::{Lab, ip};
use crate::load::{Clients, Load, Round};
use crate::{OUTSTANDING, bare, peers};

/// The first VM's number; the others follow.
pub(crate) const FIRST: u32 = 20;

/// Who serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    Fvm,
    Dnsmasq,
    Kea,
    KeaMemory,
    Dhcpd,
    Bare,
}

impl Server {
    pub(crate) const ALL: [Server; 6] = [
        Server::Fvm,
        Server::Dnsmasq,
        Server::Kea,
        Server::KeaMemory,
        Server::Dhcpd,
        Server::Bare,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Server::Fvm => "fvm-netd",
            Server::Dnsmasq => "dnsmasq",
            Server::Kea => "kea",
            Server::KeaMemory => "kea-memory",
            Server::Dhcpd => "dhcpd",
            Server::Bare => "ceiling",
        }
    }

    pub(crate) const fn package(self) -> &'static str {
        match self {
            Server::Dnsmasq => "dnsmasq-base",
            Server::Kea | Server::KeaMemory => "kea-dhcp4-server",
            Server::Dhcpd => "isc-dhcp-server",
            Server::Fvm | Server::Bare => "fvm",
        }
    }

    pub(crate) fn is_peer(self) -> bool {
        !matches!(self, Server::Fvm | Server::Bare)
    }

    pub(crate) fn is_installed(&self) -> bool {
        peers::program(*self).is_none_or(|program| Path::new(program).exists())
    }
}

/// Processors for servers and for clients: two different ones, if there are two.
fn processors() -> Option<(usize, usize)> {
    let all = sched_getaffinity(Pid::from_raw(0)).unwrap();
    let mut free = (0..CpuSet::count()).filter(|&cpu| all.is_set(cpu).unwrap_or(false));
    Some((free.next()?, free.next()?))
}

/// Keeps the calling thread to the clients' processor.
pub(crate) fn pin_clients() {
    if let Some((_, cpu)) = processors() {
        let mut set = CpuSet::new();
        set.set(cpu).unwrap();
        sched_setaffinity(Pid::from_raw(0), &set).unwrap();
    }
}

/// Keeps the calling thread to the servers' processor.
pub(crate) fn pin_server() {
    if let Some((cpu, _)) = processors() {
        let mut set = CpuSet::new();
        set.set(cpu).unwrap();
        sched_setaffinity(Pid::from_raw(0), &set).unwrap();
    }
}

/// A command that runs on the servers' processor.
pub(crate) fn on_server_cpu(program: &str) -> Command {
    match processors() {
        Some((cpu, _)) => {
            let mut command = Command::new("taskset");
            command.args(["--cpu-list", &cpu.to_string(), program]);
            command
        }
        None => Command::new(program),
    }
}

/// What serves, and ends with it.
enum Running {
    Process(Child),
    Thread(bare::Responder),
}

/// A server and its clients.
pub(crate) struct World {
    // In this order they end: clients first.
    clients: Clients,
    _running: RunningServer,
    _lab: Lab,
}

struct RunningServer(Running);

impl Drop for RunningServer {
    fn drop(&mut self) {
        match &mut self.0 {
            Running::Process(child) => {
                let _ = child.kill();
                let _ = child.wait();
            }
            Running::Thread(responder) => responder.end(),
        }
    }
}

impl World {
    /// Makes all of it, and waits until the server answers. Namespaces belong to threads, hence one for the making.
    pub(crate) fn new(server: Server, taps: u32) -> World {
        let made: JoinHandle<World> = std::thread::spawn(move || World::make(server, taps));
        let mut world = made.join().expect("a world");
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let round = world.run(Load::Closed { outstanding: 1 }, Duration::from_millis(50));
            if round.per_second > 0.0 {
                return world;
            }
            assert!(
                Instant::now() < deadline,
                "{} does not answer",
                server.name()
            );
        }
    }

    fn make(server: Server, taps: u32) -> World {
        let lab = Lab::bare("the bench", &[]).expect("root");
        let has_own_network = matches!(server, Server::Fvm | Server::Bare);
        let bridge = lab.network.bridge.clone();
        if has_own_network {
            net::ensure_network(&lab.network).unwrap();
        } else {
            // As libvirt would make it, but that the guests do not hear each other, as in fvm's.
            ip(&["link", "set", "lo", "up"]);
            ip(&[
                "link",
                "add",
                &bridge,
                "type",
                "bridge",
                "forward_delay",
                "0",
            ]);
            ip(&["address", "add", "192.168.22.1/24", "dev", &bridge]);
            ip(&["link", "set", &bridge, "up"]);
        }
        let mut ends: Vec<OwnedFd> = Vec::new();
        for vm in FIRST..FIRST + taps {
            let options = TapOptions {
                mtu: Some(lab.network.mtu),
                ..TapOptions::default()
            };
            let mut tap = net::create_tap(Nic::new(vm, 0).unwrap(), &bridge, options).unwrap();
            if has_own_network {
                net::admit(&[lab.admission(vm)]).unwrap();
            } else {
                ip(&[
                    "link",
                    "set",
                    &tap.name,
                    "type",
                    "bridge_slave",
                    "isolated",
                    "on",
                ]);
            }
            ends.append(&mut tap.fds);
        }
        // One client on each tap, or as many as are ever under way.
        let each = if taps == 1 { OUTSTANDING as u32 } else { 1 };
        let mut who = Vec::new();
        for tap in 0..taps {
            for client in 0..each {
                let mac = match has_own_network {
                    true if each == 1 => lab.mac(FIRST + tap),
                    _ => MacAddr([0x02, 0xbe, 0, 0, tap as u8, client as u8]),
                };
                // By port all clients of one tap have one address; elsewhere each has its own.
                let number = if has_own_network {
                    tap
                } else {
                    tap * each + client
                };
                who.push((tap as usize, mac, lab.address(FIRST + number)));
            }
        }
        let running = match server {
            Server::Fvm => Running::Process(serve_by_fvm(&lab, taps, 0)),
            Server::Bare => Running::Thread(bare::serve(&lab, taps)),
            _ => {
                let reserved: Vec<(MacAddr, Ipv4Addr)> = who
                    .iter()
                    .map(|&(_, mac, address)| (mac, address))
                    .collect();
                Running::Process(peers::serve(server, &lab, &reserved))
            }
        };
        World {
            clients: Clients::new(ends, &who, lab.network.gateway),
            _running: RunningServer(running),
            _lab: lab,
        }
    }

    /// One turn.
    pub(crate) fn run(&mut self, load: Load, turn: Duration) -> Round {
        std::thread::scope(|scope| {
            let clients = &mut self.clients;
            let thread = scope.spawn(move || {
                pin_clients();
                clients.run(load, turn)
            });
            thread.join().unwrap()
        })
    }
}

/// The real `fvm-netd` with a port for each tap, and this limit of frames a second for each of them.
pub(crate) fn serve_by_fvm(lab: &Lab, taps: u32, rate: u32) -> Child {
    let socket = lab.dir.path().join("netd.sock");
    let child = on_server_cpu("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg(env!("CARGO_BIN_EXE_fvm-netd"))
        .args(["--rate", &rate.to_string(), "--listen"])
        .arg(&socket)
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let mut client = crate::lab::wait_for("fvm-netd to listen", || {
        Client::connect(&socket, crate::lab::SOON).ok()
    });
    for vm in FIRST..FIRST + taps {
        let port = format!("fvm{vm}");
        let socket = net::dhcp_socket(&port).unwrap();
        client
            .bind(PortBinding {
                port: &port,
                binding: &lab.binding(vm),
                socket: socket.as_fd(),
            })
            .unwrap();
    }
    child
}

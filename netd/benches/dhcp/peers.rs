//! Other people's servers, each told to give reserved addresses on the bridge, at once and without a probe.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::process::{Child, Stdio};

use fvm_netd::MacAddr;

use crate::lab::Lab;
use crate::world::{Server, on_server_cpu};

/// Where Debian has it.
pub(crate) const fn program(server: Server) -> Option<&'static str> {
    match server {
        Server::Dnsmasq => Some("/usr/sbin/dnsmasq"),
        Server::Kea | Server::KeaMemory => Some("/usr/sbin/kea-dhcp4"),
        Server::Dhcpd => Some("/usr/sbin/dhcpd"),
        Server::Fvm | Server::Bare => None,
    }
}

/// Starts one in the calling thread's namespace.
pub(crate) fn serve(server: Server, lab: &Lab, reserved: &[(MacAddr, Ipv4Addr)]) -> Child {
    let bridge = &lab.network.bridge;
    let dir = lab.dir.path();
    let file = |name: &str, content: &str| {
        let path = dir.join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    };
    let mut command = on_server_cpu(program(server).expect("a peer"));
    match server {
        Server::Dnsmasq => {
            let mut hosts = String::new();
            for (mac, address) in reserved {
                let _ = writeln!(hosts, "{mac},{address}");
            }
            let hosts = file("hosts", &hosts);
            let leases = dir.join("dnsmasq.leases");
            command
                .args([
                    "--keep-in-foreground",
                    "--conf-file=/dev/null",
                    "--pid-file",
                    "--port=0",
                    "--user=root",
                ])
                .args([
                    "--no-ping",
                    "--quiet-dhcp",
                    "--dhcp-authoritative",
                    "--dhcp-range=192.168.22.0,static,1h",
                ])
                .arg(format!("--interface={bridge}"))
                .arg(format!("--dhcp-hostsfile={hosts}"))
                .arg(format!("--dhcp-leasefile={}", leases.display()));
        }
        Server::Kea | Server::KeaMemory => {
            let hosts: Vec<_> = reserved
                .iter()
                .map(|(mac, address)| {
                    serde_json::json!({"hw-address": mac.to_string(), "ip-address": address.to_string()})
                })
                .collect();
            let config = serde_json::json!({"Dhcp4": {
                "interfaces-config": {"interfaces": [bridge]},
                "lease-database": {
                    "type": "memfile",
                    "persist": server == Server::Kea,
                    "name": dir.join("kea.leases"),
                },
                "valid-lifetime": 3600,
                "subnet4": [{
                    "id": 1,
                    "subnet": "192.168.22.0/24",
                    "option-data": [{"name": "routers", "data": "192.168.22.1"}],
                    "reservations": hosts,
                }],
                "loggers": [{"name": "kea-dhcp4", "severity": "FATAL"}],
            }});
            command
                .args(["-c", &file("kea.json", &config.to_string())])
                .env("KEA_PIDFILE_DIR", dir)
                .env("KEA_LOCKFILE_DIR", dir);
        }
        Server::Dhcpd => {
            let mut config = "authoritative; ping-check false; default-lease-time 3600;\n\
                subnet 192.168.22.0 netmask 255.255.255.0 { option routers 192.168.22.1; }\n"
                .to_owned();
            for (index, (mac, address)) in reserved.iter().enumerate() {
                let _ = writeln!(
                    config,
                    "host h{index} {{ hardware ethernet {mac}; fixed-address {address}; }}"
                );
            }
            let config = file("dhcpd.conf", &config);
            let leases = file("dhcpd.leases", "");
            command
                .args(["-4", "-f", "-q", "-cf", &config, "-lf", &leases, "-pf"])
                .arg(dir.join("dhcpd.pid"))
                .arg(bridge);
        }
        Server::Fvm | Server::Bare => unreachable!("not peers"),
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

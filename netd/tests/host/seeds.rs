//! What cloud-init asks for, through real sockets: each guest gets its own.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::process::Command;
use std::time::Duration;

use fvm_netd::names::bridge_of;
use fvm_netd::net::{Network, ensure_network, seed_socket};
use fvm_netd::seed::{SEED_PORT, Seed};

use crate::lab::{Lab, Namespace, Netd, SOON, bind, ip, wait_for};
use crate::outside::{guest, outside};

fn seed(vm: u32) -> Seed {
    Seed {
        meta_data: format!("{{\"instance-id\":\"{vm}\"}}\n"),
        // Longer than a socket takes at once.
        user_data: format!("#cloud-config of {vm}\n{}", "# é\n".repeat(4000)),
    }
}

fn serve(lab: &Lab, netd: &Netd) {
    let socket = seed_socket(lab.network.gateway).unwrap();
    netd.client()
        .serve_seeds(lab.network.gateway, socket.as_fd())
        .unwrap();
}

/// What another program gets; nothing if it fails.
fn fetched(from: &Namespace, gateway: Ipv4Addr, path: &str) -> String {
    let url = format!("http://{gateway}:{SEED_PORT}/{path}");
    let output = from.run(|| {
        Command::new("busybox")
            .args(["wget", "-q", "-O", "-", &url])
            .output()
            .unwrap()
    });
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn each_guest_gets_its_own_data_and_nobody_elses() {
    let Some(lab) = Lab::new("each_guest_gets_its_own_data", &["busybox"]) else {
        return;
    };
    ip(&["link", "set", "lo", "up"]);
    let [one, two, without] = [42, 43, 44].map(|vm| guest(&lab, vm));
    let mut netd = Netd::start(&lab);
    let mut client = netd.client();
    for vm in [42, 43, 44] {
        let mut binding = lab.binding(vm);
        binding.seed = (vm < 44).then(|| seed(vm));
        bind(&mut client, &format!("fvm{vm}"), &binding);
    }
    serve(&lab, &netd);
    let gateway = lab.network.gateway;
    for (guest, vm) in [(&one, 42), (&two, 43)] {
        assert_eq!(fetched(guest, gateway, "meta-data"), seed(vm).meta_data);
        assert_eq!(fetched(guest, gateway, "user-data"), seed(vm).user_data);
        assert_eq!(fetched(guest, gateway, "vendor-data"), "");
    }
    let host = Namespace::current();
    for other in [&without, &host] {
        assert_eq!(fetched(other, gateway, "user-data"), "");
    }

    // One that sends half a request, too many of them, or rubbish, keeps nobody else waiting.
    let at = SocketAddr::from((gateway, SEED_PORT));
    let _waiting: Vec<TcpStream> = two.run(|| {
        let connect = |_| {
            let mut stream = TcpStream::connect_timeout(&at, SOON).unwrap();
            // Those too many may be closed already.
            let _ = stream.write_all(b"GET /user-da");
            stream
        };
        (0..20).map(connect).collect()
    });
    let rubbish = one.run(|| {
        let mut stream = TcpStream::connect_timeout(&at, SOON).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.write_all(b"\0\xff\r\n\r\n").unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        said
    });
    assert!(rubbish.starts_with("HTTP/1.1 400 "), "{rubbish}");
    assert_eq!(fetched(&one, gateway, "user-data"), seed(42).user_data);

    // What a port is bound to anew counts at once, and a new socket takes over.
    let mut binding = lab.binding(42);
    binding.seed = Some(seed(99));
    bind(&mut client, "fvm42", &binding);
    serve(&lab, &netd);
    assert_eq!(fetched(&one, gateway, "meta-data"), seed(99).meta_data);
    client.unbind("fvm42").unwrap();
    assert_eq!(fetched(&one, gateway, "meta-data"), "");

    let outside = outside(&lab);
    let limit = Duration::from_millis(500);
    let refused = outside.run(|| TcpStream::connect_timeout(&at, limit).is_err());
    assert!(refused, "reached from outside");
    assert!(netd.is_running(), "it lives within its sandbox");

    // At the gateway of another network beside it, until that goes.
    let second = Network {
        bridge: bridge_of("second"),
        subnet: "10.9.0.0/24".parse().unwrap(),
        gateway: Ipv4Addr::new(10, 9, 0, 1),
        ..lab.network.clone()
    };
    ensure_network(&second).unwrap();
    let socket = seed_socket(second.gateway).unwrap();
    client.serve_seeds(second.gateway, socket.as_fd()).unwrap();
    drop(socket);
    let elsewhere = SocketAddr::from((second.gateway, SEED_PORT));
    TcpStream::connect_timeout(&elsewhere, SOON).unwrap();
    client.serve_only_at([gateway]).unwrap();
    wait_for("the other port to be closed", || {
        TcpStream::connect_timeout(&elsewhere, limit).err()
    });
    one.run(|| TcpStream::connect_timeout(&at, SOON).unwrap());
    client.serve_only_at([]).unwrap();
    wait_for("the port to be closed", || {
        one.run(|| TcpStream::connect_timeout(&at, limit)).err()
    });
}

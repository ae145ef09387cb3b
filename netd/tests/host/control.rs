//! The control socket, through the real process.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use fvm_netd::control::{Client, ClientError, PortBinding};
use fvm_netd::net;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, sendmsg,
    socket,
};
use serde_json::{Value, json};

use crate::lab::{Lab, Netd, SOON, TapGuest, bind, wait_for};
use crate::wire::{ACK, Ask};

fn renews(lab: &Lab, guest: &TapGuest, vm: u32) {
    guest.send(&Ask::renew(lab.address(vm)).with_mac(lab.mac(vm)).frame());
    let reply = guest.reply();
    assert_eq!(
        (reply.kind(), reply.decoded.yiaddr()),
        (ACK, lab.address(vm))
    );
}

#[test]
fn bindings_outlive_the_connection() {
    let Some(lab) = Lab::new("bindings_outlive_the_connection", &[]) else {
        return;
    };
    let netd = Netd::start(&lab);
    let guest = lab.tap_guest(42);
    let mut client = netd.client();
    assert_eq!(
        (client.hello().ports, client.ports().unwrap().len()),
        (0, 0)
    );
    bind(&mut client, guest.name(), &lab.binding(42));
    drop(client);
    renews(&lab, &guest, 42);
    let mut client = netd.client();
    assert_eq!(client.hello().ports, 1);
    let ports = client.ports().unwrap();
    assert_eq!(
        (ports.len(), ports[0].vm, ports[0].address),
        (1, 42, lab.address(42))
    );
    assert_eq!(ports[0].ifindex, Some(guest.tap.ifindex));
    assert!(client.unbind("fvm42").unwrap());
    assert!(!client.unbind("fvm42").unwrap());
}

#[test]
fn a_resync_keeps_what_is_named_and_drops_the_rest() {
    let Some(lab) = Lab::new("a_resync_keeps_what_is_named_and_drops_the_rest", &[]) else {
        return;
    };
    let netd = Netd::start(&lab);
    let (one, two, three) = (lab.tap_guest(41), lab.tap_guest(42), lab.tap_guest(43));
    let mut client = netd.client();
    for (guest, vm) in [(&one, 41), (&two, 42)] {
        bind(&mut client, guest.name(), &lab.binding(vm));
        renews(&lab, guest, vm);
    }
    let mut client = netd.client();
    let bindings = [lab.binding(42), lab.binding(43)];
    let sockets: Vec<OwnedFd> = [&two, &three]
        .map(|guest| net::dhcp_socket(guest.name()).unwrap())
        .into();
    let ports =
        bindings
            .iter()
            .zip(&sockets)
            .zip(["fvm42", "fvm43"])
            .map(|((binding, socket), port)| PortBinding {
                port,
                binding,
                socket: socket.as_fd(),
            });
    assert_eq!(client.resync(ports).unwrap(), ["fvm41"]);
    let held: Vec<String> = client
        .ports()
        .unwrap()
        .into_iter()
        .map(|state| state.port)
        .collect();
    assert_eq!(held, ["fvm42", "fvm43"]);
    assert_eq!(
        client.port_log("fvm42").unwrap().unwrap().frames,
        1,
        "its log is kept"
    );
    assert_eq!(client.port_log("fvm41").unwrap(), None);
    renews(&lab, &two, 42);
    renews(&lab, &three, 43);
    assert_eq!(client.resync([]).unwrap(), ["fvm42", "fvm43"]);
}

#[test]
fn many_ports_are_listed_in_pages() {
    let Some(lab) = Lab::new("many_ports_are_listed_in_pages", &[]) else {
        return;
    };
    let netd = Netd::start(&lab);
    let mut client = netd.client();
    let guest = lab.tap_guest(42);
    // A page has 256 ports; the names need not be those of links.
    let names: Vec<String> = (1000..1600).map(|number| format!("port{number}")).collect();
    for name in &names {
        let socket = net::dhcp_socket(guest.name()).unwrap();
        let binding = lab.binding(42);
        client
            .bind(PortBinding {
                port: name,
                binding: &binding,
                socket: socket.as_fd(),
            })
            .unwrap();
    }
    let held: Vec<String> = client
        .ports()
        .unwrap()
        .into_iter()
        .map(|state| state.port)
        .collect();
    assert_eq!(held, names);
}

/// A connection that says what it likes.
struct Raw(OwnedFd);

impl Raw {
    fn connect(netd: &Netd) -> Raw {
        let fd = socket(
            AddressFamily::Unix,
            SockType::SeqPacket,
            SockFlag::SOCK_CLOEXEC,
            None,
        )
        .unwrap();
        connect(fd.as_raw_fd(), &UnixAddr::new(&netd.socket).unwrap()).unwrap();
        Raw(fd)
    }

    fn say(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Option<Value> {
        let fds: Vec<_> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&fds)];
        let control = if fds.is_empty() {
            &rights[..0]
        } else {
            &rights[..]
        };
        let parts = [std::io::IoSlice::new(bytes)];
        sendmsg::<UnixAddr>(
            self.0.as_raw_fd(),
            &parts,
            control,
            MsgFlags::MSG_NOSIGNAL,
            None,
        )
        .unwrap();
        let mut buffer = vec![0; 200_000];
        match recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Ok(0) | Err(_) => None,
            Ok(len) => Some(serde_json::from_slice(&buffer[..len]).unwrap()),
        }
    }
}

#[test]
fn nonsense_is_refused_and_changes_nothing() {
    let Some(lab) = Lab::new("nonsense_is_refused_and_changes_nothing", &[]) else {
        return;
    };
    let mut netd = Netd::start(&lab);
    let guest = lab.tap_guest(42);
    bind(&mut netd.client(), guest.name(), &lab.binding(42));
    let raw = Raw::connect(&netd);
    let kind = |answer: Option<Value>| answer.unwrap()["kind"].as_str().unwrap().to_owned();
    for text in [
        "{",
        "[]",
        "\"hello\"",
        "{\"id\":1}",
        "{\"id\":1,\"request\":\"explode\"}",
        "\0\0",
    ] {
        assert_eq!(kind(raw.say(text.as_bytes(), &[])), "bad_request", "{text}");
    }
    let say = |value: Value, fds: &[BorrowedFd<'_>]| raw.say(value.to_string().as_bytes(), fds);
    assert_eq!(
        kind(say(
            json!({"id": 1, "request": "hello", "version": 99}),
            &[]
        )),
        "version"
    );
    assert_eq!(
        kind(say(json!({"id": 1, "request": "resync_end"}), &[])),
        "bad_request"
    );
    assert_eq!(
        kind(say(
            json!({"id": 1, "request": "port_log", "port": "fvm7"}),
            &[]
        )),
        "no_such_port"
    );

    let bind = |port: &str, binding: Value| json!({"id": 5, "request": "bind", "port": port, "binding": binding});
    let good = serde_json::to_value(lab.binding(43)).unwrap();
    let packet = net::dhcp_socket("fvm42").unwrap();
    let file = std::fs::File::open("/dev/null").unwrap();
    for (what, wanted, request, fds) in [
        (
            "no descriptor",
            "bad_socket",
            bind("fvm43", good.clone()),
            vec![],
        ),
        (
            "a file",
            "bad_socket",
            bind("fvm43", good.clone()),
            vec![file.as_fd()],
        ),
        (
            "a stream",
            "bad_socket",
            bind("fvm43", good.clone()),
            vec![raw.0.as_fd()],
        ),
        (
            "two sockets",
            "bad_socket",
            bind("fvm43", good.clone()),
            vec![packet.as_fd(), packet.as_fd()],
        ),
        (
            "a bad name",
            "bad_request",
            bind("fvm/43", good.clone()),
            vec![packet.as_fd()],
        ),
        (
            "no binding",
            "bad_request",
            bind("fvm43", json!({})),
            vec![packet.as_fd()],
        ),
    ] {
        assert_eq!(kind(say(request, &fds)), wanted, "{what}");
    }
    for (key, value) in [
        ("address", json!("10.0.0.1")),
        ("address", json!("192.168.22.1")),
        ("address", json!("192.168.22.255")),
        ("host_name", json!("a b")),
        ("subnet", json!("192.168.22.7/24")),
        ("mac", json!("02:00")),
        (
            "lease",
            json!({"lease_s": 10, "renew_s": 20, "rebind_s": 15}),
        ),
        (
            "routes",
            json!([{"destination": "10.0.0.0", "prefix": 33, "router": "192.168.22.1"}]),
        ),
    ] {
        let mut bad = good.clone();
        bad[key] = value.clone();
        assert_eq!(
            kind(say(bind("fvm43", bad), &[packet.as_fd()])),
            "bad_request",
            "{key} {value}"
        );
    }
    assert_eq!(
        raw.say(&vec![b' '; 150_000], &[]),
        None,
        "a message that is too long ends the connection"
    );
    let mut client = netd.client();
    let ports: Vec<String> = client
        .ports()
        .unwrap()
        .into_iter()
        .map(|state| state.port)
        .collect();
    assert_eq!(ports, ["fvm42"]);
    renews(&lab, &guest, 42);
    assert!(netd.is_running());
}

#[test]
fn descriptors_are_not_kept_longer_than_needed() {
    let Some(lab) = Lab::new("descriptors_are_not_kept_longer_than_needed", &[]) else {
        return;
    };
    let netd = Netd::start(&lab);
    // Sockets beside the standard streams; what else the test program has inherited is not counted.
    let count = || {
        let fds = std::fs::read_dir(format!("/proc/{}/fd", netd.pid())).unwrap();
        let ours = fds.map(Result::unwrap).filter(|fd| {
            let number: u32 = fd.file_name().to_str().unwrap().parse().unwrap();
            let target = std::fs::read_link(fd.path()).unwrap_or_default();
            number > 2 && target.to_string_lossy().starts_with("socket:")
        });
        ours.count()
    };
    let mut client = netd.client();
    let guest = lab.tap_guest(42);
    // The listener and this connection; the one that waited for the start is closed soon.
    wait_for("an idle process", || (count() == 2).then_some(()));
    bind(&mut client, guest.name(), &lab.binding(42));
    assert_eq!(count(), 3);
    let raw = Raw::connect(&netd);
    for _ in 0..50 {
        bind(&mut client, guest.name(), &lab.binding(42));
        let file = std::fs::File::open("/dev/null").unwrap();
        raw.say(b"{}", &[file.as_fd(), file.as_fd()]);
    }
    assert_eq!(count(), 4, "the second connection is the only new one");
    client.unbind(guest.name()).unwrap();
    assert_eq!(count(), 3);
}

#[test]
fn another_users_process_is_turned_away() {
    let Some(lab) = Lab::new("another_users_process_is_turned_away", &["perl"]) else {
        return;
    };
    let netd = Netd::start(&lab);
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&netd.socket, std::fs::Permissions::from_mode(0o777)).unwrap();
    std::fs::set_permissions(lab.dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let script = "socket(S, AF_UNIX, SOCK_SEQPACKET, 0) or die $!; \
                  connect(S, sockaddr_un($ARGV[0])) or die $!; \
                  send(S, '{\"id\":1,\"request\":\"hello\",\"version\":'.$ARGV[1].'}', 0) or die $!; \
                  recv(S, $said, 1000, 0); print $said";
    let said_to = |uid: u32| {
        let output = Command::new("perl")
            .args(["-MSocket", "-e", script])
            .arg(&netd.socket)
            .arg(fvm_netd::control::PROTOCOL_VERSION.to_string())
            .uid(uid)
            .gid(uid)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(said_to(0).contains("\"answer\":\"hello\""));
    let stranger = said_to(12_345);
    assert!(!stranger.contains("answer"), "{stranger}");
}

#[test]
fn a_call_does_not_wait_for_ever() {
    let Some(lab) = Lab::new("a_call_does_not_wait_for_ever", &[]) else {
        return;
    };
    let missing = lab.dir.path().join("nobody.sock");
    let error = Client::connect(&missing, SOON).unwrap_err();
    assert!(matches!(error, ClientError::Connect { .. }), "{error:?}");
    // A process that is stopped answers nobody.
    let netd = Netd::start(&lab);
    let limit = std::time::Duration::from_millis(100);
    let mut client = Client::connect(&netd.socket, limit).unwrap();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(netd.pid()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
    let error = client.ports().unwrap_err();
    assert!(
        matches!(error, ClientError::Timeout { .. }) && error.is_disconnected(),
        "{error:?}"
    );
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGCONT).unwrap();
    // The late answer to the call that was given up is not taken for the next one's.
    let ports = wait_for("an answer", || client.ports().ok());
    assert_eq!(ports, []);
    let guest = lab.tap_guest(42);
    let socket = net::dhcp_socket(guest.name()).unwrap();
    let mut binding = lab.binding(42);
    binding.address = lab.network.gateway;
    let bad = PortBinding {
        port: "fvm42",
        binding: &binding,
        socket: socket.as_fd(),
    };
    assert!(matches!(client.bind(bad), Err(ClientError::Binding { .. })));
    assert!(matches!(client.port_log("fvm42"), Ok(None)));
}

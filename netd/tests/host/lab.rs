//! Namespaces, guests and processes for tests. What is made here goes away with the test.

use std::fs::File;
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fvm_netd::control::{Client, PortBinding, PortLog};
use fvm_netd::dhcp::{Binding, LeaseTimes};
use fvm_netd::names::Nic;
use fvm_netd::net::{self, Admission, Mode, Network, Tap, TapOptions};
use fvm_netd::{HostId, MacAddr, Subnet};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns, unshare};
use serde_json::Value;

use crate::wire::Reply;

/// How long anything is waited for that is sure to come.
pub(crate) const SOON: Duration = Duration::from_secs(60);
/// The user `fvm-netd` runs as: nobody.
pub(crate) const NETD_UID: u32 = 65534;

/// What the lab has unpacked for tests: network managers that must not be installed, and QEMU.
pub(crate) const MANAGERS: &str = "clients";
pub(crate) const TOOLS: &str = "tools";

/// The newest tree of this kind in the lab's cache.
pub(crate) fn lab_cache(kind: &str) -> Option<PathBuf> {
    let cache = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/lab/cache");
    let entries = std::fs::read_dir(cache).ok()?.flatten();
    let trees = entries.filter(|entry| {
        let name = entry.file_name();
        name.to_str()
            .and_then(|name| name.strip_prefix(kind))
            .is_some_and(|rest| rest.starts_with('-'))
    });
    let newest =
        trees.max_by_key(|tree| tree.metadata().and_then(|found| found.modified()).ok())?;
    newest.path().canonicalize().ok()
}

/// Whether this test can run; if not it says so, or fails where it must run.
pub(crate) fn can_run(test: &str, programs: &[&str]) -> bool {
    let found = |program: &str| {
        ["/usr/sbin", "/usr/bin", "/sbin", "/bin"]
            .iter()
            .any(|dir| Path::new(dir).join(program).exists())
            || lab_cache(program).is_some()
    };
    let missing = if !nix::unistd::geteuid().is_root() {
        Some("it needs root".to_owned())
    } else if !Path::new("/dev/net/tun").exists() {
        Some("it needs /dev/net/tun".to_owned())
    } else {
        let missing = ["nft", "ip"]
            .iter()
            .chain(programs)
            .find(|program| !found(program));
        missing.map(|program| format!("it needs {program}, of the machine or of `fvm-lab prepare`"))
    };
    let Some(missing) = missing else { return true };
    let set = |name: &str, value: &str| std::env::var(name).is_ok_and(|found| found == value);
    assert!(
        !set("FVM_TEST_HOST", "1") && !set("CI", "true"),
        "{test} cannot run: {missing}"
    );
    // Past the test runner's capture, so that it is seen.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {test}: {missing}");
    false
}

/// The calling thread's own host: a network namespace with one network of guests on it.
pub(crate) struct Lab {
    pub(crate) network: Network,
    pub(crate) dir: tempfile::TempDir,
}

impl Lab {
    /// Puts the calling thread into a namespace with nothing in it, or `None` if the test is skipped.
    pub(crate) fn bare(test: &str, programs: &[&str]) -> Option<Lab> {
        if !can_run(test, programs) {
            return None;
        }
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let network = Network {
            bridge: "fvm0".to_owned(),
            mac: MacAddr::of_bridge(&HostId::from_text(test)),
            subnet: "192.168.22.0/24".parse().unwrap(),
            gateway: Ipv4Addr::new(192, 168, 22, 1),
            mtu: 1500,
            mode: Mode::Nat,
            forwards: Vec::new(),
        };
        let dir = tempfile::tempdir().unwrap();
        // `fvm-netd` makes its socket here as its own user.
        std::os::unix::fs::chown(dir.path(), Some(NETD_UID), Some(NETD_UID)).unwrap();
        Some(Lab { network, dir })
    }

    /// The same with the network made.
    pub(crate) fn new(test: &str, programs: &[&str]) -> Option<Lab> {
        let lab = Lab::bare(test, programs)?;
        net::ensure_network(&lab.network).unwrap();
        Some(lab)
    }

    pub(crate) fn subnet(&self) -> Subnet {
        self.network.subnet
    }

    pub(crate) fn address(&self, vm: u32) -> Ipv4Addr {
        self.network.subnet.host(vm).unwrap()
    }

    pub(crate) fn mac(&self, vm: u32) -> MacAddr {
        MacAddr::of_nic(&HostId::from_text("guests"), Nic::new(vm, 0).unwrap())
    }

    pub(crate) fn admission(&self, vm: u32) -> Admission {
        Admission {
            port: format!("fvm{vm}"),
            mac: self.mac(vm),
            address: Some(self.address(vm)),
            trusted: false,
        }
    }

    pub(crate) fn binding(&self, vm: u32) -> Binding {
        let Network {
            subnet,
            gateway,
            mac,
            ..
        } = self.network;
        let mut binding = Binding::new(vm, self.mac(vm), self.address(vm), subnet, gateway, mac);
        binding.dns_servers = vec![Ipv4Addr::new(9, 9, 9, 9)];
        binding.host_name = Some(format!("vm{vm}").parse().unwrap());
        binding
    }

    pub(crate) fn short_binding(&self, vm: u32, lease_s: u32) -> Binding {
        Binding {
            lease: LeaseTimes::of_lease(lease_s).unwrap(),
            ..self.binding(vm)
        }
    }

    /// A VM's tap with the test in the place of QEMU, admitted.
    pub(crate) fn tap_guest(&self, vm: u32) -> TapGuest {
        let guest = self.closed_tap_guest(vm);
        net::admit(&[self.admission(vm)]).unwrap();
        guest
    }

    /// The same, not admitted.
    pub(crate) fn closed_tap_guest(&self, vm: u32) -> TapGuest {
        let nic = Nic::new(vm, 0).unwrap();
        let options = TapOptions {
            mtu: Some(self.network.mtu),
            ..TapOptions::default()
        };
        let tap = net::create_tap(nic, &self.network.bridge, options).unwrap();
        TapGuest { tap }
    }

    /// A VM's port with a namespace behind it, admitted, for programs that act as the guest.
    pub(crate) fn namespace_guest(&self, vm: u32) -> Namespace {
        let guest = Namespace::new();
        let port = format!("fvm{vm}");
        let mac = self.mac(vm).to_string();
        ip(&[
            "link",
            "add",
            &port,
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "address",
            &mac,
            "netns",
            &guest.path(),
        ]);
        ip(&["link", "set", &port, "master", &self.network.bridge, "up"]);
        guest.run(|| ip(&["link", "set", "eth0", "up"]));
        net::admit(&[self.admission(vm)]).unwrap();
        guest
    }
}

/// Runs `ip` in the calling thread's namespace.
pub(crate) fn ip(arguments: &[&str]) {
    run("ip", arguments);
}

pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

/// What `ip -json` prints in the calling thread's namespace.
pub(crate) fn ip_json(arguments: &[&str]) -> Value {
    let text = run("ip", &[&["-json", "-details"], arguments].concat());
    if text.trim().is_empty() {
        Value::Array(Vec::new())
    } else {
        serde_json::from_str(&text).unwrap()
    }
}

/// The names of all links in the calling thread's namespace but the loopback.
pub(crate) fn link_names() -> Vec<String> {
    let links = ip_json(&["link", "show"]);
    let names = links
        .as_array()
        .unwrap()
        .iter()
        .map(|link| link["ifname"].as_str().unwrap().to_owned());
    let mut names: Vec<String> = names.filter(|name| name != "lo").collect();
    names.sort();
    names
}

/// Waits until a tap that nobody holds is gone. A process that another test has just begun has a copy of
/// every descriptor until it runs its own program, so that can be a moment later.
pub(crate) fn wait_until_gone(name: &str) {
    wait_for("the end of a tap", || {
        (!link_names().iter().any(|found| found == name)).then_some(())
    });
}

/// The rules of the calling thread's namespace as `nft` writes them.
pub(crate) fn ruleset() -> String {
    run("nft", &["list", "ruleset"])
}

/// Waits until something holds.
pub(crate) fn wait_for<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {SOON:?} for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Another network namespace.
pub(crate) struct Namespace {
    fd: OwnedFd,
}

impl Namespace {
    pub(crate) fn new() -> Self {
        let fd = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            ip(&["link", "set", "lo", "up"]);
            File::open("/proc/thread-self/ns/net").unwrap()
        })
        .join()
        .unwrap();
        Namespace { fd: fd.into() }
    }

    /// That of the calling thread.
    pub(crate) fn current() -> Self {
        Namespace {
            fd: File::open("/proc/thread-self/ns/net").unwrap().into(),
        }
    }

    /// A path to it that other processes can open.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.fd.as_raw_fd())
    }

    /// Does something in it.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(&self.fd, CloneFlags::CLONE_NEWNET).unwrap();
                work()
            });
            match thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// The IPv4 addresses of `eth0` in it.
    pub(crate) fn addresses(&self) -> Vec<Ipv4Addr> {
        let shown = self.run(|| ip_json(&["-4", "address", "show", "dev", "eth0"]));
        let all = shown.as_array().unwrap().iter();
        all.flat_map(|link| link["addr_info"].as_array().cloned().unwrap_or_default())
            .filter_map(|address| address["local"].as_str()?.parse().ok())
            .collect()
    }
}

/// The test in the place of QEMU at a tap.
pub(crate) struct TapGuest {
    pub(crate) tap: Tap,
}

/// `struct virtio_net_hdr` of `linux/virtio_net.h`: 10 bytes.
const VNET_HDR_LEN: usize = 10;
const VNET_NEEDS_CSUM: u8 = 1;

impl TapGuest {
    /// Lets go of the tap, as QEMU does when it ends, and waits until the kernel has removed it.
    pub(crate) fn end(self) {
        let name = self.tap.name.clone();
        drop(self);
        wait_until_gone(&name);
    }

    pub(crate) fn name(&self) -> &str {
        &self.tap.name
    }

    /// Sends a frame as it is.
    pub(crate) fn send(&self, frame: &[u8]) {
        self.write(&[&[0; VNET_HDR_LEN], frame].concat());
    }

    /// Sends a UDP frame as a guest's kernel does: with a partial checksum, the rest left to the card.
    pub(crate) fn send_partial(&self, frame: &[u8]) {
        // UDP begins behind 34 bytes, its checksum 6 behind that.
        let header = [VNET_NEEDS_CSUM, 0, 0, 0, 0, 0, 34, 0, 6, 0];
        let mut frame = frame.to_vec();
        frame[40..42].copy_from_slice(&[0x12, 0x34]);
        self.write(&[&header, &frame[..]].concat());
    }

    fn write(&self, bytes: &[u8]) {
        let written = nix::unistd::write(&self.tap.fds[0], bytes).unwrap();
        assert_eq!(written, bytes.len());
    }

    /// The next frame that the bridge sends to the guest and that is `wanted`.
    pub(crate) fn receive(&self, wanted: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
        self.receive_within(SOON, wanted)
    }

    pub(crate) fn receive_within(
        &self,
        limit: Duration,
        wanted: impl Fn(&[u8]) -> bool,
    ) -> Option<Vec<u8>> {
        let deadline = Instant::now() + limit;
        let mut buffer = vec![0; 70_000];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut fds = [PollFd::new(self.tap.fds[0].as_fd(), PollFlags::POLLIN)];
            if poll(&mut fds, PollTimeout::try_from(left).unwrap()).unwrap() == 0 {
                return None;
            }
            let len = nix::unistd::read(&self.tap.fds[0], &mut buffer).unwrap();
            let frame = &buffer[VNET_HDR_LEN..len];
            if wanted(frame) {
                return Some(frame.to_vec());
            }
        }
    }

    /// The next DHCP reply.
    pub(crate) fn reply(&self) -> Reply {
        Reply::parse(&self.receive(is_dhcp_reply).expect("a DHCP reply"))
    }
}

pub(crate) fn is_dhcp_reply(frame: &[u8]) -> bool {
    frame.len() > 42 && frame[12..14] == [8, 0] && frame[23] == 17 && frame[36..38] == [0, 68]
}

/// The real `fvm-netd`, as a user without rights.
pub(crate) struct Netd {
    process: Child,
    pub(crate) socket: PathBuf,
}

impl Netd {
    pub(crate) fn start(lab: &Lab) -> Netd {
        let socket = lab.dir.path().join("netd.sock");
        let process = Command::new(env!("CARGO_BIN_EXE_fvm-netd"))
            .arg("--listen")
            .arg(&socket)
            .uid(NETD_UID)
            .gid(NETD_UID)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let netd = Netd { process, socket };
        netd.client();
        netd
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// A connection, as soon as there is somebody to connect to.
    pub(crate) fn client(&self) -> Client {
        wait_for("fvm-netd to listen", || {
            Client::connect(&self.socket, SOON).ok()
        })
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.process.try_wait().unwrap().is_none()
    }

    /// Ends it at once, as a crash does.
    pub(crate) fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Netd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Hands a port over to `fvm-netd`.
pub(crate) fn bind(client: &mut Client, port: &str, binding: &Binding) {
    let socket = net::dhcp_socket(port).unwrap();
    client
        .bind(PortBinding {
            port,
            binding,
            socket: socket.as_fd(),
        })
        .unwrap();
}

/// The log of a port, once it is as wanted.
pub(crate) fn wait_for_log(
    client: &mut Client,
    port: &str,
    what: &str,
    wanted: impl Fn(&PortLog) -> bool,
) -> PortLog {
    wait_for(what, || {
        client.port_log(port).unwrap().filter(|log| wanted(log))
    })
}

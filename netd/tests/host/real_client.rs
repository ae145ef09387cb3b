//! DHCP client programs as they are in distributions, each confined to a guest's namespace.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::lab::{Lab, MANAGERS, Namespace, lab_cache};

use Kind::{Dhclient, Dhcpcd, NetworkManager, Networkd, Udhcpc};

/// A client program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// busybox: `01` and the hardware address as its identifier; takes 576 bytes.
    Udhcpc,
    /// ISC dhclient: no identifier; keeps its lease in a file.
    Dhclient,
    /// dhcpcd: a DUID as its identifier; rapid commit; keeps its lease in a file.
    Dhcpcd,
    /// systemd-networkd: a DUID of the machine's id as its identifier; forgets its lease when it ends.
    Networkd,
    /// NetworkManager with its own client: the hardware address as its identifier; keeps its lease in a file.
    NetworkManager,
}

/// What they need on the machine; the network managers come from the lab's cache.
pub(crate) const PROGRAMS: [&str; 5] = ["busybox", "dhclient", "dhcpcd", "unshare", MANAGERS];

/// What a client calls to configure the link: no more than address and route, so that nothing of the
/// machine the test runs on is touched.
const UDHCPC_SCRIPT: &str = "#!/bin/sh\n\
    case $1 in\n\
    deconfig) ip address flush dev $interface; ip link set $interface up;;\n\
    bound|renew) ip address replace $ip/$mask dev $interface; ip route replace default via $router;;\n\
    esac\n";
const DHCLIENT_SCRIPT: &str = "#!/bin/sh\n\
    case $reason in\n\
    PREINIT) ip address flush dev $interface; ip link set $interface up;;\n\
    BOUND|RENEW|REBIND|REBOOT)\n\
    ip address replace $new_ip_address/24 dev $interface\n\
    ip route replace default via $new_routers;;\n\
    EXPIRE|FAIL|RELEASE|STOP) ip address flush dev $interface;;\n\
    esac\n";

/// The network managers are a system's own and think that they are alone on it: they get a root of their own. As long as /sys
/// cannot be written, they do not wait for udev. The shell stays, since it ends with the test and they, who change their user, would not.
const OWN_ROOT: &str = "mount --bind $tree $tree
    cd $tree
    mount -t tmpfs tmpfs run
    mount --rbind /proc proc
    mount --rbind /dev dev
    mount --rbind /sys sys
    mount -o remount,ro,bind sys";
const NETWORKD: &str = "mkdir -p run/systemd/network run/systemd/netif/links run/systemd/netif/leases
    chown -R 998:998 run/systemd/netif
    printf '[Match]\\nName=eth0\\n[Network]\\nDHCP=ipv4\\nLinkLocalAddressing=no\\nIPv6AcceptRA=no\\n' \\
        > run/systemd/network/eth0.network
    chroot . /usr/lib/systemd/systemd-networkd
    exit";
/// With a bus of its own, on which nothing else is and nothing can be started.
const NETWORK_MANAGER: &str = "mkdir -p run/dbus run/manager
    mount --bind $state var/lib/NetworkManager
    printf '[main]\\nplugins=keyfile\\ndhcp=internal\\ndns=none\\nhostname-mode=none\\n[keyfile]\\npath=/run/manager\\n' \\
        > run/manager.conf
    printf '[connection]\\nid=eth0\\ntype=ethernet\\ninterface-name=eth0\\n[ipv4]\\nmethod=auto\\n[ipv6]\\nmethod=disabled\\n' \\
        > run/manager/eth0.nmconnection
    chmod 600 run/manager/eth0.nmconnection
    printf '<busconfig><type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen>
        <auth>EXTERNAL</auth><policy context=\"default\"><allow user=\"*\"/><allow send_destination=\"*\" eavesdrop=\"true\"/>
        <allow eavesdrop=\"true\"/><allow own=\"*\"/></policy></busconfig>' > run/bus.conf
    chroot . dbus-daemon --config-file=/run/bus.conf --fork --nopidfile
    chroot . NetworkManager --no-daemon --config /run/manager.conf --config-dir /run/none \\
        --system-config-dir /run/none --intern-config /run/intern.conf --pid-file /run/manager.pid
    exit";

/// The tree of Debian's network managers.
fn managers() -> PathBuf {
    lab_cache(MANAGERS).expect("looked for before")
}

/// A client that runs in a guest's namespace, with file systems and processes of its own.
pub(crate) struct RealClient(Child);

impl RealClient {
    pub(crate) fn start(kind: Kind, lab: &Lab, guest: &Namespace) -> RealClient {
        let dir = lab.dir.path();
        let shown = dir.display();
        let run = match kind {
            Udhcpc => {
                let script = write_script(dir, "udhcpc.sh", UDHCPC_SCRIPT);
                format!(
                    "exec busybox udhcpc -f -i eth0 -t 20 -T 1 -s {}",
                    script.display()
                )
            }
            Dhclient => {
                let script = write_script(dir, "dhclient.sh", DHCLIENT_SCRIPT);
                format!(
                    "exec dhclient -4 -d -cf /dev/null -sf {} -lf {shown}/dhclient.leases \
                     -pf {shown}/dhclient.pid eth0",
                    script.display()
                )
            }
            Dhcpcd => {
                std::fs::create_dir_all(dir.join("dhcpcd")).unwrap();
                format!(
                    "mkdir -p /var/lib/dhcpcd; mount --bind {shown}/dhcpcd /var/lib/dhcpcd; \
                     mount -t tmpfs tmpfs /run; printf 'duid\\n' > /run/dhcpcd.conf; \
                     exec dhcpcd --nobackground --ipv4only --config /run/dhcpcd.conf \
                     --script /bin/true --option rapid_commit --timeout 20 eth0"
                )
            }
            Networkd => format!("tree={}\n{OWN_ROOT}\n{NETWORKD}", managers().display()),
            NetworkManager => {
                std::fs::create_dir_all(dir.join("manager")).unwrap();
                let tree = managers();
                format!(
                    "state={shown}/manager\ntree={}\n{OWN_ROOT}\n{NETWORK_MANAGER}",
                    tree.display()
                )
            }
        };
        let mut command = Command::new("unshare");
        command
            .args([
                "--mount",
                "--uts",
                "--pid",
                "--fork",
                "--mount-proc",
                "--kill-child",
                "sh",
                "-ec",
                &run,
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        RealClient(guest.run(|| command.spawn().unwrap()))
    }
}

impl Drop for RealClient {
    /// Ends it without a word to the server, as a guest that is killed.
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn write_script(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    // A script that is open for writing, here or in a process that is just beginning, cannot be run.
    if !path.exists() {
        let draft = dir.join(format!("{name}.draft"));
        std::fs::write(&draft, text).unwrap();
        std::fs::set_permissions(&draft, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::rename(&draft, &path).unwrap();
    }
    path
}

/// Whether it would remember its lease when it is started again.
pub(crate) fn has_kept_a_lease(kind: Kind, lab: &Lab) -> bool {
    let kept = |name: &str| std::fs::read(lab.dir.path().join(name)).unwrap_or_default();
    match kind {
        Udhcpc | Networkd => false,
        Dhclient => String::from_utf8_lossy(&kept("dhclient.leases")).contains("expire "),
        Dhcpcd => !kept("dhcpcd/eth0.lease").is_empty(),
        NetworkManager => {
            let files = std::fs::read_dir(lab.dir.path().join("manager"))
                .into_iter()
                .flatten()
                .flatten();
            let mut names = files.map(|entry| entry.file_name().to_string_lossy().into_owned());
            names.any(|name| name.starts_with("internal-") && name.ends_with(".lease"))
        }
    }
}

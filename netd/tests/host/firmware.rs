//! Firmware that boots from the network, and the system after it on the same card.

use std::process::{Child, Command, Stdio};

use fvm_netd::dhcp::{MessageType, Outcome};

use crate::lab::{Lab, Netd, TOOLS, bind, lab_cache, wait_for, wait_for_log};
use crate::real_client::{Kind, RealClient};

/// iPXE in a machine that is emulated, with nothing to boot from but its network card.
struct Firmware(Child);

impl Firmware {
    fn start(lab: &Lab, tap: std::os::fd::OwnedFd) -> Firmware {
        let own = lab_cache(TOOLS).map(|tree| tree.join("bin/qemu-system-x86_64"));
        let qemu = own
            .filter(|path| path.exists())
            .unwrap_or_else(|| "qemu-system-x86_64".into());
        let child = Command::new(qemu)
            .args([
                "-nodefaults",
                "-no-user-config",
                "-machine",
                "pc,accel=tcg",
                "-m",
                "64",
                "-display",
                "none",
            ])
            // Its standard input is the tap.
            .args(["-netdev", "tap,id=net,fd=0", "-boot", "n"])
            .arg("-device")
            .arg(format!("virtio-net-pci,netdev=net,mac={}", lab.mac(42)))
            .stdin(Stdio::from(tap))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Firmware(child)
    }
}

impl Drop for Firmware {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn ipxe_and_the_system_after_it_have_the_same_address() {
    let name = "ipxe_and_the_system_after_it_have_the_same_address";
    let Some(lab) = Lab::new(name, &[TOOLS, "dhcpcd"]) else {
        return;
    };
    let netd = Netd::start(&lab);
    let mut client = netd.client();
    let guest = lab.tap_guest(42);
    let binding = lab.binding(42);
    bind(&mut client, "fvm42", &binding);
    let firmware = Firmware::start(&lab, guest.tap.fds[0].try_clone().unwrap());
    let log = wait_for_log(&mut client, "fvm42", "a lease of iPXE's", |log| {
        log.lease.is_some()
    });
    assert_eq!(log.lease.unwrap().address, lab.address(42));
    for logged in &log.exchanges {
        let exchange = &logged.exchange;
        assert!(
            matches!(
                exchange.outcome,
                Outcome::Answered {
                    message: MessageType::Offer | MessageType::Ack,
                    ..
                }
            ),
            "{exchange:?}"
        );
    }
    drop(firmware);
    // The system that it has booted is another client, which knows nothing of that lease. QEMU has set the tap's headers to
    // its liking, so the next one is not the test's to write to, but a namespace's.
    guest.end();
    let guest = lab.namespace_guest(42);
    bind(&mut client, "fvm42", &lab.binding(42));
    let _system = RealClient::start(Kind::Dhcpcd, &lab, &guest);
    wait_for("the system's address", || {
        (guest.addresses() == [lab.address(42)]).then_some(())
    });
}

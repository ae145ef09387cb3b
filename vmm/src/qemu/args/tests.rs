//! What the comparison with libvirt does not reach: KVM, descriptors, actions, refusals.

use super::*;
use crate::domain::{self, Macros};
use crate::qemu::probe::{Capabilities, Version};
use crate::qemu::{Accel, DiskBacking, FdSet, FirmwareBacking, NicBacking, SocketBacking, pci};
use std::collections::BTreeMap;
use std::path::PathBuf;

const LINUX: &str = include_str!("../../../../templates/linux.xml");

fn domain(text: &str) -> Domain {
    let macros = Macros::new("vm-42", "vg", "fvm0", 42, "image");
    domain::load(text, &macros).expect("a good template").0
}

fn assignment(domain: &Domain) -> Assignment {
    let disk = DiskBacking {
        path: "/dev/fdset/1".to_owned(),
        is_block_device: true,
    };
    Assignment {
        name: "vm,42".to_owned(),
        uuid: "6f2c1d7e-0000-4000-8000-00000000002a".to_owned(),
        accel: Accel::Kvm,
        qemu: Capabilities::typical(domain.os.arch, Version { major: 7, minor: 2 }),
        machine: None,
        layout: pci::assign(domain).expect("fits"),
        disks: BTreeMap::from([("sda".to_owned(), disk)]),
        nics: vec![NicBacking {
            mac: "52:54:00:00:00:2a".to_owned(),
            tap_fds: vec![5],
            vhost_fds: vec![6],
        }],
        sockets: BTreeMap::from([(
            "tpm0".to_owned(),
            SocketBacking {
                fd: 99,
                log_path: None,
            },
        )]),
        monitors: vec![7, 8],
        firmware: None,
        fd_sets: vec![FdSet {
            number: 1,
            fds: vec![3, 4],
        }],
        run_directory: PathBuf::from("/run/fvm/vm/42"),
        start_paused: false,
        vsock_cid: None,
        vsock_fd: None,
    }
}

fn line(domain: &Domain, change: impl FnOnce(&mut Assignment)) -> String {
    let mut assignment = assignment(domain);
    change(&mut assignment);
    arguments(domain, &assignment).expect("arguments").join(" ")
}

fn refused(domain: &Domain, change: impl FnOnce(&mut Assignment)) -> ArgumentError {
    let mut assignment = assignment(domain);
    change(&mut assignment);
    arguments(domain, &assignment).expect_err("must be refused")
}

#[test]
fn descriptors_are_passed_by_number() {
    let text = line(&domain(LINUX), |given| {
        let socket = SocketBacking {
            fd: 9,
            log_path: Some("/var/lib/fvm/a,b.log".to_owned()),
        };
        given.sockets.insert("serial0".to_owned(), socket);
    });
    for part in [
        "-name guest=vm,,42,debug-threads=on",
        "-add-fd fd=3,set=1 -add-fd fd=4,set=1",
        r#""driver":"host_device","filename":"/dev/fdset/1""#,
        r#"{"fd":"5","id":"hostnet0","type":"tap","vhost":true,"vhostfd":"6"}"#,
        "socket,id=charmonitor0,fd=7,server=on,wait=off",
        "socket,id=charmonitor1,fd=8,server=on,wait=off",
        "socket,id=charserial0,fd=9,server=on,wait=off,logfile=/var/lib/fvm/a,,b.log,logappend=on",
        // A channel without a socket is there all the same.
        "null,id=charchannel0",
        "-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        "-machine pc-i440fx-7.2,",
        "-accel kvm -cpu host,migratable=on",
        "-global kvm-pit.lost_tick_policy=delay",
        "-display none",
    ] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    assert!(!text.split(' ').any(|word| word == "-S"));
}

#[test]
fn several_queues_have_several_descriptors() {
    let text = line(&domain(LINUX), |given| {
        given.nics[0].tap_fds = vec![5, 10];
        given.nics[0].vhost_fds = vec![6, 11];
    });
    assert!(
        text.contains(
            r#"{"fds":"5:10","id":"hostnet0","type":"tap","vhost":true,"vhostfds":"6:11"}"#
        )
    );
    assert!(text.contains(r#""mq":true"#) && text.contains(r#""vectors":6"#));
    let without = line(&domain(LINUX), |given| given.nics[0].vhost_fds.clear());
    assert!(without.contains(r#"{"fd":"5","id":"hostnet0","type":"tap"}"#));
}

#[test]
fn emulation_has_no_host_processor_and_nothing_of_kvm_s() {
    let features = "<acpi/><hyperv><relaxed state='on'/></hyperv>";
    let domain = domain(&LINUX.replace("<acpi/>", features));
    assert!(line(&domain, |_| {}).contains("-cpu host,migratable=on,hv-relaxed=on"));
    let text = line(&domain, |given| given.accel = Accel::Tcg);
    assert!(text.contains("-accel tcg -cpu max -smp"), "{text}");
    assert!(!text.contains("kvm-pit"));
}

#[test]
fn the_actions_are_the_template_s() {
    let actions = |reboot: &str, poweroff: &str, crash: &str| {
        let text = LINUX
            .replace("<on_reboot>restart", &format!("<on_reboot>{reboot}"))
            .replace("<on_poweroff>destroy", &format!("<on_poweroff>{poweroff}"))
            .replace("<on_crash>restart", &format!("<on_crash>{crash}"));
        let text = line(&domain(&text), |_| {});
        let (_, after) = text.split_once("-action ").expect("an action");
        after.split(' ').next().unwrap_or_default().to_owned()
    };
    let expected = "reboot=reset,shutdown=poweroff,panic=pause,watchdog=reset";
    assert_eq!(actions("restart", "destroy", "restart"), expected);
    let expected = "reboot=shutdown,shutdown=pause,panic=shutdown,watchdog=reset";
    assert_eq!(actions("destroy", "preserve", "destroy"), expected);
}

#[test]
fn a_uefi_machine_has_two_flash_images() {
    let uefi = domain(&LINUX.replace("<os>", "<os firmware='efi'>"));
    assert_eq!(refused(&uefi, |_| {}), ArgumentError::NoFirmware);
    let text = line(&uefi, |given| {
        given.firmware = Some(FirmwareBacking {
            code: "/usr/share/OVMF/OVMF_CODE_4M.fd".to_owned(),
            vars: "/var/lib/fvm/vm/42/vars.fd".to_owned(),
        });
    });
    assert!(text.contains("pflash0=pflash-code,pflash1=pflash-vars"));
    assert!(text.contains(r#""filename":"/var/lib/fvm/vm/42/vars.fd","read-only":false"#));
}

#[test]
fn what_is_missing_is_named() {
    let linux = domain(LINUX);
    let error = refused(&linux, |given| given.disks.clear());
    assert_eq!(error.to_string(), "nothing was assigned to the disk sda");
    let error = refused(&linux, |given| given.nics.clear());
    assert_eq!(
        error.to_string(),
        "nothing was assigned to the network interface net0"
    );
    let error = refused(&linux, |given| given.layout.places.clear());
    assert!(matches!(error, ArgumentError::NoAddress { .. }));
    let error = refused(&linux, |given| {
        given.machine = Some("pc-i440fx-99.0".to_owned())
    });
    assert!(error.to_string().contains("pc-i440fx-99.0"));
    let error = refused(&linux, |given| {
        given.qemu.devices.insert("scsi-hd".to_owned());
    });
    assert!(
        error
            .to_string()
            .contains("no device virtio-scsi-pci, which scsi0 needs")
    );
    let mut many = linux;
    many.set_vcpus(300);
    let error = refused(&many, |_| {});
    assert!(matches!(
        error,
        ArgumentError::TooManyVcpus { most: 255, .. }
    ));
}

#[test]
fn overrides_reach_the_arguments() {
    let mut small = domain(LINUX);
    small.set_memory_mib(256);
    small.set_vcpus(4);
    let text = line(&small, |given| given.start_paused = true);
    assert!(text.contains("-m size=262144k"));
    assert!(text.contains("-smp 4,sockets=4,dies=1,cores=1,threads=1"));
    assert!(text.contains(" -S "));
    assert_eq!(small.balloon_bytes(), None);
    assert_eq!(
        small
            .disk_at("/dev/vg/vm-42")
            .map(|disk| disk.target.as_str()),
        Some("sda")
    );
}

#[test]
fn namespaces_of_nvme_have_lasting_names() {
    let text = LINUX
        .replace(
            "dev='sda' bus='scsi'/>",
            "dev='nvme0n1' bus='nvme'/><serial>N-1</serial>",
        )
        .replace("<controller type='usb' model='none'/>", "");
    let nvme = domain(&text);
    let text = line(&nvme, |given| {
        let backing = given.disks["sda"].clone();
        given.disks.insert("nvme0n1".to_owned(), backing);
    });
    assert!(
        text.contains(r#""bootindex":1,"bus":"pci.0","driver":"nvme","id":"nvme0","serial":"N-1""#),
        "{text}"
    );
    assert!(text.contains(r#""uuid":"6f2c1d7e-0000-4000-8000-00000001002a""#));
    assert!(text.contains(r#""nsid":1"#));
}

#[test]
fn every_shipped_template_becomes_arguments_for_old_and_new_qemus() {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../templates");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory).expect("the templates") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "xml") {
            continue;
        }
        let name = path
            .file_stem()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let text = std::fs::read_to_string(&path).expect("text");
        assert!(
            text.starts_with(&format!("<!--\n  {name}: ")),
            "the head of {name}"
        );
        let domain = domain(&text);
        let main = domain
            .disk_at("/dev/vg/vm-42")
            .expect("a disk")
            .target
            .clone();
        for version in [
            Version { major: 7, minor: 2 },
            Version {
                major: 10,
                minor: 0,
            },
        ] {
            let line = line(&domain, |assignment| {
                let disk = assignment.disks.remove("sda").expect("the disk");
                assignment.disks.insert(main.clone(), disk);
                assignment.qemu = Capabilities::typical(domain.os.arch, version);
                assignment.firmware = Some(FirmwareBacking {
                    code: "/c".to_owned(),
                    vars: "/v".to_owned(),
                });
            });
            assert!(line.contains("-sandbox on"), "{name}");
        }
        names.push(name);
    }
    assert!(names.len() >= 7, "{names:?}");
}

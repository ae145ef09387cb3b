//! A guest that runs: a boot sector on the disk of the shipped template, under emulation.
//!
//! It proves the way of a byte from the disk's descriptor through the guest to the console's socket
//! and log and back, and what reboot and power-off do.

#[path = "common/machine.rs"]
#[allow(dead_code)]
mod machine;

use anyhow::{Context, Result, ensure};
use fvm_vmm::domain::{Additions, FurtherDisk, FurtherPlace, PciAddress, load_with};
use fvm_vmm::qemu::args::{disk_node_name, hot_plugged};
use fvm_vmm::qemu::pci::{Place, free_place};
use fvm_vmm::qemu::qmp::{Event, QmpError};
use fvm_vmm::qemu::{DiskBacking, ExitCause, adopt, suit};
use machine::{LIMIT, Machine, Setup, load, macros, qemu};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Instant;

/// 16-bit code that says BOOTED on the first serial line, then echoes what comes in; `r` resets the
/// machine and `s` powers it off.
#[rustfmt::skip]
const BOOT_SECTOR: [u8; 63] = [
    0x31, 0xc0,             // xor ax, ax
    0x8e, 0xd8,             // mov ds, ax
    0xfc,                   // cld
    0xbe, 0x37, 0x7c,       // mov si, 0x7c00 + message
    0xba, 0xf8, 0x03,       // mov dx, 0x3f8        the line's data
    0xac,                   // print: lodsb
    0x84, 0xc0,             // test al, al
    0x74, 0x03,             // jz echo
    0xee,                   // out dx, al
    0xeb, 0xf8,             // jmp print
    0xba, 0xfd, 0x03,       // echo: mov dx, 0x3fd  the line's status
    0xec,                   // wait: in al, dx
    0xa8, 0x01,             // test al, 1           a byte has come
    0x74, 0xfb,             // jz wait
    0xba, 0xf8, 0x03,       // mov dx, 0x3f8
    0xec,                   // in al, dx
    0xee,                   // out dx, al
    0x3c, b'r',             // cmp al, 'r'
    0x74, 0x0c,             // je reset
    0x3c, b's',             // cmp al, 's'
    0x75, 0xeb,             // jne echo
    0xba, 0x04, 0x06,       // mov dx, 0x604        ACPI's PM1a control
    0xb8, 0x00, 0x20,       // mov ax, 0x2000       sleep enable, S5
    0xef,                   // out dx, ax
    0xf4,                   // hlt
    0xba, 0xf9, 0x0c,       // reset: mov dx, 0xcf9 PIIX3's reset control
    0xb0, 0x06,             // mov al, 6            hard reset
    0xee,                   // out dx, al
    0xf4,                   // hlt
    b'B', b'O', b'O', b'T', b'E', b'D', b'\n', 0,
];

fn boot_disk(directory: &Path) -> Result<std::path::PathBuf> {
    let path = directory.join("boot.raw");
    let mut sector = [0; 512];
    sector[..BOOT_SECTOR.len()].copy_from_slice(&BOOT_SECTOR);
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    let mut file = std::fs::File::create(&path)?;
    file.write_all(&sector)?;
    file.set_len(1 << 20)?;
    Ok(path)
}

fn start(change: impl FnOnce(&mut fvm_vmm::domain::Domain)) -> Result<Option<Machine>> {
    let Some(qemu) = qemu()? else {
        return Ok(None);
    };
    let template = Path::new(env!("CARGO_MANIFEST_DIR")).join("../templates/linux.xml");
    let mut domain = load(&template)?;
    domain.set_memory_mib(64);
    change(&mut domain);
    let directory = tempfile::tempdir()?;
    let setup = Setup {
        disks: BTreeMap::from([("sda".to_owned(), boot_disk(directory.path())?)]),
        paused: true,
    };
    let mut machine = Machine::start(&qemu, &domain, setup)?;
    machine.client.cont(LIMIT)?;
    machine.wait_for_line("BOOTED", LIMIT)?;
    Ok(Some(machine))
}

fn event(machine: &mut Machine, name: &str) -> Result<Event> {
    let end = Instant::now() + LIMIT;
    while Instant::now() < end {
        if let Some(event) = machine.client.next_event(LIMIT)?
            && event.name == name
        {
            return Ok(event);
        }
    }
    anyhow::bail!("no {name}")
}

#[test]
fn a_guest_boots_from_its_disk_and_talks_on_its_console() -> Result<()> {
    let Some(mut machine) = start(|_| {})? else {
        return Ok(());
    };
    ensure!(machine.client.status(LIMIT)?.running);

    let mut console = machine.connect("serial0")?;
    console.set_read_timeout(Some(LIMIT))?;
    console.write_all(b"hello")?;
    let mut echo = [0; 5];
    console.read_exact(&mut echo)?;
    ensure!(&echo == b"hello");
    drop(console);
    // Whoever comes next is served too, and the log has it all.
    let mut console = machine.connect("serial0")?;
    console.write_all(b"again")?;
    machine.wait_for_line("BOOTED\nhelloagain", LIMIT)?;

    console.write_all(b"r")?;
    let reset = event(&mut machine, "RESET")?;
    ensure!(reset.data["guest"] == true, "{reset:?}");
    machine.wait_for_line("BOOTED\nhelloagainrBOOTED\n", LIMIT)?;

    console.write_all(b"s")?;
    let shutdown = event(&mut machine, "SHUTDOWN")?;
    ensure!(shutdown.data["reason"] == "guest-shutdown", "{shutdown:?}");
    let end = machine
        .running
        .wait(LIMIT)?
        .context("QEMU ends with its guest")?;
    ensure!(end == ExitCause::Code(0), "{end:?}");
    Ok(())
}

#[test]
fn reboot_and_power_off_do_what_the_template_says() -> Result<()> {
    use fvm_vmm::domain::LifecycleAction::{Destroy, Preserve};
    let Some(machine) = start(|domain| domain.lifecycle.on_reboot = Destroy)? else {
        return Ok(());
    };
    machine.connect("serial0")?.write_all(b"r")?;
    let end = machine.running.wait(LIMIT)?.context("a reboot ends it")?;
    ensure!(end == ExitCause::Code(0), "{end:?}");

    let kept = start(|domain| domain.lifecycle.on_poweroff = Preserve)?;
    let Some(mut kept) = kept else { return Ok(()) };
    kept.connect("serial0")?.write_all(b"s")?;
    event(&mut kept, "STOP")?;
    let status = kept.client.status(LIMIT)?;
    ensure!(status.state == "shutdown" && !status.running, "{status:?}");
    Ok(())
}

#[test]
fn a_running_guest_is_adopted_and_ended_by_another_hand() -> Result<()> {
    let Some(mut machine) = start(|_| {})? else {
        return Ok(());
    };
    let adopted = adopt(machine.running.pid(), machine.running.start_time())?;
    ensure!(adopted.try_wait()?.is_none());
    machine.client.quit(LIMIT)?;
    ensure!(adopted.wait(LIMIT)?.is_some());
    Ok(())
}

/// How often QEMU has the file open.
fn opened(machine: &Machine, file: &Path) -> Result<usize> {
    let fds = std::fs::read_dir(format!("/proc/{}/fd", machine.running.pid()))?;
    let targets = fds.filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok());
    Ok(targets.filter(|target| target == file).count())
}

#[test]
fn disks_are_plugged_into_a_running_machine_and_out_again() -> Result<()> {
    let Some(mut machine) = start(|_| {})? else {
        return Ok(());
    };
    let further = |target: &str, place| FurtherDisk {
        source: format!("/dev/vg/test-42:{target}"),
        target: target.to_owned(),
        serial: format!("serial-{target}"),
        place,
    };
    let mut layout = machine.assignment.layout.clone();
    let template = include_str!("../../templates/linux.xml");
    let (before, _) = load_with(template, &macros(), &Additions::default())?;
    let address: PciAddress = free_place(&before, &layout)?;
    let scsi = FurtherPlace::Scsi {
        controller: 0,
        unit: 1,
    };
    let additions = Additions {
        like: "/dev/vg/test-42".to_owned(),
        disks: vec![
            further("sdb", scsi),
            further("vda", FurtherPlace::Pci(address)),
        ],
    };
    let (domain, _) = load_with(template, &macros(), &additions)?;
    let place = Place {
        address,
        multifunction: false,
    };
    layout.places.insert("virtio-disk0".to_owned(), place);

    for target in ["sdb", "vda"] {
        let disk = domain
            .disk_at(&format!("/dev/vg/test-42:{target}"))
            .context("a disk")?;
        let path = machine.directory.path().canonicalize()?.join(target);
        File::create(&path)?.set_len(1 << 20)?;
        let writable = File::options().read(true).write(true).open(&path)?;
        let fds: Vec<OwnedFd> = vec![writable.into(), File::open(&path)?.into()];
        let backing = DiskBacking {
            path: String::new(),
            is_block_device: suit(&fds, disk)?,
        };
        let (node, device) = hot_plugged(&domain, &layout, disk, &backing)?;
        let plugged = machine
            .client
            .plug_disk(&fds, node.clone(), device.clone(), LIMIT);
        plugged.with_context(|| format!("{target}: {node} {device}"))?;
        let serial = machine.qom(&format!("/machine/peripheral/{}", disk.alias), "serial")?;
        ensure!(serial == format!("serial-{target}"), "{serial}");
        ensure!(opened(&machine, &path)? > 0);

        // Once more is too often, and what it had begun with is taken back.
        let before = opened(&machine, &path)?;
        // (A `device_add` that fails is another matter: QEMU then waits for its emulated processor, on a busy machine for minutes.)
        let again = machine.client.plug_disk(&fds, node, device, LIMIT);
        ensure!(matches!(again, Err(QmpError::Refused { .. })), "{again:?}");
        ensure!(opened(&machine, &path)? == before, "descriptors are left");

        let client = &mut machine.client;
        let ask =
            |client: &mut fvm_vmm::qemu::qmp::Client| client.ask_to_unplug(&disk.alias, LIMIT);
        ask(client)?;
        ask(client)?;
        if target == "vda" {
            // This guest has no driver that would let go of it.
            ensure!(client.has_device(&disk.alias, LIMIT)?);
            let closed = client.close_disk(&disk_node_name(target), LIMIT);
            ensure!(
                matches!(closed, Err(QmpError::Refused { .. })),
                "{closed:?}"
            );
            continue;
        }
        let end = Instant::now() + LIMIT;
        while client.has_device(&disk.alias, LIMIT)?
            || client.close_disk(&disk_node_name(target), LIMIT).is_err()
        {
            ensure!(Instant::now() < end, "it was not let go of");
        }
        client.close_disk(&disk_node_name(target), LIMIT)?;
        ensure!(opened(&machine, &path)? == 0, "{target} is still open");
    }
    Ok(())
}

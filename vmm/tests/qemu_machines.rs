//! Every shipped template and every domain of `tests/domains`, launched paused under emulation:
//! QEMU takes the arguments, and its devices sit where fvm says.

#![allow(clippy::print_stderr)] // A skip must be seen.

#[path = "common/machine.rs"]
#[allow(dead_code)]
mod machine;

use anyhow::{Context, Result, ensure};
use fvm_vmm::domain::{Arch, Domain, GraphicsKind, MachineKind, NicModel, PciAddress, VideoModel};
use fvm_vmm::qemu::probe::{Capabilities, Version};
use fvm_vmm::qemu::tune;
use machine::{LIMIT, Machine, Setup, load, qemu, qemu_for};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn xml_files(directory: &str) -> Result<Vec<PathBuf>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&directory).with_context(|| directory.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "xml") {
            files.push(path);
        }
    }
    files.sort();
    ensure!(!files.is_empty(), "no templates in {}", directory.display());
    Ok(files)
}

/// The place that QEMU's own object model tells for a device.
fn real_place(machine: &mut Machine, alias: &str) -> Result<PciAddress> {
    let path = format!("/machine/peripheral/{alias}");
    let address = machine.qom(&path, "addr")?;
    let bus = machine.qom(&path, "parent_bus")?;
    let bus = bus
        .as_str()
        .and_then(|bus| bus.rsplit('/').next())
        .context("a bus")?;
    let number = match bus {
        "pcie.0" => 0,
        other => other.strip_prefix("pci.").context("a PCI bus")?.parse()?,
    };
    let devfn = u8::try_from(address.as_u64().context("an address")?)?;
    Ok(PciAddress::new(number, devfn >> 3).with_function(devfn & 7))
}

/// What this machine or this QEMU does not have of what a domain needs.
fn lacking(qemu: &Capabilities, domain: &Domain) -> Option<&'static str> {
    let devices = &domain.devices;
    let spice = devices
        .graphics
        .iter()
        .any(|graphics| graphics.kind == GraphicsKind::Spice)
        || devices
            .videos
            .iter()
            .any(|video| video.model == VideoModel::Qxl);
    if domain.os.kernel.is_some() {
        Some("its kernel is /dev/null")
    } else if domain.memory.huge_pages.is_some() && free_huge_pages() == 0 {
        Some("there are no huge pages")
    } else if devices
        .iommu
        .as_ref()
        .is_some_and(|i| i.extended_interrupts == Some(true))
        && qemu.version < (Version { major: 8, minor: 1 })
    {
        Some("the emulation of this QEMU has no extended interrupts")
    } else if devices.vsock.is_some() && !Path::new("/dev/vhost-vsock").exists() {
        Some("there is no /dev/vhost-vsock")
    } else if devices
        .interfaces
        .iter()
        .any(|nic| nic.model == NicModel::Igb)
        && !qemu.has_device("igb")
    {
        Some("this QEMU has no igb")
    } else if devices.tpm.is_some() && machine::swtpm(&qemu.binary).is_none() {
        Some("there is no swtpm")
    } else if spice && !qemu.has_device("qxl") {
        Some("this QEMU has no SPICE")
    } else {
        None
    }
}

fn free_huge_pages() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("HugePages_Free:"));
    line.and_then(|number| number.trim().parse().ok())
        .unwrap_or(0)
}

fn check(path: &Path) -> Result<()> {
    let domain = load(path)?;
    let arch = domain.os.arch;
    let found = match arch {
        Arch::X86_64 => qemu()?,
        // CI has no machine of these; what libvirt makes of them is compared all the same.
        arch => qemu_for(arch)?,
    };
    let Some(qemu) = found else {
        eprintln!("SKIPPED: {}: no {}", path.display(), arch.qemu());
        return Ok(());
    };
    if let Some(lacking) = lacking(&qemu, &domain) {
        eprintln!("SKIPPED: {}: {lacking}", path.display());
        return Ok(());
    }
    let setup = Setup {
        disks: BTreeMap::new(),
        paused: true,
    };
    let mut machine = Machine::start(&qemu, &domain, setup)?;
    let status = machine.client.status(LIMIT)?;
    ensure!(status.state == "prelaunch", "the state is {}", status.state);
    let pid = machine.running.pid();
    tune::apply(&domain, pid, &mut machine.client, LIMIT)?;
    let vcpus = machine.client.vcpu_threads(LIMIT)?;
    for (vcpu, set) in &domain.tuning.vcpus {
        let thread = vcpus.get(vcpu).context("a thread")?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/task/{thread}/status"))?;
        let list: Vec<String> = set.iter().map(u32::to_string).collect();
        let line = format!("Cpus_allowed_list:\t{}\n", list.join(","));
        ensure!(
            status.contains(&line),
            "vcpu {vcpu}: no {line:?} in {status}"
        );
    }
    // What the machine has by itself has no id of ours.
    let builtin = |alias: &str| alias == "ide";
    let places = machine.assignment.layout.places.clone();
    let mut on_root = BTreeMap::new();
    for (alias, place) in &places {
        let address = place.address;
        if address.bus == 0 {
            on_root.insert((address.slot, address.function), alias.clone());
        }
        if builtin(alias) {
            continue;
        }
        let real = real_place(&mut machine, alias).with_context(|| alias.clone())?;
        ensure!(real == address, "{alias} is at {real}, not at {address}");
    }
    // And nothing else is there but what the chipset has.
    let chipset: &[(u8, u8)] = match domain.os.kind {
        MachineKind::I440fx => &[(0, 0), (1, 0), (1, 1), (1, 3)],
        MachineKind::Q35 => &[(0, 0), (0x1f, 0), (0x1f, 2), (0x1f, 3)],
        MachineKind::Virt => &[(0, 0)],
        MachineKind::Microvm | MachineKind::Pseries => &[],
    };
    let buses = machine.client.execute("query-pci", json!({}), LIMIT)?;
    let devices = buses[0]["devices"].as_array();
    ensure!(
        devices.is_some() == domain.os.kind.pci_root().is_some(),
        "{buses}"
    );
    for device in devices.into_iter().flatten() {
        // The virtual functions of a card, which are nobody's until the guest switches them on.
        if device["id"]["vendor"] == 0xffff {
            continue;
        }
        let number = |name: &str| device[name].as_u64().and_then(|n| u8::try_from(n).ok());
        let place = (
            number("slot").context("slot")?,
            number("function").context("function")?,
        );
        let ours = device["qdev_id"].as_str().filter(|id| !id.is_empty());
        match (ours, on_root.get(&place)) {
            (Some(ours), Some(expected)) => ensure!(ours == expected, "{ours} at {place:?}"),
            (None, Some(expected)) => ensure!(builtin(expected), "{expected} is missing"),
            (None, None) => ensure!(chipset.contains(&place), "{device}"),
            (Some(_), None) => ensure!(false, "unexpected {device}"),
        }
    }
    machine.client.quit(LIMIT)?;
    let end = machine.running.wait(LIMIT)?.context("QEMU ends")?;
    ensure!(end == fvm_vmm::qemu::ExitCause::Code(0), "{end:?}");
    let said = machine.log();
    // These interfaces are joined to nothing.
    let complaint = said.lines().find(|line| !line.ends_with("has no peer"));
    ensure!(complaint.is_none(), "QEMU complained: {said}");
    Ok(())
}

fn check_all(directory: &str, wanted: fn(&str) -> bool) -> Result<()> {
    let mut failures = Vec::new();
    for path in xml_files(directory)? {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if !wanted(&name) {
            continue;
        }
        if let Err(error) = check(&path) {
            failures.push(format!("{}: {error:#}", path.display()));
        }
    }
    ensure!(failures.is_empty(), "{}", failures.join("\n\n"));
    Ok(())
}

#[test]
fn shipped_templates_launch_and_their_devices_sit_where_fvm_says() -> Result<()> {
    check_all("../templates", |_| true)
}

#[test]
fn i440fx_domains_launch_and_their_devices_sit_where_fvm_says() -> Result<()> {
    check_all("tests/domains", |name| !name.starts_with("q35-"))
}

#[test]
fn q35_domains_launch_and_their_devices_sit_where_fvm_says() -> Result<()> {
    check_all("tests/domains", |name| name.starts_with("q35-"))
}

#[test]
fn a_probe_knows_the_machine_types() -> Result<()> {
    let Some(qemu) = qemu()? else {
        return Ok(());
    };
    let machine = qemu.machine("pc").context("pc")?;
    ensure!(machine.name.starts_with("pc-i440fx-"), "{machine:?}");
    ensure!(
        qemu.machine(&machine.name) == Some(machine),
        "its own name finds it"
    );
    ensure!(qemu.has_device("virtio-scsi-pci") && !qemu.has_device("no-such-device"));
    let text = serde_json::to_string(&qemu)?;
    let again = serde_json::from_str::<Value>(&text)?;
    ensure!(serde_json::from_value::<fvm_vmm::qemu::probe::Capabilities>(again)? == qemu);
    Ok(())
}

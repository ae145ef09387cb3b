//! The same machine as libvirt's: each domain of `tests/domains` has beside it what libvirt 11.3
//! (`virsh domxml-to-native qemu-argv`, QEMU 10.0, emulation) made of it, an option a line. fvm's
//! arguments must give the guest the same devices with the same properties at the same addresses.
//!
//! What differs by intent is written down in [`by_intent`], each with its reason.

#[path = "common/options.rs"]
mod options;

use anyhow::{Context, Result, ensure};
use fvm_vmm::domain::{self, DiskSource, Domain, Macros};
use fvm_vmm::qemu::pci;
use fvm_vmm::qemu::probe::{Capabilities, Version};
use fvm_vmm::qemu::{
    Accel, Assignment, DiskBacking, FirmwareBacking, NicBacking, SocketBacking, arguments,
};
use options::{Options, pairs, parse};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const QEMU: Version = Version {
    major: 10,
    minor: 0,
};

fn domains() -> Result<Vec<PathBuf>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/domains");
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "xml") {
            paths.push(path);
        }
    }
    paths.sort();
    ensure!(!paths.is_empty(), "there are no domains");
    Ok(paths)
}

fn load(path: &Path) -> Result<Domain> {
    let text = fs::read_to_string(path)?;
    let macros = Macros::new("vm", "vg", "fvm0", 42, "image");
    let (domain, _) = domain::load(&text, &macros)
        .map_err(|error| anyhow::anyhow!("{error} ({:?})", error.hint))?;
    Ok(domain)
}

/// fvm's arguments, for disks that are all /dev/null as they are in the domains.
fn ours(domain: &Domain) -> Result<Options> {
    let disks = domain
        .devices
        .disks
        .iter()
        .filter(|disk| disk.source != DiskSource::Empty);
    let backing = DiskBacking {
        path: "/dev/null".to_owned(),
        is_block_device: true,
    };
    let nics = domain.devices.interfaces.iter().map(|nic| NicBacking {
        mac: nic.mac.clone().unwrap_or_default(),
        tap_fds: vec![18],
        vhost_fds: Vec::new(),
    });
    let assignment = Assignment {
        name: domain.name.clone(),
        uuid: domain.uuid.clone().context("a uuid")?,
        accel: Accel::Tcg,
        qemu: Capabilities::typical(domain.os.arch, QEMU),
        machine: None,
        layout: pci::assign(domain)?,
        disks: disks
            .map(|disk| (disk.target.clone(), backing.clone()))
            .collect(),
        nics: nics.collect(),
        // For a TPM, if there is one.
        sockets: BTreeMap::from([(
            "tpm0".to_owned(),
            SocketBacking {
                fd: 99,
                log_path: None,
            },
        )]),
        monitors: Vec::new(),
        firmware: Some(FirmwareBacking {
            code: "CODE".to_owned(),
            vars: "VARS".to_owned(),
        }),
        fd_sets: Vec::new(),
        run_directory: PathBuf::from("/run"),
        start_paused: true,
        vsock_cid: None,
        vsock_fd: None,
    };
    Ok(parse(pairs(&arguments(domain, &assignment)?)))
}

fn libvirts(path: &Path) -> Result<Options> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let option = |line: &str| {
        let (option, value) = line.split_once(' ').unwrap_or((line, ""));
        (option.to_owned(), value.to_owned())
    };
    Ok(parse(text.lines().map(option)))
}

/// The place of a device in the guest, or its name: some of libvirt's devices have none.
fn place(id: &str, device: &Map<String, Value>) -> String {
    let text = |name: &str| device.get(name).and_then(Value::as_str);
    match (text("bus"), text("addr"), text("driver")) {
        (Some(bus), Some(address), _) => format!("at {bus} {address}"),
        (_, _, Some(chipset @ ("isa-fdc" | "pvpanic"))) => chipset.to_owned(),
        _ => id.to_owned(),
    }
}

/// A device without the names of what is behind it, and with its block node in the place of the name.
fn canonical_device(device: &Map<String, Value>, all: &Options) -> Map<String, Value> {
    let mut device = device.clone();
    for name in ["chardev", "rng", "netdev", "audiodev", "vhostfd", "id"] {
        device.remove(name);
    }
    // libvirt leaves the port to QEMU, which takes the first that is free, as fvm does.
    if device.get("driver").and_then(Value::as_str) == Some("virtconsole") {
        device.retain(|name, _| name == "driver");
    }
    // libvirt sets it by QMP when the machine is there.
    device.remove("guest-stats-polling-interval");
    // fvm says the port at which the device is by default.
    if device.get("driver").and_then(Value::as_str) == Some("pvpanic") {
        device.entry("ioport").or_insert(json!(0x505));
    }
    // QEMU has two names for some; the one for the DC-390 is libvirt's alone.
    let names = [
        ("virtio-iommu", "virtio-iommu-pci"),
        ("ahci", "ich9-ahci"),
        ("lsi", "lsi53c895a"),
        ("dc-390", "dc390"),
    ];
    for (theirs, ours) in names {
        if device.get("driver").and_then(Value::as_str) == Some(theirs) {
            device.insert("driver".to_owned(), ours.into());
        }
    }
    if let Some(node) = device.get("drive").and_then(Value::as_str) {
        let mut node = all.nodes.get(node).cloned().unwrap_or_default();
        // Whatever is between, in the end there is the protocol's node.
        while let Some(file) = node.get("file").and_then(Value::as_str) {
            node = all.nodes.get(file).cloned().unwrap_or_default();
        }
        for name in ["node-name", "filename", "auto-read-only"] {
            node.remove(name);
        }
        device.insert("drive".to_owned(), node.into());
    }
    device
}

/// What is not compared, or is another thing by intent.
fn by_intent(options: &mut Options) {
    // libvirt's secret key, for disks that it decrypts.
    options.objects.remove("masterKey0");
    // The interface to fvm, not to the guest.
    for option in ["-display", "-vnc", "-spice", "-S", "-name"] {
        options.lists.remove(option);
    }
    // fvm lets QEMU act at power-off where libvirt acts itself, and says all actions in one option.
    options.lists.remove("-no-shutdown");
    let watchdog = options.lists.remove("-watchdog-action");
    let action = options.lists.remove("-action").unwrap_or_default();
    let fired = watchdog.and_then(|list| list.get("").cloned());
    if let Some(action) = fired.or(action.get("watchdog").cloned()) {
        options
            .lists
            .insert("watchdog".to_owned(), [(String::new(), action)].into());
    }
    // Under emulation there is nothing of Hyper-V's, and some QEMUs would not start.
    if let Some(cpu) = options.lists.get_mut("-cpu") {
        cpu.retain(|name, _| !name.starts_with("hv-"));
    }
    // Without ACPI there is no such device; QEMU would warn.
    let machine = options.lists.get("-machine");
    if machine
        .and_then(|list| list.get("acpi"))
        .is_some_and(|acpi| acpi == "off")
    {
        options
            .globals
            .retain(|setting| !setting.contains(".disable_s"));
    }
    // Under emulation there is no such device; QEMU would ignore it.
    options
        .globals
        .retain(|setting| !setting.starts_with("kvm-pit."));
    // Under emulation there is no interrupt controller in the kernel.
    if let Some(machine) = options.lists.get_mut("-machine") {
        machine.remove("kernel_irqchip");
    }
    // fvm always says both; libvirt leaves out what is QEMU's default.
    if let Some(machine) = options.lists.get_mut("-machine") {
        machine
            .entry("hpet".to_owned())
            .or_insert_with(|| "on".to_owned());
        for name in ["pflash0", "pflash1"] {
            machine
                .entry(name.to_owned())
                .and_modify(|node| node.clear());
        }
    }
    if let Some(smp) = options.lists.get_mut("-smp") {
        for name in ["dies", "clusters"] {
            smp.entry(name.to_owned()).or_insert_with(|| "1".to_owned());
        }
        smp.entry("clusters".to_owned())
            .or_insert_with(|| "1".to_owned());
    }
    // The default of QEMU, which libvirt says for the watchdog that every q35 machine has.
    let reset = || [(String::new(), "reset".to_owned())].into();
    options
        .lists
        .entry("watchdog".to_owned())
        .or_insert_with(reset);
    // The firmware's files.
    options.nodes.retain(|name, _| !name.contains("pflash"));
}

fn difference(ours: &Options, theirs: &Options) -> Vec<String> {
    let mut found = Vec::new();
    let canonical = |options: &Options| -> BTreeMap<String, Value> {
        let device = |(id, device): (&String, &Map<String, Value>)| {
            let device = canonical_device(device, options);
            (place(id, &device), Value::Object(device))
        };
        options.devices.iter().map(device).collect()
    };
    compare("device", &canonical(ours), &canonical(theirs), &mut found);
    let json_of = |value: &BTreeMap<String, BTreeMap<String, String>>| -> BTreeMap<String, Value> {
        value
            .iter()
            .map(|(key, value)| (key.clone(), json!(value)))
            .collect()
    };
    compare(
        "option",
        &json_of(&ours.lists),
        &json_of(&theirs.lists),
        &mut found,
    );
    let objects = |options: &Options| -> BTreeMap<String, Value> {
        let object =
            |(id, o): (&String, &Map<String, Value>)| (id.clone(), Value::Object(o.clone()));
        options.objects.iter().map(object).collect()
    };
    compare("object", &objects(ours), &objects(theirs), &mut found);
    for setting in ours.globals.symmetric_difference(&theirs.globals) {
        found.push(format!("global {setting}"));
    }
    found
}

fn compare(
    what: &str,
    ours: &BTreeMap<String, Value>,
    theirs: &BTreeMap<String, Value>,
    found: &mut Vec<String>,
) {
    let keys: std::collections::BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
    for key in keys {
        let (our, their) = (ours.get(key), theirs.get(key));
        if our != their {
            let text = |value: Option<&Value>| value.map_or("nothing".to_owned(), Value::to_string);
            found.push(format!(
                "{what} {key}:\n    fvm     {}\n    libvirt {}",
                text(our),
                text(their)
            ));
        }
    }
}

/// A comparison that overlooks something would make the other test worthless.
#[test]
fn the_comparison_notices_every_change_of_a_device() -> Result<()> {
    let silent = ["id", "chardev", "rng", "netdev", "audiodev", "vhostfd"];
    for path in domains()? {
        let mut theirs = libvirts(&path.with_extension("libvirt"))?;
        by_intent(&mut theirs);
        for (id, device) in theirs.devices.clone() {
            let mut without = libvirts(&path.with_extension("libvirt"))?;
            by_intent(&mut without);
            without.devices.remove(&id);
            ensure!(
                !difference(&without, &theirs).is_empty(),
                "{id} of {}",
                path.display()
            );
            if device["driver"] == "virtconsole" {
                continue;
            }
            for name in device
                .keys()
                .filter(|name| !silent.contains(&name.as_str()))
            {
                without.devices.insert(id.clone(), device.clone());
                let device = without.devices.get_mut(&id).context("just inserted")?;
                device.insert(name.clone(), "another".into());
                let found = difference(&without, &theirs);
                ensure!(!found.is_empty(), "{name} of {id} of {}", path.display());
            }
        }
        for setting in theirs.globals.clone() {
            let mut without = libvirts(&path.with_extension("libvirt"))?;
            by_intent(&mut without);
            without.globals.remove(&setting);
            ensure!(!difference(&without, &theirs).is_empty(), "{setting}");
        }
    }
    Ok(())
}

#[test]
fn guests_see_the_same_machine_as_from_libvirt() -> Result<()> {
    let mut failures = Vec::new();
    for path in domains()? {
        let run = || -> Result<()> {
            let mut ours = ours(&load(&path)?)?;
            let mut theirs = libvirts(&path.with_extension("libvirt"))?;
            by_intent(&mut ours);
            by_intent(&mut theirs);
            let found = difference(&ours, &theirs);
            ensure!(found.is_empty(), "{}", found.join("\n  "));
            Ok(())
        };
        if let Err(error) = run() {
            failures.push(format!("{}\n  {error:#}", path.display()));
        }
    }
    ensure!(
        failures.is_empty(),
        "{} differ:\n{}",
        failures.len(),
        failures.join("\n")
    );
    Ok(())
}

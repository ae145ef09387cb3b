//! What fvm says of an argument's origin is true: a line of a template is changed or taken away, and
//! the arguments that change with it must be those that are said to come from it.
//!
//! Every element and attribute of the domains in `tests/domains` is taken away, and given each value
//! that any of the domains has at its place. What the machine's type decides, everything, is left out.

use anyhow::{Context, Result, ensure};
use fvm_vmm::domain::{self, DiskSource, Domain, ElementId, Macros, elements};
use fvm_vmm::qemu::pci::{self, Layout};
use fvm_vmm::qemu::probe::{Capabilities, Version};
use fvm_vmm::qemu::{
    Accel, Argument, Assignment, CommandLine, DiskBacking, FirmwareBacking, NicBacking,
    SocketBacking, command_line,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// An element, as ranges of the text.
struct Tag {
    path: String,
    parent: Option<usize>,
    whole: Range<usize>,
    /// Name with the blank before it, and value, of each attribute.
    attributes: Vec<(Range<usize>, Range<usize>)>,
    text: Option<Range<usize>>,
}

/// The elements of a text of the test domains, which are plain XML in single quotes.
fn tags(text: &str) -> Result<Vec<Tag>> {
    let (mut tags, mut open): (Vec<Tag>, Vec<usize>) = (Vec::new(), Vec::new());
    let mut at = 0;
    while let Some(found) = text[at..].find('<') {
        let start = at + found;
        if text[start..].starts_with("<!--") {
            at = start + text[start..].find("-->").context("a comment's end")? + 3;
            continue;
        }
        let end = start + text[start..].find('>').context("a tag's end")? + 1;
        at = end;
        if text[start..].starts_with("<?") {
            continue;
        }
        if text[start..].starts_with("</") {
            let closed = open.pop().context("an open element")?;
            let first = tags[closed].whole.end;
            tags[closed].whole.end = end;
            if !text[first..start].contains('<') && !text[first..start].trim().is_empty() {
                tags[closed].text = Some(first..start);
            }
            continue;
        }
        let inner = &text[start + 1..end - 1];
        let name = inner.split([' ', '/', '\n']).next().unwrap_or_default();
        let parent = open.last().copied();
        let above = parent.map_or(String::new(), |parent| tags[parent].path.clone());
        let mut attributes = Vec::new();
        let mut rest = start + 1 + name.len();
        while let Some(quote) = text[rest..end].find(['\'', '"']) {
            let mark = text.as_bytes()[rest + quote] as char;
            let value = rest + quote + 1;
            let close = value + text[value..end].find(mark).context("a quote's end")?;
            attributes.push((rest..close + 1, value..close));
            rest = close + 1;
        }
        tags.push(Tag {
            path: format!("{above}/{name}"),
            parent,
            whole: start..end,
            attributes,
            text: None,
        });
        if !inner.ends_with('/') {
            open.push(tags.len() - 1);
        }
    }
    Ok(tags)
}

fn domains() -> Result<Vec<(PathBuf, String)>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/domains");
    let mut all = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "xml") {
            all.push((path.clone(), fs::read_to_string(path)?));
        }
    }
    all.sort();
    ensure!(!all.is_empty(), "there are no domains");
    Ok(all)
}

fn load(text: &str) -> Option<Domain> {
    let macros = Macros::new("vm", "vg", "fvm0", 42, "image");
    domain::load(text, &macros).ok().map(|(domain, _)| domain)
}

/// The command line of a domain; its devices sit where those of the same name did `before`.
fn compiled(domain: &Domain, before: Option<&Layout>) -> Option<CommandLine> {
    let mut layout = pci::assign(domain).ok()?;
    if let Some(before) = before {
        layout.places.extend(before.places.clone());
        layout.bridges.clone_from(&before.bridges);
    }
    let disks = domain.devices.disks.iter();
    let disks = disks.filter(|disk| disk.source != DiskSource::Empty);
    let backing = |source: &DiskSource| DiskBacking {
        path: format!("{source:?}"),
        is_block_device: matches!(source, DiskSource::Block(_)),
    };
    let nics = domain.devices.interfaces.iter().map(|nic| NicBacking {
        mac: nic.mac.clone().unwrap_or_default(),
        tap_fds: (0..nic.queues.unwrap_or(1)).collect(),
        vhost_fds: (0..nic.queues.unwrap_or(1)).collect(),
    });
    let assignment = Assignment {
        name: "vm".to_owned(),
        uuid: "6f2c1d7e-0000-4000-8000-00000000002a".to_owned(),
        accel: Accel::Kvm,
        qemu: Capabilities::typical(
            domain.os.arch,
            Version {
                major: 10,
                minor: 0,
            },
        ),
        machine: None,
        layout,
        disks: disks
            .map(|disk| (disk.target.clone(), backing(&disk.source)))
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
            code: format!(
                "CODE of {:?} {:?}",
                domain.os.firmware.loader, domain.os.firmware.secure_boot
            ),
            vars: format!("VARS of {:?}", domain.os.firmware.vars_template),
        }),
        fd_sets: Vec::new(),
        run_directory: PathBuf::from("/run"),
        start_paused: true,
        vsock_cid: Some(3),
        vsock_fd: None,
    };
    command_line(domain, &assignment).ok()
}

/// Elements whose change moves or renames other devices: what follows from that is not theirs.
fn decides_for_others(path: &str) -> bool {
    [
        // Everything is built on it.
        "/domain/os/type",
        // Which device is which place of the order follows from all of them.
        "/domain/os/boot",
        // Its model decides how disks on it are addressed, its index their bus.
        "/domain/devices/controller",
        // The names of a machine's lines follow from the numbers of all.
        "/domain/devices/serial/target",
    ]
    .contains(&path)
        || path.starts_with("/domain/devices/hub")
}

/// Whether an argument of this kind follows from where devices sit, which stays as it was here.
fn is_of_layout(kind: &str) -> bool {
    let places = ["-bridge", "-root-port", "piix3-usb-uhci"];
    places.iter().any(|end| kind.ends_with(end))
}

/// A text that differs from another by one element or attribute.
struct Change {
    /// The element.
    number: usize,
    /// Whether it is there no more; the numbers of those after it are others then.
    gone: bool,
    text: String,
}

impl Change {
    /// Whether one of these arguments says what the element says now.
    fn said_by(&self, arguments: &[Argument]) -> bool {
        let id = ElementId(self.number as u32);
        !self.gone && arguments.iter().any(|a| a.origins.contains(&id))
    }
}

/// Whether among `others` is the same device, only elsewhere on its bus or in the boot order: the
/// free places are for those that come first.
fn moved(argument: &Argument, others: &[Argument]) -> bool {
    let device = |argument: &Argument| {
        let value = argument.value.as_deref().unwrap_or_default();
        let mut device: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(value).ok()?;
        for name in ["bus", "port", "bootindex"] {
            device.remove(name);
        }
        Some(device)
    };
    let this = device(argument);
    this.is_some() && others.iter().any(|other| device(other) == this)
}

/// Every text that differs from this one by one element or attribute.
fn changes(
    text: &str,
    tags: &[Tag],
    values: &BTreeMap<(String, String), BTreeSet<String>>,
) -> Vec<Change> {
    let mut all = Vec::new();
    let mut change = |number: usize, range: &Range<usize>, with: &str| {
        all.push(Change {
            number,
            gone: *range == tags[number].whole,
            text: [&text[..range.start], with, &text[range.end..]].concat(),
        });
    };
    for (number, tag) in tags.iter().enumerate().skip(1) {
        if decides_for_others(&tag.path) {
            continue;
        }
        // Devices are numbered by their kind: without the last one no other changes its name.
        let mut after = tags[number + 1..].iter();
        if !after.any(|other| other.path == tag.path && other.parent == tag.parent) {
            change(number, &tag.whole, "");
        }
        for (whole, value) in &tag.attributes {
            change(number, whole, "");
            let name = text[whole.clone()].split('=').next().unwrap_or_default();
            let place = (tag.path.clone(), name.trim().to_owned());
            for other in values.get(&place).into_iter().flatten() {
                change(number, value, other);
            }
        }
        if let Some(range) = &tag.text {
            let place = (tag.path.clone(), String::new());
            for other in values.get(&place).into_iter().flatten() {
                change(number, range, other);
            }
        }
    }
    all
}

/// Values that no domain has beside the ones that all have: path, attribute or nothing, value.
const FURTHER: [(&str, &str, &str); 3] = [
    ("/domain/on_poweroff", "", "preserve"),
    ("/domain/on_reboot", "", "destroy"),
    ("/domain/os/kernel", "", "/boot/another"),
];

/// What cannot be changed alone: in the domains that have it another element needs it.
const NEEDED: [(&str, &str); 2] = [
    ("/domain/iothreads", "-object iothread"),
    ("/domain/features/ioapic", "-machine"),
];

/// The values that the domains have at each place.
fn values(domains: &[(PathBuf, String)]) -> Result<BTreeMap<(String, String), BTreeSet<String>>> {
    let mut values: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
    for (path, attribute, value) in FURTHER {
        let place = (path.to_owned(), attribute.to_owned());
        values.entry(place).or_default().insert(value.to_owned());
    }
    for (_, text) in domains {
        for tag in tags(text)? {
            for (whole, value) in &tag.attributes {
                let name = text[whole.clone()].split('=').next().unwrap_or_default();
                let place = (tag.path.clone(), name.trim().to_owned());
                let known = values.entry(place).or_default();
                known.insert(text[value.clone()].to_owned());
            }
            if let Some(range) = &tag.text {
                let known = values.entry((tag.path.clone(), String::new())).or_default();
                known.insert(text[range.clone()].to_owned());
            }
        }
    }
    Ok(values)
}

/// An argument's kind: its option, and the type of what it makes.
fn kind(argument: &Argument) -> String {
    let value = argument.value.as_deref().unwrap_or_default();
    let made = serde_json::from_str::<serde_json::Value>(value).ok();
    let word = |name: &str| Some(made.as_ref()?.get(name)?.as_str()?.to_owned());
    match word("driver").or_else(|| word("qom-type")) {
        Some(word) if argument.option != "-blockdev" => format!("{} {word}", argument.option),
        _ => argument.option.clone(),
    }
}

/// The element and all that is in it.
fn with_content(tags: &[Tag], number: usize) -> BTreeSet<ElementId> {
    let inside = |other: &Tag| {
        let whole = &tags[number].whole;
        whole.start <= other.whole.start && other.whole.end <= whole.end
    };
    let numbers = (0u32..).zip(tags).filter(|(_, tag)| inside(tag));
    numbers.map(|(number, _)| ElementId(number)).collect()
}

#[test]
fn an_argument_comes_from_every_element_that_changes_it() -> Result<()> {
    let domains = domains()?;
    let values = values(&domains)?;
    let mut wrong = BTreeMap::new();
    let mut claimed = BTreeSet::new();
    let mut confirmed = BTreeSet::new();
    for (file, text) in &domains {
        let tags = tags(text)?;
        let told = elements(text)?;
        ensure!(told.len() == tags.len(), "{}: elements", file.display());
        let domain = load(text).with_context(|| file.display().to_string())?;
        let layout = pci::assign(&domain)?;
        let before = compiled(&domain, None).context("a command line")?;
        for argument in &before.arguments {
            let from = argument.origins.iter();
            let from = from.map(|id| tags[id.0 as usize].path.clone());
            claimed.extend(from.map(|path| (path, kind(argument))));
        }
        for change in changes(text, &tags, &values) {
            let Some(domain) = load(&change.text) else {
                continue;
            };
            let Some(after) = compiled(&domain, Some(&layout)) else {
                continue;
            };
            let mut left = after.arguments;
            let (own, path) = (
                with_content(&tags, change.number),
                &tags[change.number].path,
            );
            let same = |argument: &&Argument| {
                let same = |other: &Argument| {
                    (&other.option, &other.value) == (&argument.option, &argument.value)
                };
                let found = left.iter().position(same);
                found.map(|position| left.remove(position)).is_none()
            };
            let mut gone: Vec<&Argument> = Vec::new();
            gone.extend(before.arguments.iter().filter(same));
            for argument in gone {
                if !argument.origins.is_disjoint(&own) {
                    let parts = own.intersection(&argument.origins);
                    let parts = parts.map(|id| tags[id.0 as usize].path.clone());
                    confirmed.extend(parts.map(|path| (path, kind(argument))));
                } else if !change.said_by(&left) && !moved(argument, &left) {
                    let place = (path.clone(), kind(argument));
                    let told = || format!("{}\n  {argument:?}\n  {left:?}", file.display());
                    wrong.entry(place).or_insert_with(told);
                }
            }
        }
    }
    ensure!(
        wrong.is_empty(),
        "{} changes are said to come from elsewhere:\n{wrong:#?}",
        wrong.len()
    );
    let idle: Vec<_> = claimed
        .difference(&confirmed)
        .filter(|(path, kind)| !decides_for_others(path) && !is_of_layout(kind))
        .filter(|(path, kind)| !NEEDED.contains(&(path.as_str(), kind.as_str())))
        .collect();
    ensure!(
        idle.is_empty(),
        "nothing confirms {}: {idle:#?}",
        idle.len()
    );
    Ok(())
}

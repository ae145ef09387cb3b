//! What the guest's firmware hands it: the tables of SMBIOS, read with dmidecode, and entries of fw_cfg.

use super::error::Result;
use super::node::Node;
use super::origin::Origin;

/// One table: its type in the standard, and its entries by QEMU's names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmbiosTable {
    /// Where it stands in the template.
    pub origin: Origin,
    /// The type: 0 BIOS, 1 system, 2 base board, 3 chassis, 11 vendor strings.
    pub kind: u8,
    /// Names and values.
    pub entries: Vec<(String, String)>,
}

/// An element of `<sysinfo>`, its table's type, and the entries that it may have.
type Block = (&'static str, u8, &'static [&'static str]);

const BLOCKS: [Block; 4] = [
    ("bios", 0, &["vendor", "version", "date", "release"]),
    (
        "system",
        1,
        &[
            "manufacturer",
            "product",
            "version",
            "serial",
            "sku",
            "family",
        ],
    ),
    (
        "baseBoard",
        2,
        &[
            "manufacturer",
            "product",
            "version",
            "serial",
            "asset",
            "location",
        ],
    ),
    (
        "chassis",
        3,
        &["manufacturer", "version", "serial", "asset", "sku"],
    ),
];

/// The longest value that is passed on.
const MAX_VALUE: usize = 255;

/// An entry of QEMU's firmware configuration device, which Linux shows below `/sys/firmware/qemu_fw_cfg`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirmwareEntry {
    /// Where it stands in the template.
    pub origin: Origin,
    /// Its name, which begins with `opt/`.
    pub name: String,
    /// What is in it.
    pub value: String,
}

/// The longest name that QEMU takes.
const MAX_NAME: usize = 55;

/// Reads every `<sysinfo>`; the guest gets tables only if `<os><smbios mode='sysinfo'/>` says so.
pub(crate) fn read(
    domain: &Node<'_>,
    wanted: bool,
) -> Result<(Vec<SmbiosTable>, Vec<FirmwareEntry>)> {
    let (mut tables, mut entries) = (Vec::new(), Vec::new());
    domain.each("sysinfo", |sysinfo| {
        let is_smbios = sysinfo
            .need("type")?
            .choice(&[("smbios", true), ("fwcfg", false)])?;
        if !is_smbios {
            entries.extend(sysinfo.each("entry", firmware_entry)?);
            return Ok(());
        }
        if !tables.is_empty() {
            return Err(sysinfo.refuse("tables of SMBIOS may be given only once"));
        }
        for (name, kind, known) in BLOCKS {
            tables.extend(sysinfo.each(name, |block| table(block, kind, known))?);
        }
        let strings = sysinfo.child("oemStrings", |strings| {
            let entry = |entry: &Node<'_>| Ok(("value".to_owned(), value(entry)?));
            Ok(SmbiosTable {
                origin: strings.origin(),
                kind: 11,
                entries: strings.each("entry", entry)?,
            })
        })?;
        tables.extend(strings);
        if !wanted {
            sysinfo.warn("the guest does not get it without <os><smbios mode='sysinfo'/></os>");
        }
        Ok(())
    })?;
    if !wanted {
        tables.clear();
    }
    Ok((tables, entries))
}

fn firmware_entry(entry: &Node<'_>) -> Result<FirmwareEntry> {
    let name = entry.need("name")?;
    let plain = |c: char| c.is_ascii_graphic();
    let text = name.str();
    if !text.starts_with("opt/") || text.len() > MAX_NAME || !text.chars().all(plain) {
        return Err(name.refuse(format!(
            "a name begins with `opt/` and has at most {MAX_NAME} printable characters"
        )));
    }
    Ok(FirmwareEntry {
        origin: entry.origin(),
        name: text.to_owned(),
        value: entry.text().non_empty()?,
    })
}

fn table(block: &Node<'_>, kind: u8, known: &[&str]) -> Result<SmbiosTable> {
    let mut given = block.each("entry", |entry| {
        let name = entry.need("name")?;
        let choices: Vec<(&str, &str)> = known.iter().map(|name| (*name, *name)).collect();
        Ok((name.choice(&choices)?.to_owned(), value(entry)?))
    })?;
    // In the order in which libvirt writes them.
    given.sort_by_key(|(name, _)| known.iter().position(|known| known == name));
    if given.windows(2).any(|two| two[0].0 == two[1].0) {
        return Err(block.refuse("an entry is given twice"));
    }
    Ok(SmbiosTable {
        origin: block.origin(),
        kind,
        entries: given,
    })
}

fn value(entry: &Node<'_>) -> Result<String> {
    let text = entry.text();
    if text.str().len() > MAX_VALUE {
        return Err(text.refuse(format!("at most {MAX_VALUE} bytes")));
    }
    text.non_empty()
}

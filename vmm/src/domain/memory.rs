//! Memory: how much, what it is made of, and its nodes.

use super::error::{Result, TemplateError};
use super::node::{Node, Value};
use super::origin::Origin;
use std::collections::BTreeSet;

/// How much memory the guest has, and what it is on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memory {
    /// What the machine is built with, in KiB.
    pub total_kib: u64,
    /// What the balloon leaves the guest, in KiB; never more than the total.
    pub current_kib: u64,
    /// Whether pages may not be merged with those of other VMs.
    pub nosharepages: bool,
    /// Whether it is a file in memory, which other processes can map.
    pub memfd: bool,
    /// Whether other processes see what the guest writes; `None` leaves it to QEMU.
    pub shared: Option<bool>,
    /// Whether all of it is taken at the start.
    pub preallocated: bool,
    /// Huge pages, of this size in KiB or of the host's usual one.
    pub huge_pages: Option<Option<u64>>,
    /// The nodes that it is divided into; none means one.
    pub nodes: Vec<MemoryNode>,
}

/// A node of memory and processors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryNode {
    /// Where it stands in the template.
    pub origin: Origin,
    /// Its number.
    pub id: u32,
    /// Its processors, as ranges of first and last.
    pub cpus: Vec<(u32, u32)>,
    /// Its memory in KiB.
    pub memory_kib: u64,
    /// Whether other processes see what the guest writes, if it differs from the rest.
    pub shared: Option<bool>,
    /// The distances to other nodes: their number, and 10 for the own.
    pub distances: Vec<(u32, u8)>,
}

/// Reads the sizes and the backing; the nodes come with the processor, from [`nodes`].
pub(crate) fn read(domain: &Node<'_>) -> Result<Memory> {
    let total_kib = domain.need_child("memory", |node| {
        let kib = kib(node)?;
        if kib < 1024 {
            return Err(node.refuse("a machine needs at least 1 MiB of memory"));
        }
        Ok(kib)
    })?;
    let current = domain.child("currentMemory", |node| {
        let kib = kib(node)?;
        if kib > total_kib {
            return Err(node.refuse("currentMemory is more than memory"));
        }
        Ok(kib)
    })?;
    let mut memory = Memory {
        // QEMU builds machines of whole MiB.
        total_kib: total_kib.div_ceil(1024) * 1024,
        // libvirt writes 0 for "as much as there is".
        current_kib: current.filter(|kib| *kib > 0).unwrap_or(total_kib),
        nosharepages: false,
        memfd: false,
        shared: None,
        preallocated: false,
        huge_pages: None,
        nodes: Vec::new(),
    };
    domain.child("memoryBacking", |node| backing(node, &mut memory))?;
    Ok(memory)
}

fn backing(node: &Node<'_>, memory: &mut Memory) -> Result<()> {
    memory.nosharepages = node.flag("nosharepages")?;
    memory.huge_pages = node.child("hugepages", |pages| {
        pages.child("page", |page| {
            let unit = page
                .attr("unit")
                .map_or(Ok(1024), |unit| unit_bytes(&unit))?;
            let size = page.need("size")?;
            let bytes = u128::from(size.number::<u64>()?) * unit;
            match u64::try_from(bytes / 1024) {
                // What x86 processors have.
                Ok(kib @ (2048 | 1_048_576)) if bytes % 1024 == 0 => Ok(kib),
                _ => Err(size.refuse("huge pages are of 2 MiB or 1 GiB")),
            }
        })
    })?;
    let memfd = node.child("source", |source| {
        source
            .need("type")?
            .choice(&[("anonymous", false), ("memfd", true)])
    })?;
    memory.memfd = memfd.unwrap_or(false);
    memory.shared = node.child("access", |access| {
        access
            .need("mode")?
            .choice(&[("shared", true), ("private", false)])
    })?;
    let immediate = node.child("allocation", |allocation| {
        allocation
            .need("mode")?
            .choice(&[("immediate", true), ("ondemand", false)])
    })?;
    // Huge pages that are missing must be noticed at the start, not when the guest touches them.
    memory.preallocated = immediate.unwrap_or(false) || memory.huge_pages.is_some();
    // Given back when the VM ends, which memory without a file always is.
    node.flag("discard")?;
    Ok(())
}

/// Reads `<numa>` of the processor.
pub(crate) fn nodes(cpu: &Node<'_>, vcpus: u32) -> Result<Vec<MemoryNode>> {
    let nodes = cpu.child("numa", |numa| {
        let mut next = 0;
        let cells = numa.each("cell", |cell| {
            let id = cell.attr("id").map_or(Ok(next), |id| id.address(127))?;
            next = id + 1;
            read_node(cell, id)
        })?;
        check(numa, &cells, vcpus)?;
        Ok(cells)
    })?;
    Ok(nodes.unwrap_or_default())
}

fn read_node(cell: &Node<'_>, id: u32) -> Result<MemoryNode> {
    let unit = cell
        .attr("unit")
        .map_or(Ok(1024), |unit| unit_bytes(&unit))?;
    let memory = cell.need("memory")?;
    let kib = amount(&memory, unit)?;
    let distances = cell.child("distances", |distances| {
        distances.each("sibling", |sibling| {
            let value = sibling.need("value")?;
            match value.number()? {
                distance @ 10..=254 => Ok((sibling.need("id")?.address(127)?, distance)),
                _ => Err(value.refuse("a distance is from 10 to 254")),
            }
        })
    })?;
    let shared = cell
        .attr("memAccess")
        .map(|value| value.choice(&[("shared", true), ("private", false)]));
    let cpus = match cell.attr("cpus") {
        None => Vec::new(),
        Some(value) => ranges(&value)?,
    };
    Ok(MemoryNode {
        origin: cell.origin(),
        id,
        cpus,
        memory_kib: kib.div_ceil(1024) * 1024,
        shared: shared.transpose()?,
        distances: distances.unwrap_or_default(),
    })
}

/// A list of numbers and ranges: `0-3,8`.
fn ranges(value: &Value<'_>) -> Result<Vec<(u32, u32)>> {
    let refuse = || value.refuse(format!("{:?} is not a list like 0-3,8", value.str()));
    let part = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        (first <= last && last < 4096).then_some((first, last))
    };
    let parts = value
        .str()
        .split(',')
        .map(|text| part(text).ok_or_else(refuse));
    let mut ranges: Vec<(u32, u32)> = parts.collect::<Result<_>>()?;
    ranges.sort_unstable();
    let mut merged: Vec<(u32, u32)> = Vec::new();
    for (first, last) in ranges {
        match merged.last_mut() {
            Some(before) if before.1 + 1 == first => before.1 = last,
            _ => merged.push((first, last)),
        }
    }
    Ok(merged)
}

/// Every processor belongs to one node, and every node is given once.
fn check(
    numa: &Node<'_>,
    nodes: &[MemoryNode],
    vcpus: u32,
) -> std::result::Result<(), TemplateError> {
    let ids: BTreeSet<u32> = nodes.iter().map(|node| node.id).collect();
    if ids.len() < nodes.len() || ids.last().is_some_and(|last| *last as usize >= nodes.len()) {
        return Err(numa.refuse("the cells must be numbered from 0 without gaps"));
    }
    let known = |(id, _): &(u32, u8)| ids.contains(id);
    if !nodes.iter().all(|node| node.distances.iter().all(known)) {
        return Err(numa.refuse("a distance is to a cell that does not exist"));
    }
    let all = nodes.iter().flat_map(|node| &node.cpus);
    let mut cpus: Vec<u32> = all.flat_map(|(first, last)| *first..=*last).collect();
    cpus.sort_unstable();
    if !cpus.iter().copied().eq(0..vcpus) {
        return Err(numa.refuse(format!(
            "the cells must have each of the {vcpus} processors exactly once"
        )));
    }
    Ok(())
}

/// Reads an amount of memory with its unit, KiB without one, and rounds it up to KiB.
fn kib(node: &Node<'_>) -> Result<u64> {
    let unit = node
        .attr("unit")
        .map_or(Ok(1024), |unit| unit_bytes(&unit))?;
    amount(&node.text(), unit)
}

fn amount(text: &Value<'_>, unit: u128) -> Result<u64> {
    let bytes = u128::from(text.number::<u64>()?) * unit;
    u64::try_from(bytes.div_ceil(1024))
        .ok()
        .filter(|kib| *kib < 1 << 42)
        .ok_or_else(|| text.refuse("so much memory cannot be addressed"))
}

fn unit_bytes(unit: &Value<'_>) -> Result<u128> {
    unit.choice(&[
        ("b", 1),
        ("bytes", 1),
        ("KB", 1000),
        ("k", 1 << 10),
        ("KiB", 1 << 10),
        ("MB", 1_000_000),
        ("M", 1 << 20),
        ("MiB", 1 << 20),
        ("GB", 1_000_000_000),
        ("G", 1 << 30),
        ("GiB", 1 << 30),
        ("TB", 1_000_000_000_000),
        ("T", 1 << 40),
        ("TiB", 1 << 40),
    ])
}

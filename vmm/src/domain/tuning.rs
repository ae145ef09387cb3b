//! Which of the host's processors serve a machine, and how much of their time: `<cputune>` and `vcpu/@cpuset`.

use super::error::Result;
use super::node::{Node, Value};
use super::system::Vcpus;
use std::collections::{BTreeMap, BTreeSet};

/// Numbers of the host's processors.
pub type CpuSet = BTreeSet<u32>;

/// What is said of the host's processors.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tuning {
    /// Where everything runs that is not named below.
    pub all: Option<CpuSet>,
    /// Where each virtual processor runs.
    pub vcpus: BTreeMap<u32, CpuSet>,
    /// Where QEMU's own threads run.
    pub emulator: Option<CpuSet>,
    /// Where each of the threads for disks runs.
    pub iothreads: BTreeMap<u32, CpuSet>,
    /// The machine's share of busy processors, from 1 to 10000; others have 100.
    pub weight: Option<u32>,
    /// The most time that it gets of all processors together.
    pub quota: Option<Quota>,
}

/// So much time in each period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Processor time in µs.
    pub quota_us: u64,
    /// The period in µs.
    pub period_us: u64,
}

impl Tuning {
    /// Whether threads must be bound once QEMU runs.
    pub fn binds(&self) -> bool {
        self.all.is_some()
            || self.emulator.is_some()
            || !self.vcpus.is_empty()
            || !self.iothreads.is_empty()
    }

    /// The highest number of a processor that is named.
    pub fn highest_cpu(&self) -> Option<u32> {
        let bound = self.vcpus.values().chain(self.iothreads.values());
        let all = bound.chain(&self.all).chain(&self.emulator);
        all.filter_map(|set| set.last().copied()).max()
    }
}

/// Reads `<cputune>`; `all` is `vcpu/@cpuset`, which stands beside the number of processors.
pub(crate) fn read(
    domain: &Node<'_>,
    vcpus: Vcpus,
    all: Option<CpuSet>,
    iothreads: u32,
) -> Result<Tuning> {
    let mut tuning = Tuning {
        all,
        ..Tuning::default()
    };
    domain.child("cputune", |node| {
        tuning.vcpus = pins(node, "vcpupin", "vcpu", 0..vcpus.max)?;
        tuning.iothreads = pins(node, "iothreadpin", "iothread", 1..iothreads + 1)?;
        tuning.emulator = node.child("emulatorpin", |pin| cpus(&pin.need("cpuset")?))?;
        tuning.weight = match node.child_text("shares")? {
            None => None,
            Some(value) => match value.number()? {
                // What the kernel's cgroup v2 has.
                weight @ 1..=10_000 => Some(weight),
                _ => return Err(value.refuse("must be from 1 to 10000")),
            },
        };
        tuning.quota = quota(node)?;
        Ok(())
    })?;
    Ok(tuning)
}

fn pins(
    node: &Node<'_>,
    element: &str,
    attribute: &str,
    known: std::ops::Range<u32>,
) -> Result<BTreeMap<u32, CpuSet>> {
    let mut pins = BTreeMap::new();
    node.each(element, |pin| {
        let number = pin.need(attribute)?;
        let index = number.number()?;
        if !known.contains(&index) {
            return Err(number.refuse(format!("there is no {attribute} {index}")));
        }
        if pins.insert(index, cpus(&pin.need("cpuset")?)?).is_some() {
            return Err(number.refuse(format!("{attribute} {index} is bound twice")));
        }
        Ok(())
    })?;
    Ok(pins)
}

/// The limit of the whole machine; those of single threads would need a cgroup for each.
fn quota(node: &Node<'_>) -> Result<Option<Quota>> {
    let period = node.child_text("global_period")?;
    let quota = node.child_text("global_quota")?;
    let Some(quota) = quota else {
        return match period {
            Some(period) => Err(period.refuse("a period without <global_quota> limits nothing")),
            None => Ok(None),
        };
    };
    let period_us = match &period {
        None => 100_000,
        Some(value) => match value.number()? {
            period @ 1_000..=1_000_000 => period,
            _ => return Err(value.refuse("must be from 1000 to 1000000 microseconds")),
        },
    };
    match quota.number::<i64>()? {
        // libvirt's word for no limit.
        ..=-1 => Ok(None),
        us @ 1_000..=17_592_186_044_415 => Ok(Some(Quota {
            quota_us: us.unsigned_abs(),
            period_us,
        })),
        _ => Err(quota.refuse("must be at least 1000 microseconds, or -1 for no limit")),
    }
}

/// Reads `0-3,^2,8`.
pub(crate) fn cpus(value: &Value<'_>) -> Result<CpuSet> {
    let wrong = || {
        value.refuse_with(
            format!("{:?} is not a set of processors", value.str()),
            "write numbers and ranges like 0-3,8; ^2 takes one out again",
        )
    };
    let mut set = CpuSet::new();
    for part in value.str().split(',').map(str::trim) {
        let number = |text: &str| match text.parse::<u32>() {
            // The kernel knows no higher one.
            Ok(number) if number < 8192 => Ok(number),
            _ => Err(wrong()),
        };
        if let Some(out) = part.strip_prefix('^') {
            set.remove(&number(out)?);
        } else if let Some((first, last)) = part.split_once('-') {
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(wrong());
            }
            set.extend(first..=last);
        } else {
            set.insert(number(part)?);
        }
    }
    if set.is_empty() {
        return Err(wrong());
    }
    Ok(set)
}

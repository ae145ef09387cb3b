//! How much a disk may read and write in a second: libvirt's `<iotune>`.

use crate::domain::error::Result;
use crate::domain::node::Node;

/// The limit of one kind of traffic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IoLimit {
    /// How much a second, over any length of time.
    pub per_s: u64,
    /// How much a second in a burst; without one a tenth of a second's worth can come at once.
    pub burst_per_s: Option<u64>,
    /// How long a burst may last, in seconds.
    pub burst_s: Option<u64>,
}

/// The limits of a disk, 0 being none. Bytes and operations are limited each by themselves; either reading and writing
/// together or each of the two.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IoLimits {
    /// Bytes: both ways, reading, writing.
    pub bytes: [IoLimit; 3],
    /// Operations: both ways, reading, writing.
    pub operations: [IoLimit; 3],
    /// The size in bytes from which an operation counts as several.
    pub operation_bytes: Option<u64>,
    /// Disks with the same group share the limits.
    pub group: Option<String>,
}

/// Reads `<iotune>`.
pub(crate) fn limits(node: &Node<'_>) -> Result<IoLimits> {
    Ok(IoLimits {
        bytes: of(node, "bytes")?,
        operations: of(node, "iops")?,
        operation_bytes: number(node, "size_iops_sec")?,
        group: node
            .child_text("group_name")?
            .map(|value| value.non_empty())
            .transpose()?,
    })
}

fn of(node: &Node<'_>, what: &str) -> Result<[IoLimit; 3]> {
    let limit = |direction: &str| -> Result<IoLimit> {
        let name = format!("{direction}_{what}_sec");
        let limit = IoLimit {
            per_s: number(node, &name)?.unwrap_or(0),
            burst_per_s: number(node, &format!("{name}_max"))?,
            burst_s: number(node, &format!("{name}_max_length"))?,
        };
        match limit.burst_per_s {
            Some(burst) if burst <= limit.per_s || limit.per_s == 0 => Err(node.refuse(format!(
                "{name}_max is for bursts: it must be more than {name}, which must be given"
            ))),
            None if limit.burst_s.is_some() => Err(node.refuse(format!(
                "{name}_max_length is the length of bursts that {name}_max allows, which is missing"
            ))),
            _ => Ok(limit),
        }
    };
    let limits = [limit("total")?, limit("read")?, limit("write")?];
    if limits[0].per_s > 0 && limits[1..].iter().any(|limit| limit.per_s > 0) {
        return Err(node.refuse(format!(
            "total_{what}_sec excludes read_{what}_sec and write_{what}_sec"
        )));
    }
    Ok(limits)
}

fn number(node: &Node<'_>, name: &str) -> Result<Option<u64>> {
    let Some(value) = node.child_text(name)? else {
        return Ok(None);
    };
    // QEMU's own bound.
    match value.number()? {
        number @ 0..=1_000_000_000_000_000 => Ok((number > 0).then_some(number)),
        _ => Err(value.refuse("at most 1000000000000000")),
    }
}

//! Threads, limits and cables: what is set once QEMU runs.

use super::{Client, QmpError, Wait};
use crate::domain::{IoLimit, IoLimits};
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, time::Duration};

impl Client {
    /// The thread of each virtual processor.
    pub fn vcpu_threads(&mut self, limit: Duration) -> Result<BTreeMap<u32, u32>, QmpError> {
        self.threads("query-cpus-fast", limit, |cpu| number(&cpu["cpu-index"]))
    }

    /// The thread of each `iothreadN` that works for disks.
    pub fn iothreads(&mut self, limit: Duration) -> Result<BTreeMap<u32, u32>, QmpError> {
        self.threads("query-iothreads", limit, |thread| {
            thread["id"]
                .as_str()?
                .strip_prefix("iothread")?
                .parse()
                .ok()
        })
    }

    fn threads(
        &mut self,
        command: &'static str,
        limit: Duration,
        index: impl Fn(&Value) -> Option<u32>,
    ) -> Result<BTreeMap<u32, u32>, QmpError> {
        let reply = self.execute(command, json!({}), limit)?;
        let all = reply.as_array().map(Vec::as_slice).unwrap_or_default();
        let thread = |one: &Value| Some((index(one)?, number(&one["thread-id"])?));
        all.iter()
            .map(thread)
            .collect::<Option<_>>()
            .ok_or_else(|| Wait::new(command, limit).malformed("no thread"))
    }

    /// Plugs the cable of the network card `alias` in or out.
    pub fn set_link(&mut self, alias: &str, up: bool, limit: Duration) -> Result<(), QmpError> {
        let arguments = json!({"name": alias, "up": up});
        self.execute("set_link", arguments, limit).map(drop)
    }

    /// Limits what a disk, known by its id or its place in QEMU's object model, reads and writes in a second.
    pub fn limit_disk(
        &mut self,
        disk: &str,
        limits: &IoLimits,
        limit: Duration,
    ) -> Result<(), QmpError> {
        let arguments = Value::Object(throttle(disk, limits));
        self.execute("block_set_io_throttle", arguments, limit)
            .map(drop)
    }
}

/// The arguments of `block_set_io_throttle`, by QEMU's names.
fn throttle(disk: &str, limits: &IoLimits) -> Map<String, Value> {
    let mut all = Map::new();
    all.insert("id".to_owned(), disk.into());
    for (kind, both) in [("bps", &limits.bytes), ("iops", &limits.operations)] {
        for (direction, one) in ["", "_rd", "_wr"].iter().zip(both) {
            let name = format!("{kind}{direction}");
            let IoLimit {
                per_s,
                burst_per_s,
                burst_s,
            } = one;
            if let Some(burst) = burst_per_s {
                all.insert(format!("{name}_max"), (*burst).into());
            }
            if let Some(length) = burst_s {
                all.insert(format!("{name}_max_length"), (*length).into());
            }
            all.insert(name, (*per_s).into());
        }
    }
    if let Some(bytes) = limits.operation_bytes {
        all.insert("iops_size".to_owned(), bytes.into());
    }
    if let Some(group) = &limits.group {
        all.insert("group".to_owned(), group.as_str().into());
    }
    all
}

fn number(value: &Value) -> Option<u32> {
    value.as_u64()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_have_qemus_names() {
        let limits = IoLimits {
            bytes: [
                IoLimit {
                    per_s: 1000,
                    burst_per_s: Some(2000),
                    burst_s: Some(3),
                },
                IoLimit::default(),
                IoLimit::default(),
            ],
            operation_bytes: Some(4096),
            ..IoLimits::default()
        };
        let expected = json!({
            "id": "virtio-disk0",
            "bps": 1000, "bps_max": 2000, "bps_max_length": 3, "bps_rd": 0, "bps_wr": 0,
            "iops": 0, "iops_rd": 0, "iops_wr": 0, "iops_size": 4096,
        });
        assert_eq!(Value::Object(throttle("virtio-disk0", &limits)), expected);
    }
}

//! Disks that come and go while the machine runs.

use super::{Client, QmpError, Wait};
use serde_json::{Value, json};
use std::{
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

/// The path by which QEMU opens a set of descriptors, without the set's number.
const FD_SET: &str = "/dev/fdset/";

impl Client {
    /// Plugs a disk in: its descriptors, a block node on them, and the device on that; none is there if this fails.
    pub fn plug_disk(
        &mut self,
        fds: &[OwnedFd],
        mut node: Value,
        device: Value,
        limit: Duration,
    ) -> Result<(), QmpError> {
        let path = self.add_fds(fds, limit)?;
        let name = node["node-name"].clone();
        node["filename"] = path.as_str().into();
        let plugged = match self.execute("blockdev-add", node, limit) {
            Ok(_) => self.execute("device_add", device, limit).inspect_err(|_| {
                // What went wrong first is what counts.
                let _ = self.execute("blockdev-del", json!({"node-name": name}), limit);
            }),
            failed => failed,
        };
        plugged.map(drop).inspect_err(|_| {
            let _ = self.remove_fds(&path, limit);
        })
    }

    /// Gives QEMU descriptors of one file; returns the path by which it opens them.
    fn add_fds(&mut self, fds: &[OwnedFd], limit: Duration) -> Result<String, QmpError> {
        let command = "add-fd";
        let mut path: Option<String> = None;
        for fd in fds {
            let set = path.as_deref().and_then(set_number);
            let arguments = set.map_or_else(|| json!({}), |set| json!({"fdset-id": set}));
            let added = self
                .execute_with(command, arguments, Some(fd.as_fd()), limit)
                .and_then(|reply| {
                    let set = reply["fdset-id"].as_u64();
                    set.ok_or_else(|| Wait::new(command, limit).malformed("no number of a set"))
                });
            match added {
                Ok(set) => path = Some(format!("{FD_SET}{set}")),
                Err(error) => {
                    if let Some(path) = path {
                        let _ = self.remove_fds(&path, limit);
                    }
                    return Err(error);
                }
            }
        }
        Ok(path.unwrap_or_default())
    }

    /// Has QEMU close a set of descriptors, as soon as nothing uses them.
    fn remove_fds(&mut self, path: &str, limit: Duration) -> Result<(), QmpError> {
        let Some(set) = set_number(path) else {
            return Ok(());
        };
        self.execute("remove-fd", json!({"fdset-id": set}), limit)
            .map(drop)
    }

    /// Asks the guest to let go of a device. That it was asked before, or has let go, is fine.
    pub fn ask_to_unplug(&mut self, alias: &str, limit: Duration) -> Result<(), QmpError> {
        match self.execute("device_del", json!({"id": alias}), limit) {
            Err(QmpError::Refused {
                class, description, ..
            }) if class == "DeviceNotFound" || description.contains("process of unplug") => Ok(()),
            other => other.map(drop),
        }
    }

    /// Whether there is a device of this name.
    pub fn has_device(&mut self, alias: &str, limit: Duration) -> Result<bool, QmpError> {
        let reply = self.execute("qom-list", json!({"path": "/machine/peripheral"}), limit)?;
        let devices = reply.as_array().map(Vec::as_slice).unwrap_or_default();
        Ok(devices.iter().any(|device| device["name"] == alias))
    }

    /// Has QEMU close a disk that no device has any more; that it is closed is fine.
    pub fn close_disk(&mut self, node: &str, limit: Duration) -> Result<(), QmpError> {
        let Some(found) = self.block_node(node, limit)? else {
            return Ok(());
        };
        self.execute("blockdev-del", json!({"node-name": node}), limit)?;
        self.remove_fds(found["file"].as_str().unwrap_or_default(), limit)
    }
}

fn set_number(path: &str) -> Option<u64> {
    path.strip_prefix(FD_SET)?.parse().ok()
}

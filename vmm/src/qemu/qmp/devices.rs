//! What QEMU is asked and told about its devices.

use super::{Client, QmpError, Wait};
use serde_json::{Value, json};
use std::{os::fd::BorrowedFd, time::Duration};

impl Client {
    /// Lets the guest see that a disk has grown to `bytes`; nothing to do if it is as large already.
    pub fn grow_disk(&mut self, node: &str, bytes: u64, limit: Duration) -> Result<(), QmpError> {
        if self.disk_bytes(node, limit)? >= bytes {
            return Ok(());
        }
        let arguments = json!({"node-name": node, "size": bytes});
        self.execute("block_resize", arguments, limit).map(drop)
    }

    /// How large QEMU takes a disk to be.
    fn disk_bytes(&mut self, node: &str, limit: Duration) -> Result<u64, QmpError> {
        self.block_node(node, limit)?
            .and_then(|found| found["image"]["virtual-size"].as_u64())
            .ok_or_else(|| {
                Wait::new("query-named-block-nodes", limit).malformed("no size of the disk")
            })
    }

    /// What QEMU says of the block node `name`, if there is one.
    pub(super) fn block_node(
        &mut self,
        name: &str,
        limit: Duration,
    ) -> Result<Option<Value>, QmpError> {
        let command = "query-named-block-nodes";
        let reply = self.execute(command, json!({"flat": true}), limit)?;
        let nodes = reply.as_array().map(Vec::as_slice).unwrap_or_default();
        Ok(nodes
            .iter()
            .find(|found| found["node-name"] == name)
            .cloned())
    }

    /// Plugs in a network card: the host's end `netdev`, whose id is also the name of its tap, and the device on that. What was
    /// done is undone if it fails.
    pub fn plug_card(
        &mut self,
        id: &str,
        netdev: Value,
        device: Value,
        tap: BorrowedFd<'_>,
        limit: Duration,
    ) -> Result<(), QmpError> {
        let name = json!({"fdname": id});
        self.execute_with("getfd", name.clone(), Some(tap), limit)?;
        if let Err(error) = self.execute("netdev_add", netdev, limit) {
            // Then the descriptor may still be there, and is closed.
            let _ = self.execute("closefd", name, limit);
            return Err(error);
        }
        match self.execute("device_add", device, limit) {
            Ok(_) => Ok(()),
            Err(error) => {
                let _ = self.delete_netdev(id, limit);
                Err(error)
            }
        }
    }

    /// Takes the host's end of a network card away, which itself is gone; that it is away is fine.
    pub fn delete_netdev(&mut self, id: &str, limit: Duration) -> Result<(), QmpError> {
        match self.execute("netdev_del", json!({"id": id}), limit) {
            Err(QmpError::Refused { class, .. }) if class == "DeviceNotFound" => Ok(()),
            other => other.map(drop),
        }
    }

    /// Whether a program in the guest has the port open whose character device is `id`; not, where there is none.
    pub fn is_port_open(&mut self, id: &str, limit: Duration) -> Result<bool, QmpError> {
        let reply = self.execute("query-chardev", json!({}), limit)?;
        let devices = reply.as_array().map(Vec::as_slice).unwrap_or_default();
        let found = devices.iter().find(|device| device["label"] == id);
        Ok(found.is_some_and(|device| device["frontend-open"] == true))
    }
}

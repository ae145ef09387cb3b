//! A machine's keyboard and screen.

use super::{Client, QmpError};
use serde_json::{Value, json};
use std::{path::Path, time::Duration};

/// How long a key is held down: what QEMU takes by itself, too.
const HOLD_MS: u64 = 100;

impl Client {
    /// Presses keys together and lets them go; `keys` are QEMU's names. QEMU queues what comes while keys are held.
    pub fn send_key(&mut self, keys: &[&str], limit: Duration) -> Result<(), QmpError> {
        let keys: Vec<Value> = keys
            .iter()
            .map(|key| json!({"type": "qcode", "data": key}))
            .collect();
        let arguments = json!({"keys": keys, "hold-time": HOLD_MS});
        self.execute("send-key", arguments, limit).map(drop)
    }

    /// Has QEMU write a picture of its first screen to `path`, as PNG.
    pub fn screendump(&mut self, path: &Path, limit: Duration) -> Result<(), QmpError> {
        let arguments = json!({"filename": path.to_string_lossy(), "format": "png"});
        self.execute("screendump", arguments, limit).map(drop)
    }
}

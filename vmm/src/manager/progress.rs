//! What an operation tells while it runs.

use crate::api::{Event, VmNumber};

/// Where the events of one request go. Shared by the threads that work on it.
pub struct Progress {
    sink: Box<dyn Fn(Event) + Send + Sync>,
}

impl Progress {
    /// Sends events to `sink`.
    pub fn new(sink: impl Fn(Event) + Send + Sync + 'static) -> Self {
        Self {
            sink: Box::new(sink),
        }
    }

    /// A step, for those who watch.
    pub fn step(&self, vm: Option<VmNumber>, text: impl Into<String>) {
        (self.sink)(Event {
            vm,
            warning: false,
            text: text.into(),
        });
    }

    /// Something the user must see.
    pub fn warn(&self, vm: Option<VmNumber>, text: impl Into<String>) {
        (self.sink)(Event {
            vm,
            warning: true,
            text: text.into(),
        });
    }
}

impl std::fmt::Debug for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Progress")
    }
}

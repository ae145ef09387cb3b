//! Who asks for an operation.

/// The user who asks, as the kernel says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// The effective user id at the time of connecting.
    pub uid: u32,
}

impl Caller {
    /// True for root, who alone may set the host up.
    pub fn is_root(self) -> bool {
        self.uid == 0
    }
}

//! Fault points: places between two steps where a test can have the daemon killed.
//!
//! With the feature `fault-points`, `FVM_FAULT=NAME` kills the process with SIGKILL when it comes to
//! that point for the first time on this host; the file `FVM_FAULT_FIRED` names is made first, so that
//! the restarted daemon gets past it. Without the feature a point is nothing at all.
//!
//! `FVM_MUTATION=NAME` makes the daemon break one promise on which everything else stands, so that a test
//! of power cuts can show that it would notice.

/// Every point, in the order in which its operation comes to them.
pub const POINTS: &[&str] = &[
    "create/validated",
    "create/begun",
    "create/committed",
    "create/settled",
    "delete/stopped",
    "delete/marked",
    "delete/discarded",
    "delete/deactivated",
    "delete/files-removed",
    "delete/begun",
    "delete/committed",
    "delete/settled",
    "disk/begun",
    "disk/committed",
    "disk/settled",
    "disk/unplugged",
    "snapshot/validated",
    "snapshot/frozen",
    "snapshot/begun",
    "snapshot/committed",
    "snapshot/settled",
    "restore/begun",
    "restore/committed",
    "restore/settled",
    "restore/swapped",
    "compact/scanned",
    "grow/recorded",
    "grow/reloaded",
    "shrink/begun",
    "shrink/discarded",
    "shrink/deactivated",
    "shrink/recorded",
    "import/begun",
    "import/committed",
    "import/settled",
    "import/written",
    "import/verified",
    "export/begun",
    "export/committed",
    "export/settled",
    "export/metadata-held",
    "export/sending",
    "export/sent",
    "base/released",
    "base/digested",
    "start/prepared",
    "start/spawned",
    "start/recorded",
    "extend/grown",
    "extend/recorded",
    "extend/reloaded",
    "repair/down",
    "repair/saved",
    "repair/swapped",
];

/// Kills the process here if the environment asks for it.
#[cfg(feature = "fault-points")]
pub fn point(name: &'static str) {
    use std::{env, fs::OpenOptions};
    debug_assert!(POINTS.contains(&name), "{name} is not a listed fault point");
    if env::var_os("FVM_FAULT").is_none_or(|wanted| wanted != name) {
        return;
    }
    let Some(fired) = env::var_os("FVM_FAULT_FIRED") else {
        return;
    };
    if OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(fired)
        .is_ok()
    {
        // Cannot fail: it is our own process.
        let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL);
    }
}

/// Kills the process here if the environment asks for it; not in this build.
#[cfg(not(feature = "fault-points"))]
#[inline]
pub fn point(_name: &'static str) {}

/// A promise that a test can have broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// The store is never told to reach the disk.
    SynchronousOff,
    /// The note of an operation reaches the disk after the kernel was told to do it.
    MessageBeforeNote,
}

/// Whether the environment asks for this promise to be broken.
#[cfg(feature = "fault-points")]
pub fn mutated(mutation: Mutation) -> bool {
    let name = match mutation {
        Mutation::SynchronousOff => "synchronous-off",
        Mutation::MessageBeforeNote => "message-before-note",
    };
    std::env::var_os("FVM_MUTATION").is_some_and(|wanted| wanted == name)
}

/// Whether the environment asks for this promise to be broken; never in this build.
#[cfg(not(feature = "fault-points"))]
#[inline]
pub fn mutated(_mutation: Mutation) -> bool {
    false
}

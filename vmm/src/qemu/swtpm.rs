//! swtpm, which emulates a TPM in a process of its own beside QEMU.
//!
//! The two talk over a pair of sockets that neither has a name for; swtpm ends when QEMU does.

use crate::domain::{Tpm, TpmVersion};
use std::path::{Path, PathBuf};

/// The number that swtpm knows its end by.
pub const SOCKET: u32 = 3;

/// Where swtpm is installed.
pub fn find() -> Option<PathBuf> {
    ["/usr/bin/swtpm", "/usr/local/bin/swtpm"]
        .iter()
        .map(PathBuf::from)
        .find(|path| path.is_file())
}

/// Its arguments, for what it keeps in `state`.
pub fn arguments(tpm: &Tpm, state: &Path) -> Vec<String> {
    let mut arguments = vec![
        "socket".to_owned(),
        "--ctrl".to_owned(),
        format!("type=unixio,clientfd={SOCKET}"),
        "--tpmstate".to_owned(),
        format!("dir={},mode=0600", state.display()),
        "--terminate".to_owned(),
    ];
    if tpm.version == TpmVersion::V2 {
        arguments.push("--tpm2".to_owned());
    }
    arguments
}

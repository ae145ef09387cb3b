//! A picture of a VM's screen, and QEMU's own monitor for root.

use super::{
    Manager,
    error::{Result, failed, file},
    kept, launch,
};
use crate::{
    api::{ApiError, ErrorKind, QmpAnswer, QmpCommand, REPORT_VERSION, VmNumber},
    manager::Caller,
};
use std::{fs, io::Read, path::Path, sync::PoisonError, time::Duration};

/// How long QEMU may take to make a picture, or to answer what root asks.
const QMP_TIMEOUT: Duration = Duration::from_secs(60);
/// The largest picture that is handed on: QEMU's guest may have taken it over.
const MAX_PICTURE_BYTES: u64 = 64 << 20;
/// What a PNG begins with (RFC 2083, 3.1).
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

impl Manager {
    /// What a VM's first screen shows, as PNG.
    ///
    /// # Errors
    /// When there is no such VM, it does not run, or it has no screen.
    pub fn screenshot(&self, number: VmNumber) -> Result<Vec<u8>> {
        let host = self.host()?;
        let _alone = self.vm_locks.lock(number);
        let row = self.vm_row(number)?;
        let machine = self.running(number)?;
        if kept::domain(&host, &row)?.devices.videos.is_empty() {
            return Err(ApiError::new(
                ErrorKind::Refused,
                format!("VM {number} has no screen: there is no <video> in its template"),
            )
            .hint(format!(
                "`fvm console {number}` shows its serial line; `fvm create --template gui-vnc` makes VMs with a screen"
            )));
        }
        // QEMU may write to a file of its own here, but cannot put another in its place.
        let path = self.paths.vm(number).screenshot();
        launch::make_file_for(&path, host.config.uid_of(number))?;
        let taken = machine
            .qmp
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .screendump(&path, QMP_TIMEOUT)
            .map_err(|error| failed(format!("taking a picture of VM {number}'s screen"), &error))
            .and_then(|()| picture(&path));
        let removed = fs::remove_file(&path).map_err(|error| file("removing", &path, &error));
        let bytes = taken?;
        removed?;
        Ok(bytes)
    }

    /// Asks QEMU something past fvm.
    ///
    /// # Errors
    /// When the caller is not root, the VM does not run, or QEMU refuses.
    pub fn qmp(&self, caller: Caller, number: VmNumber, command: &QmpCommand) -> Result<QmpAnswer> {
        if !caller.is_root() {
            return Err(
                ApiError::new(ErrorKind::Refused, "only root may talk to QEMU past fvm")
                    .hint(format!("`sudo fvm qmp {number} …`")),
            );
        }
        self.host()?;
        self.vm_row(number)?;
        let machine = self.running(number)?;
        let answer = machine
            .qmp
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .execute(
                &command.execute,
                command.arguments.clone().into(),
                QMP_TIMEOUT,
            )
            .map_err(|error| failed(format!("asking the QEMU of VM {number}"), &error))?;
        Ok(QmpAnswer {
            version: REPORT_VERSION,
            vm: number,
            answer,
        })
    }
}

/// The picture that QEMU wrote, if it is one.
fn picture(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(MAX_PICTURE_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|error| file("reading", path, &error))?;
    let is_one = bytes.starts_with(PNG) && bytes.len() as u64 <= MAX_PICTURE_BYTES;
    is_one.then_some(bytes).ok_or_else(|| {
        ApiError::new(ErrorKind::Failed, "what QEMU wrote is not a picture")
            .hint("`fvm qmp` and QEMU's log may say more")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_png_is_handed_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("screen.png");
        fs::write(&path, [PNG, b"rest"].concat()).unwrap();
        assert_eq!(picture(&path).unwrap().len(), PNG.len() + 4);
        for other in [&b""[..], b"P6 640 480", &PNG[..4]] {
            fs::write(&path, other).unwrap();
            assert_eq!(picture(&path).unwrap_err().kind, ErrorKind::Failed);
        }
    }
}

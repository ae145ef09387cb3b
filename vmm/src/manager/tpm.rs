//! The TPM of a VM: swtpm as the VM's user in the VM's cgroup, its memory beside the VM's UEFI variables.

use super::{
    error::{Result, failed, file},
    launch::open_log,
};
use crate::{
    api::{ApiError, ErrorKind, VmNumber},
    domain::Tpm,
    paths::VmPaths,
    qemu::{self, Identity, Running, SpawnSpec, swtpm},
};
use std::{
    fs::{self, DirBuilder},
    io,
    os::{
        fd::OwnedFd,
        unix::{
            fs::{DirBuilderExt, chown},
            net::UnixStream,
        },
    },
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

/// A TPM that is to be started: swtpm, and its end of the sockets.
pub(super) struct Prepared {
    binary: PathBuf,
    end: OwnedFd,
}

/// Looks for swtpm and makes the sockets; the other end is QEMU's.
///
/// # Errors
/// When it is not installed.
pub(super) fn prepare() -> Result<(Prepared, OwnedFd)> {
    let binary = swtpm::find().ok_or_else(|| {
        ApiError::new(
            ErrorKind::HostNotAble,
            "swtpm, which emulates the TPM of the template, is not installed",
        )
        .hint("on Debian: `apt install swtpm`")
    })?;
    let (ours, theirs) =
        UnixStream::pair().map_err(|error| failed("making sockets for the TPM", &error))?;
    let end = theirs.into();
    Ok((Prepared { binary, end }, ours.into()))
}

/// Starts swtpm before QEMU, which asks it at once.
///
/// # Errors
/// When it cannot be started.
pub(super) fn start(
    prepared: Prepared,
    tpm: &Tpm,
    vm: VmNumber,
    paths: &VmPaths,
    uid: u32,
    cgroup: &Path,
) -> Result<()> {
    let state = paths.tpm();
    make_directory(&state, uid).map_err(|error| file("making", &state, &error))?;
    let process = qemu::spawn(SpawnSpec {
        binary: prepared.binary,
        arguments: swtpm::arguments(tpm, &state),
        fds: vec![(prepared.end, swtpm::SOCKET)],
        identity: Some(Identity {
            uid,
            gid: uid,
            groups: Vec::new(),
        }),
        cgroup: Some(cgroup.to_owned()),
        log: open_log(&paths.tpm_log())?,
        directory: paths.run.clone(),
    })
    .map_err(|error| failed(format!("starting the TPM of VM {vm}"), &error))?;
    thread::Builder::new()
        .name(format!("tpm-{vm}"))
        .spawn(move || watch(vm, &process))
        .map(drop)
        .map_err(|error| failed("starting a thread", &error))
}

/// Takes swtpm's end, which is QEMU's too unless something went wrong.
fn watch(vm: VmNumber, process: &Running) {
    const LOOK: Duration = Duration::from_secs(3600);
    loop {
        match process.wait(LOOK) {
            Ok(None) => {}
            // By itself after QEMU, or by the end of the cgroup if that was faster.
            Ok(Some(qemu::ExitCause::Code(0) | qemu::ExitCause::Signal(9))) => return,
            Ok(Some(cause)) => return tracing::warn!(%vm, ?cause, "the TPM ended"),
            Err(error) => return tracing::warn!(%vm, %error, "waiting for the TPM"),
        }
    }
}

/// The directory that only the VM's user sees into.
fn make_directory(path: &Path, uid: u32) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    // Made by fvmd in a directory that is root's, so nobody can have put a link here.
    if fs::symlink_metadata(path)?.is_dir() {
        chown(path, Some(uid), Some(uid))
    } else {
        Err(io::ErrorKind::NotADirectory.into())
    }
}

//! `virt-sparsify`, where it is installed: of a disk that nobody uses it discards what the file systems do not use.
//!
//! What a guest has written is looked at by a Linux in a machine of its own, never by fvmd or the host's kernel. That machine's QEMU is
//! confined as a VM's is: a uid that nobody else has, no capabilities, a cgroup with limits, and of the pool the one disk. There is one
//! at a time, for so long at most; whatever becomes of it, what is all zero is looked for after it.

use super::{
    Manager, Progress,
    delete::remove_tree,
    error::{Failures, Result, failed, file},
    host::Host,
    launch::{device_groups, text},
    lend::hand_to,
};
use crate::{
    api::VmNumber,
    fault,
    kvm::KvmHealth,
    qemu::{self, Accel, ExitCause, Identity, SpawnSpec},
};
use fvm_thin::Access;
use std::{
    fs::{DirBuilder, File},
    io::{Read, Seek, SeekFrom},
    os::unix::fs::{DirBuilderExt, chown},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError, TryLockError},
    time::Duration,
};

const PROGRAM: &str = "virt-sparsify";
/// Where programs get theirs from: `qemu::spawn`.
const PLACES: [&str; 3] = ["/usr/local/bin", "/usr/bin", "/bin"];
/// Its machine has 1.25 GiB.
const MEMORY_MIB: u64 = 2048;
/// How long it may take, with a large disk and an emulated processor.
const TIMEOUT: Duration = Duration::from_secs(1800);
/// How long it may take to be gone when it was killed.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);
/// What it may say of a failure, in bytes from the end.
const SAID_BYTES: u64 = 4096;

/// One at a time.
#[derive(Debug, Default)]
pub(super) struct Turn(Mutex<()>);

/// What became of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sparsified {
    /// What its file systems do not use was discarded; otherwise perhaps something of it was.
    pub(super) done: bool,
    /// What was mapped before.
    pub(super) before_bytes: u64,
}

/// Whether there is such a program.
pub(super) fn is_installed() -> bool {
    PLACES
        .iter()
        .any(|place| Path::new(place).join(PROGRAM).is_file())
}

impl Manager {
    /// Has it look at a volume that nobody uses, and that nobody else begins to use. That it fails is a warning.
    pub(super) fn sparsify(
        &self,
        host: &Host,
        thin: u32,
        vm: Option<VmNumber>,
        progress: &Progress,
    ) -> Result<Sparsified> {
        let _turn = self
            .sparsifier
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        progress.step(
            vm,
            "virt-sparsify discards what its file systems do not use",
        );
        self.end_sparsifier()?;
        let spec = host.volume_spec(&self.volume_row(thin)?)?;
        let volume = host
            .pool
            .activate_volume(&spec, Access::ReadWrite)
            .map_err(|error| failed("activating a disk", &error))?;
        let before = host.pool.mapped(spec.id, spec.uuid);
        let node = volume.path();
        let ran = self.run_sparsifier(host, &node);
        fault::point("compact/sparsified");
        let mut failures = Failures::default();
        failures.keep(self.end_sparsifier());
        failures.keep(hand_to(&node, 0));
        drop(volume);
        failures.keep(
            host.pool
                .deactivate_volume(spec.id, spec.uuid)
                .map_err(|error| failed("deactivating a disk", &error)),
        );
        failures.into_result()?;
        let before = before.map_err(|error| failed("looking at a disk", &error))?;
        let why = match ran {
            Ok(why) => why,
            Err(error) => Some(error.message),
        };
        if let Some(why) = &why {
            progress.warn(
                vm,
                format!("only what is all zero is given back, since virt-sparsify failed: {why}"),
            );
        }
        Ok(Sparsified {
            done: why.is_none(),
            before_bytes: before.bytes.0,
        })
    }

    /// Runs it to its end, or to the limit; why it failed, if it did.
    fn run_sparsifier(&self, host: &Host, node: &Path) -> Result<Option<String>> {
        let directory = self.sparsifier_dir();
        let uid = host.config.helper_uid();
        DirBuilder::new()
            .mode(0o700)
            .create(&directory)
            .and_then(|()| chown(&directory, Some(uid), Some(uid)))
            .map_err(|error| file("making", &directory, &error))?;
        let log_path = directory.join("log");
        let mut log = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&log_path)
            .map_err(|error| file("making", &log_path, &error))?;
        let said_to = log
            .try_clone()
            .map_err(|error| file("opening", &log_path, &error))?;
        let cgroup = self
            .cgroups
            .create_helper(MEMORY_MIB)
            .map_err(|error| failed("making a cgroup", &error))?;
        hand_to(node, uid)?;
        let accel = match self.kvm.health() {
            KvmHealth::Works => Accel::Kvm,
            _ => Accel::Tcg,
        };
        let mut arguments = vec!["LIBGUESTFS_BACKEND=direct"];
        if accel == Accel::Tcg {
            arguments.push("LIBGUESTFS_BACKEND_SETTINGS=force_tcg");
        }
        let node = text(node)?;
        arguments.extend([
            PROGRAM,
            "--in-place",
            "--quiet",
            "--format",
            "raw",
            "--",
            &node,
        ]);
        let process = qemu::spawn(SpawnSpec {
            binary: PathBuf::from("/usr/bin/env"),
            arguments: arguments.into_iter().map(str::to_owned).collect(),
            fds: Vec::new(),
            identity: Some(Identity {
                uid,
                gid: uid,
                groups: device_groups(accel),
            }),
            cgroup: Some(cgroup),
            log: said_to.into(),
            directory,
        })
        .map_err(|error| failed("starting virt-sparsify", &error))?;
        fault::point("compact/sparsifying");
        let ended = process
            .wait(TIMEOUT)
            .map_err(|error| failed("waiting for virt-sparsify", &error))?;
        Ok(match ended {
            Some(ExitCause::Code(0)) => None,
            Some(cause) => {
                let said = last_words(&mut log).unwrap_or_default();
                tracing::warn!(?cause, said, "virt-sparsify failed");
                Some(match (cause, said.as_str()) {
                    (_, said) if !said.is_empty() => said.to_owned(),
                    (ExitCause::Code(code), _) => format!("it ended with status {code}"),
                    (ExitCause::Signal(signal), _) => format!("it was killed by signal {signal}"),
                    (ExitCause::Unknown, _) => "it ended".to_owned(),
                })
            }
            None => {
                // Its machine goes with its cgroup.
                let _ = process.kill().and_then(|()| process.wait(KILL_TIMEOUT));
                let minutes = TIMEOUT.as_secs() / 60;
                Some(format!("it took longer than {minutes} minutes"))
            }
        })
    }

    fn sparsifier_dir(&self) -> PathBuf {
        self.paths.state_dir.join("virt-sparsify")
    }

    /// Ends what is left of it, and removes its files.
    fn end_sparsifier(&self) -> Result<()> {
        let mut failures = Failures::default();
        failures.keep(
            self.cgroups
                .destroy_helper()
                .map_err(|error| failed("ending virt-sparsify", &error)),
        );
        failures.keep(remove_tree(&self.sparsifier_dir()));
        failures.into_result()
    }

    /// The same for one that an earlier daemon has left.
    pub(super) fn end_left_sparsifier(&self) -> Result<()> {
        match self.sparsifier.0.try_lock() {
            // It is this daemon's own.
            Err(TryLockError::WouldBlock) => Ok(()),
            Ok(_) | Err(TryLockError::Poisoned(_)) => self.end_sparsifier(),
        }
    }
}

/// The last line that says something, of what may be anything.
fn last_words(log: &mut File) -> std::io::Result<String> {
    let length = log.seek(SeekFrom::End(0))?;
    log.seek(SeekFrom::Start(length.saturating_sub(SAID_BYTES)))?;
    let mut said = Vec::new();
    log.take(SAID_BYTES).read_to_end(&mut said)?;
    let said = String::from_utf8_lossy(&said);
    let lines = || said.lines().map(str::trim).filter(|line| !line.is_empty());
    let line = lines()
        .find(|line| line.starts_with(PROGRAM))
        .or_else(|| lines().next_back());
    let line = line.unwrap_or_default();
    let line = line.strip_prefix("virt-sparsify: error: ").unwrap_or(line);
    Ok(line.chars().filter(|c| !c.is_control()).take(300).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn what_it_says_last_is_told_without_what_could_harm_a_terminal() {
        let said = |text: &[u8]| {
            let mut log = tempfile::tempfile().expect("a file");
            log.write_all(text).expect("room");
            last_words(&mut log).expect("reads")
        };
        assert_eq!(said(b""), "");
        assert_eq!(said(b"one\n\x1b[31mtwo\xff\n\n"), "[31mtwo\u{fffd}");
        let failure = b"virt-sparsify: error: no kernel\n\nIf reporting bugs, run it again:\n  virt-sparsify -v";
        assert_eq!(said(failure), "no kernel");
        assert_eq!(said(&[b'x'; 10_000]).len(), 300);
    }
}

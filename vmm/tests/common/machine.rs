//! A QEMU that runs a domain for a test, and is ended with it.

use anyhow::{Context, Result, bail, ensure};
use fvm_vmm::domain::{self, Arch, Disk, DiskSource, Domain, Macros, Tpm};
use fvm_vmm::qemu::probe::Capabilities;
use fvm_vmm::qemu::qmp::Client;
use fvm_vmm::qemu::{
    Accel, Assignment, DiskBacking, FdTable, FirmwareBacking, NicBacking, Running, SocketBacking,
    SpawnSpec, arguments, firmware, pci, probe, spawn, swtpm,
};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// More than any single answer takes, also on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// The QEMU to test with: `FVM_QEMU`, the one on the path, or the lab's.
///
/// Without one the test is skipped aloud; in CI that is a failure.
#[allow(clippy::print_stderr)] // A skip must be seen.
pub(crate) fn qemu() -> Result<Option<Capabilities>> {
    let found = qemu_for(Arch::X86_64)?;
    if found.is_none() {
        eprintln!("SKIPPED: no qemu-system-x86_64 (set FVM_QEMU, or run `fvm-lab prepare`)");
        ensure!(std::env::var_os("CI").is_none(), "CI must have a QEMU");
    }
    Ok(found)
}

/// The same for guests of an architecture.
pub(crate) fn qemu_for(arch: Arch) -> Result<Option<Capabilities>> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let named = std::env::var_os("FVM_QEMU").map(PathBuf::from);
    let named = named.filter(|_| arch == Arch::X86_64);
    let found = named.or_else(|| {
        std::env::split_paths(&path)
            .chain(lab_tools())
            .map(|directory| directory.join(arch.qemu()))
            .find(|candidate| candidate.exists())
    });
    Ok(found.map(|binary| probe::probe(&binary)).transpose()?)
}

/// The directories of programs that the lab has unpacked, the newest first.
fn lab_tools() -> Vec<PathBuf> {
    let cache = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/lab/cache");
    let mut trees: Vec<_> = fs::read_dir(cache)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("tools-"))
        .map(|entry| {
            (
                entry.metadata().and_then(|m| m.modified()).ok(),
                entry.path().join("bin"),
            )
        })
        .collect();
    trees.sort();
    trees.into_iter().rev().map(|(_, bin)| bin).collect()
}

/// The macros of the VM that the tests make.
pub(crate) fn macros() -> Macros {
    Macros::new("test-42", "vg", "fvm0", 42, "test")
}

/// Reads a template of the source tree.
pub(crate) fn load(path: &Path) -> Result<Domain> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let (domain, _) = domain::load(&text, &macros())
        .map_err(|error| anyhow::anyhow!("{}: {error} ({:?})", path.display(), error.hint))?;
    Ok(domain)
}

/// How a machine is to be run.
pub(crate) struct Setup {
    /// What is behind each disk that has a source; without an entry an empty file of 64 MiB.
    pub(crate) disks: BTreeMap<String, PathBuf>,
    /// Whether it waits for `cont`.
    pub(crate) paused: bool,
}

/// A running machine.
pub(crate) struct Machine {
    pub(crate) client: Client,
    pub(crate) running: Running,
    pub(crate) assignment: Assignment,
    pub(crate) directory: tempfile::TempDir,
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.running.kill();
        let _ = self.running.wait(LIMIT);
    }
}

impl Machine {
    /// Starts `domain` under emulation.
    pub(crate) fn start(qemu: &Capabilities, domain: &Domain, setup: Setup) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let run = directory.path();
        let mut fds = FdTable::new();
        let mut disks = BTreeMap::new();
        for disk in &domain.devices.disks {
            if disk.source != DiskSource::Empty {
                let path = setup.disks.get(&disk.target).cloned();
                disks.insert(disk.target.clone(), backing(run, disk, path, &mut fds)?);
            }
        }
        let monitor = listen(&run.join("qmp.sock"))?;
        let monitors = vec![fds.pass(monitor)];
        let mut sockets = BTreeMap::new();
        for alias in ["serial0", "channel0"] {
            let fd = fds.pass(listen(&run.join(alias))?);
            let log = File::options()
                .create(true)
                .append(true)
                .open(run.join("log"))?;
            let log_path = (alias == "serial0").then(|| fds.pass_set(vec![log.into()]));
            sockets.insert(alias.to_owned(), SocketBacking { fd, log_path });
        }
        if let Some(tpm) = &domain.devices.tpm {
            let fd = fds.pass(start_tpm(&qemu.binary, tpm, run)?);
            let socket = SocketBacking { fd, log_path: None };
            sockets.insert(tpm.alias.clone(), socket);
        }
        let nics = domain
            .devices
            .interfaces
            .iter()
            .enumerate()
            .map(|(number, nic)| NicBacking {
                mac: nic
                    .mac
                    .clone()
                    .unwrap_or(format!("52:54:00:00:00:{number:02x}")),
                tap_fds: Vec::new(),
                vhost_fds: Vec::new(),
            });
        let assignment = Assignment {
            name: domain.name.clone(),
            uuid: "6f2c1d7e-0000-4000-8000-00000000002a".to_owned(),
            accel: Accel::Tcg,
            qemu: qemu.clone(),
            machine: None,
            layout: pci::assign(domain)?,
            disks,
            nics: nics.collect(),
            sockets,
            monitors,
            firmware: flash(&qemu.binary, domain, run)?,
            fd_sets: fds.sets().to_vec(),
            run_directory: run.to_owned(),
            start_paused: setup.paused,
            vsock_cid: None,
            vsock_fd: None,
        };
        let log = run.join("qemu.log");
        let running = spawn(SpawnSpec {
            binary: qemu.binary.clone(),
            arguments: arguments(domain, &assignment)?,
            fds: fds.into_fds(),
            identity: None,
            cgroup: None,
            log: File::create(&log)?.into(),
            directory: run.to_owned(),
        })?;
        let client = Client::connect(&run.join("qmp.sock"), LIMIT);
        let client = match client {
            Ok(client) => client,
            Err(error) => {
                let _ = running.kill();
                let end = running.wait(LIMIT)?;
                let log = fs::read_to_string(&log).unwrap_or_default();
                bail!("{error}; QEMU ended with {end:?} and said:\n{log}");
            }
        };
        Ok(Self {
            client,
            running,
            assignment,
            directory,
        })
    }

    /// A property of an object.
    pub(crate) fn qom(&mut self, path: &str, property: &str) -> Result<serde_json::Value> {
        let arguments = serde_json::json!({"path": path, "property": property});
        Ok(self.client.execute("qom-get", arguments, LIMIT)?)
    }

    /// What QEMU wrote.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("qemu.log")).unwrap_or_default()
    }

    /// Waits until the first serial line has told `text`, and returns all that it told.
    pub(crate) fn wait_for_line(&self, text: &str, limit: Duration) -> Result<String> {
        let path = self.directory.path().join("log");
        let end = Instant::now() + limit;
        loop {
            let said = String::from_utf8_lossy(&fs::read(&path)?).into_owned();
            if said.contains(text) {
                return Ok(said);
            }
            let exited = self.running.wait(Duration::from_millis(100))?;
            ensure!(
                exited.is_none(),
                "QEMU ended: {exited:?}\n{}\n{said}",
                self.log()
            );
            ensure!(
                Instant::now() < end,
                "the guest did not say {text:?}, but:\n{said}"
            );
        }
    }

    /// A connection to a character device.
    pub(crate) fn connect(&self, alias: &str) -> Result<UnixStream> {
        Ok(UnixStream::connect(self.directory.path().join(alias))?)
    }
}

/// Where swtpm is: beside an unpacked QEMU, or installed.
pub(crate) fn swtpm(qemu: &Path) -> Option<PathBuf> {
    let beside = qemu.parent().map(|bin| bin.join("swtpm"));
    beside
        .filter(|program| program.exists())
        .or_else(swtpm::find)
}

/// Starts a TPM, which ends with QEMU, and returns QEMU's end of the sockets.
fn start_tpm(qemu: &Path, tpm: &Tpm, run: &Path) -> Result<OwnedFd> {
    let state = run.join("tpm");
    fs::create_dir(&state)?;
    let (ours, theirs) = UnixStream::pair()?;
    spawn(SpawnSpec {
        binary: swtpm(qemu).context("there is no swtpm")?,
        arguments: swtpm::arguments(tpm, &state),
        fds: vec![(theirs.into(), swtpm::SOCKET)],
        identity: None,
        cgroup: None,
        log: File::create(run.join("tpm.log"))?.into(),
        directory: run.to_owned(),
    })?;
    Ok(ours.into())
}

fn listen(path: &Path) -> Result<OwnedFd> {
    Ok(UnixListener::bind(path)?.into())
}

fn backing(
    run: &Path,
    disk: &Disk,
    path: Option<PathBuf>,
    fds: &mut FdTable,
) -> Result<DiskBacking> {
    let path = match path {
        Some(path) => path,
        None => {
            let path = run.join(format!("{}.raw", disk.target));
            let bytes = if disk.target.starts_with("fd") {
                1_474_560
            } else {
                64 << 20
            };
            File::create(&path)?.set_len(bytes)?;
            path
        }
    };
    Ok(fds.pass_disk(&path, disk)?)
}

/// Copies the variables as fvm does; the firmware beside an unpacked QEMU stands in for the system's.
fn flash(qemu: &Path, domain: &Domain, run: &Path) -> Result<Option<FirmwareBacking>> {
    if !domain.os.firmware.is_uefi() {
        return Ok(None);
    }
    let vars = run.join("vars.fd");
    let beside = qemu.parent().map(|bin| bin.join("../usr/share/OVMF"));
    let beside = beside.filter(|directory| directory.exists() && domain.os.arch == Arch::X86_64);
    let named = std::env::var_os("FVM_FIRMWARE").map(PathBuf::from);
    let (code, template) = match named.or(beside) {
        Some(directory) => (
            directory.join("OVMF_CODE_4M.fd"),
            directory.join("OVMF_VARS_4M.fd"),
        ),
        None => {
            let files = firmware::find(&domain.os)?.context("a UEFI machine")?;
            (files.code, files.vars_template)
        }
    };
    fs::copy(template, &vars)?;
    Ok(Some(FirmwareBacking {
        code: code.display().to_string(),
        vars: vars.display().to_string(),
    }))
}

//! What a QEMU binary is and can do: asked once, kept by the caller.

use super::qmp::{Client, QmpError};
pub use super::version::Version;
use crate::domain::Arch;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use thiserror::Error;

/// The oldest QEMU whose options fvm writes.
pub const OLDEST: Version = Version { major: 7, minor: 2 };

/// How long a probe may take; QEMU answers in some tens of milliseconds.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// A machine type of a QEMU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Its exact name: `pc-i440fx-7.2`.
    pub name: String,
    /// The short name for the newest of its family: `pc`.
    pub alias: Option<String>,
    /// The most processors that it can have.
    pub cpu_max: u32,
}

/// What a QEMU binary can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// The binary.
    pub binary: PathBuf,
    /// Its version.
    pub version: Version,
    /// The machine types that it knows.
    pub machines: Vec<Machine>,
    /// The device types that it knows.
    pub devices: BTreeSet<String>,
}

/// Why a QEMU binary could not be asked.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// It did not start.
    #[error("cannot run {}", binary.display())]
    Run {
        /// The binary.
        binary: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It ended, or did not answer as a QEMU does.
    #[error("{} did not answer as a QEMU does{}", binary.display(), said(output))]
    Answer {
        /// The binary.
        binary: PathBuf,
        /// What it wrote on standard error.
        output: String,
        /// What the control socket said.
        source: QmpError,
    },
    /// It is older than what fvm supports.
    #[error("{} is QEMU {found}; fvm needs {OLDEST} or newer", binary.display())]
    TooOld {
        /// The binary.
        binary: PathBuf,
        /// Its version.
        found: Version,
    },
}

fn said(output: &str) -> String {
    match output.trim() {
        "" => String::new(),
        text => format!("; it said: {text}"),
    }
}

impl Capabilities {
    /// The exact machine type that `name` stands for, if this QEMU knows it.
    pub fn machine(&self, name: &str) -> Option<&Machine> {
        self.machines
            .iter()
            .find(|machine| machine.name == name || machine.alias.as_deref() == Some(name))
    }

    /// Whether it has devices of the type `name`.
    pub fn has_device(&self, name: &str) -> bool {
        self.devices.contains(name)
    }

    /// The capabilities that every QEMU of `version` has, for arguments that nobody will run here.
    pub fn typical(arch: Arch, version: Version) -> Self {
        let releases = (4..=version.major)
            .flat_map(|major| (0..=2).map(move |minor| Version { major, minor }))
            .filter(|release| *release <= version);
        let machine = |prefix: &str, alias: &str, cpu_max: u32, release: Version| Machine {
            name: format!("{prefix}-{release}"),
            alias: (release == version).then(|| alias.to_owned()),
            cpu_max,
        };
        let families: &[(&str, &str, u32)] = match arch {
            Arch::X86_64 => &[("pc-i440fx", "pc", 255), ("pc-q35", "q35", 288)],
            Arch::Aarch64 => &[("virt", "virt", 512)],
            Arch::Ppc64le => &[("pseries", "pseries", 32768)],
        };
        let versioned = releases.flat_map(|release| {
            let family = move |(prefix, alias, cpu_max): &(&str, &str, u32)| {
                machine(prefix, alias, *cpu_max, release)
            };
            families.iter().map(family).collect::<Vec<_>>()
        });
        let microvm = (arch == Arch::X86_64).then(|| Machine {
            name: "microvm".to_owned(),
            alias: None,
            cpu_max: 288,
        });
        Self {
            binary: PathBuf::from(arch.qemu()),
            version,
            machines: versioned.chain(microvm).collect(),
            devices: BTreeSet::new(),
        }
    }
}

/// Asks `binary` for its version, machine types and devices.
///
/// It is started with an empty machine under emulation, so no accelerator is touched.
pub fn probe(binary: &Path) -> Result<Capabilities, ProbeError> {
    let failed = |source| ProbeError::Run {
        binary: binary.to_owned(),
        source,
    };
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    let mut child = start(binary, theirs.into()).map_err(failed)?;
    let asked = ask(binary, ours);
    let output = end(&mut child);
    let capabilities = asked.map_err(|source| ProbeError::Answer {
        binary: binary.to_owned(),
        output,
        source,
    })?;
    if capabilities.version < OLDEST {
        return Err(ProbeError::TooOld {
            binary: binary.to_owned(),
            found: capabilities.version,
        });
    }
    Ok(capabilities)
}

fn start(binary: &Path, socket: OwnedFd) -> io::Result<Child> {
    Command::new(binary)
        .args(["-nodefaults", "-no-user-config", "-display", "none"])
        .args(["-machine", "none,accel=tcg", "-S"])
        .args([
            "-chardev",
            "socket,id=qmp,fd=0",
            "-mon",
            "chardev=qmp,mode=control",
        ])
        .stdin(Stdio::from(socket))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C")
        .spawn()
}

fn ask(binary: &Path, socket: UnixStream) -> Result<Capabilities, QmpError> {
    let mut client = Client::handshake(socket, TIME_LIMIT)?;
    let none = || serde_json::json!({});
    let machines = client.execute("query-machines", none(), TIME_LIMIT)?;
    let types = serde_json::json!({"implements": "device", "abstract": false});
    let devices = client.execute("qom-list-types", types, TIME_LIMIT)?;
    // It may end before it has answered.
    let _ = client.execute("quit", none(), TIME_LIMIT);
    let text = |value: &serde_json::Value, name: &str| {
        value.get(name).and_then(|v| v.as_str()).map(str::to_owned)
    };
    let machine = |value: &serde_json::Value| {
        Some(Machine {
            name: text(value, "name")?,
            alias: text(value, "alias"),
            cpu_max: value.get("cpu-max")?.as_u64()?.try_into().ok()?,
        })
    };
    let list = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();
    Ok(Capabilities {
        binary: binary.to_owned(),
        version: client.version(),
        machines: list(&machines).iter().filter_map(machine).collect(),
        devices: list(&devices)
            .iter()
            .filter_map(|d| text(d, "name"))
            .collect(),
    })
}

/// Ends the process, whatever state it is in, and returns the start of what it complained of.
fn end(child: &mut Child) -> String {
    let _ = child.kill();
    let mut output = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        let _ = stderr.take(2000).read_to_end(&mut output);
    }
    let _ = child.wait();
    super::qmp::printable(&String::from_utf8_lossy(&output), 2000)
}

//! Every path that fvmd uses, in one place.

use crate::api::VmNumber;
use std::path::{Path, PathBuf};

/// Where fvmd keeps what it keeps. The defaults are those of the package; a test can move them all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// What survives a reboot: the store, the pool's files, each VM's files. `/var/lib/fvm`
    pub state_dir: PathBuf,
    /// What does not: sockets. `/run/fvm`
    pub run_dir: PathBuf,
    /// The configuration. `/etc/fvm/fvm.toml`
    pub config: PathBuf,
    /// Shipped templates. `/usr/share/fvm/templates`
    pub template_dir: PathBuf,
    /// Links to the disks of active VMs. `/dev/fvm`
    pub device_dir: PathBuf,
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            state_dir: "/var/lib/fvm".into(),
            run_dir: "/run/fvm".into(),
            config: "/etc/fvm/fvm.toml".into(),
            template_dir: "/usr/share/fvm/templates".into(),
            device_dir: "/dev/fvm".into(),
        }
    }
}

impl Paths {
    /// Templates that root has published, beside the configuration. `/etc/fvm/templates`
    pub fn published_templates(&self) -> PathBuf {
        self.config.with_file_name("templates")
    }

    /// The state store.
    pub fn store(&self) -> PathBuf {
        self.state_dir.join("state.db")
    }

    /// The directory of a file-backed pool.
    pub fn pool_dir(&self) -> PathBuf {
        self.state_dir.join("pool")
    }

    /// The socket of `fvm-netd`.
    pub fn netd_socket(&self) -> PathBuf {
        self.run_dir.join("netd.sock")
    }

    /// The directory of all VMs' kept files; one directory each, by number.
    pub fn vms_dir(&self) -> PathBuf {
        self.state_dir.join("vms")
    }

    /// The directory of all VMs' sockets; one directory each, by number.
    pub fn run_vms_dir(&self) -> PathBuf {
        self.run_dir.join("vm")
    }

    /// The files of one VM.
    pub fn vm(&self, number: VmNumber) -> VmPaths {
        VmPaths {
            state: self.vms_dir().join(number.to_string()),
            run: self.run_vms_dir().join(number.to_string()),
        }
    }

    /// The link to a VM's disk.
    pub fn device_link(&self, vm_name: &str) -> PathBuf {
        self.device_dir.join(vm_name)
    }
}

/// The files of one VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmPaths {
    /// Kept while the VM is there; QEMU's own user owns it.
    pub state: PathBuf,
    /// Kept while the VM runs; root's.
    pub run: PathBuf,
}

impl VmPaths {
    /// What the guest has said on its serial line.
    pub fn console_log(&self) -> PathBuf {
        self.state.join("console.log")
    }

    /// What QEMU has said.
    pub fn qemu_log(&self) -> PathBuf {
        self.state.join("qemu.log")
    }

    /// The UEFI variables.
    pub fn nvram(&self) -> PathBuf {
        self.state.join("nvram.fd")
    }

    /// What the TPM keeps.
    pub fn tpm(&self) -> PathBuf {
        self.state.join("tpm")
    }

    /// What the TPM's emulator has said.
    pub fn tpm_log(&self) -> PathBuf {
        self.state.join("tpm.log")
    }

    /// QMP, for operations.
    pub fn qmp_socket(&self) -> PathBuf {
        self.run.join("qmp.sock")
    }

    /// QMP, for the supervisor's events.
    pub fn events_socket(&self) -> PathBuf {
        self.run.join("events.sock")
    }

    /// The channel of the guest's agent.
    pub fn agent_socket(&self) -> PathBuf {
        self.run.join("agent.sock")
    }

    /// A picture of the screen, while it is taken.
    pub fn screenshot(&self) -> PathBuf {
        self.run.join("screen.png")
    }

    /// The serial line.
    pub fn console_socket(&self) -> PathBuf {
        self.run.join("console.sock")
    }
}

/// The numbers of the VMs that have a directory below `dir`; what has another name is not fvm's.
pub fn numbered_entries(dir: &Path) -> std::io::Result<Vec<VmNumber>> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut numbers = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|text| text.parse::<VmNumber>().ok());
        // Only the canonical spelling is ours: not `042`.
        numbers.extend(number.filter(|n| name.to_str() == Some(n.to_string().as_str())));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_directories_named_by_a_number_are_ours() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["42", "7", "042", "x", "-1", "42.bak", "base", "0"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        assert_eq!(
            numbered_entries(dir.path()).unwrap(),
            [VmNumber::BASE, 7.into(), 42.into()]
        );
        assert!(
            numbered_entries(&dir.path().join("missing"))
                .unwrap()
                .is_empty()
        );
    }
}

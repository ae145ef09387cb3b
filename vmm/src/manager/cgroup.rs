//! The cgroup of each VM: `…/fvmd.service/vm-42` below fvm's slice.
//!
//! systemd delegates the unit's cgroup to fvmd (`Delegate=yes`), and VMs stay in it when fvmd is
//! restarted (`KillMode=process`). fvmd itself sits in the leaf `fvmd` (`DelegateSubgroup=fvmd`), because
//! a cgroup that hands controllers down may hold no process of its own.

use crate::{
    api::VmNumber,
    domain::{Quota, Tuning},
};
use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Where cgroup v2 is mounted on every system with systemd 247 or later.
const MOUNT: &str = "/sys/fs/cgroup";
/// The leaf that systemd starts fvmd in.
const OWN_LEAF: &str = "fvmd";
/// QEMU needs memory of its own beside the guest's.
const OVERHEAD_MIB: u64 = 512;
/// How long processes that were killed may take to be gone.
const KILL_TIMEOUT: Duration = Duration::from_secs(30);

/// The cgroup below which each VM has its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cgroups {
    base: PathBuf,
    /// True if limits can be set.
    has_controllers: bool,
}

impl Cgroups {
    /// Finds the cgroup that was delegated to this process.
    ///
    /// # Errors
    /// When there is no cgroup v2, or this process has no cgroup of its own to make others in.
    pub(super) fn delegated() -> io::Result<Self> {
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let relative = own
            .lines()
            .find_map(|line| line.strip_prefix("0::/"))
            .ok_or_else(|| io::Error::other("this host has no cgroup v2"))?;
        let own = Path::new(MOUNT).join(relative);
        if relative.is_empty() {
            return Err(io::Error::other(
                "fvmd must not run in the root cgroup: start it by its unit",
            ));
        }
        match own.parent().filter(|_| own.ends_with(OWN_LEAF)) {
            Some(base) => {
                let has_controllers =
                    fs::write(base.join("cgroup.subtree_control"), "+memory +cpu +pids").is_ok();
                Ok(Self {
                    base: base.to_owned(),
                    has_controllers,
                })
            }
            // A systemd older than 254 knows no DelegateSubgroup and would not be able to start fvmd
            // again in a cgroup that hands controllers down.
            None => Ok(Self {
                base: own,
                has_controllers: false,
            }),
        }
    }

    /// True if VMs' memory can be limited.
    pub(super) fn has_controllers(&self) -> bool {
        self.has_controllers
    }

    fn of(&self, number: VmNumber) -> PathBuf {
        self.base.join(format!("vm-{number}"))
    }

    fn of_helper(&self) -> PathBuf {
        self.base.join("helper")
    }

    /// Makes a VM's cgroup, with its limits, and returns its directory.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn create(
        &self,
        number: VmNumber,
        memory_mib: u64,
        tuning: &Tuning,
    ) -> io::Result<PathBuf> {
        self.make(self.of(number), memory_mib, tuning)
    }

    /// The same for the program that looks into disks: there is one at a time.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn create_helper(&self, memory_mib: u64) -> io::Result<PathBuf> {
        self.make(self.of_helper(), memory_mib, &Tuning::default())
    }

    fn make(&self, path: PathBuf, memory_mib: u64, tuning: &Tuning) -> io::Result<PathBuf> {
        match fs::create_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => other?,
        }
        if self.has_controllers {
            let limit = (memory_mib + OVERHEAD_MIB) << 20;
            fs::write(path.join("memory.max"), limit.to_string())?;
            fs::write(path.join("memory.oom.group"), "1")?;
            if let Some(weight) = tuning.weight {
                fs::write(path.join("cpu.weight"), weight.to_string())?;
            }
            if let Some(Quota {
                quota_us,
                period_us,
            }) = tuning.quota
            {
                fs::write(path.join("cpu.max"), format!("{quota_us} {period_us}"))?;
            }
        }
        Ok(path)
    }

    /// The processes of a VM; none if it has no cgroup.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub(super) fn processes(&self, number: VmNumber) -> io::Result<Vec<u32>> {
        processes_in(&self.of(number))
    }

    /// True if the kernel has killed the VM for using too much memory.
    pub(super) fn was_out_of_memory(&self, number: VmNumber) -> bool {
        fs::read_to_string(self.of(number).join("memory.events")).is_ok_and(|events| {
            events.lines().any(|line| {
                line.strip_prefix("oom_kill ")
                    .is_some_and(|count| count.trim() != "0")
            })
        })
    }

    /// Kills what is left in a VM's cgroup and removes it; no cgroup is fine.
    ///
    /// # Errors
    /// When the kernel refuses or the processes do not go.
    pub(super) fn destroy(&self, number: VmNumber) -> io::Result<()> {
        end(&self.of(number))
    }

    /// The same for the program that looks into disks.
    ///
    /// # Errors
    /// When the kernel refuses or the processes do not go.
    pub(super) fn destroy_helper(&self) -> io::Result<()> {
        end(&self.of_helper())
    }

    /// The numbers of the VMs that have a cgroup.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub(super) fn numbers(&self) -> io::Result<Vec<VmNumber>> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.base)? {
            let name = entry?.file_name();
            let digits = name.to_str().and_then(|name| name.strip_prefix("vm-"));
            numbers.extend(digits.and_then(|digits| digits.parse::<VmNumber>().ok()));
        }
        Ok(numbers)
    }
}

fn processes_in(path: &Path) -> io::Result<Vec<u32>> {
    match fs::read_to_string(path.join("cgroup.procs")) {
        Ok(text) => Ok(text.lines().filter_map(|line| line.parse().ok()).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Kills what is left in a cgroup and removes it.
fn end(path: &Path) -> io::Result<()> {
    if !path.exists() {
        return Ok(());
    }
    if !processes_in(path)?.is_empty() {
        fs::write(path.join("cgroup.kill"), "1")?;
    }
    // The kernel says EBUSY until the last process has been taken away.
    let deadline = Instant::now() + KILL_TIMEOUT;
    loop {
        match fs::remove_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error)
                if error.raw_os_error() == Some(libc::EBUSY) && Instant::now() < deadline =>
            {
                std::thread::sleep(Duration::from_millis(5));
            }
            other => return other,
        }
    }
}

//! The beginning of a run: everything that a VM needs is made, then QEMU, then the guest is let go.
//! The counterpart of `release`, which also cleans up after a launch that failed half-way.
//!
//! The order matters: the VM's port is served before its guest can ask, and its run is recorded before
//! its guest's first instruction, so that a daemon that dies in between finds all of it again.

use super::{
    Manager, Progress, agent, boot,
    cards::{Card, cards},
    error::{Result, failed, file},
    host::{Host, check_cpus, describe},
    kept,
    machine::Machine,
    now_s, templates, tpm,
};
use crate::{
    api::{ApiError, ErrorKind},
    domain::{Arch, Domain},
    fault,
    kvm::KvmHealth,
    paths::VmPaths,
    qemu::{
        self, Accel, Assignment, DiskBacking, FdTable, FirmwareBacking, Identity, NicBacking,
        Running, SocketBacking, SpawnSpec, firmware, probe::Capabilities,
    },
    store::{RunRow, VmRow},
};
use fvm_netd::net::{self, Admission, Tap, TapOptions};
use fvm_thin::Access;
use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions, Permissions},
    io,
    os::{
        fd::OwnedFd,
        unix::{
            fs::{OpenOptionsExt, PermissionsExt, chown, symlink},
            net::UnixListener,
        },
    },
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

/// How long QEMU may take until it answers; emulated firmware tables take their time on a busy host.
const QMP_TIMEOUT: Duration = Duration::from_secs(60);
/// The alias of the first serial line, whose other end is the console.
const CONSOLE_ALIAS: &str = "serial0";

impl Manager {
    /// Makes a VM run. On failure, what was made is left for `release`.
    pub(super) fn launch(&self, host: &Host, row: &VmRow, progress: &Progress) -> Result<Machine> {
        let mut domain = kept::domain(host, row)?;
        self.seed_guest(host, row, &mut domain, progress)?;
        check_processors(&domain)?;
        check_cpus(domain.os.arch, domain.vcpus.max, self.most_cpus())?;
        let (accel, warning) = self.accelerator(domain.os.arch);
        if let Some(warning) = &warning {
            progress.warn(Some(row.number), warning.clone());
        }
        let qemu = self.qemu.capabilities(domain.os.arch)?;
        let machine = self.keep_machine(row, &domain, &qemu)?;
        let layout = kept::layout(row, &domain)?;
        let paths = self.paths.vm(row.number);
        let uid = host.config.uid_of(row.number);
        make_directories(&paths)?;

        let mut fds = FdTable::new();
        let disks = self.open_disks(host, row, &domain, &mut fds)?;
        let nics = self.plug_nics(host, row, &mut fds)?;
        let monitors = [paths.qmp_socket(), paths.events_socket()]
            .iter()
            .map(|path| Ok(fds.pass(listen(path)?)))
            .collect::<Result<_>>()?;
        let mut sockets = BTreeMap::new();
        for alias in served(&domain) {
            let log = paths.console_log();
            make_file_for(&log, uid)?;
            let fd = fds.pass(listen(&paths.console_socket())?);
            let log_path = Some(text(&log)?);
            sockets.insert(alias.to_owned(), SocketBacking { fd, log_path });
        }
        if let Some(channel) = agent::channel(&domain) {
            let fd = fds.pass(listen(&paths.agent_socket())?);
            let socket = SocketBacking { fd, log_path: None };
            sockets.insert(channel.alias.clone(), socket);
        }
        let tpm = match &domain.devices.tpm {
            None => None,
            Some(device) => {
                let (prepared, ours) = tpm::prepare()?;
                let fd = fds.pass(ours);
                let socket = SocketBacking { fd, log_path: None };
                sockets.insert(device.alias.clone(), socket);
                Some((device, prepared))
            }
        };
        let assignment = Assignment {
            name: row.name.clone(),
            uuid: row.uuid.clone(),
            accel,
            qemu: qemu.clone(),
            machine,
            layout,
            disks,
            nics,
            sockets,
            monitors,
            firmware: firmware_of(&domain, &paths, uid)?,
            fd_sets: fds.sets().to_vec(),
            run_directory: paths.run.clone(),
            start_paused: true,
            vsock_cid: None,
            vsock_fd: None,
        };
        let arguments = qemu::arguments(&domain, &assignment)
            .map_err(|error| ApiError::from_error(ErrorKind::Usage, &error))?;
        let cgroup = self
            .cgroups
            .create(row.number, row.memory_mib, &domain.tuning)
            .map_err(|error| failed(format!("making VM {}'s cgroup", row.number), &error))?;
        let log = paths.qemu_log();
        if let Some((device, prepared)) = tpm {
            tpm::start(prepared, device, row.number, &paths, uid, &cgroup)?;
        }
        fault::point("start/prepared");

        let process = qemu::spawn(SpawnSpec {
            binary: qemu.binary.clone(),
            arguments,
            fds: fds.into_fds(),
            identity: Some(Identity {
                uid,
                gid: uid,
                groups: device_groups(accel),
            }),
            cgroup: Some(cgroup),
            log: open_log(&log)?,
            directory: paths.run.clone(),
        })
        .map_err(|error| failed(format!("starting QEMU for VM {}", row.number), &error))?;
        fault::point("start/spawned");
        self.let_go(row, process, accel, warning, &domain, &paths)
            .map_err(|error| {
                // What QEMU says of itself explains more than a monitor that does not answer.
                boot::tail(&log).into_iter().fold(error, ApiError::detail)
            })
    }

    /// Records the run and lets the guest go.
    fn let_go(
        &self,
        row: &VmRow,
        process: Running,
        accel: Accel,
        warning: Option<String>,
        domain: &Domain,
        paths: &VmPaths,
    ) -> Result<Machine> {
        let asking =
            |error: qemu::qmp::QmpError| failed(format!("starting VM {}", row.number), &error);
        let mut qmp =
            qemu::qmp::Client::connect(&paths.qmp_socket(), QMP_TIMEOUT).map_err(asking)?;
        let started_at_s = now_s();
        self.store.insert_run(&RunRow {
            vm: row.number,
            pid: process.pid(),
            start_time: process.start_time(),
            accelerator: accel.as_str().to_owned(),
            warning: warning.clone(),
            started_at_s,
        })?;
        fault::point("start/recorded");
        if let Err(error) = qemu::tune::let_go(domain, process.pid(), &mut qmp, QMP_TIMEOUT) {
            self.store.end_run(row.number, None)?;
            return Err(failed(format!("starting VM {}", row.number), &error));
        }
        Ok(Machine::new(
            row.number,
            process,
            qmp,
            accel,
            warning,
            started_at_s,
        ))
    }

    /// KVM if it works and the guest's processor is of the host's kind; else emulation, and why.
    pub(super) fn accelerator(&self, arch: Arch) -> (Accel, Option<String>) {
        let emulated = |why: String| {
            let warning = format!("it is emulated, which is slow: {why}");
            (Accel::Tcg, Some(warning))
        };
        if Arch::HOST != Some(arch) {
            let host = std::env::consts::ARCH;
            return emulated(format!(
                "its processor is {}, the host's {host}",
                arch.as_str()
            ));
        }
        match self.kvm.health() {
            KvmHealth::Works => (Accel::Kvm, None),
            health => emulated(describe(&health)),
        }
    }

    /// Activates the VM's disks and passes them on, by descriptors: QEMU itself may open nothing.
    fn open_disks(
        &self,
        host: &Host,
        row: &VmRow,
        domain: &Domain,
        fds: &mut FdTable,
    ) -> Result<BTreeMap<String, DiskBacking>> {
        let mut disks = BTreeMap::new();
        for (thin, link) in row.volumes() {
            let disk = templates::disk_of(domain, &link)?;
            let opened = self.open_disk(host, thin, &link)?;
            let backing = fds
                .pass_open_disk(opened, disk)
                .map_err(|error| failed(format!("opening the disk {link}"), &error))?;
            disks.insert(disk.target.clone(), backing);
        }
        Ok(disks)
    }

    /// Activates a volume, links its device by this name, and opens it both ways that QEMU may want it.
    pub(super) fn open_disk(&self, host: &Host, thin: u32, link: &str) -> Result<Vec<OwnedFd>> {
        self.finish_shrink(host, thin)?;
        let spec = host.volume_spec(&self.volume_row(thin)?)?;
        let volume = host
            .pool
            .activate_volume(&spec, Access::ReadWrite)
            .map_err(|error| failed(format!("activating the disk {link}"), &error))?;
        link_device(&self.paths.device_dir, link, &volume.path())?;
        let open = |access| -> Result<OwnedFd> {
            let opened = volume.open(access);
            Ok(opened
                .map_err(|error| failed(format!("opening the disk {link}"), &error))?
                .into())
        };
        Ok(vec![open(Access::ReadWrite)?, open(Access::ReadOnly)?])
    }

    /// Makes the taps, admits them, and has them served, before there is anybody to ask.
    fn plug_nics(&self, host: &Host, row: &VmRow, fds: &mut FdTable) -> Result<Vec<NicBacking>> {
        let mut backings = Vec::new();
        for card in cards(host, row)? {
            let tap = self.plug_tap(host, row, &card)?;
            let tap_fds = tap.fds.into_iter().map(|fd| fds.pass(fd)).collect();
            backings.push(NicBacking {
                mac: card.mac.to_string(),
                tap_fds,
                vhost_fds: Vec::new(),
            });
        }
        Ok(backings)
    }

    /// Makes the tap of a card, admits it, and has it served.
    pub(super) fn plug_tap(&self, host: &Host, row: &VmRow, card: &Card<'_>) -> Result<Tap> {
        let name = card.place.tap();
        let options = TapOptions {
            mtu: card.network.own.as_ref().map(|own| own.mtu),
            isolated: card.network.isolate_guests,
            ..TapOptions::default()
        };
        let tap = net::create_tap(card.place, &card.network.bridge, options)
            .map_err(|error| failed(format!("making the tap {name}"), &error))?;
        net::admit(&[Admission {
            port: name.clone(),
            mac: card.mac,
            address: card.address,
            trusted: false,
        }])
        .map_err(|error| failed(format!("admitting the tap {name}"), &error))?;
        if let Some(port) = self.open_port(host, row, card)? {
            self.netd.bind(port)?;
        }
        Ok(tap)
    }
}

/// Refuses to bind a VM to processors that this host does not have.
fn check_processors(domain: &Domain) -> Result<()> {
    match qemu::tune::missing_processor(domain) {
        Some((wanted, last)) => Err(ApiError::new(
            ErrorKind::HostNotAble,
            format!(
                "the template binds the VM to processor {wanted}, and this host's last is {last}"
            ),
        )
        .hint("change <cputune> or vcpu/@cpuset in the template")),
        None => Ok(()),
    }
}

/// The character devices that have a socket, by their aliases.
pub(super) fn served(domain: &Domain) -> Vec<&'static str> {
    let mut lines = domain.devices.serials.iter();
    let console = lines.any(|serial| serial.alias == CONSOLE_ALIAS);
    console.then_some(CONSOLE_ALIAS).into_iter().collect()
}

/// Directories that only root can change: QEMU opens its files in them but cannot put others there.
fn make_directories(paths: &VmPaths) -> Result<()> {
    for (path, mode) in [(&paths.state, 0o711), (&paths.run, 0o711)] {
        fs::create_dir_all(path).map_err(|error| file("making", path, &error))?;
        fs::set_permissions(path, Permissions::from_mode(mode))
            .map_err(|error| file("setting the mode of", path, &error))?;
    }
    Ok(())
}

/// An empty file that QEMU's user may write, and nobody else.
pub(super) fn make_file_for(path: &Path, uid: u32) -> Result<()> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|_| chown(path, Some(uid), Some(uid)))
        .map_err(|error| file("making", path, &error))
}

/// The file that takes what a program of the VM says on its standard error; root's.
pub(super) fn open_log(path: &Path) -> Result<OwnedFd> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .and_then(|log| log.set_len(0).map(|()| log.into()))
        .map_err(|error| file("opening", path, &error))
}

/// A listening socket that only root can connect to.
fn listen(path: &Path) -> Result<OwnedFd> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(file("removing", path, &error));
        }
        _ => {}
    }
    Ok(UnixListener::bind(path)
        .map_err(|error| file("listening at", path, &error))?
        .into())
}

/// The link by which people and hooks find a VM's disk.
pub(super) fn link_device(dir: &Path, vm_name: &str, device: &Path) -> Result<()> {
    fs::create_dir_all(dir).map_err(|error| file("making", dir, &error))?;
    let link = dir.join(vm_name);
    match fs::remove_file(&link) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(file("removing", &link, &error))
        }
        _ => symlink(device, &link).map_err(|error| file("making", &link, &error)),
    }
}

/// The UEFI code that all share, and the variables that are the VM's own.
fn firmware_of(domain: &Domain, paths: &VmPaths, uid: u32) -> Result<Option<FirmwareBacking>> {
    let found = firmware::find(&domain.os)
        .map_err(|error| ApiError::from_error(ErrorKind::HostNotAble, &error))?;
    let Some(files) = found else { return Ok(None) };
    let vars = paths.nvram();
    if !vars.exists() {
        make_file_for(&vars, uid)?;
        fs::copy(&files.vars_template, &vars)
            .and_then(|_| fs::set_permissions(&vars, Permissions::from_mode(0o600)))
            .and_then(|()| chown(&vars, Some(uid), Some(uid)))
            .map_err(|error| file("copying the UEFI variables to", &vars, &error))?;
    }
    Ok(Some(FirmwareBacking {
        code: text(&files.code)?,
        vars: text(&vars)?,
    }))
}

/// The group that may open `/dev/kvm`, which QEMU opens itself.
pub(super) fn device_groups(accel: Accel) -> Vec<u32> {
    use std::os::unix::fs::MetadataExt;
    match accel {
        Accel::Kvm => fs::metadata("/dev/kvm")
            .map(|meta| vec![meta.gid()])
            .unwrap_or_default(),
        Accel::Tcg => Vec::new(),
    }
}

pub(super) fn text(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        ApiError::new(
            ErrorKind::HostNotAble,
            format!("{} is not UTF-8", path.display()),
        )
    })
}

/// The QEMUs of this host, each asked once for each version of the binary.
#[derive(Debug, Default)]
pub(super) struct QemuCache {
    known: Mutex<BTreeMap<Arch, (SystemTime, Capabilities)>>,
}

impl QemuCache {
    /// What the QEMU for guests of `arch` can do.
    pub(super) fn capabilities(&self, arch: Arch) -> Result<Capabilities> {
        let not_able = |message: String| ApiError::new(ErrorKind::HostNotAble, message);
        let binary = find_qemu(arch).ok_or_else(|| {
            let package = arch.debian_package();
            not_able(format!("{} is not installed", arch.qemu()))
                .hint(format!("on Debian: `apt install {package}`"))
        })?;
        let changed = fs::metadata(&binary)
            .and_then(|meta| meta.modified())
            .map_err(|error| file("looking at", &binary, &error))?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((when, capabilities)) = known.get(&arch)
            && *when == changed
        {
            return Ok(capabilities.clone());
        }
        let capabilities = qemu::probe::probe(&binary)
            .map_err(|error| ApiError::from_error(ErrorKind::HostNotAble, &error))?;
        known.insert(arch, (changed, capabilities.clone()));
        Ok(capabilities)
    }
}

fn find_qemu(arch: Arch) -> Option<PathBuf> {
    ["/usr/bin", "/usr/local/bin", "/usr/libexec"]
        .iter()
        .map(|dir| Path::new(dir).join(arch.qemu()))
        .find(|path| path.is_file())
}

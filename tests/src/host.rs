//! A lab host, as tests and people use it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail, ensure};

use crate::cache::Entry;
use crate::clients;
use crate::guests;
use crate::image::Image;
use crate::machine::{DISK, Disk, Hardware, Machine, STATE, Start};
use crate::package::{self, Build};
use crate::paths;
use crate::slots::Slot;
use crate::ssh::Ssh;
use crate::state::{self, BOOT_LIMIT};
use crate::tools::Tools;

/// What a test needs of its lab host.
#[derive(Clone, Copy, Debug)]
pub struct Needs {
    /// Which build of fvm is installed; `None` for a host without it.
    pub fvm: Option<Build>,
    /// Whether `/dev/kvm` is there and works.
    pub kvm: bool,
    /// What a power cut leaves of the disk.
    pub disk: Disk,
    /// Processors and memory.
    pub hardware: Hardware,
}

impl Default for Needs {
    /// This build of fvm, KVM, one processor, a throwaway disk.
    fn default() -> Self {
        Self {
            fvm: Some(Build::Release),
            kvm: true,
            disk: Disk::Throwaway,
            hardware: Hardware::default(),
        }
    }
}

/// A fresh Debian host of one's own; it is gone when this value is dropped.
#[derive(Debug)]
pub struct LabHost {
    directory: PathBuf,
    needs: Needs,
    machine: Option<Machine>,
    ssh: Ssh,
    image: Image,
    tools: Tools,
    /// Kept while the disk stands on them.
    _states: Vec<Entry>,
    _slot: Slot,
    /// Somebody else goes on with the machine and its directory.
    kept: bool,
}

impl LabHost {
    /// Makes what hosts and tests need and is not there yet.
    pub fn prepare() -> Result<()> {
        clients::get()?;
        Self::fresh(Needs::default()).map(drop)
    }

    /// Brings up a fresh host, making whatever that takes first.
    pub fn fresh(needs: Needs) -> Result<Self> {
        let tools = Tools::get()?;
        let guests = guests::get(&tools)?;
        let package = needs.fvm.map(package::get).transpose()?;
        let image = Image::get(&tools, &guests)?;
        let slot = Slot::take()?;
        let booted = state::booted(&tools, &image, needs.hardware)?;
        let mut states = vec![booted];
        if let Some(package) = &package {
            let installed = state::installed(&tools, &image, needs.hardware, &states[0], package)?;
            states.push(installed);
        }
        let from = states.last().context("a host stands on a saved state")?;

        let directory = new_run_directory()?;
        state::new_disk(&tools, &directory, &from.file(DISK), "qcow2")?;
        let machine = Machine::start(&Start {
            tools: &tools,
            image: &image,
            hardware: needs.hardware,
            disk: needs.disk,
            directory: &directory,
            state: Some(&from.file(STATE)),
        })?;
        let ssh = Ssh::new(&directory, image.key.file("id_ed25519"), machine.ssh_port());
        let host = Self {
            directory,
            needs,
            machine: Some(machine),
            ssh,
            image,
            tools,
            _states: states,
            _slot: slot,
            kept: false,
        };
        host.ready()?;
        if !needs.kvm {
            host.take_kvm_away()?;
        }
        Ok(host)
    }

    /// Runs a bash script (`-eu -o pipefail`) as root and returns its status and what it printed.
    pub fn sh(&self, script: &str) -> Result<std::process::Output> {
        let done = self.ssh.script(script)?;
        if done.status.code() == Some(SSH_FAILED) && !self.is_alive() {
            bail!("{}", self.last_words());
        }
        Ok(done)
    }

    /// As [`LabHost::sh`], for scripts that must succeed: returns standard output without the white space around it.
    pub fn ok(&self, script: &str) -> Result<String> {
        let done = self.sh(script)?;
        ensure!(
            done.status.success(),
            "on the lab host, {}:\n{script}\nstdout: {}\nstderr: {}",
            done.status,
            String::from_utf8_lossy(&done.stdout).trim_end(),
            String::from_utf8_lossy(&done.stderr).trim_end(),
        );
        Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned())
    }

    /// Runs a bash script with this process's standard streams.
    pub fn sh_streamed(&self, script: &str) -> Result<ExitStatus> {
        let status = self.ssh.script_streamed(script)?;
        if status.code() == Some(SSH_FAILED) && !self.is_alive() {
            bail!("{}", self.last_words());
        }
        Ok(status)
    }

    /// A bash script that is not started yet; the caller has its streams.
    pub fn command(&self, script: &str) -> Command {
        self.ssh.spawn(script)
    }

    /// As [`LabHost::command`], with a terminal on the host, for programs that talk to people.
    pub fn command_on_terminal(&self, script: &str) -> Command {
        self.ssh.spawn_on_terminal(script)
    }

    /// A root shell on this process's terminal.
    pub fn shell(&self) -> Result<ExitStatus> {
        self.ssh.shell()
    }

    /// Copies a file to the host, with its mode.
    pub fn put(&self, local: &Path, remote: &str) -> Result<()> {
        self.ssh.put(local, remote)
    }

    /// Copies fvm's package to the host, without installing it.
    pub fn put_package(&self, build: Build, remote: &str) -> Result<()> {
        self.put(&package::get(build)?.file("fvm.deb"), remote)
    }

    /// Copies a file from the host.
    pub fn get(&self, remote: &str, local: &Path) -> Result<()> {
        self.ssh.get(remote, local)
    }

    /// Where the host's disk, logs and `qemu.pid` are while it lives.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What the host's kernel and services printed on its serial port since it went on from its saved state.
    pub fn serial_log(&self) -> Result<String> {
        self.machine()?.serial_log()
    }

    /// Pulls the plug. What the host had flushed to a [`Disk::Durable`] disk is there for [`LabHost::boot_again`].
    pub fn power_cut(&mut self) -> Result<()> {
        ensure!(
            self.needs.disk == Disk::Durable,
            "a power cut says nothing about a throwaway disk; ask for Disk::Durable"
        );
        self.machine
            .take()
            .context("the lab host is already off")?
            .cut()
    }

    /// Boots the same disk after a power cut.
    pub fn boot_again(&mut self) -> Result<()> {
        ensure!(self.machine.is_none(), "the lab host is running");
        let machine = Machine::start(&Start {
            tools: &self.tools,
            image: &self.image,
            hardware: self.needs.hardware,
            disk: self.needs.disk,
            directory: &self.directory,
            state: None,
        })?;
        self.ssh = Ssh::new(
            &self.directory,
            self.image.key.file("id_ed25519"),
            machine.ssh_port(),
        );
        self.machine = Some(machine);
        self.ready()
    }

    /// Leaves the host running and tells how to come in and how to end it.
    pub fn keep(mut self) -> Result<String> {
        let machine = self.machine.take().context("the lab host is off")?;
        let told = format!(
            "the lab host is kept; come in with\n  {}\nand end it with\n  kill {} && rm -r {}",
            self.ssh.by_hand(),
            machine.pid(),
            self.directory.display()
        );
        self.kept = true;
        machine.keep()?;
        Ok(told)
    }

    fn ready(&self) -> Result<()> {
        self.ssh
            .wait(BOOT_LIMIT, || self.is_alive())
            .and_then(|()| state::set_clock(&self.ssh))
            .map_err(|error| error.context(self.last_words()))
    }

    /// A host without KVM is one whose processor cannot do it: the module is gone and does not come back.
    fn take_kvm_away(&self) -> Result<()> {
        self.ok(
            "echo 'install kvm_amd /bin/false' > /etc/modprobe.d/lab-no-kvm.conf
             modprobe -r kvm_amd kvm
             [ ! -e /dev/kvm ]",
        )
        .map(drop)
    }

    fn machine(&self) -> Result<&Machine> {
        self.machine.as_ref().context("the lab host is off")
    }

    fn is_alive(&self) -> bool {
        self.machine.as_ref().is_some_and(Machine::is_alive)
    }

    fn last_words(&self) -> String {
        self.machine
            .as_ref()
            .map_or_else(|| "the lab host is off".to_owned(), Machine::last_words)
    }
}

impl Drop for LabHost {
    fn drop(&mut self) {
        // A guard: what cannot be cleaned here is cleaned by the supervisor when this process ends.
        if let Some(machine) = self.machine.take() {
            let _ = machine.discard();
        } else if !self.kept {
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}

/// ssh's own exit status when the connection failed.
const SSH_FAILED: i32 = 255;

/// A directory `runs/<process>-<number>` of its own.
fn new_run_directory() -> Result<PathBuf> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let directory = paths::lab_dir("runs")?.join(format!("{}-{number}", std::process::id()));
    // One left by a process of the same id that was killed together with its supervisor.
    if directory.exists() {
        fs::remove_dir_all(&directory)
            .with_context(|| format!("removing {}", directory.display()))?;
    }
    fs::create_dir(&directory).with_context(|| format!("making {}", directory.display()))?;
    Ok(directory)
}

//! The lab's outer QEMU: one process that emulates one lab host.
//!
//! A small shell process stands between: it reads a pipe from this process, and when that ends, however this process
//! ended, it kills its QEMU and removes the host's directory. So no host is left behind after ^C or a crash, and one can
//! be kept on purpose.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::command;
use crate::image::Image;
use crate::qmp::Qmp;
use crate::tools::Tools;

/// What a machine is made of; two machines with the same hardware can load each other's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hardware {
    /// Emulated processors; one where KVM guests run, since QEMU's emulated AMD-V is not safe with more.
    pub processors: u32,
    /// Emulated memory.
    pub memory_mib: u32,
}

impl Default for Hardware {
    fn default() -> Self {
        Self {
            processors: 1,
            memory_mib: 4096,
        }
    }
}

/// What happens to the disk when QEMU is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disk {
    /// Writes that the host has flushed may be lost: fast, for hosts that end with their test.
    Throwaway,
    /// Writes that the host has flushed are there, as after a power cut on a real disk.
    Durable,
}

/// The file in a host's directory that is its disk.
pub(crate) const DISK: &str = "disk.qcow2";
/// The file in a saved state that has the memory and the devices.
pub(crate) const STATE: &str = "state";

const KERNEL_COMMAND_LINE: &str = "root=/dev/vda rw console=ttyS0 mitigations=off quiet";
const MONITOR_LIMIT: Duration = Duration::from_secs(60);
const STATE_LIMIT: Duration = Duration::from_secs(120);

/// `$1` is the directory, the rest is QEMU's command.
const SUPERVISOR: &str = r#"
directory=$1
shift
cd "$directory" || exit 1
"$@" < /dev/null > qemu.log 2>&1 &
echo $! > qemu.pid
echo started
read -r last
[ "$last" != keep ] || exit 0
kill -9 $! 2> /dev/null
wait
[ "$last" = cut ] || rm -rf "$directory"
"#;

/// A running machine.
#[derive(Debug)]
pub(crate) struct Machine {
    directory: PathBuf,
    supervisor: Child,
    pid: Pid,
    ssh_port: u16,
}

/// Everything that [`Machine::start`] needs to know.
pub(crate) struct Start<'a> {
    pub(crate) tools: &'a Tools,
    pub(crate) image: &'a Image,
    pub(crate) hardware: Hardware,
    pub(crate) disk: Disk,
    /// Has the disk; its name is `disk.qcow2`.
    pub(crate) directory: &'a Path,
    /// A saved state to go on from; without one the machine boots.
    pub(crate) state: Option<&'a Path>,
}

impl Machine {
    pub(crate) fn start(start: &Start<'_>) -> Result<Self> {
        let qemu = qemu_command(start);
        let mut supervisor = Command::new("sh")
            .args(["-c", SUPERVISOR, "fvm-lab-supervisor"])
            .arg(start.directory)
            .arg(qemu.get_program())
            .args(qemu.get_args())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // ^C at the terminal is for this process; the supervisor acts when this process ends.
            .process_group(0)
            .spawn()
            .context("starting the lab host's supervisor")?;
        let mut started = [0; 8];
        supervisor
            .stdout
            .take()
            .context("the supervisor has no output")?
            .read_exact(&mut started)
            .context("waiting for the lab host's supervisor")?;
        let pid_file = start.directory.join("qemu.pid");
        let pid = fs::read_to_string(&pid_file)
            .with_context(|| format!("reading {}", pid_file.display()))?;
        let pid = Pid::from_raw(pid.trim().parse().context("reading QEMU's process id")?);
        let mut machine = Self {
            directory: start.directory.to_path_buf(),
            supervisor,
            pid,
            ssh_port: 0,
        };
        machine.ssh_port = machine
            .bring_up(start.state)
            .map_err(|error| error.context(machine.last_words()))?;
        Ok(machine)
    }

    fn bring_up(&self, state: Option<&Path>) -> Result<u16> {
        let mut qmp = self.qmp()?;
        if let Some(state) = state {
            mapped_ram(&mut qmp)?;
            qmp.execute("migrate-incoming", json!({ "uri": file_uri(state) }))?;
            qmp.migrated(STATE_LIMIT)?;
            qmp.execute("cont", json!({}))?;
        }
        let network = qmp.execute(
            "human-monitor-command",
            json!({ "command-line": "info usernet" }),
        )?;
        forwarded_port(network.as_str().unwrap_or_default())
            .with_context(|| format!("no forwarded port in: {network}"))
    }

    /// The port on 127.0.0.1 that leads to the host's sshd.
    pub(crate) fn ssh_port(&self) -> u16 {
        self.ssh_port
    }

    /// QEMU's process id.
    pub(crate) fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Stops the machine and writes its memory and devices to a file.
    pub(crate) fn save(self, state: &Path) -> Result<()> {
        let mut qmp = self.qmp()?;
        qmp.execute("stop", json!({}))?;
        mapped_ram(&mut qmp)?;
        qmp.execute(
            "migrate-set-parameters",
            json!({ "max-bandwidth": 1_u64 << 40 }),
        )?;
        qmp.execute("migrate", json!({ "uri": file_uri(state) }))?;
        qmp.migrated(STATE_LIMIT)?;
        // What QEMU has of the disk's tables in memory goes to the file.
        qmp.execute("quit", json!({})).ok();
        self.wait_for_end()?;
        self.cut()
    }

    /// Kills QEMU on the spot and leaves the disk.
    pub(crate) fn cut(self) -> Result<()> {
        self.end("cut\n")
    }

    /// Leaves QEMU running on its own.
    pub(crate) fn keep(self) -> Result<()> {
        self.end("keep\n")
    }

    /// Kills QEMU and removes its directory.
    pub(crate) fn discard(self) -> Result<()> {
        self.end("")
    }

    fn end(mut self, last: &str) -> Result<()> {
        let mut pipe = self
            .supervisor
            .stdin
            .take()
            .context("the supervisor's pipe is gone")?;
        // A supervisor that is gone has already done its part.
        let _ = pipe.write_all(last.as_bytes());
        drop(pipe);
        let status = self
            .supervisor
            .wait()
            .context("waiting for the lab host's supervisor")?;
        ensure!(
            last.is_empty() || status.success(),
            "the supervisor ended with {status}"
        );
        Ok(())
    }

    /// True while QEMU runs.
    pub(crate) fn is_alive(&self) -> bool {
        let Ok(status) = fs::read_to_string(format!("/proc/{}/stat", self.pid)) else {
            return false;
        };
        // The state follows the program's name, which is in parentheses.
        let zombie = status
            .rsplit_once(") ")
            .is_some_and(|(_, rest)| rest.starts_with('Z'));
        !zombie && kill(self.pid, None::<Signal>).is_ok()
    }

    fn wait_for_end(&self) -> Result<()> {
        for _ in 0..3000 {
            if !self.is_alive() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        bail!("the lab's QEMU does not end");
    }

    /// What the host printed on its serial port.
    pub(crate) fn serial_log(&self) -> Result<String> {
        let path = self.directory.join("serial.log");
        let bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// For error messages: whether QEMU runs, what it said, and what the host said last.
    pub(crate) fn last_words(&self) -> String {
        let said = fs::read_to_string(self.directory.join("qemu.log")).unwrap_or_default();
        let said: Vec<&str> = said
            .lines()
            .filter(|line| !line.contains("TCG doesn't support"))
            .collect();
        format!(
            "the lab host's QEMU {}; it said: {}\nthe host's console ends with:\n{}",
            if self.is_alive() {
                "is running"
            } else {
                "has ended"
            },
            if said.is_empty() {
                "nothing".to_owned()
            } else {
                said.join("\n")
            },
            command::tail(&self.serial_log().unwrap_or_default(), 15),
        )
    }

    fn qmp(&self) -> Result<Qmp> {
        Qmp::connect(&self.directory, "qmp.sock", MONITOR_LIMIT)
    }
}

fn qemu_command(start: &Start<'_>) -> Command {
    let mut qemu = start.tools.command("qemu-system-x86_64");
    let image = &start.image.entry;
    let Hardware {
        processors,
        memory_mib,
    } = start.hardware;
    // Only what one process writes and nobody reads afterwards may stay in QEMU's memory.
    let cache = match start.disk {
        Disk::Throwaway => "unsafe",
        Disk::Durable => "writeback",
    };
    qemu.args(["-nodefaults", "-display", "none", "-name", "fvm-lab"])
        .args(["-machine", "q35,hpet=off", "-accel", "tcg,tb-size=1024"])
        .args(["-cpu", "EPYC,+svm,+npt"])
        .args([
            "-smp",
            &processors.to_string(),
            "-m",
            &memory_mib.to_string(),
        ])
        .arg("-kernel")
        .arg(image.file("vmlinuz"))
        .arg("-initrd")
        .arg(image.file("initrd.img"))
        .args(["-append", KERNEL_COMMAND_LINE])
        .args([
            "-drive",
            &format!("if=none,id=root,file={DISK},format=qcow2,cache={cache},discard=unmap"),
        ])
        .args(["-device", "virtio-blk-pci,drive=root"])
        .arg("-drive")
        .arg(format!(
            "if=none,id=lab,file={},format=raw,readonly=on",
            image
                .file("lab.raw")
                .display()
                .to_string()
                .replace(',', ",,")
        ))
        .args(["-device", "virtio-blk-pci,drive=lab"])
        // No way out: what a test sends stays inside.
        .args([
            "-netdev",
            "user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:0-:22",
        ])
        .args(["-device", "virtio-net-pci,netdev=net"])
        // A new generation id tells a host that goes on from a saved state to reseed its random numbers.
        .args(["-device", "virtio-rng-pci", "-device", "vmgenid,guid=auto"])
        .args([
            "-serial",
            "file:serial.log",
            "-qmp",
            "unix:qmp.sock,server=on,wait=off",
        ]);
    if start.state.is_some() {
        qemu.args(["-incoming", "defer"]);
    }
    qemu
}

/// Memory pages at fixed places of the file: the file stays sparse, and loading is one read.
fn mapped_ram(qmp: &mut Qmp) -> Result<()> {
    let on = json!({ "capabilities": [{ "capability": "mapped-ram", "state": true }] });
    qmp.execute("migrate-set-capabilities", on).map(drop)
}

fn file_uri(path: &Path) -> String {
    format!("file:{}", path.display())
}

/// Reads the host's port from QEMU's table of user-mode connections.
fn forwarded_port(table: &str) -> Option<u16> {
    let line = table
        .lines()
        .find(|line| line.contains("TCP[HOST_FORWARD]"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::forwarded_port;

    #[test]
    fn the_port_is_found_in_the_table() {
        let table = "Hub -1 (net):\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\n  \
                     TCP[HOST_FORWARD]  12       127.0.0.1 34567       10.0.2.15    22     0     0\n";
        assert_eq!(forwarded_port(table), Some(34567));
        assert_eq!(forwarded_port("nothing"), None);
    }
}

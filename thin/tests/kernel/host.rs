//! What the tests stand on: a pool of their own, other people's commands, waiting with a bound.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use fvm_thin::{
    Access, Backing, Bytes, DEFAULT_CHUNK, Flush, Message, Pool, PoolName, PoolSpec, ThinId,
    TransactionId, Volume, VolumeSpec, active_devices,
};
use uuid::Uuid;

/// Returns from the test unless this host has device-mapper.
macro_rules! need_host {
    () => {
        if !crate::host::is_there() {
            return;
        }
    };
}
pub(crate) use need_host;

pub(crate) fn is_there() -> bool {
    if Path::new("/dev/mapper/control").exists() {
        return true;
    }
    assert!(
        std::env::var_os("FVM_TEST_HOST").is_none(),
        "FVM_TEST_HOST is set, but there is no device-mapper here"
    );
    // Not by eprintln!, which the test harness keeps to itself when the test passes.
    let mut stderr = std::io::stderr();
    writeln!(stderr, "SKIPPED: no device-mapper here").unwrap();
    false
}

pub(crate) fn id(n: u64) -> ThinId {
    ThinId::try_from(n).unwrap()
}

/// Runs a command that has to succeed; its output.
pub(crate) fn run(command: &str, arguments: &[&str]) -> String {
    let output = Command::new(command)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{command}: {error}"));
    assert!(
        output.status.success(),
        "{command} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// `dmsetup`, never waiting for udev.
pub(crate) fn dmsetup(arguments: &[&str]) -> String {
    let mut all = vec!["--noudevsync"];
    all.extend(arguments);
    run("dmsetup", &all)
}

/// Waits until something is so, for at most ten seconds.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(Instant::now() < end, "not within ten seconds: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A pool's files in a directory of their own, and everything of it taken away at the end.
pub(crate) struct TestPool {
    pub(crate) spec: PoolSpec,
    pub(crate) directory: tempfile::TempDir,
    /// Devices made by the test itself, to be removed after the pool.
    extra: Vec<String>,
    /// Held until the end of the test.
    _turn: Box<dyn std::any::Any>,
}

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Tests run side by side, except those that watch the whole host.
static TURN: RwLock<()> = RwLock::new(());

impl TestPool {
    /// Not formatted yet. One at a time in each test.
    pub(crate) fn new(data_size: Bytes) -> Self {
        let turn = TURN.read().unwrap_or_else(PoisonError::into_inner);
        Self::with(data_size, Box::new(turn))
    }

    /// The same, while no other test runs.
    pub(crate) fn alone(data_size: Bytes) -> Self {
        let turn = TURN.write().unwrap_or_else(PoisonError::into_inner);
        Self::with(data_size, Box::new(turn))
    }

    fn with(data_size: Bytes, turn: Box<dyn std::any::Any>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| Backing::File {
            path: directory.path().join(name),
        };
        // Eight characters: "t", five of the process, two of the test.
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("t{:05x}{number:02x}", std::process::id() & 0xf_ffff);
        let spec = PoolSpec {
            name: PoolName::try_from(name).unwrap(),
            uuid: Uuid::new_v4(),
            data: file("data"),
            data_size,
            metadata: file("meta"),
            spare: file("spare"),
            chunk: DEFAULT_CHUNK,
            low_water: Bytes(0),
        };
        Self {
            spec,
            directory,
            extra: Vec::new(),
            _turn: turn,
        }
    }

    /// Formatted and active.
    pub(crate) fn active(data_size: Bytes) -> (Self, Pool) {
        let test = Self::new(data_size);
        Pool::format(&test.spec).unwrap();
        let pool = Pool::activate(test.spec.clone()).unwrap();
        (test, pool)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The device-mapper name of a part or a volume.
    pub(crate) fn dm_name(&self, suffix: impl std::fmt::Display) -> String {
        format!("fvm-{}-{suffix}", self.spec.name)
    }

    /// Makes a device by `dmsetup` that is removed after the pool; returns its node.
    pub(crate) fn make_device(&mut self, name: &str, table: &str) -> PathBuf {
        let name = format!("test-{}-{name}", self.spec.name);
        dmsetup(&["create", &name, "--table", table]);
        let number = dmsetup(&["info", "-c", "--noheadings", "-o", "minor", &name]);
        self.extra.push(name);
        PathBuf::from(format!("/dev/dm-{number}"))
    }

    /// The name of a device made by [`Self::make_device`].
    pub(crate) fn device_name(&self, name: &str) -> String {
        format!("test-{}-{name}", self.spec.name)
    }

    /// A loop device of the test's own over a new file; it goes with the file's directory.
    pub(crate) fn make_loop(&self, name: &str, size: Bytes) -> PathBuf {
        let path = self.path(name);
        std::fs::File::create(&path)
            .unwrap()
            .set_len(size.0)
            .unwrap();
        PathBuf::from(run(
            "losetup",
            &["--find", "--show", path.to_str().unwrap()],
        ))
    }

    /// How many of the pool's devices the kernel has, by `dmsetup`.
    pub(crate) fn devices_left(&self) -> usize {
        let ours = self.dm_name("");
        dmsetup(&["ls"])
            .lines()
            .filter(|line| line.starts_with(&ours))
            .count()
    }

    /// How many loop devices lie on files of the test's directory.
    pub(crate) fn loops_left(&self) -> usize {
        let directory = self.directory.path().to_str().unwrap();
        run("losetup", &["--list", "--noheadings", "-O", "BACK-FILE"])
            .lines()
            .filter(|line| line.contains(directory))
            .count()
    }

    /// Asserts that neither devices nor loops nor files are left.
    pub(crate) fn assert_nothing_left(&self) {
        assert_eq!(self.devices_left(), 0);
        eventually("autoclear drops the loop devices", || {
            self.loops_left() == 0
        });
        let files: Vec<_> = std::fs::read_dir(self.directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert!(files.is_empty(), "files left: {files:?}");
    }
}

impl Drop for TestPool {
    /// By other means than those under test, so that one failure does not cause others.
    fn drop(&mut self) {
        if !Path::new("/dev/mapper/control").exists() {
            return;
        }
        let remove = |name: &str| {
            let _ = Command::new("dmsetup")
                .args(["--noudevsync", "remove", "--retry", "--force", name])
                .output();
        };
        let volumes: Vec<_> = active_devices()
            .unwrap_or_default()
            .into_iter()
            .filter(|device| device.identity.pool_uuid == self.spec.uuid)
            .map(|device| device.identity.name())
            .collect();
        let is_part = |name: &String| {
            ["-pool", "-data", "-meta"]
                .iter()
                .any(|p| name.ends_with(p))
        };
        for name in volumes.iter().filter(|name| !is_part(name)) {
            remove(name);
        }
        for part in ["pool", "data", "meta"] {
            if volumes.contains(&self.dm_name(part)) {
                remove(&self.dm_name(part));
            }
        }
        for name in self.extra.iter().rev() {
            remove(name);
        }
        let directory = self.directory.path().to_str().unwrap_or("?").to_owned();
        let loops = Command::new("losetup")
            .args(["--list", "--noheadings", "-O", "NAME,BACK-FILE"])
            .output();
        if let Ok(loops) = loops {
            for line in String::from_utf8_lossy(&loops.stdout).lines() {
                if line.contains(&directory)
                    && let Some(name) = line.split_whitespace().next()
                {
                    let _ = Command::new("losetup").args(["-d", name]).output();
                }
            }
        }
    }
}

/// A volume's spec.
pub(crate) fn volume(n: u64, size: Bytes) -> VolumeSpec {
    VolumeSpec {
        id: id(n),
        uuid: Uuid::from_u128(u128::from(n) << 64 | 1),
        size,
    }
}

/// Makes volumes in one transaction.
pub(crate) fn create(pool: &Pool, numbers: impl IntoIterator<Item = u64>) {
    let messages: Vec<_> = numbers
        .into_iter()
        .map(|n| Message::CreateThin { id: id(n) })
        .collect();
    pool.commit(transaction(pool), &messages).unwrap();
}

/// Takes a snapshot.
pub(crate) fn snapshot(pool: &Pool, n: u64, origin: u64) {
    let message = Message::CreateSnap {
        id: id(n),
        origin: id(origin),
    };
    pool.commit(transaction(pool), &[message]).unwrap();
}

/// The pool's transaction id.
pub(crate) fn transaction(pool: &Pool) -> TransactionId {
    pool.status(Flush::None).unwrap().transaction
}

/// Makes and activates a volume.
pub(crate) fn active_volume(pool: &Pool, n: u64, size: Bytes) -> Volume {
    create(pool, [n]);
    pool.activate_volume(&volume(n, size), Access::ReadWrite)
        .unwrap()
}

/// Memory for direct I/O: a slice that begins on a page.
pub(crate) fn aligned(memory: &mut Vec<u8>, length: usize) -> &mut [u8] {
    memory.resize(length + 4096, 0);
    let start = memory.as_ptr().align_offset(4096);
    &mut memory[start..start + length]
}

/// Writes a byte all over a range of a volume.
pub(crate) fn fill(volume: &Volume, offset: u64, length: usize, byte: u8) -> std::io::Result<()> {
    use std::os::unix::fs::FileExt;
    let mut memory = Vec::new();
    let bytes = aligned(&mut memory, length);
    bytes.fill(byte);
    let file = volume.open(Access::ReadWrite).unwrap();
    file.write_all_at(bytes, offset)?;
    file.sync_all()
}

/// The bytes of a range of a volume.
pub(crate) fn read(volume: &Volume, offset: u64, length: usize) -> Vec<u8> {
    use std::os::unix::fs::FileExt;
    let mut memory = Vec::new();
    let bytes = aligned(&mut memory, length);
    let file = volume.open(Access::ReadOnly).unwrap();
    file.read_exact_at(bytes, offset).unwrap();
    bytes.to_vec()
}

/// The device under a pool whose I/O can be made to fail: 40 MiB, of which the pool's data or metadata take their part.
const FLAKY_SECTORS: u64 = (40 << 20) / 512;

/// What a flaky device does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Flaky {
    /// All that it is told.
    Works,
    /// It reads, and takes no writes.
    FailsWrites,
    /// Neither.
    Fails,
}

fn make_flaky(test: &mut TestPool) -> Backing {
    let under = test.make_loop("flaky", Bytes(FLAKY_SECTORS * 512));
    let table = format!("0 {FLAKY_SECTORS} linear {} 0", under.display());
    let path = test.make_device("flaky", &table);
    Backing::Device { path }
}

fn brought_up(test: &TestPool) -> Pool {
    Pool::format(&test.spec).unwrap();
    Pool::activate(test.spec.clone()).unwrap()
}

/// A pool on a metadata device that can be made to fail.
pub(crate) fn on_flaky_metadata(test: &mut TestPool) -> Pool {
    test.spec.metadata = make_flaky(test);
    brought_up(test)
}

/// A pool on a data device that can be made to fail, of 32 MiB.
pub(crate) fn on_flaky_data(test: &mut TestPool) -> Pool {
    test.spec.data = make_flaky(test);
    test.spec.data_size = Bytes::mib(32);
    brought_up(test)
}

/// Makes its writes fail, or work again.
pub(crate) fn let_metadata_writes_fail(test: &TestPool, fail: bool) {
    let does = if fail {
        Flaky::FailsWrites
    } else {
        Flaky::Works
    };
    let_device(test, does);
}

/// Has the flaky device do this from now on.
pub(crate) fn let_device(test: &TestPool, does: Flaky) {
    let device = test.device_name("flaky");
    let file = test.path("flaky");
    let file = file.to_str().unwrap();
    let under = run("losetup", &["-n", "-O", "NAME", "-j", file]);
    let target = match does {
        Flaky::Works => format!("linear {under} 0"),
        Flaky::FailsWrites => format!("flakey {under} 0 0 3600 1 error_writes"),
        Flaky::Fails => "error".to_owned(),
    };
    let table = format!("0 {FLAKY_SECTORS} {target}");
    dmsetup(&["load", &device, "--table", &table]);
    dmsetup(&["suspend", "--noflush", "--nolockfs", &device]);
    dmsetup(&["resume", &device]);
}

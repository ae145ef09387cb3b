//! Starts a confined QEMU: its own session, cgroup, user, descriptors and nothing else.
//!
//! The process does not end with fvmd; it is found again by [`super::adopt`].

use super::process::Running;
use super::sys::{self, ChildPlan, StartError};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use std::ffi::{CString, NulError};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// The user that a process runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Further groups, such as that of `/dev/kvm`.
    pub groups: Vec<u32>,
}

/// One process to be started.
#[derive(Debug)]
pub struct SpawnSpec {
    /// The program.
    pub binary: PathBuf,
    /// Its arguments, without its own name.
    pub arguments: Vec<String>,
    /// Descriptors and the numbers they have in the process, each above 2 and no number twice.
    pub fds: Vec<(OwnedFd, u32)>,
    /// The user; `None` keeps the caller's.
    pub identity: Option<Identity>,
    /// The directory of the cgroup to join, which must exist.
    pub cgroup: Option<PathBuf>,
    /// Where standard output and error go.
    pub log: OwnedFd,
    /// Where the process works and finds its home: the VM's run directory.
    pub directory: PathBuf,
}

/// Why a process did not start.
#[derive(Debug, Error)]
pub enum SpawnError {
    /// A text cannot be passed to a process.
    #[error("an argument for {} contains a NUL byte", binary.display())]
    Nul {
        /// The program.
        binary: PathBuf,
        /// Where.
        source: NulError,
    },
    /// The numbers of the descriptors do not fit.
    #[error("the descriptor number {number} for {} is taken or reserved", binary.display())]
    Number {
        /// The program.
        binary: PathBuf,
        /// The number.
        number: u32,
    },
    /// Something that it needs could not be opened.
    #[error("cannot open {} to start {}", path.display(), binary.display())]
    Open {
        /// The program.
        binary: PathBuf,
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No process could be made.
    #[error("cannot make a process for {}", binary.display())]
    Fork {
        /// The program.
        binary: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The new process failed before it became the program.
    #[error("the new process for {} could not {step}", binary.display())]
    Child {
        /// The program.
        binary: PathBuf,
        /// What it could not do.
        step: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// Starts the process; it runs the program when this returns.
pub fn spawn(spec: SpawnSpec) -> Result<Running, SpawnError> {
    let binary = &spec.binary;
    let text = |bytes: &[u8]| {
        CString::new(bytes).map_err(|source| SpawnError::Nul {
            binary: binary.clone(),
            source,
        })
    };
    let open = |path: &Path, write: bool| -> Result<File, SpawnError> {
        let opened = OpenOptions::new().read(!write).write(write).open(path);
        opened.map_err(|source| SpawnError::Open {
            binary: binary.clone(),
            path: path.to_owned(),
            source,
        })
    };
    let program = text(binary.as_os_str().as_bytes())?;
    let directory = text(spec.directory.as_os_str().as_bytes())?;
    let mut arguments = vec![program.clone()];
    for argument in &spec.arguments {
        arguments.push(text(argument.as_bytes())?);
    }
    let home = spec.directory.as_os_str().as_bytes();
    let mut environment = vec![
        c"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
        c"LC_ALL=C".to_owned(),
    ];
    for name in [
        "HOME",
        "TMPDIR",
        "XDG_CACHE_HOME",
        "XDG_CONFIG_HOME",
        "XDG_DATA_HOME",
    ] {
        environment.push(text(&[name.as_bytes(), b"=", home].concat())?);
    }
    let null = open(Path::new("/dev/null"), false)?;
    let cgroup = match &spec.cgroup {
        None => None,
        Some(directory) => Some(open(&directory.join("cgroup.procs"), true)?),
    };
    let fds = numbered(&spec, &null)?;
    let plan = ChildPlan {
        program: &program,
        arguments: &arguments,
        environment: &environment,
        fds: &fds,
        cgroup: cgroup.as_ref().map(AsFd::as_fd),
        directory: &directory,
        identity: spec
            .identity
            .as_ref()
            .map(|identity| (identity.uid, identity.gid, identity.groups.as_slice())),
    };
    let pid = sys::start(&plan).map_err(|error| match error {
        StartError::Parent(source) => SpawnError::Fork {
            binary: binary.clone(),
            source,
        },
        StartError::Child(step, source) => SpawnError::Child {
            binary: binary.clone(),
            step: sys::STEPS[step],
            source,
        },
    })?;
    // Not reaped yet, so the pid is still this process, even if it has ended.
    Running::hold(pid).map_err(|source| {
        // A process that nobody holds must not stay.
        let pid = Pid::from_raw(pid);
        let _ = kill(pid, Signal::SIGKILL);
        let _ = waitpid(pid, None);
        SpawnError::Fork {
            binary: binary.clone(),
            source,
        }
    })
}

/// The standard streams and the given descriptors, with their numbers checked.
fn numbered<'s>(
    spec: &'s SpawnSpec,
    null: &'s File,
) -> Result<Vec<(BorrowedFd<'s>, RawFd)>, SpawnError> {
    let mut fds = vec![
        (null.as_fd(), 0),
        (spec.log.as_fd(), 1),
        (spec.log.as_fd(), 2),
    ];
    for (fd, number) in &spec.fds {
        let refuse = || SpawnError::Number {
            binary: spec.binary.clone(),
            number: *number,
        };
        let target = RawFd::try_from(*number).map_err(|_| refuse())?;
        // A bound far above any VM's need, below the usual limit of open files.
        if target > 1000 || fds.iter().any(|(_, taken)| *taken == target) {
            return Err(refuse());
        }
        fds.push((fd.as_fd(), target));
    }
    Ok(fds)
}

#[cfg(test)]
mod tests {
    use super::super::process::ExitCause;
    use super::*;
    use std::io::{Read, Seek, Write};
    use std::time::Duration;

    const LIMIT: Duration = Duration::from_secs(60);

    fn spec(script: &str, log: &File) -> SpawnSpec {
        SpawnSpec {
            binary: PathBuf::from("/bin/sh"),
            arguments: vec!["-c".to_owned(), script.to_owned()],
            fds: Vec::new(),
            identity: None,
            cgroup: None,
            log: log.try_clone().expect("a copy").into(),
            directory: PathBuf::from("/"),
        }
    }

    fn output(log: &mut File) -> String {
        let mut text = String::new();
        log.rewind().expect("rewinds");
        log.read_to_string(&mut text).expect("text");
        text
    }

    #[test]
    fn the_child_has_its_descriptors_and_no_others() {
        let mut log = tempfile::tempfile().expect("a file");
        // Left open here without close-on-exec by intent of the test: it must not get through.
        let leak = nix::fcntl::fcntl(&log, nix::fcntl::FcntlArg::F_DUPFD(40)).expect("a copy");
        let mut given = tempfile::tempfile().expect("a file");
        given.write_all(b"given\n").expect("writes");
        given.rewind().expect("rewinds");
        let script = "cat <&5; n=0; while [ $n -le 100 ]; do
            [ -e /proc/$$/fd/$n ] && echo $n; n=$((n + 1)); done; echo $HOME; umask; ulimit -c";
        let mut spec = spec(script, &log);
        spec.fds.push((given.into(), 5));
        let child = spawn(spec).expect("starts");
        assert_eq!(child.wait(LIMIT).expect("ends"), Some(ExitCause::Code(0)));
        nix::unistd::close(leak).expect("was open");
        let text = output(&mut log);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines, ["given", "0", "1", "2", "5", "/", "0077", "0"]);
    }

    #[test]
    fn the_child_leads_a_session_and_cannot_gain_privileges() {
        let mut log = tempfile::tempfile().expect("a file");
        let mut spec = spec("", &log);
        spec.binary = PathBuf::from("/bin/grep");
        let pattern = "^(NSsid|NoNewPrivs|SigIgn|SigBlk)";
        spec.arguments = ["-E", pattern, "/proc/self/status"]
            .map(str::to_owned)
            .into();
        let child = spawn(spec).expect("starts");
        assert_eq!(child.wait(LIMIT).expect("ends"), Some(ExitCause::Code(0)));
        let text = output(&mut log);
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_default()
                .trim_start_matches(':')
                .trim()
                .to_owned()
        };
        assert_eq!(value("NoNewPrivs"), "1");
        assert_eq!(value("SigBlk"), "0000000000000000");
        // 32 and 33 are the C library's own, which it lets nobody change.
        let ignored = u64::from_str_radix(&value("SigIgn"), 16).expect("a mask");
        assert_eq!(ignored & !(0b11 << 31), 0);
        let sid = value("NSsid");
        assert_eq!(
            sid.rsplit('\t').next().map(str::to_owned),
            Some(child.pid().to_string())
        );
    }

    #[test]
    fn an_identity_is_taken_completely() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: taking another identity needs root");
            assert!(std::env::var_os("CI").is_none(), "CI runs as root");
            return;
        }
        let mut log = tempfile::tempfile().expect("a file");
        let mut spec = spec("grep -E '^(Uid|Gid|Groups|CapEff)' /proc/$$/status", &log);
        spec.identity = Some(Identity {
            uid: 4242,
            gid: 4343,
            groups: vec![4444],
        });
        let child = spawn(spec).expect("starts");
        assert_eq!(child.wait(LIMIT).expect("ends"), Some(ExitCause::Code(0)));
        let words: Vec<String> = output(&mut log)
            .split_ascii_whitespace()
            .map(str::to_owned)
            .collect();
        assert_eq!(
            words.join(" "),
            "Uid: 4242 4242 4242 4242 Gid: 4343 4343 4343 4343 Groups: 4444 CapEff: 0000000000000000"
        );
    }

    #[test]
    fn a_failure_in_the_child_names_its_step() {
        let log = tempfile::tempfile().expect("a file");
        let mut missing = spec("true", &log);
        missing.binary = PathBuf::from("/nowhere/qemu");
        match spawn(missing) {
            Err(SpawnError::Child { step, source, .. }) => {
                assert_eq!(step, "run the program");
                assert_eq!(source.kind(), io::ErrorKind::NotFound);
            }
            other => panic!("{other:?}"),
        }
        let mut nowhere = spec("true", &log);
        nowhere.directory = PathBuf::from("/nowhere");
        let error = spawn(nowhere).expect_err("no such directory");
        assert!(error.to_string().contains("working directory"));
        let mut no_cgroup = spec("true", &log);
        no_cgroup.cgroup = Some(PathBuf::from("/nowhere"));
        assert!(matches!(spawn(no_cgroup), Err(SpawnError::Open { .. })));
    }

    #[test]
    fn numbers_and_texts_are_checked() {
        let log = tempfile::tempfile().expect("a file");
        for number in [0, 2, 1001] {
            let mut reserved = spec("true", &log);
            reserved
                .fds
                .push((log.try_clone().expect("a copy").into(), number));
            assert!(
                matches!(spawn(reserved), Err(SpawnError::Number { .. })),
                "{number}"
            );
        }
        assert!(matches!(
            spawn(spec("a\0b", &log)),
            Err(SpawnError::Nul { .. })
        ));
    }

    #[test]
    fn a_killed_child_is_told_as_killed() {
        let log = tempfile::tempfile().expect("a file");
        let child = spawn(spec("exec sleep 600", &log)).expect("starts");
        assert_eq!(child.try_wait().expect("polls"), None);
        child.kill().expect("ours");
        assert_eq!(child.wait(LIMIT).expect("ends"), Some(ExitCause::Signal(9)));
    }
}

//! The crate's unsafe calls: fork and exec of a confined child, pidfds, and the memory of a KVM
//! machine.
//!
//! Between fork and exec only async-signal-safe calls are made on memory that the parent prepared,
//! because the parent has many threads and any of them may have held a lock when it forked.
#![allow(unsafe_code)]

use nix::libc;
use std::ffi::{CStr, CString};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use vm_memory::{Address, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};

/// The steps of the child, in their order, so that a failure can name its step.
pub(super) const STEPS: [&str; 9] = [
    "start a session of its own",
    "join the cgroup",
    "place the descriptors",
    "close all other descriptors",
    "set the resource limits",
    "change the working directory",
    "take the user's identity",
    "give up gaining privileges",
    "run the program",
];

/// What the child does before it becomes the program. All of it is made before the fork.
pub(super) struct ChildPlan<'p> {
    /// The program.
    pub(super) program: &'p CStr,
    /// Its arguments, the first its own name.
    pub(super) arguments: &'p [CString],
    /// Its whole environment.
    pub(super) environment: &'p [CString],
    /// Descriptors and their numbers in the child, also for 0, 1 and 2; no number twice.
    pub(super) fds: &'p [(BorrowedFd<'p>, RawFd)],
    /// The open `cgroup.procs` of the cgroup to join.
    pub(super) cgroup: Option<BorrowedFd<'p>>,
    /// The directory to work in.
    pub(super) directory: &'p CStr,
    /// User, group and further groups; `None` keeps the parent's.
    pub(super) identity: Option<(u32, u32, &'p [u32])>,
}

/// How the start of a child failed.
#[derive(Debug)]
pub(super) enum StartError {
    /// Before or at the fork.
    Parent(io::Error),
    /// In the child, at a step of [`STEPS`].
    Child(usize, io::Error),
}

/// Forks and runs the program; returns when it runs, or when the child has failed and is gone.
pub(super) fn start(plan: &ChildPlan<'_>) -> Result<libc::pid_t, StartError> {
    let highest = plan
        .fds
        .iter()
        .map(|(_, number)| *number)
        .max()
        .unwrap_or(2)
        .max(2);
    let above = highest + 1;
    // Out of the way of the numbers to be filled, so that no source is overwritten.
    let sources: Vec<(OwnedFd, RawFd)> = plan
        .fds
        .iter()
        .map(|(fd, number)| Ok((duplicate_above(*fd, above)?, *number)))
        .collect::<io::Result<_>>()
        .map_err(StartError::Parent)?;
    let cgroup = plan
        .cgroup
        .map(|fd| duplicate_above(fd, above))
        .transpose()
        .map_err(StartError::Parent)?;
    let (read_end, write_end) = io::pipe().map_err(StartError::Parent)?;
    let report = duplicate_above(borrow(&write_end), above).map_err(StartError::Parent)?;
    drop(write_end);

    let arguments = pointers(plan.arguments);
    let environment = pointers(plan.environment);
    let mut kept = vec![false; usize::try_from(above).unwrap_or(0)];
    for (_, number) in &sources {
        if let Some(kept) = usize::try_from(*number).ok().and_then(|n| kept.get_mut(n)) {
            *kept = true;
        }
    }
    let child = Child {
        plan,
        sources: &sources,
        cgroup: cgroup.as_ref().map(AsRawFd::as_raw_fd),
        arguments: &arguments,
        environment: &environment,
        kept: &kept,
        report: report.as_raw_fd(),
    };
    // SAFETY: the child calls only `Child::run`, which allocates nothing, takes no lock and never
    // returns; everything it reads was made above and lives in its copy of this memory.
    let pid = unsafe { libc::fork() };
    match pid {
        -1 => return Err(StartError::Parent(io::Error::last_os_error())),
        0 => child.run(),
        _ => {}
    }
    drop(report);
    let mut failure = [0u8; 8];
    let mut read_end = read_end;
    match read_end.read_exact(&mut failure) {
        // Exec closed the other end: the program runs.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(pid),
        Err(error) => Err(StartError::Parent(error)),
        Ok(()) => {
            // SAFETY: `pid` is our child, which nothing else waits for; a null status is allowed.
            unsafe { libc::waitpid(pid, ptr::null_mut(), 0) };
            let [a, b, c, d, e, f, g, h] = failure;
            let step = u32::from_ne_bytes([a, b, c, d]);
            let errno = i32::from_ne_bytes([e, f, g, h]);
            Err(StartError::Child(
                usize::try_from(step).unwrap_or(0).min(STEPS.len() - 1),
                io::Error::from_raw_os_error(errno),
            ))
        }
    }
}

fn borrow(fd: &impl AsRawFd) -> BorrowedFd<'_> {
    // SAFETY: the descriptor is open for as long as its owner is borrowed.
    unsafe { BorrowedFd::borrow_raw(fd.as_raw_fd()) }
}

fn duplicate_above(fd: BorrowedFd<'_>, lowest: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the call takes integers; on success the new descriptor is owned by nobody yet.
    unsafe {
        match libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, lowest) {
            -1 => Err(io::Error::last_os_error()),
            new => Ok(OwnedFd::from_raw_fd(new)),
        }
    }
}

/// The null-terminated array of pointers that exec takes.
fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings
        .iter()
        .map(|s| s.as_ptr())
        .chain([ptr::null()])
        .collect()
}

/// All that the child needs after the fork, prepared.
struct Child<'c> {
    plan: &'c ChildPlan<'c>,
    sources: &'c [(OwnedFd, RawFd)],
    cgroup: Option<RawFd>,
    arguments: &'c [*const libc::c_char],
    environment: &'c [*const libc::c_char],
    /// For each number up to the highest, whether a descriptor belongs there.
    kept: &'c [bool],
    report: RawFd,
}

impl Child<'_> {
    fn run(&self) -> ! {
        // SAFETY: this is the forked child, alone in its process; see `steps`.
        let step = unsafe { self.steps() };
        // SAFETY: reads this thread's errno.
        let errno = unsafe { *libc::__errno_location() };
        let [a, b, c, d] = step.to_ne_bytes();
        let [e, f, g, h] = errno.to_ne_bytes();
        let message = [a, b, c, d, e, f, g, h];
        // SAFETY: writes eight bytes of this frame to an open pipe, then ends without unwinding.
        unsafe {
            libc::write(self.report, message.as_ptr().cast(), message.len());
            libc::_exit(127)
        }
    }

    /// Goes through [`STEPS`]; returns only the number of the one that failed, errno telling why.
    ///
    /// # Safety
    ///
    /// Must be called in a freshly forked child. Every call in it is async-signal-safe or a bare
    /// system call, on memory prepared before the fork.
    unsafe fn steps(&self) -> u32 {
        // SAFETY: by this function's contract; pointers come from live `CString`s, arrays are
        // terminated, lengths are those of the slices.
        unsafe {
            if libc::setsid() == -1 {
                return 0;
            }
            reset_signals();
            // "0" stands for the process that writes it.
            if let Some(cgroup) = self.cgroup
                && libc::write(cgroup, c"0".as_ptr().cast(), 1) != 1
            {
                return 1;
            }
            for (source, number) in self.sources {
                // The source is above every number, so the copy is a new one without close-on-exec.
                if libc::dup2(source.as_raw_fd(), *number) == -1 {
                    return 2;
                }
            }
            for (number, kept) in (0..).zip(self.kept) {
                if !kept {
                    libc::close(number);
                }
            }
            // The report pipe stays open until exec closes it.
            let above = libc::c_uint::try_from(self.kept.len()).unwrap_or(3);
            let flags = libc::CLOSE_RANGE_CLOEXEC;
            if libc::syscall(libc::SYS_close_range, above, libc::c_uint::MAX, flags) == -1 {
                return 3;
            }
            // A core of QEMU is the guest's memory.
            let no_core = libc::rlimit {
                rlim_cur: 0,
                rlim_max: 0,
            };
            if libc::setrlimit(libc::RLIMIT_CORE, &no_core) == -1 {
                return 4;
            }
            libc::umask(0o077);
            if libc::chdir(self.plan.directory.as_ptr()) == -1 {
                return 5;
            }
            if let Some((uid, gid, groups)) = self.plan.identity {
                // The bare calls: glibc's would speak to the threads of the parent.
                let set_groups = libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr());
                if set_groups == -1
                    || libc::syscall(libc::SYS_setresgid, gid, gid, gid) == -1
                    || libc::syscall(libc::SYS_setresuid, uid, uid, uid) == -1
                {
                    return 6;
                }
            }
            if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1 {
                return 7;
            }
            libc::execve(
                self.plan.program.as_ptr(),
                self.arguments.as_ptr(),
                self.environment.as_ptr(),
            );
            8
        }
    }
}

/// Gives every signal its default action and lets all through: what is ignored or blocked here
/// would be so in the program too.
///
/// # Safety
///
/// Must be called in a freshly forked child.
unsafe fn reset_signals() {
    // SAFETY: async-signal-safe calls; the set is initialised by `sigemptyset` before it is read.
    unsafe {
        for signal in 1..=libc::SIGRTMAX() {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(none.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut());
    }
}

/// A descriptor that stands for the process `pid`.
pub(crate) fn pidfd_open(pid: libc::pid_t) -> io::Result<OwnedFd> {
    // SAFETY: the call takes integers; on success the descriptor is new and owned by nobody.
    unsafe {
        match libc::syscall(libc::SYS_pidfd_open, pid, 0) {
            -1 => Err(io::Error::last_os_error()),
            fd => Ok(OwnedFd::from_raw_fd(
                RawFd::try_from(fd).map_err(io::Error::other)?,
            )),
        }
    }
}

/// Sends `signal` to the process behind `pidfd`.
pub(super) fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: libc::c_int) -> io::Result<()> {
    let no_info = ptr::null::<libc::siginfo_t>();
    // SAFETY: integers, and a null info, which the kernel then makes itself.
    let sent = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            no_info,
            0,
        )
    };
    if sent == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// A virtual machine of KVM together with the memory that it runs on.
pub(crate) struct MappedVm {
    // Declared, and so dropped, before the memory that it refers to.
    vm: kvm_ioctls::VmFd,
    memory: GuestMemoryMmap,
}

impl MappedVm {
    /// Gives `vm` the first region of `memory` as its own.
    pub(crate) fn new(vm: kvm_ioctls::VmFd, memory: GuestMemoryMmap) -> io::Result<Self> {
        let Some(region) = memory.iter().next() else {
            return Err(io::Error::other("the memory has no region"));
        };
        let slot = kvm_bindings::kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: region.start_addr().raw_value(),
            memory_size: region.len(),
            userspace_addr: region.as_ptr() as u64,
        };
        // SAFETY: the region is mapped with this size for as long as `memory` lives, which is
        // longer than `vm` by the order of the fields.
        unsafe { vm.set_user_memory_region(slot) }
            .map_err(|error| io::Error::from_raw_os_error(error.errno()))?;
        Ok(Self { vm, memory })
    }

    /// The machine.
    pub(crate) fn vm(&self) -> &kvm_ioctls::VmFd {
        &self.vm
    }

    /// Its memory.
    pub(crate) fn memory(&self) -> &GuestMemoryMmap {
        &self.memory
    }
}

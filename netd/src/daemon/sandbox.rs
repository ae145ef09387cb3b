//! What `fvm-netd` gives up before it reads the first frame.
//!
//! A guest that found a hole in it would find a process without capabilities that can open no file,
//! make no socket (those it has it can use), start no program and send no signal: only read, answer, and wait.

use std::collections::BTreeMap;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch, apply_filter};

/// The process could not be confined.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The kernel or this machine's architecture does not let it.
    #[error("cannot restrict the system calls of this process")]
    Filter(#[from] seccompiler::Error),
    /// The same, while the filter was written.
    #[error("cannot write the filter of system calls")]
    Program(#[from] seccompiler::BackendError),
    /// The limit of open descriptors could not be changed.
    #[error("cannot raise the limit of open descriptors")]
    Limit(#[source] nix::errno::Errno),
}

/// What the event loop, the allocator and the end of the process need, and nothing else.
const ALLOWED: &[libc::c_long] = &[
    // Waiting.
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    libc::SYS_restart_syscall,
    // Sockets that are there already, and control connections.
    libc::SYS_accept4,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    // Of TCP sockets that are there already, to servers of DNS.
    libc::SYS_connect,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_close,
    libc::SYS_fcntl,
    libc::SYS_geteuid,
    // The log, which is standard error.
    libc::SYS_write,
    libc::SYS_writev,
    // Memory, time, chance.
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_clock_gettime,
    libc::SYS_getrandom,
    // Signals and the end.
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigaction,
    libc::SYS_sigaltstack,
    libc::SYS_sched_yield,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Leaves the calling thread, which must be the only one, the system calls it needs. All others fail
/// with `EPERM`. Cannot be undone.
pub fn lock_down() -> Result<(), SandboxError> {
    let rules: BTreeMap<i64, Vec<_>> = ALLOWED.iter().map(|call| (*call, Vec::new())).collect();
    let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let architecture = TargetArch::try_from(std::env::consts::ARCH)?;
    let filter = SeccompFilter::new(rules, refuse, SeccompAction::Allow, architecture)?;
    let program: BpfProgram = filter.try_into()?;
    apply_filter(&program)?;
    Ok(())
}

/// Raises the limit of open descriptors to what the service manager allows: each guest's port is one.
pub fn raise_descriptor_limit() -> Result<(), SandboxError> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).map_err(SandboxError::Limit)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).map_err(SandboxError::Limit)
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::UdpSocket;
    use std::process::Command;

    use super::*;

    #[test]
    fn what_is_not_needed_is_refused() {
        // The filter holds for the thread that sets it.
        let refused = std::thread::spawn(|| {
            lock_down().unwrap();
            [
                std::fs::File::open("/etc/passwd").map(drop),
                std::fs::write("/tmp/fvm-netd-must-not", "x"),
                UdpSocket::bind("127.0.0.1:0").map(drop),
                Command::new("/bin/true").spawn().map(drop),
                nix::sys::signal::kill(nix::unistd::Pid::this(), None).map_err(Into::into),
            ]
            .map(|result| result.map_err(|error| error.kind()))
        })
        .join()
        .unwrap();
        assert_eq!(refused, [Err(ErrorKind::PermissionDenied); 5]);
    }
}

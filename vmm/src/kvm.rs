//! Whether KVM works here: a probe of what it offers, and a self-test that runs guest code.
//!
//! That `/dev/kvm` is there says little: under some hypervisors opening a virtual processor hangs
//! or fails. So the self-test makes a machine of one page and one processor, runs a few
//! instructions and checks what they did; and it does so in a child that is killed at a time limit.

use crate::api::KvmOffers;
use crate::qemu::sys::MappedVm;
use kvm_ioctls::{Cap, Kvm, VcpuExit};
use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;
use thiserror::Error;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

/// The device.
pub const DEVICE: &str = "/dev/kvm";
/// The argument with which an executable runs [`self_test_child`].
pub const SELF_TEST_ARGUMENT: &str = "kvm-self-test";

/// The version of the interface, which has not changed since Linux 2.6.22 (linux/kvm.h).
const API_VERSION: i32 = 12;
/// The most characters of the child's words in a reason.
const MAX_REASON: u64 = 1000;

/// Whether guests can run by KVM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KvmHealth {
    /// The self-test ran guest code and it did what it should.
    Works,
    /// There is no `/dev/kvm`.
    Missing,
    /// It is there and does not work, for this reason.
    Fails(String),
}

/// Why KVM could not be asked, or did not do what it should.
#[derive(Debug, Error)]
pub enum KvmError {
    /// A call failed.
    #[error("cannot {action}")]
    Call {
        /// What was tried.
        action: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The interface is another one.
    #[error("{DEVICE} has the interface version {0}, not {API_VERSION}")]
    Version(i32),
    /// The guest's memory could not be used.
    #[error("cannot use the memory of the test machine")]
    Memory(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The guest's code did something else.
    #[error("the test machine stopped with {0}")]
    Stopped(String),
    /// The guest's code had another result.
    #[error("the test machine gave {found:?}, not {expected:?}")]
    Result {
        /// What it should give.
        expected: Vec<u8>,
        /// What it gave.
        found: Vec<u8>,
    },
}

fn call(action: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> KvmError {
    move |error| KvmError::Call {
        action,
        source: io::Error::from_raw_os_error(error.errno()),
    }
}

/// Asks KVM what it offers; asking makes no virtual machine.
pub fn probe() -> Result<KvmOffers, KvmError> {
    let kvm = open()?;
    let count = |cap| u32::try_from(kvm.check_extension_int(cap)).unwrap_or(0);
    let nested = ["kvm_amd", "kvm_intel"].iter().find_map(|module| {
        let text = fs::read_to_string(format!("/sys/module/{module}/parameters/nested")).ok()?;
        Some(matches!(text.trim(), "1" | "Y"))
    });
    Ok(KvmOffers {
        api_version: API_VERSION as u32,
        max_vcpus: count(Cap::MaxVcpus),
        recommended_vcpus: count(Cap::NrVcpus),
        memory_slots: count(Cap::NrMemslots),
        tsc_scaling: count(Cap::TscControl) > 0,
        tsc_deadline: count(Cap::TscDeadlineTimer) > 0,
        x2apic: count(Cap::X2ApicApi) > 0,
        nested,
    })
}

fn open() -> Result<Kvm, KvmError> {
    let kvm = Kvm::new().map_err(call("open /dev/kvm"))?;
    match kvm.get_api_version() {
        API_VERSION => Ok(kvm),
        other => Err(KvmError::Version(other)),
    }
}

/// Runs the self-test in a child process, `executable` with [`SELF_TEST_ARGUMENT`], for at most
/// `limit`.
pub fn self_test(executable: &Path, limit: Duration) -> KvmHealth {
    if !Path::new(DEVICE).exists() {
        return KvmHealth::Missing;
    }
    run_child(Command::new(executable).arg(SELF_TEST_ARGUMENT), limit)
}

fn run_child(command: &mut Command, limit: Duration) -> KvmHealth {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => {
            let program = command.get_program().display();
            return KvmHealth::Fails(format!("cannot run the self-test {program}: {error}"));
        }
    };
    match wait_within(&mut child, limit) {
        Ok(Some(status)) if status.success() => KvmHealth::Works,
        Ok(Some(status)) => {
            let mut said = String::new();
            if let Some(stderr) = child.stderr.take() {
                let _ = stderr.take(MAX_REASON).read_to_string(&mut said);
            }
            KvmHealth::Fails(match said.trim() {
                "" => format!("the self-test ended with {status}"),
                said => said.to_owned(),
            })
        }
        Ok(None) => {
            // A processor that hangs in the kernel may not even be killed; it is left behind then.
            let _ = child.kill();
            let limit = limit.as_secs_f32();
            KvmHealth::Fails(format!("the self-test did not end within {limit} s"))
        }
        Err(error) => KvmHealth::Fails(format!("cannot wait for the self-test: {error}")),
    }
}

/// Waits for the end of `child`; `None` when the limit passed first.
fn wait_within(child: &mut Child, limit: Duration) -> io::Result<Option<std::process::ExitStatus>> {
    let pid = nix::unistd::Pid::from_raw(child.id().try_into().map_err(io::Error::other)?);
    let pidfd = crate::qemu::sys::pidfd_open(pid.as_raw())?;
    if !crate::qemu::poll_readable(&pidfd, limit)? {
        return Ok(None);
    }
    child.wait().map(Some)
}

/// The child's half: runs the test here and reports its reason on standard error.
pub fn self_test_child() -> ExitCode {
    match run_guest() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut reason = error.to_string();
            let mut cause = std::error::Error::source(&error);
            while let Some(error) = cause {
                reason.push_str(": ");
                reason.push_str(&error.to_string());
                cause = error.source();
            }
            let _ = writeln!(io::stderr(), "{reason}");
            ExitCode::FAILURE
        }
    }
}

/// Where the guest's code is loaded, and the page of memory that it writes to.
const CODE: u64 = 0x1000;
const RESULT: u64 = 0x2000;
const MEMORY_BYTES: usize = 0x4000;
/// The first serial port, which the guest's code writes to.
const PORT: u16 = 0x3f8;
/// 16-bit code: adds BL to AL, tells the sum as a digit on the port and in memory, halts.
const GUEST_CODE: [u8; 16] = [
    0xba, 0xf8, 0x03, // mov dx, 0x3f8
    0x00, 0xd8, // add al, bl
    0x04, b'0', // add al, '0'
    0xee, // out dx, al
    0xa2, 0x00, 0x20, // mov [0x2000], al
    0xb0, b'\n', // mov al, '\n'
    0xee,  // out dx, al
    0xf4,  // hlt
    0x90,  // nop
];

/// Makes the machine, runs its code and checks what it did.
fn run_guest() -> Result<(), KvmError> {
    let kvm = open()?;
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY_BYTES)])
        .map_err(|error| KvmError::Memory(Box::new(error)))?;
    memory
        .write_slice(&GUEST_CODE, GuestAddress(CODE))
        .map_err(|error| KvmError::Memory(Box::new(error)))?;
    let vm = kvm.create_vm().map_err(call("make a virtual machine"))?;
    let vm = MappedVm::new(vm, memory).map_err(|source| KvmError::Call {
        action: "map the test machine's memory",
        source,
    })?;
    let mut vcpu = vm
        .vm()
        .create_vcpu(0)
        .map_err(call("make a virtual processor"))?;
    let mut special = vcpu
        .get_sregs()
        .map_err(call("read the processor's segments"))?;
    (special.cs.base, special.cs.selector) = (0, 0);
    (special.ds.base, special.ds.selector) = (0, 0);
    vcpu.set_sregs(&special)
        .map_err(call("set the processor's segments"))?;
    let mut registers = vcpu
        .get_regs()
        .map_err(call("read the processor's registers"))?;
    registers.rip = CODE;
    registers.rax = 2;
    registers.rbx = 3;
    // Bit 1 of the flags is always set.
    registers.rflags = 2;
    vcpu.set_regs(&registers)
        .map_err(call("set the processor's registers"))?;

    let mut output = Vec::new();
    loop {
        match vcpu.run() {
            Ok(VcpuExit::IoOut(PORT, data)) => output.extend_from_slice(data),
            Ok(VcpuExit::Hlt) => break,
            Ok(other) => return Err(KvmError::Stopped(format!("{other:?}"))),
            Err(error) if error.errno() == nix::libc::EINTR => {}
            Err(error) => return Err(call("run the virtual processor")(error)),
        }
    }
    let in_memory: u8 = vm
        .memory()
        .read_obj(GuestAddress(RESULT))
        .map_err(|error| KvmError::Memory(Box::new(error)))?;
    output.push(in_memory);
    let expected = b"5\n5";
    if output != expected {
        return Err(KvmError::Result {
            expected: expected.to_vec(),
            found: output,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A script in the place of the self-test's child.
    fn health(script: &str, limit: Duration) -> KvmHealth {
        run_child(Command::new("/bin/sh").args(["-c", script]), limit)
    }

    #[test]
    fn the_child_s_end_is_told_as_it_was() {
        let limit = Duration::from_secs(60);
        assert_eq!(health("true", limit), KvmHealth::Works);
        assert_eq!(
            health("echo no such luck >&2; exit 1", limit),
            KvmHealth::Fails("no such luck".to_owned())
        );
        assert!(matches!(health("kill -9 $$", limit), KvmHealth::Fails(why) if why.contains("9")));
    }

    #[test]
    fn a_child_that_hangs_is_ended() {
        let hung = health("exec sleep 600", Duration::from_millis(200));
        assert!(matches!(hung, KvmHealth::Fails(why) if why.contains("0.2 s")));
    }
}

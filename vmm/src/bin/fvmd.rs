//! `fvmd`: the privileged half of fvm.

use std::process::ExitCode;

fn main() -> ExitCode {
    fvm_vmm::daemon::main()
}

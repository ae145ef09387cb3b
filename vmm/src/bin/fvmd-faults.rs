//! `fvmd` with its fault points armed, for tests only. `--list-fault-points` names them.

use std::process::ExitCode;

fn main() -> ExitCode {
    fvm_vmm::daemon::main()
}

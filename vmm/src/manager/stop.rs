//! `stop`: hard, or by the ACPI power button with a bound.

use super::{
    Manager, Progress,
    batch::side_by_side,
    error::Result,
    machine::{Entry, Machine},
    owner::{Root, check_owner},
};
use crate::{
    api::{
        Action, ApiError, BatchReport, ErrorKind, StopMode, StopVms, VmNumber, VmReport, VmState,
    },
    manager::Caller,
};
use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

/// How long QEMU may take to end by itself when told to, before it is killed.
const QUIT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long everything made for a run may take to be released.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long QEMU may take to answer a command.
const QMP_TIMEOUT: Duration = Duration::from_secs(10);

impl Manager {
    /// Stops VMs; each has an outcome of its own.
    ///
    /// # Errors
    /// When the host is not set up.
    pub fn stop(
        &self,
        caller: Caller,
        request: &StopVms,
        progress: &Progress,
    ) -> Result<BatchReport> {
        self.host()?;
        let results = side_by_side(request.vms.numbers(), |number| {
            let _alone = self.vm_locks.lock(number);
            let report = self.stop_one(caller, number, request, progress)?;
            tracing::info!(vm = %number, uid = caller.uid, "stopped");
            Ok(Some(report))
        });
        Ok(self.batch_report(Action::Stop, results))
    }

    fn stop_one(
        &self,
        caller: Caller,
        number: VmNumber,
        request: &StopVms,
        progress: &Progress,
    ) -> Result<VmReport> {
        let host = self.host()?;
        let row = self.vm_row(number)?;
        let insists = Root::HasToInsist {
            force: request.force,
        };
        check_owner(&host, caller, &row, insists)?;
        let Some(Entry::Up(machine)) = self.machines.get(number) else {
            return Err(ApiError::new(
                ErrorKind::Refused,
                format!("VM {number} is not running"),
            ));
        };
        match request.mode {
            StopMode::Hard => self.stop_hard(&machine)?,
            StopMode::Graceful {
                timeout_s,
                cut_power,
            } => {
                progress.step(Some(number), "pressing the power button");
                let timeout = Duration::from_secs(timeout_s.into());
                let pressed = press_power_button(&machine, timeout);
                if let (Err(error), true) = (&pressed, cut_power) {
                    progress.warn(
                        Some(number),
                        format!("{}: its power is cut now", error.message),
                    );
                    self.stop_hard(&machine)?;
                } else {
                    pressed?;
                }
            }
        }
        self.touch(&row);
        self.report(&host, &row)
    }

    /// Ends a machine at once and waits until it has been released.
    pub(super) fn stop_hard(&self, machine: &Arc<Machine>) -> Result<()> {
        machine.update(|standing| {
            standing.state = VmState::Stopping;
            standing.end_was_asked_for = true;
        });
        // Told to quit, QEMU closes its disk in order; if it cannot answer, it is killed.
        let told = machine
            .qmp
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .quit(QUIT_TIMEOUT);
        if told.is_err() || !machine.wait_until_gone(QUIT_TIMEOUT) {
            machine.process.kill().map_err(|error| {
                super::error::failed(format!("killing VM {}", machine.number), &error)
            })?;
        }
        if machine.wait_until_gone(RELEASE_TIMEOUT) {
            Ok(())
        } else {
            Err(ApiError::new(
                ErrorKind::Failed,
                format!(
                    "VM {} has not ended within {} s of being killed",
                    machine.number,
                    RELEASE_TIMEOUT.as_secs()
                ),
            ))
        }
    }
}

/// Presses the power button and waits; a guest that takes no notice goes on as before.
fn press_power_button(machine: &Machine, timeout: Duration) -> Result<()> {
    let number = machine.number;
    if machine.standing().state == VmState::Paused {
        return Err(ApiError::new(
            ErrorKind::Refused,
            format!("VM {number} is paused and cannot take notice of its power button"),
        )
        .hint(format!(
            "`fvm resume {number}` lets it go on; `fvm stop {number}` stops it at once"
        )));
    }
    machine.update(|standing| {
        standing.state = VmState::Stopping;
        standing.end_was_asked_for = true;
    });
    let pressed = machine
        .qmp
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .system_powerdown(QMP_TIMEOUT)
        .map_err(|error| {
            super::error::failed(format!("pressing VM {number}'s power button"), &error)
        });
    if pressed.is_ok() && machine.wait_until_gone(timeout) {
        return Ok(());
    }
    machine.update(|standing| {
        standing.state = VmState::Running;
        standing.end_was_asked_for = false;
    });
    pressed?;
    Err(ApiError::new(
        ErrorKind::Failed,
        format!(
            "VM {number} has not shut down within {} s of its power button being pressed",
            timeout.as_secs()
        ),
    )
    .hint(format!("it runs on: `fvm stop {number}` stops it at once")))
}

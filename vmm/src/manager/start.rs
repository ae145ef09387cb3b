//! `start`: a VM's QEMU is launched, each VM by itself.

use super::{
    Manager, Progress,
    batch::side_by_side,
    error::{Result, failed},
    machine::Entry,
    quota::Amounts,
};
use crate::{
    api::{Action, ApiError, BatchReport, ErrorKind, StartVms, VmNumber, VmReport},
    manager::Caller,
};
use std::sync::Arc;

impl Manager {
    /// Starts VMs; each has an outcome of its own.
    ///
    /// # Errors
    /// When the host is not set up.
    pub fn start(
        self: &Arc<Self>,
        caller: Caller,
        request: &StartVms,
        progress: &Progress,
    ) -> Result<BatchReport> {
        self.host()?;
        let results = side_by_side(request.vms.numbers(), |number| {
            let report = self.start_one(caller, number, progress)?;
            tracing::info!(vm = %number, uid = caller.uid, "started");
            Ok(Some(report))
        });
        Ok(self.batch_report(Action::Start, results))
    }

    fn start_one(
        self: &Arc<Self>,
        caller: Caller,
        number: VmNumber,
        progress: &Progress,
    ) -> Result<VmReport> {
        let host = self.host()?;
        let _alone = self.vm_locks.lock(number);
        let row = self.lasting_vm_row(number)?;
        self.touch(&row);
        match self.machines.get(number) {
            Some(Entry::Up(machine)) if machine.standing().held.is_some() => {
                progress.step(Some(number), "letting it go on");
                machine
                    .go_on()
                    .map_err(|error| failed(format!("letting VM {number} go on"), &error))?;
                return self.report(&host, &row);
            }
            Some(Entry::Up(machine)) => {
                let state = machine.standing().state;
                return Err(ApiError::new(
                    ErrorKind::Refused,
                    format!("VM {number} is already {state}"),
                ));
            }
            Some(Entry::Starting) => {
                return Err(ApiError::new(
                    ErrorKind::Refused,
                    format!("VM {number} is already starting"),
                ));
            }
            None => {}
        }
        {
            let more = Amounts::of_run(&row);
            let _quota = self.within_quota(&host, caller, row.owner_uid, more)?;
            self.machines.starting(number);
        }
        match self.launch(&host, &row, progress) {
            Ok(machine) => {
                let machine = Arc::new(machine);
                self.machines.insert(machine.clone());
                self.supervise(machine);
                self.report(&host, &row)
            }
            Err(mut error) => {
                // Whatever was made for this run is taken away again, and what cannot be is told.
                if let Err(left) = self.release(&host, &row) {
                    error.details.push(format!("left behind: {}", left.message));
                    error.details.extend(left.details);
                }
                self.machines.remove(number);
                Err(error)
            }
        }
    }
}

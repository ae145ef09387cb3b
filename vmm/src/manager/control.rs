//! The buttons, keys and cables of running VMs: pause, resume, reset, link, keys.

use super::{
    Manager, Progress,
    batch::side_by_side,
    error::{Result, failed},
    kept,
    machine::{Entry, Machine, PAUSED_ON_REQUEST},
    owner::{Root, check_owner},
};
use crate::{
    api::{
        Action, ApiError, BatchReport, Chord, Control, ControlVms, ErrorKind, VmNumber, VmReport,
        VmState,
    },
    domain::{Domain, Interface},
    manager::Caller,
    store::VmRow,
};
use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

/// How long QEMU may take to answer a command.
const QMP_TIMEOUT: Duration = Duration::from_secs(10);

impl Manager {
    /// Pauses, resumes or resets VMs, or presses keys; each VM has an outcome of its own.
    ///
    /// # Errors
    /// When the host is not set up or there are too many keys.
    pub fn control(
        &self,
        caller: Caller,
        request: &ControlVms,
        _progress: &Progress,
    ) -> Result<BatchReport> {
        self.host()?;
        let action = match &request.control {
            Control::Pause => Action::Pause,
            Control::Resume => Action::Resume,
            Control::Reset => Action::Reset,
            Control::Link { .. } => Action::Link,
            Control::SendKey { chords } => {
                check_count(chords)?;
                Action::SendKey
            }
        };
        let results = side_by_side(request.vms.numbers(), |number| {
            let _alone = self.vm_locks.lock(number);
            let report = self.control_one(caller, number, &request.control)?;
            Ok(Some(report))
        });
        Ok(self.batch_report(action, results))
    }

    fn control_one(&self, caller: Caller, number: VmNumber, control: &Control) -> Result<VmReport> {
        let host = self.host()?;
        let row = self.lasting_vm_row(number)?;
        check_owner(&host, caller, &row, Root::May)?;
        let machine = self.running(number)?;
        match control {
            Control::Pause => pause(&machine)?,
            Control::Resume => {
                resume(&machine)?;
                self.set_clock(&host, &machine, &row);
            }
            Control::Reset => reset(&machine)?,
            Control::Link { up, card } => {
                plug(&machine, &row, &kept::domain(&host, &row)?, *up, *card)?;
            }
            Control::SendKey { chords } => press(&machine, chords)?,
        }
        self.report(&host, &row)
    }

    /// The machine of a VM that runs, or that it does not.
    pub(super) fn running(&self, number: VmNumber) -> Result<Arc<Machine>> {
        match self.machines.get(number) {
            Some(Entry::Up(machine)) => Ok(machine),
            _ => Err(
                ApiError::new(ErrorKind::Refused, format!("VM {number} is not running"))
                    .hint(format!("`fvm start {number}` starts it")),
            ),
        }
    }
}

fn check_count(chords: &[Chord]) -> Result<()> {
    match chords.len() {
        1..=Chord::MOST => Ok(()),
        count => Err(ApiError::new(
            ErrorKind::Usage,
            format!("{count} chords are not within 1 to {}", Chord::MOST),
        )),
    }
}

fn pause(machine: &Machine) -> Result<()> {
    let standing = machine.standing();
    if standing.state == VmState::Paused {
        let why = standing
            .cause
            .map(|cause| format!(": {cause}"))
            .unwrap_or_default();
        return Err(ApiError::new(
            ErrorKind::Refused,
            format!("VM {} is paused already{why}", machine.number),
        ));
    }
    qmp(machine, "pausing", |qmp| qmp.stop(QMP_TIMEOUT))?;
    machine.update(|standing| {
        standing.state = VmState::Paused;
        standing.cause = Some(PAUSED_ON_REQUEST.to_owned());
    });
    Ok(())
}

fn resume(machine: &Machine) -> Result<()> {
    let state = machine.standing().state;
    if state != VmState::Paused {
        return Err(ApiError::new(
            ErrorKind::Refused,
            format!("VM {} is not paused: it is {state}", machine.number),
        ));
    }
    machine
        .go_on()
        .map_err(|error| failed(format!("letting VM {} go on", machine.number), &error))?;
    machine.update(|standing| {
        standing.state = VmState::Running;
        standing.cause = None;
        standing.held = None;
    });
    Ok(())
}

fn reset(machine: &Machine) -> Result<()> {
    qmp(machine, "resetting", |qmp| qmp.system_reset(QMP_TIMEOUT))
}

fn plug(
    machine: &Machine,
    row: &VmRow,
    domain: &Domain,
    up: bool,
    card: Option<u32>,
) -> Result<()> {
    let all = row.nics.iter().zip(&domain.devices.interfaces);
    let cards: Vec<&Interface> = all
        .filter(|(nic, _)| card.is_none_or(|card| nic.index == card))
        .map(|(_, card)| card)
        .collect();
    if cards.is_empty() {
        let number = machine.number;
        let message = match card {
            Some(card) => format!("VM {number} has no network card {card}"),
            None => format!("VM {number} has no network card"),
        };
        return Err(ApiError::new(ErrorKind::Refused, message)
            .hint(format!("`fvm info {number}` shows the cards that it has")));
    }
    cards.into_iter().try_for_each(|card| {
        qmp(machine, "setting the cable of", |qmp| {
            qmp.set_link(&card.alias, up, QMP_TIMEOUT)
        })
    })
}

fn press(machine: &Machine, chords: &[Chord]) -> Result<()> {
    // What is pressed while its processors stand still would come all at once later.
    if machine.standing().state == VmState::Paused {
        let number = machine.number;
        return Err(ApiError::new(
            ErrorKind::Refused,
            format!("VM {number} is paused and takes no keys"),
        )
        .hint(format!("`fvm resume {number}` lets it go on")));
    }
    chords.iter().try_for_each(|chord| {
        qmp(machine, "pressing keys of", |qmp| {
            qmp.send_key(chord.keys(), QMP_TIMEOUT)
        })
    })
}

/// Has QEMU do something; `doing` is followed by the VM in the error.
fn qmp(
    machine: &Machine,
    doing: &str,
    command: impl FnOnce(
        &mut crate::qemu::qmp::Client,
    ) -> std::result::Result<(), crate::qemu::qmp::QmpError>,
) -> Result<()> {
    let mut qmp = machine.qmp.lock().unwrap_or_else(PoisonError::into_inner);
    command(&mut qmp).map_err(|error| failed(format!("{doing} VM {}", machine.number), &error))
}

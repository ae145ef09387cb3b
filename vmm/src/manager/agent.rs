//! What the agents in guests are used for, and how long each may take.
//!
//! Nothing depends on an agent: a guest may have none, or one that lies. The worst that it can do is to make
//! its own VM's operation take as long as the limits here say.
//!
//! A guest that is asked to hold its file systems still is noted in the store first, so that a daemon that
//! dies in between lets it go on when it starts again.

use super::{Manager, Progress, batch::side_by_side, host::Host, kept, machine::Machine};
use crate::{
    api::{VmNumber, VmState},
    domain::{Channel, Domain},
    qemu::{
        agent::{Agent, AgentError},
        args::chardev_id,
    },
    store::VmRow,
};
use std::{
    ops::{Deref, DerefMut},
    sync::{Arc, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

/// How long an agent may take to answer at all; an emulated guest is slow.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a guest may take to write its file systems out, and to let them go on.
const FREEZE_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a guest is asked to go on before it is given up.
const THAW_TRIES: u32 = 3;
/// How long QEMU may take to answer.
const QMP_TIMEOUT: Duration = Duration::from_secs(10);

/// The channel of the guest agent that fvm has a socket for.
pub(super) fn channel(domain: &Domain) -> Option<&Channel> {
    let mut channels = domain.devices.channels.iter();
    channels.find(|channel| channel.is_guest_agent())
}

/// The only connection to one guest's agent; QEMU serves no second one.
#[derive(Debug)]
pub(super) struct Connection<'m> {
    agent: Agent,
    _alone: MutexGuard<'m, ()>,
}

impl Deref for Connection<'_> {
    type Target = Agent;
    fn deref(&self) -> &Agent {
        &self.agent
    }
}

impl DerefMut for Connection<'_> {
    fn deref_mut(&mut self) -> &mut Agent {
        &mut self.agent
    }
}

/// Why a guest's agent cannot be used: the end of a sentence about the VM.
type Absence = String;

impl Manager {
    /// Connects to the agent of a VM's guest, if there is one that answers.
    pub(super) fn agent<'m>(
        &self,
        host: &Host,
        machine: &'m Machine,
        row: &VmRow,
    ) -> Result<Connection<'m>, Absence> {
        let state = machine.standing().state;
        if state != VmState::Running {
            return Err(format!("it is {state}"));
        }
        let domain = kept::domain(host, row).map_err(|error| error.message)?;
        let channel = channel(&domain).ok_or("its template has no channel for a guest agent")?;
        let alone = machine.agent.lock().unwrap_or_else(PoisonError::into_inner);
        // Asked first: an agent that is not there cannot say so, and waiting for it would take its time.
        let open = machine
            .qmp
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_port_open(&chardev_id(&channel.alias), QMP_TIMEOUT)
            .map_err(|error| error.to_string())?;
        if !open {
            return Err("no guest agent runs in it".into());
        }
        let socket = self.paths.vm(row.number).agent_socket();
        let agent = Agent::connect(&socket, ANSWER_TIMEOUT).map_err(|error| error.to_string())?;
        Ok(Connection {
            agent,
            _alone: alone,
        })
    }

    /// Has the guests of running VMs hold their file systems still, as far as they can; those that cannot are
    /// left out, with a warning that says why.
    pub(super) fn freeze<'a>(
        &'a self,
        host: &'a Host,
        rows: &'a [VmRow],
        progress: &'a Progress,
    ) -> Frozen<'a> {
        let numbers: Vec<VmNumber> = rows.iter().map(|row| row.number).collect();
        // Made first, so that a panic in the middle of the freezing is followed by a thaw as well.
        let mut frozen = Frozen {
            manager: self,
            host,
            progress,
            guests: Vec::new(),
        };
        let results = side_by_side(&numbers, |number| {
            let row = rows.iter().find(|row| row.number == number);
            let guest = row.and_then(|row| Some((self.machines.up(number)?, row)));
            Ok(guest.map(|(machine, row)| {
                let outcome = self.freeze_one(host, &machine, row);
                (machine, row, outcome)
            }))
        });
        for (machine, row, outcome) in results.into_iter().flat_map(|(_, result)| result).flatten()
        {
            match outcome {
                Ok(()) => frozen.guests.push((machine, row)),
                Err(why) => progress.warn(
                    Some(row.number),
                    format!("its file systems are not held still: {why}"),
                ),
            }
        }
        frozen
    }

    fn freeze_one(&self, host: &Host, machine: &Machine, row: &VmRow) -> Result<(), Absence> {
        let mut agent = self.agent(host, machine, row)?;
        self.store
            .set_frozen(row.number, true)
            .map_err(|error| error.to_string())?;
        let held = agent.freeze(FREEZE_TIMEOUT);
        drop(agent);
        let why = match held {
            Ok(0) => "the guest agent found none".to_owned(),
            Ok(_) => return Ok(()),
            Err(error) => error.to_string(),
        };
        // Some may be held still all the same, or will be once a slow guest comes to it.
        match self.thaw_one(host, machine, row) {
            Ok(()) => Err(why),
            Err(worse) => Err(format!("{why}; and they may be held still later: {worse}")),
        }
    }

    /// Lets a guest go on that was asked to hold still.
    fn thaw_one(&self, host: &Host, machine: &Machine, row: &VmRow) -> Result<(), Absence> {
        let mut last = String::new();
        for _ in 0..THAW_TRIES {
            let thawed = self.agent(host, machine, row).and_then(|mut agent| {
                let thawed = agent.thaw(FREEZE_TIMEOUT);
                thawed
                    .map(drop)
                    .map_err(|error: AgentError| error.to_string())
            });
            match thawed {
                Ok(()) => {
                    return self
                        .store
                        .set_frozen(row.number, false)
                        .map_err(|error| error.to_string());
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Lets guests go on that an earlier daemon had asked to hold still. In a thread of its own: a guest that
    /// does not answer keeps nobody waiting.
    pub(super) fn thaw_left(self: &Arc<Self>, host: &Arc<Host>) -> super::error::Result<()> {
        for number in self.store.frozen()? {
            let (Some(machine), Some(row)) = (self.machines.up(number), self.store.vm(number)?)
            else {
                continue;
            };
            tracing::warn!(vm = %number, "letting a guest go on that was held still");
            let (manager, host) = (self.clone(), host.clone());
            let spawned = thread::Builder::new()
                .name(format!("thaw-{number}"))
                .spawn(move || {
                    if let Err(why) = manager.thaw_one(&host, &machine, &row) {
                        tracing::error!(vm = %number, why, "its file systems may be held still");
                    }
                });
            spawned.map_err(|error| super::error::failed("starting a thread", &error))?;
        }
        Ok(())
    }
}

/// Guests that hold their file systems still, until [`Frozen::thaw`]; or until it is dropped, so that no way
/// out of an operation leaves them so.
#[derive(Debug)]
pub(super) struct Frozen<'a> {
    manager: &'a Manager,
    host: &'a Host,
    progress: &'a Progress,
    guests: Vec<(Arc<Machine>, &'a VmRow)>,
}

impl Frozen<'_> {
    /// Whether this VM's guest is among them.
    pub(super) fn holds(&self, number: VmNumber) -> bool {
        self.guests
            .iter()
            .any(|(machine, _)| machine.number == number)
    }

    /// Lets them go on; who does not is warned of.
    pub(super) fn thaw(mut self) {
        self.let_go();
    }

    fn let_go(&mut self) {
        let guests = std::mem::take(&mut self.guests);
        let numbers: Vec<VmNumber> = guests.iter().map(|(machine, _)| machine.number).collect();
        side_by_side(&numbers, |number| {
            let guest = guests.iter().find(|(machine, _)| machine.number == number);
            if let Some((machine, row)) = guest
                && let Err(why) = self.manager.thaw_one(self.host, machine, row)
            {
                let text = format!("its file systems may still be held still: {why}");
                self.progress.warn(Some(number), text);
            }
            Ok(())
        });
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        self.let_go();
    }
}

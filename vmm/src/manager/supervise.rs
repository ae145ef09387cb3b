//! One thread per running VM: it watches QEMU's events and its end, and releases what the run had.
//!
//! The states are drawn in `machine.rs`. QEMU's events are not repeated, so after connecting the state is
//! asked for once and from then on followed.

use super::{
    Manager, boot, log,
    machine::{Held, Machine, PAUSED_ON_REQUEST, Standing},
};
use crate::{
    api::{VmNumber, VmState},
    paths::VmPaths,
    qemu::{
        ExitCause,
        qmp::{Client, Event, QmpError, Status},
    },
};
use std::{
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    thread,
    time::{Duration, Instant},
};

/// How long to wait for an event before looking whether QEMU is still there.
const EVENT_WAIT: Duration = Duration::from_secs(1);
/// How long QEMU may take to answer.
const QMP_TIMEOUT: Duration = Duration::from_secs(10);
/// How often the logs are looked at, which must not fill the host's disk.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

impl Manager {
    /// Watches a machine until its end, in a thread of its own.
    pub(super) fn supervise(self: &Arc<Self>, machine: Arc<Machine>) {
        let manager = Arc::downgrade(self);
        let name = format!("vm-{}", machine.number);
        let watched = machine.clone();
        let spawned = thread::Builder::new()
            .name(name)
            .spawn(move || watch(&manager, &watched));
        if let Err(error) = spawned {
            // Without its supervisor a VM would be lost to the daemon: rather end it in order.
            tracing::error!(vm = %machine.number, %error, "cannot watch this VM, so it is stopped");
            let _ = machine.process.kill();
            self.ended(
                &machine,
                "this host could not start another thread to watch it",
            );
        }
    }

    /// What follows when QEMU has gone.
    fn ended(&self, machine: &Machine, why: &str) {
        let number = machine.number;
        let asked = machine.standing().end_was_asked_for;
        let cause = (!asked).then_some(why);
        match cause {
            None => tracing::info!(vm = %number, "ended"),
            Some(cause) => tracing::warn!(vm = %number, cause, "ended unasked"),
        }
        if let Err(error) = self.store.end_run(number, cause) {
            tracing::error!(vm = %number, %error, "cannot record the end of a run");
        }
        match (self.host(), self.store.vm(number)) {
            (Ok(host), Ok(Some(row))) => {
                if let Err(error) = self.release(&host, &row) {
                    tracing::error!(vm = %number, error = %error.message, details = ?error.details,
                        "not all of a run could be released; `fvm delete` or the next start tries again");
                }
            }
            (Err(error), _) => {
                tracing::error!(vm = %number, error = %error.message, "nothing released")
            }
            (_, other) => tracing::error!(vm = %number, row = ?other.err(), "nothing released"),
        }
        self.machines.remove(number);
        machine.update(|standing| standing.gone = true);
    }
}

/// The life of a supervisor.
fn watch(manager: &Weak<Manager>, machine: &Machine) {
    let number = machine.number;
    let Some(paths) = manager.upgrade().map(|manager| manager.paths.vm(number)) else {
        return;
    };
    let mut last_words = LastWords::default();
    let mut logs = Logs::new(&paths, number);
    match Client::connect(&paths.events_socket(), QMP_TIMEOUT) {
        Ok(mut events) => {
            let found = events
                .status(QMP_TIMEOUT)
                .and_then(|state| Ok((state, events.disk_is_full(QMP_TIMEOUT)?)));
            match found {
                Ok((state, is_full)) => {
                    machine.update(|standing| follow_state(standing, &state, is_full));
                    blame_host(manager, machine);
                }
                Err(error) => tracing::warn!(vm = %number, %error, "cannot ask for the state"),
            }
            while !has_exited(machine) {
                logs.limit();
                match events.next_event(EVENT_WAIT) {
                    Ok(Some(event)) => {
                        tracing::debug!(vm = %number, event = %event.name, data = %event.data, "event");
                        last_words.hear(&event);
                        machine.update(|standing| follow_event(standing, &event));
                        blame_host(manager, machine);
                    }
                    Ok(None) => {}
                    Err(QmpError::Closed { .. }) => break,
                    Err(error) => {
                        tracing::warn!(vm = %number, %error, "the monitor is of no use any more");
                        break;
                    }
                }
            }
        }
        Err(error) => tracing::warn!(vm = %number, %error, "cannot watch this VM's events"),
    }
    // Without events there is still the process.
    while !has_exited(machine) {
        logs.limit();
        if let Err(error) = machine.process.wait(EVENT_WAIT) {
            tracing::error!(vm = %number, %error, "cannot wait for QEMU");
            break;
        }
    }
    // The daemon itself may have gone in the meantime; then the next one looks after what is left.
    let Some(manager) = manager.upgrade() else {
        return;
    };
    if last_words.guest_shut_down {
        machine.update(|standing| standing.end_was_asked_for = true);
    }
    let why = why_it_ended(&manager, machine, &last_words, &paths.qemu_log());
    manager.ended(machine, &why);
}

fn has_exited(machine: &Machine) -> bool {
    matches!(machine.process.try_wait(), Ok(Some(_)))
}

/// The logs of a run, which grow.
#[derive(Debug)]
struct Logs {
    number: VmNumber,
    paths: [PathBuf; 2],
    looked_at: Instant,
}

impl Logs {
    fn new(paths: &VmPaths, number: VmNumber) -> Self {
        Self {
            number,
            paths: [paths.console_log(), paths.qemu_log()],
            looked_at: Instant::now(),
        }
    }

    /// Has them give back their beginnings, if it is time to look.
    fn limit(&mut self) {
        if self.looked_at.elapsed() >= LOG_INTERVAL {
            self.looked_at = Instant::now();
            for path in &self.paths {
                log::limit(path, self.number);
            }
        }
    }
}

/// What the events said of the end, before the end.
#[derive(Debug, Default)]
struct LastWords {
    guest_shut_down: bool,
    guest_panicked: bool,
}

impl LastWords {
    fn hear(&mut self, event: &Event) {
        match event.name.as_str() {
            "SHUTDOWN" => {
                self.guest_shut_down = event.data["guest"] == true && !self.guest_panicked;
            }
            "GUEST_PANICKED" => self.guest_panicked = true,
            _ => {}
        }
    }
}

fn follow_event(standing: &mut Standing, event: &Event) {
    match event.name.as_str() {
        "STOP" if standing.state == VmState::Running => {
            standing.state = VmState::Paused;
            standing
                .cause
                .get_or_insert_with(|| PAUSED_ON_REQUEST.into());
        }
        "RESUME" if standing.state == VmState::Paused => {
            standing.state = VmState::Running;
            standing.cause = None;
            standing.held = None;
        }
        "BLOCK_IO_ERROR" if event.data["action"] == "stop" => {
            hold(
                standing,
                match event.data["nospace"] == true {
                    true => Held::PoolFull,
                    false => Held::DiskError,
                },
            );
        }
        "GUEST_PANICKED" => standing.cause = Some("the guest's kernel panicked".into()),
        _ => {}
    }
}

fn hold(standing: &mut Standing, held: Held) {
    standing.held = Some(held);
    standing.cause = Some(held.cause().into());
}

/// A disk that cannot be written may lie on a file system that is full: the kernel's words do not tell.
fn blame_host(manager: &Weak<Manager>, machine: &Machine) {
    if machine.standing().held == Some(Held::DiskError)
        && manager
            .upgrade()
            .is_some_and(|manager| manager.host_file_system_is_full())
    {
        machine.update(|standing| hold(standing, Held::HostFull));
    }
}

/// The state that a daemon finds when it connects. `is_full` says whether a disk error is for lack of space.
fn follow_state(standing: &mut Standing, state: &Status, is_full: Option<bool>) {
    if standing.state == VmState::Running && !state.running {
        standing.state = VmState::Paused;
        standing.cause = Some(match state.state.as_str() {
            // A daemon before this one was asked.
            "paused" => PAUSED_ON_REQUEST.into(),
            other => format!("QEMU says: {other}"),
        });
        if state.state == "io-error" {
            hold(
                standing,
                match is_full {
                    Some(true) => Held::PoolFull,
                    Some(false) | None => Held::DiskError,
                },
            );
        }
    }
}

/// Why a QEMU that nobody asked to end has ended.
fn why_it_ended(manager: &Manager, machine: &Machine, words: &LastWords, log: &Path) -> String {
    if manager.cgroups.was_out_of_memory(machine.number) {
        return "the kernel killed it for using more memory than it was given".into();
    }
    if words.guest_panicked {
        return "the guest's kernel panicked".into();
    }
    let how = match machine.process.try_wait() {
        Ok(Some(ExitCause::Code(code))) => format!("QEMU ended with status {code}"),
        Ok(Some(ExitCause::Signal(signal))) => format!("QEMU was ended by signal {signal}"),
        Ok(Some(ExitCause::Unknown) | None) | Err(_) => "QEMU ended".to_owned(),
    };
    match boot::tail(log).last() {
        Some(line) => format!("{how}; the last it said was: {line}"),
        None => how,
    }
}

//! What users ask the agents in guests.

use super::{
    Manager,
    agent::ANSWER_TIMEOUT,
    error::{Result, failed},
    host::Host,
    machine::Machine,
    owner::{Root, check_owner},
};
use crate::{
    api::{
        AgentAnswer, AgentReport, ApiError, AskAgent, ErrorKind, GuestExit, GuestInterface,
        REPORT_VERSION, VmNumber,
    },
    manager::Caller,
    qemu::agent::{Agent, AgentError, Exec, Interface},
    store::VmRow,
};
use std::{
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// How often a program is asked whether it has ended: at first, and at most later on.
const EXEC_POLL: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(500)];

impl Manager {
    /// Asks the agent of a running VM's guest.
    ///
    /// # Errors
    /// When the VM is somebody else's, does not run, or its agent does not answer.
    pub fn ask_agent(
        &self,
        caller: Caller,
        number: VmNumber,
        request: &AskAgent,
    ) -> Result<AgentReport> {
        let host = self.host()?;
        let row = self.vm_row(number)?;
        check_owner(&host, caller, &row, Root::May)?;
        let machine = self.running(number)?;
        let talk = Talk {
            manager: self,
            host: &host,
            machine: &machine,
            row: &row,
        };
        let answer = match request {
            AskAgent::Ping => {
                talk.with(|agent| agent.ping(ANSWER_TIMEOUT))?;
                AgentAnswer::Pong
            }
            AskAgent::Time => talk.time()?,
            AskAgent::SetTime => {
                talk.with(|agent| agent.set_time(SystemTime::now(), ANSWER_TIMEOUT))?;
                talk.time()?
            }
            AskAgent::Addresses => {
                let cards = talk.with(|agent| agent.interfaces(ANSWER_TIMEOUT))?;
                AgentAnswer::Addresses {
                    interfaces: cards.into_iter().map(interface).collect(),
                }
            }
            AskAgent::Exec {
                program,
                arguments,
                timeout_s,
            } => AgentAnswer::Ended(talk.exec(program, arguments, *timeout_s)?),
        };
        self.touch(&row);
        Ok(AgentReport {
            version: REPORT_VERSION,
            vm: number,
            answer,
        })
    }

    /// Sets the clock of a guest that stood still, if it has an agent.
    pub(super) fn set_clock(&self, host: &Host, machine: &Machine, row: &VmRow) {
        let set = self.agent(host, machine, row).and_then(|mut agent| {
            agent
                .set_time(SystemTime::now(), ANSWER_TIMEOUT)
                .map_err(|error| error.to_string())
        });
        if let Err(why) = set {
            tracing::info!(vm = %row.number, why, "its clock is not set");
        }
    }
}

/// What is needed to talk to one guest's agent.
struct Talk<'a> {
    manager: &'a Manager,
    host: &'a Host,
    machine: &'a Machine,
    row: &'a VmRow,
}

impl Talk<'_> {
    /// Asks something, by a connection of its own.
    fn with<T>(
        &self,
        ask: impl FnOnce(&mut Agent) -> std::result::Result<T, AgentError>,
    ) -> Result<T> {
        let number = self.row.number;
        let mut agent = self
            .manager
            .agent(self.host, self.machine, self.row)
            .map_err(|why| {
                let message = format!("the guest agent of VM {number} cannot be asked: {why}");
                ApiError::new(ErrorKind::Refused, message).hint(format!(
                    "on Debian, in the guest: `apt install qemu-guest-agent`; without it, `fvm exec {number}` works by ssh"
                ))
            })?;
        ask(&mut agent).map_err(|error| failed(format!("asking the guest of VM {number}"), &error))
    }

    fn time(&self) -> Result<AgentAnswer> {
        let (guest_ms, ahead_ms) = self.with(|agent| {
            let guest = agent.time(ANSWER_TIMEOUT)?;
            let host = SystemTime::now().duration_since(UNIX_EPOCH);
            let host_ms = i64::try_from(host.unwrap_or_default().as_millis()).unwrap_or(i64::MAX);
            let guest_ms = guest / 1_000_000;
            Ok((guest_ms, guest_ms.saturating_sub(host_ms)))
        })?;
        Ok(AgentAnswer::Time { guest_ms, ahead_ms })
    }

    /// Runs a program and waits for its end. Between two questions the agent is free for others.
    fn exec(&self, program: &str, arguments: &[String], timeout_s: u32) -> Result<GuestExit> {
        let bytes = program.len() + arguments.iter().map(String::len).sum::<usize>();
        let usage = |message: String| Err(ApiError::new(ErrorKind::Usage, message));
        if program.is_empty() || program.contains('\0') || bytes > AskAgent::MAX_COMMAND_BYTES {
            return usage(format!(
                "a command has a program, and at most {} bytes",
                AskAgent::MAX_COMMAND_BYTES
            ));
        }
        if !(1..=AskAgent::MAX_TIMEOUT_S).contains(&timeout_s) {
            return usage(format!(
                "{timeout_s} s is not within 1 to {} s",
                AskAgent::MAX_TIMEOUT_S
            ));
        }
        let end = Instant::now() + Duration::from_secs(timeout_s.into());
        let pid = self.with(|agent| agent.exec(program, arguments, ANSWER_TIMEOUT))?;
        let [mut pause, longest] = EXEC_POLL;
        loop {
            if let Some(exec) = self.with(|agent| agent.exec_status(pid, ANSWER_TIMEOUT))? {
                return Ok(exit(exec));
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let number = self.row.number;
                let message = format!(
                    "the program in VM {number} did not end within {timeout_s} s; it goes on there as process {pid}"
                );
                return Err(ApiError::new(ErrorKind::Failed, message).hint(format!(
                    "`fvm agent exec {number} -- kill {pid}` ends it; --timeout gives it longer"
                )));
            }
            thread::sleep(pause.min(left));
            pause = (pause * 2).min(longest);
        }
    }
}

fn interface(card: Interface) -> GuestInterface {
    GuestInterface {
        name: card.name,
        mac: card.mac,
        addresses: card.addresses,
    }
}

fn exit(exec: Exec) -> GuestExit {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    GuestExit {
        status: exec.status,
        signal: exec.signal,
        stdout: text(&exec.output),
        stderr: text(&exec.errors),
        truncated: exec.truncated,
    }
}

//! `fvm net`: networks; what guests ask of them, and what they are told.

use super::{Context, network};
use crate::{
    args::one_vm,
    exit::{CommandResult, Exit},
    output::message_line,
};
use fvm_vmm::api::{LeaseList, NetMessage, TraceReport, VmNumber, routes};
use std::time::Duration;

/// How often a trace that is followed asks for news.
const INTERVAL: Duration = Duration::from_millis(300);

/// Arguments of `fvm net`.
#[derive(Debug, clap::Args)]
pub(crate) struct Net {
    #[command(subcommand)]
    command: NetCommand,
}

/// What can be done with networks, and seen of them.
#[derive(Debug, clap::Subcommand)]
enum NetCommand {
    /// Make a network beside the default one, as root
    Create(network::Create),
    /// List all networks
    List(network::List),
    /// Show a network and the cards on it
    Show(network::Named),
    /// Delete a network that no card is on, as root
    Delete(network::Named),
    /// Show each VM's address: what it last asked, what it was told, when it renews
    Leases(Leases),
    /// Show the last messages of a VM, and follow them until ^C
    Trace(Trace),
}

/// Arguments of `fvm net leases`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
An address is its VM's whether a lease runs or not: VM 42 always has .42. What is shown of leases is what guests \
have heard since their VMs were started.

Examples:
  fvm net leases
  fvm net leases --json | jq '.leases[] | select(.lease == null) | .vm'")]
struct Leases {}

/// Arguments of `fvm net trace`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The last messages of a VM's port are kept while it runs. One that does not run is waited for, so a boot can be \
followed from its first request on. With --json each message is a line of its own; with --last too, one report.

Examples:
  fvm net trace 42
  fvm net trace 42 --last --json | jq -r '.messages[].answered'")]
struct Trace {
    /// The VM
    #[arg(value_name = "NUM", value_parser = one_vm)]
    vm: VmNumber,
    /// Only what there is now; do not follow
    #[arg(long)]
    last: bool,
}

impl Net {
    pub(super) async fn run(self, context: &Context<'_>) -> CommandResult {
        match self.command {
            NetCommand::Create(create) => create.run(context).await,
            NetCommand::List(list) => list.run(context).await,
            NetCommand::Show(named) => named.show(context).await,
            NetCommand::Delete(named) => named.delete(context).await,
            NetCommand::Leases(Leases {}) => {
                let list: LeaseList = context.client.get(routes::LEASES).await?;
                context.out.report(&list);
                Ok(Exit::DONE)
            }
            NetCommand::Trace(trace) => trace.run(context).await,
        }
    }
}

impl Trace {
    async fn run(self, context: &Context<'_>) -> CommandResult {
        let path = routes::trace(self.vm);
        let mut report: TraceReport = context.client.get(&path).await?;
        if self.last {
            context.out.report(&report);
            return Ok(Exit::DONE);
        }
        let mut seen: Option<NetMessage> = None;
        let mut served = true;
        loop {
            if served && !report.served {
                let (vm, state) = (report.vm, report.state);
                context
                    .out
                    .note(&format!("VM {vm} is {state}: waiting for it to be started"));
            }
            served = report.served;
            let news = news(&report.messages, seen.as_ref());
            if news.missed > 0 {
                context.out.note(&format!(
                    "{} messages came too fast to be shown",
                    news.missed
                ));
            }
            for message in news.messages {
                context.out.summary(message, &message_line(message));
            }
            if context.out.is_closed() {
                return Ok(Exit::DONE);
            }
            seen = report.messages.pop().or(seen);
            tokio::time::sleep(INTERVAL).await;
            report = context.client.get(&path).await?;
        }
    }
}

/// What a report has that was not shown yet.
#[derive(Debug, PartialEq, Eq)]
struct News<'a> {
    messages: Vec<&'a NetMessage>,
    /// How many came in between and are kept no more.
    missed: u64,
}

/// The messages after the last one that was seen. If that is kept no more, or numbers begin anew because the VM or
/// `fvm-netd` was started again, the time tells what is new.
fn news<'a>(messages: &'a [NetMessage], seen: Option<&NetMessage>) -> News<'a> {
    let Some(seen) = seen else {
        let messages = messages.iter().collect();
        return News {
            messages,
            missed: 0,
        };
    };
    if let Some(at) = messages.iter().position(|message| message == seen) {
        let messages = messages.iter().skip(at + 1).collect();
        return News {
            messages,
            missed: 0,
        };
    }
    let new = messages
        .iter()
        .filter(|message| message.at_ms >= seen.at_ms);
    let messages: Vec<&NetMessage> = new.collect();
    let first = messages.first().map_or(0, |message| message.number);
    let missed = first.saturating_sub(seen.number + 1);
    News { messages, missed }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fvm_vmm::api::NetProtocol;

    fn said(number: u64, at_ms: u64) -> NetMessage {
        NetMessage {
            number,
            at_ms,
            protocol: NetProtocol::Dhcp,
            asked: "DISCOVER".to_owned(),
            answered: "OFFER".to_owned(),
        }
    }

    #[test]
    fn each_message_is_shown_once() {
        let all: Vec<NetMessage> = (1..=4).map(|number| said(number, 10 * number)).collect();
        let shown = |seen: Option<NetMessage>| {
            let news = news(&all, seen.as_ref());
            let numbers: Vec<u64> = news.messages.iter().map(|message| message.number).collect();
            (numbers, news.missed)
        };
        assert_eq!(shown(None), (vec![1, 2, 3, 4], 0));
        assert_eq!(shown(Some(said(3, 30))), (vec![4], 0));
        assert_eq!(shown(Some(said(4, 40))), (vec![], 0));
        assert_eq!(
            shown(Some(said(3, 7))),
            (vec![1, 2, 3, 4], 0),
            "counted anew"
        );
        assert_eq!(shown(Some(said(1, 25))), (vec![3, 4], 1), "kept no more");
        assert!(news(&[], Some(&said(3, 30))).messages.is_empty());
    }

    #[test]
    fn what_was_missed_is_counted() {
        let all: Vec<NetMessage> = (20..=35).map(|number| said(number, number)).collect();
        let news = news(&all, Some(&said(10, 10)));
        assert_eq!((news.messages.len(), news.missed), (16, 9));
    }
}

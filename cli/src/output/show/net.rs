//! Leases, and what guests asked and were told.

use super::{Look, Show};
use crate::{
    output::{
        style::Tone,
        table::{Cell, Table, cell, number},
    },
    quantity::rough_duration,
};
use fvm_vmm::api::{ForwardList, LeaseList, LeaseReport, NetMessage, NetProtocol, TraceReport};
use std::net::Ipv4Addr;

/// A point in time as a clock of UTC shows it: `09:41:07.125`.
fn clock(at_ms: u64) -> String {
    let (seconds, ms) = (at_ms / 1000, at_ms % 1000);
    let (hours, minutes) = (seconds / 3600 % 24, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}.{ms:03}", seconds % 60)
}

/// One message as a line.
pub(crate) fn message_line(message: &NetMessage) -> String {
    let protocol = match message.protocol {
        NetProtocol::Dhcp => "DHCP",
        NetProtocol::Dns => "DNS ",
    };
    format!(
        "{}  {protocol}  {} -> {}",
        clock(message.at_ms),
        message.asked,
        message.answered
    )
}

/// When a lease is renewed, or that its time has come and gone.
fn renewal(report: &LeaseReport, look: &Look) -> (String, Tone) {
    let Some(lease) = &report.lease else {
        return (String::new(), Tone::Plain);
    };
    let until = |at_ms: u64| (at_ms / 1000).checked_sub(look.now_s);
    match (until(lease.renew_at_ms), until(lease.expires_at_ms)) {
        (Some(left), _) => (format!("in {}", rough_duration(left)), Tone::Plain),
        (None, Some(left)) => (
            format!("late; ends in {}", rough_duration(left)),
            Tone::Warn,
        ),
        (None, None) => (
            format!(
                "ended {} ago",
                rough_duration(look.since(lease.expires_at_ms / 1000))
            ),
            Tone::Bad,
        ),
    }
}

impl Show for LeaseList {
    fn show(&self, look: &Look) -> String {
        let mut table = Table::new([
            "VM", "NETWORK", "MAC", "ADDRESS", "ASKED", "TOLD", "WHEN", "RENEWS",
        ]);
        for report in &self.leases {
            let (renewal, tone) = renewal(report, look);
            let last = report.last.as_ref();
            let told = match last {
                Some(last) => last.answered.clone(),
                None if report.port.is_none() => report.state.to_string(),
                None if report.address.is_none() => "nothing: DHCP gives it no address".to_owned(),
                None => "has not asked".to_owned(),
            };
            let when = last.map(|last| {
                let since = look.since(last.at_ms / 1000);
                format!("{} ago", rough_duration(since))
            });
            table.row([
                number(report.vm),
                cell(&report.network),
                cell(&report.mac),
                cell(
                    report
                        .address
                        .map_or(String::new(), |address| address.to_string()),
                ),
                cell(last.map(|last| last.asked.as_str()).unwrap_or_default()),
                cell(told).tone(if last.is_some() {
                    Tone::Plain
                } else {
                    Tone::Dim
                }),
                cell(when.unwrap_or_default()),
                cell(renewal).tone(tone),
            ]);
        }
        table.show(look.palette)
    }
}

fn address(address: Option<Ipv4Addr>) -> Cell {
    match address {
        Some(address) => cell(address.to_string()),
        None => cell("none").tone(Tone::Warn),
    }
}

impl Show for ForwardList {
    fn show(&self, look: &Look) -> String {
        let mut table = Table::new(["PORT", "PROTOCOL", "VM", "ADDRESS", "VM PORT", "OWNER"]);
        for forward in &self.forwards {
            table.row([
                number(forward.host_port),
                cell(&forward.protocol),
                number(forward.vm),
                address(forward.address),
                number(forward.vm_port),
                cell(look.owner(forward.owner_uid)),
            ]);
        }
        table.show(look.palette)
    }
}

impl Show for TraceReport {
    fn show(&self, look: &Look) -> String {
        let mut table = Table::plain();
        for message in &self.messages {
            table.row([cell(message_line(message))]);
        }
        match (self.messages.is_empty(), self.served) {
            (false, _) => table.show(look.palette),
            (true, true) => format!("VM {} has not asked for anything\n", self.vm),
            (true, false) => format!("VM {} is {}\n", self.vm, self.state),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fvm_vmm::api::{DhcpExchange, ForwardReport, LeaseTimes, REPORT_VERSION, VmState};

    /// A VM's lease that was asked for `ago_s` before now.
    fn asked(vm: u32, ago_s: u64) -> LeaseReport {
        let at_ms = (Look::fixed().now_s - ago_s) * 1000;
        LeaseReport {
            vm: vm.into(),
            name: format!("fvm-debian-{vm}").parse().unwrap(),
            state: VmState::Running,
            network: "fvm0".to_owned(),
            port: Some(format!("fvm{vm}")),
            mac: format!("52:54:00:00:00:{vm:02x}"),
            address: Some([192, 168, 22, u8::try_from(vm).unwrap()].into()),
            last: Some(DhcpExchange {
                at_ms,
                asked: "REQUEST 192.168.22.9".to_owned(),
                answered: "NAK".to_owned(),
            }),
            lease: Some(LeaseTimes {
                granted_at_ms: at_ms,
                renew_at_ms: at_ms + 1_800_000,
                expires_at_ms: at_ms + 3_600_000,
            }),
            requests: 1,
            answered: 1,
            dropped: 0,
        }
    }

    #[test]
    fn leases_are_a_table() {
        let stopped = LeaseReport {
            state: VmState::Stopped,
            port: None,
            last: None,
            lease: None,
            ..asked(45, 0)
        };
        let further = LeaseReport {
            network: "lab".to_owned(),
            address: None,
            last: None,
            lease: None,
            ..asked(42, 0)
        };
        let list = LeaseList::new(vec![
            asked(42, 5),
            further,
            asked(43, 2000),
            asked(44, 4000),
            stopped,
        ]);
        assert_eq!(
            list.show(&Look::fixed()),
            "\
VM  NETWORK  MAC                ADDRESS        ASKED                 TOLD                               WHEN         RENEWS
42  fvm0     52:54:00:00:00:2a  192.168.22.42  REQUEST 192.168.22.9  NAK                                5s ago       in 29m 55s
42  lab      52:54:00:00:00:2a                                       nothing: DHCP gives it no address
43  fvm0     52:54:00:00:00:2b  192.168.22.43  REQUEST 192.168.22.9  NAK                                33m 20s ago  late; ends in 26m 40s
44  fvm0     52:54:00:00:00:2c  192.168.22.44  REQUEST 192.168.22.9  NAK                                1h 6m ago    ended 6m 40s ago
45  fvm0     52:54:00:00:00:2d  192.168.22.45                        stopped
"
        );
    }

    #[test]
    fn forwards_are_a_table() {
        let forward = |vm: u32, address| ForwardReport {
            version: REPORT_VERSION,
            protocol: "tcp".to_owned(),
            host_port: 2242,
            vm: vm.into(),
            address,
            vm_port: 22,
            owner_uid: 4_000_000,
        };
        let list = ForwardList {
            version: REPORT_VERSION,
            forwards: vec![
                forward(42, Some([192, 168, 22, 42].into())),
                forward(43, None),
            ],
        };
        assert_eq!(
            list.show(&Look::fixed()),
            "\
PORT  PROTOCOL  VM  ADDRESS        VM PORT  OWNER
2242  tcp       42  192.168.22.42       22  4000000
2242  tcp       43  none                22  4000000
"
        );
    }

    #[test]
    fn a_trace_is_lines_with_a_clock() {
        let message = NetMessage {
            number: 1,
            at_ms: 1_800_000_000_125,
            protocol: NetProtocol::Dhcp,
            asked: "DISCOVER\n".to_owned(),
            answered: "OFFER 192.168.22.42".to_owned(),
        };
        let mut report = TraceReport {
            version: REPORT_VERSION,
            vm: 42.into(),
            state: VmState::Running,
            served: true,
            messages: vec![message],
        };
        assert_eq!(
            report.show(&Look::fixed()),
            "08:00:00.125  DHCP  DISCOVER\u{fffd} -> OFFER 192.168.22.42\n"
        );
        report.messages.clear();
        assert_eq!(
            report.show(&Look::fixed()),
            "VM 42 has not asked for anything\n"
        );
    }
}

//! What guests' agents answer.

use super::{Look, Show};
use crate::output::table::{Table, cell};
use fvm_vmm::api::{AgentAnswer, AgentReport};

impl Show for AgentReport {
    fn show(&self, look: &Look) -> String {
        match &self.answer {
            AgentAnswer::Pong => format!("{}: the guest agent answers\n", self.vm),
            AgentAnswer::Time { ahead_ms, .. } => {
                let seconds = ahead_ms.unsigned_abs() as f64 / 1000.0;
                let side = if *ahead_ms < 0 { "behind" } else { "ahead of" };
                format!(
                    "{}: the guest's clock is {seconds:.3} s {side} the host's\n",
                    self.vm
                )
            }
            AgentAnswer::Addresses { interfaces } => {
                let mut table = Table::new(["CARD", "MAC", "ADDRESSES"]);
                for card in interfaces {
                    table.row([
                        cell(&card.name),
                        cell(card.mac.as_deref().unwrap_or_default()),
                        cell(card.addresses.join(" ")),
                    ]);
                }
                table.show(look.palette)
            }
            AgentAnswer::Ended(exit) => exit.stdout.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::style::Palette;
    use fvm_vmm::api::{GuestInterface, REPORT_VERSION};

    fn shown(answer: AgentAnswer) -> String {
        let report = AgentReport {
            version: REPORT_VERSION,
            vm: 42.into(),
            answer,
        };
        report.show(&Look::new(Palette::COLOURLESS))
    }

    #[test]
    fn a_clock_is_behind_or_ahead() {
        let time = |ahead_ms| {
            shown(AgentAnswer::Time {
                guest_ms: 0,
                ahead_ms,
            })
        };
        assert_eq!(
            time(-1500),
            "42: the guest's clock is 1.500 s behind the host's\n"
        );
        assert_eq!(
            time(12),
            "42: the guest's clock is 0.012 s ahead of the host's\n"
        );
    }

    #[test]
    fn cards_are_rows() {
        let card = GuestInterface {
            name: "eth0\u{7}".to_owned(),
            mac: None,
            addresses: vec!["192.168.22.42".to_owned(), "fe80::1".to_owned()],
        };
        let text = shown(AgentAnswer::Addresses {
            interfaces: vec![card],
        });
        assert!(text.contains("192.168.22.42 fe80::1"), "{text}");
        assert!(!text.contains('\u{7}'), "{text}");
    }
}

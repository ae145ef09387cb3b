//! What `doctor` found.

use super::{Look, Show};
use crate::output::{
    style::Tone,
    table::{Table, cell},
};
use fvm_vmm::api::{DoctorReport, Level};

impl Show for DoctorReport {
    fn show(&self, look: &Look) -> String {
        let mut table = Table::plain();
        for finding in &self.findings {
            let (word, tone) = match finding.level {
                Level::Ok => ("ok", Tone::Good),
                Level::Warning => ("warning", Tone::Warn),
                Level::Error => ("error", Tone::Bad),
            };
            table.row([
                cell(word).tone(tone),
                cell(&finding.what),
                cell(&finding.state),
            ]);
            if let Some(fix) = &finding.fix {
                let mend = cell(format!("mend it: {fix}")).tone(Tone::Dim);
                table.row([cell(""), cell(""), mend]);
            }
        }
        let count = |level| self.findings.iter().filter(|f| f.level == level).count();
        let summary = match (count(Level::Error), count(Level::Warning)) {
            (0, 0) => "All is well.".to_owned(),
            (errors, warnings) => format!("{}, {}.", of(errors, "error"), of(warnings, "warning")),
        };
        format!("{}{summary}\n", table.show(look.palette))
    }
}

fn of(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use fvm_vmm::api::{Finding, REPORT_VERSION};

    #[test]
    fn each_finding_is_a_line_and_what_mends_it_the_next() {
        let report = DoctorReport {
            version: REPORT_VERSION,
            findings: vec![
                Finding::ok("module loop", "a pool in a file"),
                Finding::error("module tun", "is not loaded").fix("sudo modprobe tun"),
                Finding::warning("KVM", "there is no /dev/kvm"),
            ],
        };
        assert_eq!(
            report.show(&Look::fixed()),
            "\
ok       module loop  a pool in a file
error    module tun   is not loaded
                      mend it: sudo modprobe tun
warning  KVM          there is no /dev/kvm
1 error, 1 warning.
"
        );
    }
}

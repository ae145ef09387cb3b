//! Templates and what becomes of them.

use super::{Look, Show};
use crate::{
    output::{
        style::Tone,
        table::{Table, cell},
        text::plain,
    },
    quantity::Bytes,
};
use fvm_vmm::api::{
    QemuOption, TemplateArguments, TemplateCheck, TemplateExplanation, TemplateList, TemplateText,
    TemplateWarning, VmXml,
};

impl Show for TemplateList {
    fn show(&self, look: &Look) -> String {
        let mut table = Table::new(["TEMPLATE", "FROM", "FOR"]);
        for template in &self.templates {
            let from = if template.published { "root" } else { "fvm" };
            table.row([cell(&template.name), cell(from), cell(&template.summary)]);
        }
        table.show(look.palette)
    }
}

impl Show for TemplateText {
    fn show(&self, _look: &Look) -> String {
        document(&self.xml)
    }
}

impl Show for VmXml {
    fn show(&self, _look: &Look) -> String {
        document(&self.xml)
    }
}

impl Show for TemplateCheck {
    fn show(&self, look: &Look) -> String {
        let good = look.palette.paint(Tone::Good, "good");
        let firmware = if self.uefi { "UEFI" } else { "BIOS" };
        let memory = Bytes(self.memory_mib.saturating_mul(1 << 20));
        let mut out = format!("{good}  for QEMU {}\n", plain(&self.qemu));
        out.push_str(&format!(
            "a {} with {firmware}, {} CPUs, {memory} of memory, {} network cards; disks {}\n",
            plain(&self.machine),
            self.cpus,
            self.nics,
            plain(&self.disks.join(", ")),
        ));
        out.push_str(&warnings(&self.warnings, look));
        out
    }
}

impl Show for TemplateArguments {
    fn show(&self, _look: &Look) -> String {
        let lines = self.arguments.iter();
        lines.map(|line| format!("{}\n", plain(line))).collect()
    }
}

impl Show for TemplateExplanation {
    fn show(&self, look: &Look) -> String {
        let widest = self.elements.iter().map(|element| element.line).max();
        let width = widest.unwrap_or(0).to_string().len();
        let indent = " ".repeat(width);
        let dim = |text: &str| look.palette.paint(Tone::Dim, text);
        let option = |number: &usize| {
            let option = self.options.get(*number);
            option.map(|option| format!("{indent}    {}\n", dim(&one_line(option))))
        };
        let mut out = String::new();
        for element in &self.elements {
            let inner = "  ".repeat(element.depth as usize);
            let text = plain(&element.text);
            out.push_str(&format!("{:>width$}  {inner}{text}\n", element.line));
            out.extend(element.options.iter().filter_map(option));
            if let Some(remark) = &element.remark {
                out.push_str(&format!("{indent}    ({})\n", plain(remark)));
            }
        }
        out.push_str("whatever the template says:\n");
        out.extend(self.always.iter().filter_map(option));
        out
    }
}

fn one_line(option: &QemuOption) -> String {
    let value = option.value.as_deref().unwrap_or_default();
    let text = format!("{} {value}", option.option);
    plain(text.trim_end()).into_owned()
}

fn warnings(warnings: &[TemplateWarning], look: &Look) -> String {
    let line = |warning: &TemplateWarning| {
        let label = look.palette.paint(Tone::Warn, "note:");
        let (path, message) = (plain(&warning.path), plain(&warning.message));
        format!("{label} {path} (line {}): {message}\n", warning.line)
    };
    warnings.iter().map(line).collect()
}

/// Text of several lines, each made harmless; blanks at the beginning of lines are kept.
fn document(text: &str) -> String {
    text.lines()
        .map(|line| format!("{}\n", plain(line)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use fvm_vmm::api::{ElementReport, REPORT_VERSION};

    #[test]
    fn each_line_has_what_it_became_below_it() {
        let element = |line, depth, text: &str, options: &[usize]| ElementReport {
            path: String::new(),
            line,
            depth,
            text: text.to_owned(),
            options: options.to_vec(),
            remark: None,
        };
        let mut name = element(10, 1, "<name>VM_NAME</name>", &[]);
        name.remark = Some("fvm's".to_owned());
        let option = |option: &str, value: Option<&str>| QemuOption {
            option: option.to_owned(),
            value: value.map(str::to_owned),
        };
        let shown = TemplateExplanation {
            version: REPORT_VERSION,
            qemu: "10.0".to_owned(),
            options: vec![option("-S", None), option("-m", Some("size=1k"))],
            elements: vec![
                element(9, 0, "<domain>", &[]),
                name,
                element(11, 1, "<memory>1</memory>\u{1b}", &[1]),
            ],
            always: vec![0],
        };
        assert_eq!(
            shown.show(&Look::fixed()),
            " 9  <domain>\n10    <name>VM_NAME</name>\n      (fvm's)\n\
             11    <memory>1</memory>\u{fffd}\n      -m size=1k\n\
             whatever the template says:\n      -S\n"
        );
    }

    #[test]
    fn a_document_keeps_its_lines() {
        assert_eq!(
            document("<a>\n  <b/>\u{7}\n</a>"),
            "<a>\n  <b/>\u{fffd}\n</a>\n"
        );
    }
}

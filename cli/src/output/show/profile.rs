//! Profiles.

use super::{Look, Show};
use crate::{
    output::{
        style::Tone,
        table::{Cell, Table, cell},
    },
    quantity::Bytes,
};
use fvm_vmm::api::{ProfileList, ProfileReport};

/// What stands where a profile says nothing.
const IMAGES_OWN: &str = "the image's";

fn memory(profile: &ProfileReport) -> String {
    profile.memory_mib.map_or_else(
        || "the template's".to_owned(),
        |mib| Bytes(mib.saturating_mul(1 << 20)).to_string(),
    )
}

fn cpus(profile: &ProfileReport) -> String {
    profile
        .cpus
        .map_or_else(|| "the template's".to_owned(), |cpus| cpus.to_string())
}

fn template(profile: &ProfileReport) -> &'static str {
    match profile.template {
        Some(_) => "its own",
        None => IMAGES_OWN,
    }
}

impl Show for ProfileList {
    fn show(&self, look: &Look) -> String {
        let mut table = Table::new([
            "PROFILE", "IMAGE", "TEMPLATE", "MEMORY", "CPUS", "HOOKS", "OWNER",
        ]);
        for profile in &self.profiles {
            let hooks: Vec<&str> = profile
                .hooks
                .iter()
                .map(|hook| hook.when.as_str())
                .collect();
            table.row([
                cell(profile.name.as_str()),
                cell(profile.image.as_str()),
                cell(template(profile)),
                cell(memory(profile)),
                cell(cpus(profile)),
                cell(hooks.join(", ")),
                cell(look.owner(profile.owner_uid)),
            ]);
        }
        table.show(look.palette)
    }
}

impl Show for ProfileReport {
    /// What it says, then its texts as they are, each under a heading.
    fn show(&self, look: &Look) -> String {
        let mut table = Table::plain();
        let mut line = |name: &str, value: Cell| table.row([cell(name).tone(Tone::Dim), value]);
        line("profile", cell(self.name.as_str()));
        line("image", cell(self.image.as_str()));
        line("template", cell(template(self)));
        line("memory", cell(memory(self)));
        line("cpus", cell(cpus(self)));
        line("owner", cell(look.owner(self.owner_uid)));
        let mut text = table.show(look.palette);
        let template = self
            .template
            .as_ref()
            .map(|xml| ("template".to_owned(), xml));
        let hooks = self
            .hooks
            .iter()
            .map(|hook| (format!("{} hook", hook.when), &hook.script));
        for (heading, content) in template.into_iter().chain(hooks) {
            text.push_str(&look.palette.paint(Tone::Dim, &format!("\n-- {heading}\n")));
            for line in content.lines() {
                text.push_str(&super::plain(line));
                text.push('\n');
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fvm_vmm::api::{Hook, HookKind, REPORT_VERSION};

    fn profile() -> ProfileReport {
        ProfileReport {
            version: REPORT_VERSION,
            name: "web".parse().unwrap(),
            image: "debian".parse().unwrap(),
            template: None,
            memory_mib: Some(2048),
            cpus: None,
            hooks: vec![Hook {
                when: HookKind::Create,
                script: "#!/bin/sh\necho \u{1b}[2J\n".to_owned(),
            }],
            owner_uid: 0,
        }
    }

    #[test]
    fn the_list_says_what_each_changes() {
        let list = ProfileList {
            version: REPORT_VERSION,
            profiles: vec![profile()],
        };
        assert_eq!(
            list.show(&Look::fixed()),
            "\
PROFILE  IMAGE   TEMPLATE     MEMORY   CPUS            HOOKS   OWNER
web      debian  the image's  2.0 GiB  the template's  create  root
"
        );
    }

    #[test]
    fn scripts_are_shown_without_touching_the_terminal() {
        assert_eq!(
            profile().show(&Look::fixed()),
            "\
profile   web
image     debian
template  the image's
memory    2.0 GiB
cpus      the template's
owner     root

-- create hook
#!/bin/sh
echo \u{fffd}[2J
"
        );
    }
}

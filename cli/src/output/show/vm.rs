//! VMs and what became of them.

use super::{Look, Show};
use crate::{
    output::{
        style::Tone,
        table::{Cell, Table, cell, number},
        text::plain,
    },
    quantity::{Bytes, rough_duration},
};
use fvm_vmm::api::{Action, NicReport, QmpAnswer, VmList, VmNumber, VmOutcome, VmReport, VmState};

/// What a batch has done, as one word.
fn word(action: Action) -> &'static str {
    match action {
        Action::Create => "created",
        Action::Start => "started",
        Action::Stop => "stopped",
        Action::Delete | Action::DeleteSnapshot => "deleted",
        Action::Resize => "resized",
        Action::Compact => "compacted",
        Action::AddDisk => "disk added",
        Action::RemoveDisk => "disk removed",
        Action::Snapshot => "snapshot",
        Action::Restore => "restored",
        Action::Note => "noted",
        Action::Renew => "renewed",
        Action::Undelete => "brought back",
        Action::Pause => "paused",
        Action::Resume => "resumed",
        Action::Reset => "reset",
        Action::Link => "cable set",
        Action::SendKey => "keys pressed",
    }
}

/// One line for a success that is told by `text`.
pub(in crate::output) fn done(vm: VmNumber, action: Action, text: &str, look: &Look) -> String {
    let word = look.palette.paint(Tone::Good, word(action));
    format!("{vm}  {word}  {}\n", plain(text))
}

/// One line for a VM that a batch succeeded with.
pub(in crate::output) fn outcome(
    action: Action,
    outcome: &VmOutcome,
    note: Option<&str>,
    look: &Look,
) -> String {
    let mut parts = vec![
        outcome.vm.to_string(),
        look.palette.paint(Tone::Good, word(action)),
    ];
    if let Some(report) = &outcome.report {
        match action {
            Action::Create => parts.extend([report.name.to_string(), report.address.to_string()]),
            Action::Start => parts.push(report.address.to_string()),
            Action::Resize => parts.push(Bytes(report.disk_bytes).to_string()),
            Action::Renew | Action::Undelete => parts.extend(ends(report, look)),
            Action::Note => parts.push(plain(report.note.as_str()).into_owned()),
            Action::Stop
            | Action::Delete
            | Action::Compact
            | Action::AddDisk
            | Action::RemoveDisk
            | Action::Snapshot
            | Action::Restore
            | Action::DeleteSnapshot
            | Action::Pause
            | Action::Resume
            | Action::Reset
            | Action::Link
            | Action::SendKey => {}
        }
    }
    parts.extend(note.map(|note| plain(note).into_owned()));
    let mut line = parts.join("  ");
    line.push('\n');
    line
}

fn tone(state: VmState) -> Tone {
    match state {
        VmState::Running => Tone::Good,
        VmState::Crashed => Tone::Bad,
        VmState::Paused | VmState::Expired | VmState::Deleting => Tone::Warn,
        VmState::Starting | VmState::Stopping => Tone::Plain,
        VmState::Stopped => Tone::Dim,
    }
}

/// The state, and for a VM that is held, why: the list is where somebody looks who wonders.
fn state(vm: &VmReport) -> String {
    match (&vm.cause, vm.state) {
        (Some(cause), VmState::Paused) => {
            // What it needs comes after the reason.
            let reason = cause.split(';').next().unwrap_or_default();
            format!("{}: {reason}", vm.state)
        }
        _ => vm.state.to_string(),
    }
}

fn memory(vm: &VmReport) -> String {
    Bytes(vm.memory_mib.saturating_mul(1 << 20)).to_string()
}

fn uptime(vm: &VmReport, look: &Look) -> String {
    vm.started_at_s
        .map(|started| rough_duration(look.since(started)))
        .unwrap_or_default()
}

/// Whole days since somebody last did something with it.
fn idle(vm: &VmReport, look: &Look) -> String {
    format!("{}d", look.since(vm.used_at_s) / 86_400)
}

/// When it expires or is deleted for good; nothing if it is kept for ever.
fn ends(vm: &VmReport, look: &Look) -> Option<String> {
    let left = rough_duration(look.until(vm.lifetime.as_ref()?.ends_at_s));
    Some(match vm.state {
        VmState::Expired => format!("deleted in {left}"),
        _ => format!("expires in {left}"),
    })
}

/// The same for a column.
fn time_left(vm: &VmReport, look: &Look) -> Cell {
    let Some(lifetime) = &vm.lifetime else {
        return cell("");
    };
    let is_urgent = lifetime.ends_soon || vm.state == VmState::Expired;
    cell(rough_duration(look.until(lifetime.ends_at_s))).tone(match is_urgent {
        true => Tone::Warn,
        false => Tone::Plain,
    })
}

impl Show for VmList {
    fn show(&self, look: &Look) -> String {
        let mut table = Table::new([
            "VM", "IMAGE", "STATE", "ADDRESS", "MEMORY", "CPUS", "DISK", "OWNER", "GROUP",
            "UPTIME", "IDLE", "LEFT", "NOTE",
        ]);
        for vm in &self.vms {
            table.row([
                number(vm.number),
                cell(&vm.image),
                cell(state(vm)).tone(tone(vm.state)),
                cell(vm.address.to_string()),
                cell(memory(vm)).right(),
                number(vm.cpus),
                cell(Bytes(vm.disk_bytes).to_string()).right(),
                cell(look.owner(vm.owner_uid)),
                cell(vm.group.as_ref().map_or("", |group| group.as_str())),
                cell(uptime(vm, look)),
                cell(idle(vm, look)).right(),
                time_left(vm, look),
                cell(vm.note.as_str()),
            ]);
        }
        table.show(look.palette)
    }
}

/// A network card, where it is plugged in and what it is called by.
fn card(nic: &NicReport) -> String {
    let mut text = format!("{} on {}", nic.mac, nic.network);
    if let Some(address) = nic.address {
        text.push_str(&format!(", {address}"));
    }
    if let Some(tap) = &nic.tap {
        text.push_str(&format!(", tap {tap}"));
    }
    text
}

impl Show for VmReport {
    fn show(&self, look: &Look) -> String {
        let mut table = Table::plain();
        let mut line = |name: &str, value: Cell| table.row([cell(name).tone(Tone::Dim), value]);
        line("VM", cell(self.number.to_string()));
        line("name", cell(self.name.as_str()));
        line("state", cell(self.state.to_string()).tone(tone(self.state)));
        if let Some(cause) = &self.cause {
            line("", cell(cause));
        }
        line("address", cell(self.address.to_string()));
        line("image", cell(&self.image));
        if let Some(profile) = &self.profile {
            line("profile", cell(profile));
        }
        if let Some(group) = &self.group {
            line("group", cell(group.as_str()));
        }
        line("memory", cell(memory(self)));
        line("cpus", cell(self.cpus.to_string()));
        line("disk", cell(Bytes(self.disk_bytes).to_string()));
        if let Some(device) = &self.disk_device {
            line("device", cell(device));
        }
        for disk in &self.disks {
            let size = Bytes(disk.disk_bytes);
            let text = format!("{}, {size} on {} at {}", disk.name, disk.bus, disk.place);
            line("further disk", cell(text));
        }
        for nic in &self.nics {
            line(&format!("card {}", nic.card), cell(card(nic)));
        }
        line("owner", cell(look.owner(self.owner_uid)));
        let created = rough_duration(look.since(self.created_at_s));
        line("created", cell(format!("{created} ago")));
        line("idle", cell(idle(self, look)));
        if let Some(ends) = ends(self, look) {
            let undelete = match self.state {
                VmState::Expired => format!("; `fvm undelete {}` brings it back", self.number),
                _ => String::new(),
            };
            line("lifetime", cell(format!("{ends}{undelete}")));
        }
        if !self.note.as_str().is_empty() {
            line("note", cell(self.note.as_str()));
        }
        if self.started_at_s.is_some() {
            line("started", cell(format!("{} ago", uptime(self, look))));
        }
        if let Some(pid) = self.pid {
            let with = self.accelerator.as_deref().map(|with| format!(", {with}"));
            line(
                "QEMU",
                cell(format!("process {pid}{}", with.unwrap_or_default())),
            );
        }
        line("uuid", cell(&self.uuid));
        table.show(look.palette)
    }
}

impl Show for QmpAnswer {
    fn show(&self, _look: &Look) -> String {
        // JSON escapes control characters by itself, and a monitor's own text is read as such.
        match &self.answer {
            serde_json::Value::String(text) => format!(
                "{}\n",
                text.trim_end()
                    .lines()
                    .map(plain)
                    .collect::<Vec<_>>()
                    .join("\n")
            ),
            answer => format!("{answer:#}\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fvm_vmm::api::{Lifetime, NicReport, REPORT_VERSION};

    fn vm() -> VmReport {
        VmReport {
            version: REPORT_VERSION,
            number: 42.into(),
            name: "fvm-debian-42".parse().unwrap(),
            uuid: "3f2b8c1e-0000-4000-8000-000000000042".to_owned(),
            image: "debian".to_owned(),
            profile: None,
            owner_uid: 0,
            group: None,
            state: VmState::Running,
            cause: Some("emulated: /dev/kvm is missing".to_owned()),
            address: [192, 168, 22, 42].into(),
            nics: vec![NicReport {
                card: 0,
                mac: "52:54:00:00:00:2a".to_owned(),
                network: "fvm0".to_owned(),
                tap: Some("fvm42".to_owned()),
                address: Some([192, 168, 22, 42].into()),
            }],
            disk_bytes: 6 << 30,
            disk_device: Some("/dev/dm-3".to_owned()),
            disks: Vec::new(),
            memory_mib: 512,
            cpus: 2,
            pid: Some(4711),
            accelerator: Some("tcg".to_owned()),
            created_at_s: 1_799_990_000,
            lifetime: None,
            used_at_s: 1_799_990_000,
            note: "mail".parse().unwrap(),
            started_at_s: Some(1_799_999_000),
        }
    }

    #[test]
    fn the_list_has_a_line_for_each_vm() {
        let stopped = VmReport {
            number: 143.into(),
            owner_uid: 1000,
            state: VmState::Stopped,
            started_at_s: None,
            used_at_s: 1_799_100_000,
            lifetime: Some(lifetime()),
            group: Some("web".parse().unwrap()),
            note: fvm_vmm::api::Note::default(),
            ..vm()
        };
        let list = VmList {
            version: REPORT_VERSION,
            vms: vec![vm(), stopped],
        };
        assert_eq!(
            list.show(&Look::fixed()),
            "\
\x20VM  IMAGE   STATE    ADDRESS         MEMORY  CPUS     DISK  OWNER  GROUP  UPTIME   IDLE  LEFT    NOTE
 42  debian  running  192.168.22.42  512 MiB     2  6.0 GiB  root          16m 40s    0d          mail
143  debian  stopped  192.168.22.42  512 MiB     2  6.0 GiB  1000   web              10d  1h 10m
"
        );
    }

    #[test]
    fn the_list_says_why_a_vm_is_held() {
        let held = VmReport {
            state: VmState::Paused,
            cause: Some("the pool is full; it goes on by itself".to_owned()),
            ..vm()
        };
        let list = VmList {
            version: REPORT_VERSION,
            vms: vec![held],
        };
        let shown = list.show(&Look::fixed());
        assert!(shown.contains("  paused: the pool is full  "), "{shown}");
    }

    #[test]
    fn info_says_all() {
        assert_eq!(
            vm().show(&Look::fixed()),
            "\
VM       42
name     fvm-debian-42
state    running
         emulated: /dev/kvm is missing
address  192.168.22.42
image    debian
memory   512 MiB
cpus     2
disk     6.0 GiB
device   /dev/dm-3
card 0   52:54:00:00:00:2a on fvm0, 192.168.22.42, tap fvm42
owner    root
created  2h 46m ago
idle     0d
note     mail
started  16m 40s ago
QEMU     process 4711, tcg
uuid     3f2b8c1e-0000-4000-8000-000000000042
"
        );
    }

    fn lifetime() -> Lifetime {
        Lifetime {
            ttl_s: 28_800,
            ends_at_s: 1_800_004_200,
            ends_soon: false,
        }
    }

    #[test]
    fn a_vm_that_expires_or_has_expired_says_when() {
        let kept = VmReport {
            lifetime: Some(lifetime()),
            ..vm()
        };
        let shown = kept.show(&Look::fixed());
        assert!(shown.contains("lifetime  expires in 1h 10m\n"), "{shown}");
        let expired = VmReport {
            state: VmState::Expired,
            ..kept
        };
        let shown = expired.show(&Look::fixed());
        let words = "lifetime  deleted in 1h 10m; `fvm undelete 42` brings it back\n";
        assert!(shown.contains(words), "{shown}");
    }

    #[test]
    fn a_success_is_one_line() {
        let done = VmOutcome {
            vm: 42.into(),
            report: Some(vm()),
            error: None,
        };
        let look = Look::fixed();
        assert_eq!(
            outcome(Action::Create, &done, None, &look),
            "42  created  fvm-debian-42  192.168.22.42\n"
        );
        assert_eq!(
            outcome(Action::Start, &done, Some("ssh answers after 6.1 s"), &look),
            "42  started  192.168.22.42  ssh answers after 6.1 s\n"
        );
        let gone = VmOutcome {
            report: None,
            ..done
        };
        assert_eq!(outcome(Action::Delete, &gone, None, &look), "42  deleted\n");
    }
}

//! Reports as text. Pure: what it needs to know of the host is in [`Look`].

mod agent;
mod disk;
mod doctor;
mod host;
mod image;
mod lab;
mod net;
mod network;
mod pool;
mod profile;
mod quota;
mod ssh;
mod template;
mod vm;

pub(crate) use disk::{compacted_line, disk_line, snapshot_line};
pub(crate) use host::Plan;
pub(crate) use lab::{LabBatches, LabChange, LabReport, LabVm};
pub(crate) use net::message_line;
pub(super) use ssh::numbered;
pub(crate) use ssh::{ExecOutcome, ExecReport, SshConfig, SshHost};
pub(super) use vm::{done, outcome};

use super::{
    style::{Palette, Tone},
    text::plain,
};
use fvm_vmm::api::{ApiError, VmNumber};
use nix::unistd::{Uid, User};
use std::time::{SystemTime, UNIX_EPOCH};

/// How reports look here and now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    pub(super) palette: Palette,
    /// Seconds since 1970-01-01 UTC.
    now_s: u64,
    owner: fn(u32) -> Option<String>,
}

impl Look {
    /// With this host's clock and users.
    pub(super) fn new(palette: Palette) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            palette,
            now_s: now.map_or(0, |since| since.as_secs()),
            owner: |uid| {
                User::from_uid(Uid::from_raw(uid))
                    .ok()?
                    .map(|user| user.name)
            },
        }
    }

    /// The same in other colours.
    pub(super) fn with(self, palette: Palette) -> Self {
        Self { palette, ..self }
    }

    /// The name of a user, or the number of one who has none (any more).
    fn owner(&self, uid: u32) -> String {
        (self.owner)(uid).unwrap_or_else(|| uid.to_string())
    }

    /// Seconds that have passed since a point in time.
    fn since(&self, then_s: u64) -> u64 {
        self.now_s.saturating_sub(then_s)
    }

    /// Seconds until a point in time.
    pub(super) fn until(&self, then_s: u64) -> u64 {
        then_s.saturating_sub(self.now_s)
    }
}

/// Something that can be shown as text of whole lines.
pub(crate) trait Show {
    /// The text.
    fn show(&self, look: &Look) -> String;
}

/// An error: what failed, details, and what to do next.
pub(super) fn error(vm: Option<VmNumber>, error: &ApiError, palette: Palette) -> String {
    let about = match vm {
        Some(vm) if !names(&error.message, vm) => format!("{vm}: "),
        _ => String::new(),
    };
    let label = palette.paint(Tone::Bad, "error:");
    let mut text = format!("{label} {about}{}", plain(&error.message));
    for detail in &error.details {
        text.push_str("\n  ");
        text.push_str(&plain(detail));
    }
    if let Some(hint) = &error.hint {
        let label = palette.paint(Tone::Good, "hint:");
        text.push_str(&format!("\n{label} {}", plain(hint)));
    }
    text
}

/// True if a message says itself which VM it is about.
fn names(message: &str, vm: VmNumber) -> bool {
    let name = format!("VM {vm}");
    message.match_indices(&name).any(|(at, _)| {
        let rest = &message[at + name.len()..];
        !rest.starts_with(|c: char| c.is_ascii_alphanumeric())
    })
}

#[cfg(test)]
impl Look {
    /// A fixed clock and one known user, without colour.
    pub(super) fn fixed() -> Self {
        Self {
            palette: Palette::COLOURLESS,
            now_s: 1_800_000_000,
            owner: |uid| (uid == 0).then(|| "root".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fvm_vmm::api::ErrorKind;

    #[test]
    fn an_error_says_what_and_what_next() {
        let told = ApiError::new(ErrorKind::Refused, "it runs\u{1b}[2J")
            .detail("since\nyesterday")
            .hint("stop it");
        assert_eq!(
            error(Some(43.into()), &told, Palette::COLOURLESS),
            "error: 43: it runs\u{fffd}[2J\n  since\u{fffd}yesterday\nhint: stop it"
        );
    }

    #[test]
    fn the_vm_is_named_once() {
        let shown = |text: &str| {
            let told = ApiError::new(ErrorKind::Refused, text);
            error(Some(43.into()), &told, Palette::COLOURLESS)
        };
        assert_eq!(shown("VM 43 is stopped"), "error: VM 43 is stopped");
        assert_eq!(shown("there is no VM 43"), "error: there is no VM 43");
        assert_eq!(shown("VM 431 has it"), "error: 43: VM 431 has it");
    }
}

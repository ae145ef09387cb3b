//! `virsh`, as far as hooks ask it: this program under that name, in the PATH of a hook only.

use super::Context;
use crate::exit::{CommandResult, Exit};
use fvm_vmm::api::{ApiError, ErrorKind, REPORT_VERSION, VmList, VmReport, VmState, VmXml, routes};
use serde::Serialize;

/// Arguments of `virsh`.
#[derive(Debug, clap::Args)]
pub(crate) struct Virsh {
    /// What virsh would be given
    #[arg(
        value_name = "WORD",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    words: Vec<String>,
}

/// What it says, which is text whoever asks.
#[derive(Debug, Serialize)]
struct Said {
    version: u32,
    lines: Vec<String>,
}

impl Virsh {
    pub(super) async fn run(self, context: &Context<'_>) -> CommandResult {
        let words = without_connection(&self.words);
        let list: VmList = context.client.get(routes::VMS).await?;
        let lines = match words.as_slice() {
            ["dumpxml", name] => {
                let number = find(&list, name)?.number;
                let xml: VmXml = context.client.get(&routes::xml(number)).await?;
                xml.xml.lines().map(str::to_owned).collect()
            }
            ["domstate", name] => vec![state(find(&list, name)?.state).to_owned()],
            ["list", options @ ..] => listed(&list, options)?,
            other => {
                let message = format!("virsh {} is not known here", other.join(" "));
                return Err(ApiError::new(ErrorKind::Usage, message)
                    .hint("fvm has no libvirt; for hooks it answers dumpxml, domstate and list"));
            }
        };
        let version = REPORT_VERSION;
        let said = Said { version, lines };
        context.out.lines(&said, &said.lines);
        Ok(Exit::DONE)
    }
}

/// The words without options that say how to reach libvirt.
fn without_connection(words: &[String]) -> Vec<&str> {
    let mut rest = Vec::new();
    let mut words = words.iter().map(String::as_str);
    while let Some(word) = words.next() {
        match word {
            "-c" | "--connect" => drop(words.next()),
            "-q" | "--quiet" | "-r" | "--readonly" => {}
            _ if word.starts_with("--connect=") => {}
            _ => rest.push(word),
        }
    }
    rest
}

fn find<'a>(list: &'a VmList, name: &str) -> Result<&'a VmReport, ApiError> {
    let is_it = |vm: &&VmReport| vm.name.as_str() == name || vm.uuid == name;
    list.vms.iter().find(is_it).ok_or_else(|| {
        let message = format!("failed to get domain '{name}'");
        ApiError::new(ErrorKind::NotFound, message)
    })
}

/// The state in libvirt's words.
fn state(state: VmState) -> &'static str {
    match state {
        VmState::Running | VmState::Starting => "running",
        VmState::Paused => "paused",
        VmState::Stopping => "in shutdown",
        VmState::Crashed => "crashed",
        VmState::Stopped | VmState::Expired | VmState::Deleting => "shut off",
    }
}

fn listed(list: &VmList, options: &[&str]) -> Result<Vec<String>, ApiError> {
    let (mut all, mut inactive, mut names) = (false, false, false);
    for option in options {
        match *option {
            "--all" => all = true,
            "--inactive" => inactive = true,
            "--name" => names = true,
            other => {
                let message = format!("virsh list {other} is not known here");
                return Err(ApiError::new(ErrorKind::Usage, message));
            }
        }
    }
    let is_active = |vm: &VmReport| !matches!(state(vm.state), "shut off" | "crashed");
    let vms = list
        .vms
        .iter()
        .filter(|vm| all || is_active(vm) != inactive);
    if names {
        return Ok(vms.map(|vm| vm.name.to_string()).collect());
    }
    let mut lines = vec![
        " Id   Name                           State".to_owned(),
        "----------------------------------------------".to_owned(),
    ];
    lines.extend(vms.map(|vm| {
        let id = match is_active(vm) {
            true => vm.number.to_string(),
            false => "-".to_owned(),
        };
        format!(" {id:<4} {:<30} {}", vm.name, state(vm.state))
    }));
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_to_reach_libvirt_does_not_matter() {
        let words = |text: &str| {
            let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
            without_connection(&words).join(" ")
        };
        assert_eq!(
            words("--connect qemu:///system dumpxml fvm-debian-42"),
            "dumpxml fvm-debian-42"
        );
        assert_eq!(words("-q -c qemu:///system list --all"), "list --all");
        assert_eq!(words("--connect=qemu:///system domstate x"), "domstate x");
    }
}

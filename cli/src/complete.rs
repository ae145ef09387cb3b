//! Completion in shells: images by name, VMs by number and state, numbers that are free.
//!
//! The shell calls `fvm` itself with [`VARIABLE`] set. What is there is asked of the daemon, for a moment only; without
//! an answer nothing is offered, and nothing said: somebody is typing.

use crate::{args::Args, client::Client};
use clap::{Command, CommandFactory};
use clap_complete::{
    CompleteEnv,
    engine::{ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter},
};
use fvm_vmm::api::{
    GroupName, HostReport, ImageList, NetList, ProfileList, SOCKET_PATH, VmList, VmNumber,
    VmReport, VmState, routes,
};
use serde::de::DeserializeOwned;
use std::{collections::BTreeSet, env, ffi::OsStr, path::PathBuf, time::Duration};

/// The variable that makes a run of `fvm` one of completion.
pub(crate) const VARIABLE: &str = "FVM_COMPLETE";
/// How long somebody who typed a tabulator is kept waiting.
const LIMIT: Duration = Duration::from_millis(500);
/// So many free numbers are offered at most.
const MOST_FREE: usize = 50;

/// Completes, if that is what this run is for; returns whether it was.
pub(crate) fn complete() -> clap::error::Result<bool> {
    let here = env::current_dir().ok();
    CompleteEnv::with_factory(|| with_completers(Args::command()))
        .var(VARIABLE)
        .completer("fvm")
        .try_complete(env::args_os(), here.as_deref())
}

/// The script that tells a shell about it.
pub(crate) fn registration(shell: &str) -> std::io::Result<Vec<u8>> {
    use clap_complete::env::{Bash, EnvCompleter, Fish, Zsh};
    let shell: &dyn EnvCompleter = match shell {
        "bash" => &Bash,
        "zsh" => &Zsh,
        _ => &Fish,
    };
    let mut script = Vec::new();
    shell.write_registration(VARIABLE, "fvm", "fvm", "fvm", &mut script)?;
    Ok(script)
}

/// The same commands, with what completes their arguments.
fn with_completers(command: Command) -> Command {
    completed(command, "")
}

/// The same below the command `parent`.
fn completed(command: Command, parent: &str) -> Command {
    let name = command.get_name().to_owned();
    command
        .mut_args(|arg| match arg.get_id().as_str() {
            "sets" | "vm" | "vms" => arg.add(ArgValueCompleter::new(Numbers::of(&name))),
            "image" if parent == "disk" => arg.add(ArgValueCompleter::new(images)),
            "image" => arg.add(ArgValueCompleter::new(sources)),
            // Names of other commands are new ones.
            "name" if parent == "image" && name != "import" => {
                arg.add(ArgValueCompleter::new(images))
            }
            "name" if parent == "profile" && name != "create" => {
                arg.add(ArgValueCompleter::new(profiles))
            }
            "group" => arg.add(ArgValueCompleter::new(groups)),
            "name" if parent == "net" && name != "create" => {
                arg.add(ArgValueCompleter::new(networks))
            }
            "template" => arg.add(ArgValueCompleter::new(templates)),
            _ => arg,
        })
        .mut_subcommands(|sub| completed(sub, &name))
}

/// Which numbers make sense for a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Numbers {
    /// Those that no VM has.
    Free,
    /// VMs that do not run.
    Idle,
    /// VMs that run.
    Up,
    /// VMs whose time to live is over.
    Expired,
    /// All VMs.
    All,
}

impl Numbers {
    fn of(command: &str) -> Self {
        match command {
            "create" => Self::Free,
            "start" => Self::Idle,
            "undelete" => Self::Expired,
            "stop" | "console" | "ssh" | "exec" | "scp" | "rsync" | "keydist" => Self::Up,
            "pause" | "resume" | "reset" | "link" | "send-key" | "screenshot" | "qmp" => Self::Up,
            _ => Self::All,
        }
    }

    fn fits(self, vm: &VmReport) -> bool {
        let idle = matches!(vm.state, VmState::Stopped | VmState::Crashed);
        match self {
            Self::Free => false,
            Self::Idle => idle,
            Self::Up => vm.state.is_active(),
            Self::Expired => vm.state == VmState::Expired,
            Self::All => true,
        }
    }
}

impl ValueCompleter for Numbers {
    fn complete(&self, current: &OsStr) -> Vec<CompletionCandidate> {
        let Some(list) = ask::<VmList>(routes::VMS) else {
            return Vec::new();
        };
        let offered = if *self == Self::Free {
            ask::<HostReport>(routes::HOST).map_or_else(Vec::new, |host| free(&host, &list))
        } else {
            let fitting = list.vms.iter().filter(|vm| self.fits(vm));
            let numbers =
                fitting.map(|vm| (vm.number.to_string(), format!("{}, {}", vm.image, vm.state)));
            let groups = group_names(&list).map(|group| (format!("@{group}"), "group".to_owned()));
            numbers.chain(groups).collect()
        };
        number_candidates(&current.to_string_lossy(), &offered)
    }
}

fn free(host: &HostReport, list: &VmList) -> Vec<(String, String)> {
    let taken: BTreeSet<VmNumber> = list.vms.iter().map(|vm| vm.number).collect();
    let Some(network) = &host.network else {
        return Vec::new();
    };
    let mut offered: Vec<_> = (network.first_number..=network.last_number)
        .filter(|number| !taken.contains(&VmNumber::new(*number)))
        .map(|number| (number.to_string(), "free".to_owned()))
        .collect();
    if !taken.contains(&VmNumber::BASE) {
        offered.push(("base".into(), "edits the image itself".into()));
    }
    offered
}

/// The candidates for what is typed so far, `42,5` or `50-`: its last number is completed.
fn number_candidates(typed: &str, offered: &[(String, String)]) -> Vec<CompletionCandidate> {
    // A group stands alone, and its name may have a dash.
    let at = match typed.starts_with('@') {
        true => 0,
        false => typed.rfind([',', '-']).map_or(0, |at| at + 1),
    };
    let (before, last) = typed.split_at(at);
    // The end of a range comes after its start.
    let start: Option<u32> = before
        .strip_suffix('-')
        .and_then(|before| before.rsplit(',').next()?.parse().ok());
    let after = |number: &str| match start {
        Some(start) => number.parse().is_ok_and(|number: u32| number > start),
        None => true,
    };
    offered
        .iter()
        .filter(|(number, _)| number.starts_with(last) && after(number))
        .take(MOST_FREE)
        .map(|(number, about)| {
            CompletionCandidate::new(format!("{before}{number}")).help(Some(about.clone().into()))
        })
        .collect()
}

fn images(current: &OsStr) -> Vec<CompletionCandidate> {
    let list = ask::<ImageList>(routes::IMAGES);
    let names = list.into_iter().flat_map(|list| list.images);
    matching(
        current,
        names.map(|image| (image.name.to_string(), "image")),
    )
}

/// Images and profiles: what VMs are made of.
fn sources(current: &OsStr) -> Vec<CompletionCandidate> {
    let mut candidates = images(current);
    candidates.extend(profiles(current));
    candidates
}

fn profiles(current: &OsStr) -> Vec<CompletionCandidate> {
    let list = ask::<ProfileList>(routes::PROFILES);
    let names = list.into_iter().flat_map(|list| list.profiles);
    matching(
        current,
        names.map(|profile| (profile.name.to_string(), "profile")),
    )
}

fn groups(current: &OsStr) -> Vec<CompletionCandidate> {
    let list = ask::<VmList>(routes::VMS);
    let names = list.iter().flat_map(group_names);
    matching(current, names.map(|group| (group.to_string(), "group")))
}

/// The groups that have VMs, each once.
fn group_names(list: &VmList) -> impl Iterator<Item = &GroupName> {
    let names: BTreeSet<_> = list.vms.iter().filter_map(|vm| vm.group.as_ref()).collect();
    names.into_iter()
}

/// Networks.
fn networks(current: &OsStr) -> Vec<CompletionCandidate> {
    let list = ask::<NetList>(routes::NETWORKS);
    let networks = list.into_iter().flat_map(|list| list.networks);
    matching(
        current,
        networks.map(|network| (network.name, network.mode.as_str())),
    )
}

/// Shipped templates, and files.
fn templates(current: &OsStr) -> Vec<CompletionCandidate> {
    let host = ask::<HostReport>(routes::HOST);
    let names = host.into_iter().flat_map(|host| host.templates);
    let mut candidates = matching(current, names.map(|name| (name, "template")));
    candidates.extend(PathCompleter::file().complete(current));
    candidates
}

fn matching(
    current: &OsStr,
    names: impl Iterator<Item = (String, &'static str)>,
) -> Vec<CompletionCandidate> {
    let current = current.to_string_lossy();
    names
        .filter(|(name, _)| name.starts_with(&*current))
        .map(|(name, what)| CompletionCandidate::new(name).help(Some(what.into())))
        .collect()
}

/// Asks the daemon of this host; nothing if it does not answer at once.
fn ask<R: DeserializeOwned>(path: &str) -> Option<R> {
    let socket = env::var_os("FVM_SOCKET").map_or_else(|| SOCKET_PATH.into(), PathBuf::from);
    let client = Client::new(socket);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .ok()?;
    let answer = runtime.block_on(async {
        let question = client.get(path);
        tokio::time::timeout(LIMIT, question).await
    });
    answer.ok()?.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered() -> Vec<(String, String)> {
        ["20", "42", "43", "142", "base", "@web-1"]
            .map(|number| (number.to_owned(), "debian, running".to_owned()))
            .into()
    }

    fn shown(typed: &str) -> Vec<String> {
        let candidates = number_candidates(typed, &offered());
        let values = candidates.iter().map(|one| one.get_value());
        values.map(|one| one.to_string_lossy().into()).collect()
    }

    #[test]
    fn the_last_number_of_a_set_is_completed() {
        assert_eq!(shown("4"), ["42", "43"]);
        assert_eq!(shown("20,4"), ["20,42", "20,43"]);
        assert_eq!(shown("42-"), ["42-43", "42-142"]);
        assert_eq!(shown("20,42-1"), ["20,42-142"]);
        assert_eq!(shown("b"), ["base"]);
        assert_eq!(shown("@web-"), ["@web-1"]);
        assert!(shown("9").is_empty());
    }

    #[test]
    fn every_command_with_vms_has_its_completer() {
        fn check(command: &Command) {
            for arg in command.get_arguments() {
                if matches!(arg.get_id().as_str(), "sets" | "vms" | "vm") {
                    let completer = arg.get::<ArgValueCompleter>();
                    assert!(completer.is_some(), "{}", command.get_name());
                }
            }
            command.get_subcommands().for_each(check);
        }
        check(&with_completers(Args::command()));
    }
}

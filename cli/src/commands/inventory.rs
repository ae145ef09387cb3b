//! `fvm inventory`: VMs as Ansible asks for them.

use super::Context;
use crate::{
    exit::{CommandResult, Exit},
    ssh::OPTIONS,
};
use fvm_vmm::api::{VmList, VmReport, VmState, routes};
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, path::PathBuf};

/// Arguments of `fvm inventory`.
#[derive(Debug, clap::Args)]
#[command(
    group = clap::ArgGroup::new("question").required(true),
    after_help = "\
Running VMs are hosts named fvm-42, in the groups fvm, image_NAME and, where there is one, profile_NAME; --all has \
the others too. It is always JSON.

Ansible runs a script that asks this; make one of three lines, and give it a name that Ansible does not take for YAML:
  #!/bin/sh
  # inventory of this host's VMs
  exec fvm inventory -i ~/.ssh/lab \"$@\"

Examples:
  ansible -i ./inventory fvm -m ping
  ansible-playbook -i ./inventory --limit image_debian site.yml
  fvm inventory --list | jq ._meta.hostvars")]
pub(crate) struct Inventory {
    /// All hosts, with their groups and variables
    #[arg(long, group = "question")]
    list: bool,
    /// The variables of one host
    #[arg(long, group = "question", value_name = "NAME")]
    host: Option<String>,
    /// VMs that do not run, too
    #[arg(long)]
    all: bool,
    /// The user to log in as
    #[arg(short, value_name = "USER", default_value = "root")]
    login: String,
    /// The private key to log in with, instead of ssh's own choice
    #[arg(short, value_name = "KEY")]
    identity: Option<PathBuf>,
}

impl Inventory {
    pub(super) async fn run(self, context: &Context<'_>) -> CommandResult {
        let list: VmList = context.client.get(routes::VMS).await?;
        let jump = context.client.jump();
        let hosts: BTreeMap<String, &VmReport> = list
            .vms
            .iter()
            .filter(|vm| self.all || vm.state == VmState::Running)
            .map(|vm| (format!("fvm-{}", vm.number), vm))
            .collect();
        let variables = |vm: &VmReport| self.variables(vm, jump.as_deref());
        // The option of all commands that has the same name, `fvm --host ssh://… inventory --list`, ends up here too.
        let one = self.host.as_ref().filter(|_| !self.list);
        let answer = match one {
            // A host that nothing is known of has no variables.
            Some(name) => hosts.get(name).map_or(json!({}), |vm| variables(vm)),
            None => inventory(&hosts, variables),
        };
        context.out.always_json(&answer);
        Ok(Exit::DONE)
    }

    fn variables(&self, vm: &VmReport, jump: Option<&str>) -> Value {
        let mut options: Vec<String> = OPTIONS
            .iter()
            .map(|(name, value)| format!("-o {name}={value}"))
            .collect();
        options.extend(jump.map(|jump| format!("-o ProxyJump={jump}")));
        let mut variables = json!({
            "ansible_host": vm.address,
            "ansible_user": self.login,
            "ansible_ssh_common_args": options.join(" "),
            "fvm_number": vm.number,
            "fvm_name": vm.name,
            "fvm_image": vm.image,
            "fvm_state": vm.state,
            "fvm_owner_uid": vm.owner_uid,
        });
        if let Some(key) = &self.identity {
            variables["ansible_ssh_private_key_file"] = json!(key);
        }
        if let Some(profile) = &vm.profile {
            variables["fvm_profile"] = json!(profile);
        }
        variables
    }
}

/// All hosts, as Ansible's "script" inventories have them.
fn inventory(hosts: &BTreeMap<String, &VmReport>, variables: impl Fn(&VmReport) -> Value) -> Value {
    let mut groups: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    groups.insert("fvm".into(), Vec::new());
    for (name, vm) in hosts {
        let mut join = |group: String| groups.entry(group).or_default().push(name);
        join("fvm".into());
        join(group_name("image", &vm.image));
        if let Some(profile) = &vm.profile {
            join(group_name("profile", profile));
        }
    }
    let variables: Map<String, Value> = hosts
        .iter()
        .map(|(name, vm)| (name.clone(), variables(vm)))
        .collect();
    let names: Vec<&String> = groups.keys().collect();
    let mut answer = json!({
        "_meta": { "hostvars": variables },
        "all": { "children": names },
    });
    for (group, members) in &groups {
        answer[group] = json!({ "hosts": members });
    }
    answer
}

/// A group's name holds letters, digits and `_` only, or Ansible complains.
fn group_name(kind: &str, name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let name: String = name.chars().map(plain).collect();
    format!("{kind}_{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_have_names_that_ansible_takes() {
        assert_eq!(group_name("image", "Debian-13.1"), "image_Debian_13_1");
    }
}

//! VMs as they are named on the command line: by number, or as a group.

use crate::{client::Client, exit};
use fvm_vmm::api::{
    ApiError, ErrorKind, GroupName, InvalidName, InvalidVmSet, VmList, VmSet, routes,
};
use std::str::FromStr;

/// One word that names VMs: `42`, `50-59`, `@web`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum VmNames {
    /// By their numbers.
    Numbers(VmSet),
    /// All of a group.
    Group(GroupName),
}

impl FromStr for VmNames {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix('@') {
            Some(group) => group
                .parse()
                .map(Self::Group)
                .map_err(|error: InvalidName| error.to_string()),
            None => text
                .parse()
                .map(Self::Numbers)
                .map_err(|error: InvalidVmSet| error.to_string()),
        }
    }
}

impl VmNames {
    /// The VMs that are meant.
    pub(crate) async fn resolve(self, client: &Client) -> Result<VmSet, ApiError> {
        resolve(vec![self], client).await
    }
}

/// The VMs that are meant by several words, each once. The daemon is asked only about groups.
pub(crate) async fn resolve(names: Vec<VmNames>, client: &Client) -> Result<VmSet, ApiError> {
    let mut sets = Vec::new();
    let mut list: Option<VmList> = None;
    for name in names {
        match name {
            VmNames::Numbers(set) => sets.push(set),
            VmNames::Group(group) => {
                let known = match list.take() {
                    Some(list) => list,
                    None => client.get(routes::VMS).await?,
                };
                sets.push(members(&known, &group)?);
                list = Some(known);
            }
        }
    }
    VmSet::union(sets).map_err(|error| exit::wrong_vms(&error))
}

/// The VMs of a group, of which there must be some.
fn members(list: &VmList, group: &GroupName) -> Result<VmSet, ApiError> {
    let vms = list
        .vms
        .iter()
        .filter(|vm| vm.group.as_ref() == Some(group));
    let numbers: Vec<_> = vms.map(|vm| vm.number).collect();
    VmSet::try_from(numbers).map_err(|_| {
        ApiError::new(
            ErrorKind::NotFound,
            format!("there is no VM in the group '{group}'"),
        )
        .hint("`fvm list` shows VMs and their groups")
    })
}

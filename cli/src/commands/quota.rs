//! `fvm quota`

use super::Context;
use crate::exit::{CommandResult, Exit, wrong_usage};
use fvm_vmm::api::{QuotaReport, routes};

/// Arguments of `fvm quota`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
USED/LIMIT of VMs, of the memory of VMs that run, and of disks of VMs as large as their guests see them. Limits are in the table \
[quota] of /etc/fvm/fvm.toml; root has none.

Examples:
  fvm quota
  fvm quota ann
  fvm quota --json | jq '.users[] | select(.vms.used == .vms.limit)'")]
pub(crate) struct Quota {
    /// Only this user, by name or number; without it, everybody who has VMs, and you
    #[arg(value_name = "USER")]
    user: Option<String>,
}

impl Quota {
    pub(super) async fn run(self, context: &Context<'_>) -> CommandResult {
        let path = match &self.user {
            None => routes::QUOTAS.to_owned(),
            Some(user) if is_name(user) => routes::quota(user),
            Some(user) => return Err(wrong_usage(format!("'{user}' is not a user's name"))),
        };
        let report: QuotaReport = context.client.get(&path).await?;
        context.out.report(&report);
        Ok(Exit::DONE)
    }
}

/// Whether it may be a user's name: those of POSIX, and what directories make of them (`ann@example.org`).
fn is_name(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-@$".contains(c);
    !text.is_empty() && text.chars().all(fits) && text.chars().any(|c| c != '.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_users() {
        for name in ["ann", "1000", "ann.lee@example.org", "_apt"] {
            assert!(is_name(name), "{name}");
        }
        for text in ["", ".", "..", "a/b", "a b", "a?b"] {
            assert!(!is_name(text), "{text}");
        }
    }
}

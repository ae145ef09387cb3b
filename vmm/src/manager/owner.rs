//! Whose VM it is: who may change it where the host lets only owners, what is said of it, and when it was last used.

use super::{Caller, Manager, Progress, batch::side_by_side, error::Result, host::Host, now_s};
use crate::{
    api::{Action, ApiError, BatchReport, ErrorKind, NoteVms},
    store::VmRow,
};
use nix::unistd::{Uid, User};

/// The last use is written down again once it is older than this: looking at a VM is not a write each time.
const USE_GRAIN_S: u64 = 3600;

/// Whether root has to insist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Root {
    /// Root may as it is.
    May,
    /// Root has to say `--force`, and has or has not.
    HasToInsist {
        /// It was said.
        force: bool,
    },
}

/// Refuses a caller who may not change this VM.
pub(super) fn check_owner(host: &Host, caller: Caller, row: &VmRow, root: Root) -> Result<()> {
    if !host.config.owner_only || row.owner_uid == caller.uid {
        return Ok(());
    }
    refusal(caller, row, root).map_or(Ok(()), Err)
}

fn refusal(caller: Caller, row: &VmRow, root: Root) -> Option<ApiError> {
    let hint = match (caller.is_root(), root) {
        (true, Root::May | Root::HasToInsist { force: true }) => return None,
        (true, Root::HasToInsist { force: false }) => "--force does it nevertheless",
        (false, Root::HasToInsist { force: true }) => "--force is for root alone",
        (false, _) => "only its owner and root may do this (`vm.owner_only` in /etc/fvm/fvm.toml)",
    };
    let message = format!(
        "VM {} is not yours, it belongs to {}",
        row.number,
        name_of(row.owner_uid)
    );
    Some(ApiError::new(ErrorKind::Refused, message).hint(hint))
}

/// A user's name, or what to call one who has none.
pub fn name_of(uid: u32) -> String {
    match User::from_uid(Uid::from_raw(uid)) {
        Ok(Some(user)) => user.name,
        _ => format!("user {uid}"),
    }
}

impl Manager {
    /// Says something of VMs; each has an outcome of its own.
    ///
    /// # Errors
    /// When the host is not set up.
    pub fn note(
        &self,
        caller: Caller,
        request: &NoteVms,
        _progress: &Progress,
    ) -> Result<BatchReport> {
        let host = self.host()?;
        let results = side_by_side(request.vms.numbers(), |number| {
            let _alone = self.vm_locks.lock(number);
            let row = self.lasting_vm_row(number)?;
            check_owner(&host, caller, &row, Root::May)?;
            self.store.set_note(number, request.note.as_str())?;
            self.report(&host, &self.vm_row(number)?).map(Some)
        });
        Ok(self.batch_report(Action::Note, results))
    }

    /// Notes that somebody does something with a VM. Failing that, what is done goes on.
    pub(super) fn touch(&self, row: &VmRow) {
        let now = now_s();
        if now.saturating_sub(row.used_at_s) < USE_GRAIN_S {
            return;
        }
        if let Err(error) = self.store.set_used(row.number, now) {
            tracing::warn!(vm = %row.number, %error, "cannot record that it was used");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::VmRow;

    fn row(owner_uid: u32) -> VmRow {
        VmRow {
            number: 42.into(),
            name: "fvm-debian-42".into(),
            uuid: String::new(),
            thin_id: 1,
            image: "debian".into(),
            profile: None,
            owner_uid,
            template: String::new(),
            memory_mib: 512,
            cpus: 1,
            created_at_s: 0,
            crash_cause: None,
            machine: None,
            layout: String::new(),
            note: String::new(),
            used_at_s: 0,
            lifetime: None,
            group: None,
            nics: Vec::new(),
            disks: Vec::new(),
            disk_bytes: 0,
            deleting: false,
        }
    }

    #[test]
    fn others_are_refused_and_root_insists() {
        let hint = |uid, root| refusal(Caller { uid }, &row(4_000_000), root)?.hint;
        let insist = |force| Root::HasToInsist { force };
        assert_eq!(hint(0, Root::May), None);
        assert_eq!(hint(0, insist(true)), None);
        assert!(hint(0, insist(false)).unwrap().contains("--force does it"));
        assert!(hint(7, insist(true)).unwrap().contains("root alone"));
        assert!(hint(7, insist(false)).unwrap().contains("only its owner"));
        let error = refusal(Caller { uid: 7 }, &row(4_000_000), Root::May).unwrap();
        assert_eq!(
            error.message,
            "VM 42 is not yours, it belongs to user 4000000"
        );
    }
}

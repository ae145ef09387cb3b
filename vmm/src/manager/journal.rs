//! The journal: every change of thin metadata, in step with the store.
//!
//! ```text
//!   store: begin (tx1, durable)  ->  kernel: messages, set_transaction_id, status  ->  store: settle (tx2)
//! ```
//!
//! The kernel throws away the result of its own commit, so only the status afterwards, with the new
//! transaction id and a healthy mode, acknowledges an operation. Whatever is found half-done when the
//! lock is taken is first finished or undone, as `fvm_thin::recovery` decides from the two transaction
//! ids. If neither is possible, nothing is written.

use super::error::{Result, failed};
use crate::{
    api::{ApiError, ErrorKind},
    fault::{self, Mutation},
    store::{self, NewDisk, NewSnapshot, NewVm, Pending, Store},
};
use fvm_thin::{
    Flush, Message, Pool, ThinId, TransactionId,
    recovery::{self, Recovery},
};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The one writer of thin metadata. Holds no state of its own but the lock.
#[derive(Debug, Default)]
pub(super) struct Journal {
    lock: Mutex<()>,
}

/// The names of the three fault points around one operation.
struct Faults {
    begun: &'static str,
    committed: &'static str,
    settled: &'static str,
}

const CREATE: Faults = Faults {
    begun: "create/begun",
    committed: "create/committed",
    settled: "create/settled",
};
const IMPORT: Faults = Faults {
    begun: "import/begun",
    committed: "import/committed",
    settled: "import/settled",
};
const SNAPSHOT: Faults = Faults {
    begun: "snapshot/begun",
    committed: "snapshot/committed",
    settled: "snapshot/settled",
};
const RESTORE: Faults = Faults {
    begun: "restore/begun",
    committed: "restore/committed",
    settled: "restore/settled",
};
const EXPORT: Faults = Faults {
    begun: "export/begun",
    committed: "export/committed",
    settled: "export/settled",
};
const ADD_DISK: Faults = Faults {
    begun: "disk/begun",
    committed: "disk/committed",
    settled: "disk/settled",
};
const DELETE: Faults = Faults {
    begun: "delete/begun",
    committed: "delete/committed",
    settled: "delete/settled",
};

impl Journal {
    /// Makes VMs as snapshots of `origin`, in one transaction: all of them or none.
    pub(super) fn create_vms(
        &self,
        store: &Store,
        pool: &Pool,
        new: &[NewVm],
        origin: ThinId,
        disk_bytes: u64,
    ) -> Result<()> {
        self.transact(store, pool, &CREATE, || {
            let ids = store.begin_create(new, disk_bytes)?;
            let messages = ids
                .iter()
                .map(|&id| {
                    Ok(Message::CreateSnap {
                        id: thin_id(id)?,
                        origin,
                    })
                })
                .collect::<Result<_>>()?;
            Ok(((), messages))
        })
    }

    /// Makes an empty volume for an import; returns its id.
    pub(super) fn create_importing(
        &self,
        store: &Store,
        pool: &Pool,
        uuid: &str,
        size_bytes: u64,
    ) -> Result<ThinId> {
        self.transact(store, pool, &IMPORT, || {
            let id = thin_id(store.begin_import(uuid, size_bytes)?)?;
            Ok((id, vec![Message::CreateThin { id }]))
        })
    }

    /// Takes snapshots of the volumes `origins`, all at one point in time, in one transaction: all of them or
    /// none; returns their ids in the order given.
    pub(super) fn create_snapshots(
        &self,
        store: &Store,
        pool: &Pool,
        new: &[NewSnapshot],
        origins: &[ThinId],
    ) -> Result<Vec<ThinId>> {
        self.transact(store, pool, &SNAPSHOT, || {
            let ids = store
                .begin_snapshots(new)?
                .into_iter()
                .map(thin_id)
                .collect::<Result<Vec<_>>>()?;
            let messages = ids
                .iter()
                .zip(origins)
                .map(|(&id, &origin)| Message::CreateSnap { id, origin })
                .collect();
            Ok((ids, messages))
        })
    }

    /// Takes a snapshot of `origin` that is only to be read; returns its id.
    pub(super) fn create_temporary(
        &self,
        store: &Store,
        pool: &Pool,
        uuid: &str,
        origin: ThinId,
        size_bytes: u64,
    ) -> Result<ThinId> {
        self.transact(store, pool, &EXPORT, || {
            let id = thin_id(store.begin_temporary(uuid, size_bytes)?)?;
            Ok((id, vec![Message::CreateSnap { id, origin }]))
        })
    }

    /// Makes a volume from a snapshot, nobody's yet; returns its id.
    pub(super) fn create_restored(
        &self,
        store: &Store,
        pool: &Pool,
        uuid: &str,
        size_bytes: u64,
        origin: ThinId,
    ) -> Result<ThinId> {
        self.transact(store, pool, &RESTORE, || {
            let id = thin_id(store.begin_import(uuid, size_bytes)?)?;
            Ok((id, vec![Message::CreateSnap { id, origin }]))
        })
    }

    /// Makes a further disk of a VM, as a snapshot of `origin` or empty; returns its id.
    pub(super) fn create_disk(
        &self,
        store: &Store,
        pool: &Pool,
        new: &NewDisk,
        origin: Option<ThinId>,
    ) -> Result<ThinId> {
        self.transact(store, pool, &ADD_DISK, || {
            let id = thin_id(store.begin_disk(new)?)?;
            let message = match origin {
                Some(origin) => Message::CreateSnap { id, origin },
                None => Message::CreateThin { id },
            };
            Ok((id, vec![message]))
        })
    }

    /// Deletes volumes that are marked for it, with the rows that hang on them.
    pub(super) fn delete(&self, store: &Store, pool: &Pool, ids: &[ThinId]) -> Result<()> {
        self.transact(store, pool, &DELETE, || {
            store.begin_delete(&ids.iter().map(|id| id.get()).collect::<Vec<_>>())?;
            Ok(((), ids.iter().map(|&id| Message::Delete { id }).collect()))
        })
    }

    /// Finishes or undoes what an earlier process left half-done.
    pub(super) fn recover(&self, store: &Store, pool: &Pool) -> Result<()> {
        let _alone = self.hold();
        recover(store, pool)
    }

    /// Keeps everybody from changing thin metadata until what is returned is dropped.
    pub(super) fn hold(&self) -> MutexGuard<'_, ()> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why pool and store cannot be brought into step, if they cannot; what recovery resolves is nothing.
    pub(super) fn disagreement(&self, store: &Store, pool: &Pool) -> Option<ApiError> {
        let _still = self.hold();
        match planned(store, pool) {
            Ok((Recovery::Refuse(reason), ..)) => Some(disagree(reason)),
            Ok(_) => None,
            Err(error) => Some(error),
        }
    }

    fn transact<T>(
        &self,
        store: &Store,
        pool: &Pool,
        faults: &Faults,
        begin: impl FnOnce() -> Result<(T, Vec<Message>)>,
    ) -> Result<T> {
        let _alone = self.hold();
        recover(store, pool)?;
        let from = TransactionId(transaction_id(store)?);
        let (value, messages) = begin()?;
        fault::point(faults.begun);
        let committed = pool.commit(from, &messages);
        if fault::mutated(Mutation::MessageBeforeNote) {
            store.sync_late()?;
        }
        if let Err(error) = committed {
            // The kernel may have done none of it, some of it, or all but the last word: only the
            // transaction id tells, and recovery acts on it.
            let error = failed("the thin pool did not take the change", &error);
            recover(store, pool).map_err(|worse| error.clone().detail(worse.message))?;
            if transaction_id(store)? == from.0 {
                return Err(error);
            }
        } else {
            fault::point(faults.committed);
            store.settle()?;
        }
        fault::point(faults.settled);
        Ok(value)
    }
}

/// What has to be done first, with the pool's transaction id and the note of the store.
fn planned(store: &Store, pool: &Pool) -> Result<(Recovery, TransactionId, Option<Pending>)> {
    let status = pool
        .status(Flush::None)
        .map_err(|error| failed("reading the thin pool's status", &error))?;
    let pending = store.pending()?;
    let plan = recovery::plan(
        status.transaction,
        TransactionId(transaction_id(store)?),
        pending.as_ref().map(note),
    );
    Ok((plan, status.transaction, pending))
}

fn disagree(reason: recovery::Refusal) -> ApiError {
    ApiError::new(
        ErrorKind::HostNotAble,
        format!("the thin pool and the state store disagree: {reason}"),
    )
    .hint("nothing was changed and nothing will be until this is resolved; VMs that run go on")
}

fn recover(store: &Store, pool: &Pool) -> Result<()> {
    let (plan, transaction, pending) = planned(store, pool)?;
    let ids = match &pending {
        Some(pending) => pending
            .thin_ids
            .iter()
            .map(|&id| thin_id(id))
            .collect::<Result<Vec<_>>>()?,
        None => Vec::new(),
    };
    match plan {
        Recovery::Clean => Ok(()),
        Recovery::UndoCreate => {
            tracing::warn!(?ids, "undoing a create that was interrupted");
            pool.undo_create(transaction, &ids)
                .map_err(|error| failed("undoing an interrupted create", &error))?;
            Ok(store.undo_create()?)
        }
        Recovery::RedoDelete => {
            tracing::warn!(?ids, "finishing a delete that was interrupted");
            let messages: Vec<Message> = ids.iter().map(|&id| Message::Delete { id }).collect();
            pool.commit(transaction, &messages)
                .map_err(|error| failed("finishing an interrupted delete", &error))?;
            Ok(store.settle()?)
        }
        Recovery::Settle => {
            tracing::warn!(?ids, "settling an operation that the pool had finished");
            Ok(store.settle()?)
        }
        Recovery::Refuse(reason) => Err(disagree(reason)),
    }
}

fn note(pending: &Pending) -> recovery::Pending {
    recovery::Pending {
        kind: match pending.kind {
            store::PendingKind::Create => recovery::PendingKind::Create,
            store::PendingKind::Delete => recovery::PendingKind::Delete,
        },
        target: TransactionId(pending.target),
    }
}

fn transaction_id(store: &Store) -> Result<u64> {
    store
        .pool()?
        .map(|row| row.transaction_id)
        .ok_or_else(super::not_initialised)
}

/// A device id from the store, which gives out no others.
pub(super) fn thin_id(id: u32) -> Result<ThinId> {
    ThinId::try_from(u64::from(id))
        .map_err(|error| failed("the state store holds a malformed device id", &error))
}

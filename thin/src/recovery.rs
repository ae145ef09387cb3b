//! What to do when kernel and store may have been parted by a crash: pure decision, no action.
//!
//! Every operation notes `pending(target = N + 1)` in the store before it sends the pool a message, and
//! drops the note when the pool has acknowledged `N + 1`. So what a crash left can be read off three
//! things: the kernel's transaction id, the store's, and the note.
//!
//! ```text
//! kernel = store,     no note         Clean
//! kernel = store,     note: create    UndoCreate   the volume may be there, uncommitted or not
//! kernel = store,     note: delete    RedoDelete   its data may be discarded already
//! kernel = store + 1 = the target     Settle       the kernel has it; only the store is behind
//! anything else                       Refuse       never guess
//! ```

use crate::id::TransactionId;

/// What kind of operation a note in the store announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PendingKind {
    /// New volumes or snapshots.
    Create,
    /// The end of volumes.
    Delete,
}

/// The note that the store keeps while an operation is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pending {
    /// What it does.
    pub kind: PendingKind,
    /// The transaction id that the pool has once it is done.
    pub target: TransactionId,
}

/// What has to be done before anything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Recovery {
    /// Nothing.
    Clean,
    /// Delete the noted ids from the pool ([`crate::Pool::undo_create`]), then drop rows and note.
    UndoCreate,
    /// Do the noted deletion again from its start, then settle it.
    RedoDelete,
    /// Settle the noted operation in the store: the pool holds it.
    Settle,
    /// Write nothing: the pool has to be looked at.
    Refuse(Refusal),
}

/// Why nothing may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// The pool has done what the store knows nothing of.
    #[error("the pool is at transaction {kernel}, ahead of the store at {store}")]
    KernelAhead {
        /// The pool's transaction id.
        kernel: TransactionId,
        /// The store's.
        store: TransactionId,
    },
    /// The pool has lost what the store counts as done.
    #[error("the pool is at transaction {kernel}, behind the store at {store}")]
    KernelBehind {
        /// The pool's transaction id.
        kernel: TransactionId,
        /// The store's.
        store: TransactionId,
    },
    /// The note does not follow the store's own transaction id.
    #[error(
        "the store is at transaction {store}, but an operation towards {target} is noted in it"
    )]
    WrongTarget {
        /// The store's transaction id.
        store: TransactionId,
        /// The noted target.
        target: TransactionId,
    },
}

/// Decides what to do from the pool's transaction id, the store's, and the store's note.
pub fn plan(kernel: TransactionId, store: TransactionId, pending: Option<Pending>) -> Recovery {
    let follows = store.0.checked_add(1).map(TransactionId);
    if let Some(Pending { target, .. }) = pending
        && follows != Some(target)
    {
        return Recovery::Refuse(Refusal::WrongTarget { store, target });
    }
    match pending {
        None if kernel == store => Recovery::Clean,
        Some(pending) if kernel == store => match pending.kind {
            PendingKind::Create => Recovery::UndoCreate,
            PendingKind::Delete => Recovery::RedoDelete,
        },
        Some(pending) if kernel == pending.target => Recovery::Settle,
        _ if kernel > store => Recovery::Refuse(Refusal::KernelAhead { kernel, store }),
        _ => Recovery::Refuse(Refusal::KernelBehind { kernel, store }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tid(n: u64) -> TransactionId {
        TransactionId(n)
    }

    fn pending(kind: PendingKind, target: u64) -> Option<Pending> {
        Some(Pending {
            kind,
            target: tid(target),
        })
    }

    /// Every kernel and target id around the store's, each kind of note and none: the rules, said a
    /// second time as a table of offsets from the store's id.
    #[test]
    fn every_combination_around_the_store() {
        use PendingKind::{Create, Delete};
        let store = tid(100);
        for kernel in 95..=105 {
            for target in 95..=105 {
                for kind in [Create, Delete] {
                    let plan = plan(tid(kernel), store, pending(kind, target));
                    match (kernel, target, kind) {
                        (100, 101, Create) => assert_eq!(plan, Recovery::UndoCreate),
                        (100, 101, Delete) => assert_eq!(plan, Recovery::RedoDelete),
                        (101, 101, _) => assert_eq!(plan, Recovery::Settle),
                        (_, 101, _) if kernel > 101 => assert!(matches!(
                            plan,
                            Recovery::Refuse(Refusal::KernelAhead { .. })
                        )),
                        (_, 101, _) => assert!(matches!(
                            plan,
                            Recovery::Refuse(Refusal::KernelBehind { .. })
                        )),
                        _ => assert!(matches!(
                            plan,
                            Recovery::Refuse(Refusal::WrongTarget { .. })
                        )),
                    }
                }
            }
            match (kernel, plan(tid(kernel), store, None)) {
                (100, plan) => assert_eq!(plan, Recovery::Clean),
                (101.., Recovery::Refuse(Refusal::KernelAhead { .. })) => {}
                (..100, Recovery::Refuse(Refusal::KernelBehind { .. })) => {}
                (kernel, plan) => panic!("kernel {kernel}, store 100, no note: {plan:?}"),
            }
        }
    }

    #[test]
    fn the_ends_of_the_range() {
        assert_eq!(plan(tid(0), tid(0), None), Recovery::Clean);
        assert_eq!(
            plan(tid(1), tid(0), pending(PendingKind::Create, 1)),
            Recovery::Settle
        );
        // Nothing can follow the last id, so no note can be right there.
        for kind in [PendingKind::Create, PendingKind::Delete] {
            assert!(matches!(
                plan(tid(u64::MAX), tid(u64::MAX), pending(kind, u64::MAX)),
                Recovery::Refuse(Refusal::WrongTarget { .. })
            ));
            assert!(matches!(
                plan(tid(u64::MAX), tid(u64::MAX), pending(kind, 0)),
                Recovery::Refuse(Refusal::WrongTarget { .. })
            ));
        }
    }
}

//! One transaction on a pool: messages, the new transaction id, and the proof.
//!
//! The kernel throws away the result of committing a message: `create_snap` may return success while the
//! pool goes read-only. So a message's success counts for nothing here; what counts is the status read
//! afterwards, in memory (`NOFLUSH`), which shows the new transaction id and a healthy pool only if the
//! metadata were written. (A pool that ran out of data space meanwhile has written them: one that could not
//! write its metadata is read-only, and never leaves that mode for another.)

use tracing::debug;

use crate::error::{Error, Result};
use crate::id::{ThinId, TransactionId};
use crate::kernel::dm::Flush;
use crate::names::Part;

use super::Pool;
use super::origins::Origins;

/// One change of the pool's metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Message {
    /// Make an empty volume.
    CreateThin {
        /// A number never used before.
        id: ThinId,
    },
    /// Make a writable snapshot.
    CreateSnap {
        /// A number never used before.
        id: ThinId,
        /// What it is a snapshot of, active or not.
        origin: ThinId,
    },
    /// Delete a volume, which must not be active; one that is not there is deleted already.
    Delete {
        /// Its number.
        id: ThinId,
    },
}

impl Message {
    /// The id of the volume that it makes, if it makes one: for [`Pool::undo_create`].
    pub fn creates(self) -> Option<ThinId> {
        match self {
            Self::CreateThin { id } | Self::CreateSnap { id, .. } => Some(id),
            Self::Delete { .. } => None,
        }
    }

    fn text(self) -> String {
        match self {
            Self::CreateThin { id } => format!("create_thin {id}"),
            Self::CreateSnap { id, origin } => format!("create_snap {id} {origin}"),
            Self::Delete { id } => format!("delete {id}"),
        }
    }
}

/// What is known of the pool after a commit that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KernelState {
    /// It is as it was: no message was taken.
    Unchanged,
    /// It may hold the transaction, a part of it, or none: read the status again and let
    /// [`crate::recovery::plan`] decide.
    Unknown,
}

/// Why a transaction was not acknowledged.
#[derive(Debug, thiserror::Error)]
#[error("transaction {target} of pool {pool} was not acknowledged")]
pub struct CommitError {
    /// The pool's name.
    pub pool: String,
    /// The transaction id it would have had.
    pub target: TransactionId,
    /// What is known of the pool.
    pub kernel: KernelState,
    /// What failed.
    #[source]
    pub cause: Error,
}

/// What a transaction needs the pool to have.
#[derive(Debug, Clone, Copy)]
enum Need {
    /// Everything.
    Space,
    /// Metadata that can be written: deleting is how a full pool gets room again.
    Metadata,
}

impl Pool {
    /// Sends messages as one transaction, `from` to `from + 1`, and proves that the pool holds it.
    ///
    /// The caller has noted the operation in its store before, and settles it there after. An active
    /// origin of a snapshot is suspended while the messages are sent, and resumed whatever happens. A pool
    /// that is out of data space takes deletions only.
    ///
    /// # Errors
    /// [`CommitError::kernel`] says whether the pool is as it was.
    pub fn commit(
        &self,
        from: TransactionId,
        messages: &[Message],
    ) -> Result<TransactionId, CommitError> {
        let target = from.next();
        let error = |kernel, cause| CommitError {
            pool: self.spec.name.to_string(),
            target,
            kernel,
            cause,
        };
        let only_deletes = messages.iter().all(|message| message.creates().is_none());
        let need = if only_deletes {
            Need::Metadata
        } else {
            Need::Space
        };
        self.require(from, need)
            .map_err(|cause| error(KernelState::Unchanged, cause))?;
        let origins = Origins::suspend(self, messages)
            .map_err(|cause| error(KernelState::Unchanged, cause))?;
        let (taken, sent) = self.send_all(messages);
        let resumed = origins.resume();
        let sent = match sent {
            Ok(()) => resumed,
            Err(error) => Err(error.then(resumed)),
        };
        sent.map_err(|cause| match taken {
            0 => error(KernelState::Unchanged, cause),
            _ => error(KernelState::Unknown, cause),
        })?;
        self.send(&format!("set_transaction_id {from} {target}"))
            .and_then(|()| self.require(target, Need::Metadata))
            .map_err(|cause| error(KernelState::Unknown, cause))?;
        debug!(pool = %self.spec.name, transaction = %target, ?messages, "committed");
        Ok(target)
    }

    /// Deletes volumes that an unfinished transaction may have made, without a new transaction id.
    ///
    /// # Errors
    /// When a volume is there and cannot be deleted, or the pool is not well afterwards.
    pub fn undo_create(&self, current: TransactionId, ids: &[ThinId]) -> Result<()> {
        self.require(current, Need::Metadata)?;
        let failures = ids
            .iter()
            .filter_map(|&id| self.send_message(Message::Delete { id }).err())
            .collect();
        Error::all(failures)?;
        self.require(current, Need::Metadata)
    }

    /// The pool is well and at this transaction.
    fn require(&self, expected: TransactionId, need: Need) -> Result<()> {
        let status = self.status(Flush::None)?;
        let able = match need {
            Need::Space => status.is_well(),
            Need::Metadata => status.takes_metadata(),
        };
        if !able {
            return Err(self.unwell(status.health()));
        }
        if status.transaction != expected {
            return Err(self.unwell(format!(
                "at transaction {}, not {expected}",
                status.transaction
            )));
        }
        Ok(())
    }

    pub(super) fn unwell(&self, health: String) -> Error {
        Error::Unwell {
            pool: self.spec.name.to_string(),
            health,
        }
    }

    pub(super) fn send(&self, text: &str) -> Result<()> {
        self.dm.message(&self.spec.identity(Part::Pool), text)
    }

    fn send_message(&self, message: Message) -> Result<()> {
        match (message, self.send(&message.text())) {
            // What the kernel says of an id that it does not know.
            (Message::Delete { .. }, Err(error)) if error.raw_os_error() == Some(libc::ENODATA) => {
                Ok(())
            }
            (_, result) => result,
        }
    }

    /// Sends messages up to the first that fails. Returns how many the kernel took.
    fn send_all(&self, messages: &[Message]) -> (usize, Result<()>) {
        for (taken, &message) in messages.iter().enumerate() {
            if let Err(error) = self.send_message(message) {
                return (taken, Err(error));
            }
        }
        (messages.len(), Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u64) -> ThinId {
        ThinId::try_from(n).unwrap()
    }

    #[test]
    fn messages_are_as_the_kernel_reads_them() {
        for (message, text) in [
            (Message::CreateThin { id: id(7) }, "create_thin 7"),
            (
                Message::CreateSnap {
                    id: id(8),
                    origin: id(7),
                },
                "create_snap 8 7",
            ),
            (Message::Delete { id: ThinId::MAX }, "delete 16777215"),
        ] {
            assert_eq!(message.text(), text);
        }
    }
}

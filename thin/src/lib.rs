//! Thin pools, volumes and block streams: the kernel's side of fvm's storage.
//!
//! Owns: naming of device-mapper devices ([`names`]), the life of a pool ([`Pool`]) and of its active
//! volumes ([`Volume`]), transactions on a pool ([`Pool::commit`]) and what to do after a crash
//! ([`recovery`]), and writing and reading the content of volumes ([`BlockWriter`], [`digest_of`]).
//!
//! Does not own: which pools and volumes there should be. That is in the caller's store, which also keeps
//! the transaction id that each pool should be at. An operation goes
//!
//! 1. store: note what is going to happen, towards transaction N + 1;
//! 2. [`Pool::commit`]: messages, `set_transaction_id`, proof by status;
//! 3. store: settle it, drop the note.
//!
//! All calls block; all may be made from any thread. Calls that change a pool's metadata are to be made
//! under one lock of the caller's. Everything can be repeated: a call finds what an earlier one, or a crash,
//! has left, and goes on from there. A call that fails takes away what it made.
//!
//! Device-mapper is used by its ioctls alone, without `libdevmapper` and its agreement with udev: nothing
//! here waits for udev, needs it to run, or lets it look into a guest's disk.

mod claim;
mod device;
mod error;
mod events;
#[cfg(fuzzing)]
pub mod fuzzing;
mod id;
mod kernel;
pub mod names;
mod patience;
mod pool;
mod probe;
pub mod recovery;
mod stream;
mod table;
mod tools;
mod units;
mod volume;

pub use device::{ActiveDevice, Outcome, active_devices};
pub use error::{Error, Result};
pub use events::EventWatch;
pub use id::{InvalidId, PoolName, ThinId, TransactionId};
pub use kernel::DeviceNumber;
pub use kernel::block::Access;
pub use kernel::dm::Flush;
pub use kernel::loopdev::LoopState;
pub use pool::{
    Backing, CommitError, DEFAULT_CHUNK, Discards, Extents, IdleMetadata, Inspection, KernelState,
    LARGE_POOL, LARGE_POOL_CHUNK, METADATA_MAX, Message, MetadataSnapshot, Pool, PoolMode,
    PoolSpec, PoolStatus, Repaired, Usage, Verdict, VolumeUsage,
};
pub use probe::probe;
pub use stream::{
    BLOCK_BYTES, BlockWriter, SparseDigest, Written, digest_of, is_zero, read_ranges,
};
pub use units::{Bytes, SECTOR_BYTES, Sectors};
pub use volume::{Mapped, Volume, VolumeSpec};

#[cfg(test)]
mod tests {
    /// Compiles only if these may be used from any thread.
    #[test]
    fn everything_may_be_used_from_any_thread() {
        fn check<T: Send + Sync>() {}
        check::<crate::Pool>();
        check::<crate::Volume>();
        check::<crate::EventWatch>();
        check::<crate::Error>();
    }
}

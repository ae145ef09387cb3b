//! What keeps a qcow2 file from being imported.

use std::io;

/// A sound file that fvm does not import.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unfit {
    /// Neither 2 nor 3.
    #[error("its version is {0}; fvm reads versions 2 and 3")]
    Version(u32),
    /// Only the differences to another file are in it.
    #[error("it holds only the differences to its backing file '{0}', which fvm does not open")]
    Backing(String),
    /// The content is in another file.
    #[error("its content is in an external data file, which fvm does not open")]
    ExternalData,
    /// AES or LUKS.
    #[error("it is encrypted (method {0})")]
    Encrypted(u32),
    /// QEMU has found it to be inconsistent.
    #[error("it is marked as corrupt")]
    Corrupt,
    /// Something that must be understood to read it.
    #[error("it has the incompatible feature {0}, which fvm does not know")]
    Feature(u32),
    /// Neither deflate nor zstd.
    #[error("its compression type {0} is none that fvm knows")]
    Packing(u8),
    /// Keeping track of its clusters would take too much memory.
    #[error("it has {0} clusters, more than fvm keeps track of: they are too small for its length")]
    Clusters(u64),
}

/// Something in the file that cannot be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Damage {
    /// It ends inside its header.
    #[error("it ends inside its header")]
    ShortHeader,
    /// A header field without sense.
    #[error("its header has the impossible {0} {1}")]
    Field(&'static str, u64),
    /// A table entry with bits that must be zero, or an offset that is no cluster's.
    #[error("its {0} table has the impossible entry {1:#x}")]
    Entry(&'static str, u64),
    /// Something lies where the file has ended.
    #[error("its {0} at {1:#x} lies beyond its end at {2:#x}")]
    BeyondEnd(&'static str, u64, u64),
    /// Two things at one place.
    #[error("its {0} at {1:#x} lies where something else is")]
    Overlap(&'static str, u64),
    /// A compressed cluster that cannot be unpacked.
    #[error("its compressed cluster at {at:#x} is wrong")]
    Packed {
        /// Where it lies in the file.
        at: u64,
        /// What the decoder said.
        source: io::Error,
    },
}

/// Why reading a qcow2 file stopped.
#[derive(Debug)]
pub(super) enum Flaw {
    Unfit(Unfit),
    Damage(Damage),
    Read { at: u64, source: io::Error },
}

impl From<Unfit> for Flaw {
    fn from(unfit: Unfit) -> Self {
        Self::Unfit(unfit)
    }
}

impl From<Damage> for Flaw {
    fn from(damage: Damage) -> Self {
        Self::Damage(damage)
    }
}

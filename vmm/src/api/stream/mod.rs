//! The block stream: a disk's content on its way through the socket, without its zeros.
//!
//! ```text
//! stream  := "FVMBLK1\n" header frame* (end | failure)
//! header  := u32 LE length, that many bytes of JSON (`ImportHeader` on the way in, `ExportHeader` on the way out)
//! frame   := u64 LE offset, u32 LE length, that many bytes
//! end     := u64 LE size of the content in bytes, u32 LE 0, 32 bytes of digest
//! failure := u64 LE 2^64 - 1, u32 LE length, that many bytes of JSON (`ApiError`): why the sender gave up
//! ```
//!
//! Offsets ascend, are multiples of [`BLOCK_BYTES`], and frames do not overlap. A frame is at most
//! [`MAX_FRAME_BYTES`] long and a whole number of blocks, unless the content ends in it. What no frame
//! covers is zero. A stream without its end is a transfer that was cut off.
//!
//! Pure: bytes in, bytes out. The reader may be the daemon's, which runs as root, so it trusts nothing.

mod decoder;
mod digest;
mod encoder;
#[cfg(test)]
mod tests;

pub use decoder::{Decoder, Item};
pub use digest::{SparseDigest, digest_text, is_zero};
pub use encoder::Encoder;

use super::ApiError;

/// The unit of the stream and of the digest.
pub const BLOCK_BYTES: usize = 64 * 1024;
/// The longest frame.
pub const MAX_FRAME_BYTES: usize = 4 * 1024 * 1024;
/// The largest content: what a signed 64-bit file offset can address.
pub const MAX_CONTENT_BYTES: u64 = i64::MAX as u64;
/// The content type of a block stream.
pub const CONTENT_TYPE: &str = "application/x-fvm-blocks";

const MAGIC: &[u8; 8] = b"FVMBLK1\n";
/// A template is at most 1 MiB, and JSON may escape each of its bytes.
const MAX_HEADER_BYTES: usize = 8 * 1024 * 1024;
const FRAME_HEAD_BYTES: usize = 12;
const DIGEST_BYTES: usize = 32;
/// Where an offset would be, in a failure: no content is that long.
const FAILURE: u64 = u64::MAX;
/// The longest failure: a message, a hint and some lines of a log.
const MAX_FAILURE_BYTES: usize = 256 * 1024;

/// Why a block stream was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// It does not begin as one.
    #[error("this is not a block stream")]
    NotABlockStream,
    /// The header is too long or not what it should be.
    #[error("the block stream's header is malformed: {0}")]
    BadHeader(String),
    /// A frame that breaks the rules of the format.
    #[error("the block stream has a malformed frame at offset {0}")]
    BadFrame(u64),
    /// More content than the disk was to have.
    #[error("the content is larger than the {limit} bytes asked for")]
    TooLarge {
        /// The size asked for.
        limit: u64,
    },
    /// What arrived is not what was sent.
    #[error("the digest of what arrived differs from the digest of what was sent")]
    WrongDigest,
    /// It ended before its end.
    #[error("the transfer was cut off after {0} bytes of content")]
    CutOff(u64),
    /// Bytes after the end.
    #[error("the block stream goes on after its end")]
    Trailing,
    /// The sender gave up, and says why.
    #[error("{0}")]
    Failed(Box<ApiError>),
}

/// What ends a stream that cannot be gone on with, after whole frames.
pub fn failure(error: &ApiError) -> Vec<u8> {
    let json = serde_json::to_vec(error).unwrap_or_default();
    let mut out = FAILURE.to_le_bytes().to_vec();
    out.extend((json.len() as u32).to_le_bytes());
    out.extend(json);
    out
}

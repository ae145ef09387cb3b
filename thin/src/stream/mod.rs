//! Content of volumes: writing an image fast, reading it back, its digest.

mod buffer;
mod digest;
mod reader;
mod window;
mod writer;
mod zeros;

pub use digest::{BLOCK_BYTES, SparseDigest, is_zero};
pub use reader::{digest_of, read_ranges};
pub use window::Written;
pub use writer::BlockWriter;

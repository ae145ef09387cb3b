//! The digest of sparse content.

use super::{BLOCK_BYTES, DIGEST_BYTES};

/// The digest of a disk's content, fast on sparse disks: BLAKE3 over, for each 64 KiB block that is not
/// all zero in ascending order, its index (u64 LE) and its bytes (the last one padded with zeros), and
/// then the size of the content in bytes (u64 LE).
#[derive(Debug, Clone, Default)]
pub struct SparseDigest {
    hasher: blake3::Hasher,
}

impl SparseDigest {
    /// Takes in one block that is not all zero; indices must ascend.
    pub fn block(&mut self, index: u64, bytes: &[u8]) {
        debug_assert!(bytes.len() <= BLOCK_BYTES);
        self.hasher.update(&index.to_le_bytes());
        self.hasher.update(bytes);
        if bytes.len() < BLOCK_BYTES {
            self.hasher.update(&[0; BLOCK_BYTES][bytes.len()..]);
        }
    }

    /// Takes in consecutive blocks from a block boundary on, leaving out those that are all zero;
    /// returns the bytes of the others.
    pub fn blocks(&mut self, offset: u64, bytes: &[u8]) -> u64 {
        let mut data_bytes = 0;
        for (index, block) in (offset / BLOCK_BYTES as u64..).zip(bytes.chunks(BLOCK_BYTES)) {
            if !is_zero(block) {
                self.block(index, block);
                data_bytes += block.len() as u64;
            }
        }
        data_bytes
    }

    /// The digest of content of this size.
    pub fn finish(mut self, content_bytes: u64) -> [u8; DIGEST_BYTES] {
        self.hasher.update(&content_bytes.to_le_bytes());
        *self.hasher.finalize().as_bytes()
    }
}

/// A digest as it is shown: `blake3:` and 64 hexadecimal digits.
pub fn digest_text(digest: &[u8; DIGEST_BYTES]) -> String {
    format!("blake3:{}", blake3::Hash::from_bytes(*digest).to_hex())
}

/// True if all bytes are zero.
pub fn is_zero(bytes: &[u8]) -> bool {
    // Many words at a time: this runs over every byte of every image.
    let (words, tail) = bytes.as_chunks::<16>();
    tail.iter().all(|&byte| byte == 0)
        && words.chunks(64).all(|run| {
            run.iter()
                .fold(0, |any, word| any | u128::from_ne_bytes(*word))
                == 0
        })
}

//! The digest of a disk's content, fast on sparse disks. Pure.
//!
//! Definition: BLAKE3 over, for each block of 64 KiB that is not all zero, in ascending order, its index
//! (u64, little endian) and its 65536 bytes, the last one padded with zeros; and then the size of the
//! content in bytes (u64, little endian). How a disk is stored, and where its holes are, does not matter.

/// The digest's block.
pub const BLOCK_BYTES: usize = 64 * 1024;

/// Computes the digest, block by block.
#[derive(Debug, Clone, Default)]
pub struct SparseDigest {
    hasher: blake3::Hasher,
}

impl SparseDigest {
    /// Takes in a block that is not all zero; a short one, which can only be the last, is padded. Indices
    /// must ascend.
    pub fn update(&mut self, block_index: u64, bytes: &[u8]) {
        debug_assert!(bytes.len() <= BLOCK_BYTES);
        self.hasher.update(&block_index.to_le_bytes());
        self.hasher.update(bytes);
        self.hasher
            .update(&[0; BLOCK_BYTES][bytes.len().min(BLOCK_BYTES)..]);
    }

    /// Takes in consecutive blocks from block `first` on, and leaves out those that are all zero.
    pub fn update_run(&mut self, first: u64, bytes: &[u8]) {
        for (index, block) in (first..).zip(bytes.chunks(BLOCK_BYTES)) {
            if !is_zero(block) {
                self.update(index, block);
            }
        }
    }

    /// The digest of content of this size.
    pub fn finish(mut self, content_bytes: u64) -> [u8; 32] {
        self.hasher.update(&content_bytes.to_le_bytes());
        *self.hasher.finalize().as_bytes()
    }
}

/// True if all bytes are zero.
pub fn is_zero(bytes: &[u8]) -> bool {
    // Many words at a time, with a way out between: this runs over every byte of every image.
    let (words, tail) = bytes.as_chunks::<16>();
    tail.iter().all(|&byte| byte == 0)
        && words.chunks(64).all(|run| {
            run.iter()
                .fold(0, |any, word| any | u128::from_ne_bytes(*word))
                == 0
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, said a second time.
    fn by_definition(content: &[u8]) -> [u8; 32] {
        let mut bytes = Vec::new();
        for (i, block) in content.chunks(BLOCK_BYTES).enumerate() {
            if block.iter().any(|&byte| byte != 0) {
                bytes.extend((i as u64).to_le_bytes());
                bytes.extend(block);
                bytes.resize(bytes.len() + BLOCK_BYTES - block.len(), 0);
            }
        }
        bytes.extend((content.len() as u64).to_le_bytes());
        *blake3::hash(&bytes).as_bytes()
    }

    fn digest(content: &[u8]) -> [u8; 32] {
        let mut digest = SparseDigest::default();
        digest.update_run(0, content);
        digest.finish(content.len() as u64)
    }

    #[test]
    fn it_is_what_it_is_defined_to_be() {
        let mut content = vec![0; 5 * BLOCK_BYTES + 1000];
        assert_eq!(digest(&content), by_definition(&content));
        for at in [0, BLOCK_BYTES - 1, 3 * BLOCK_BYTES, 5 * BLOCK_BYTES + 999] {
            content[at] = 1;
            assert_eq!(digest(&content), by_definition(&content), "{at}");
        }
    }

    /// Digests are kept in stores: they must stay the same for ever.
    #[test]
    fn known_digests() {
        let mut content = vec![0; 3 * BLOCK_BYTES + 5];
        content[BLOCK_BYTES] = 0x5a;
        content[3 * BLOCK_BYTES + 4] = 0xa5;
        for (content, expected) in [(&[][..], KNOWN_EMPTY), (&content, KNOWN_SPARSE)] {
            let found = blake3::Hash::from_bytes(digest(content));
            assert_eq!(found.to_hex().as_str(), expected);
        }
    }

    const KNOWN_EMPTY: &str = "71e0a99173564931c0b8acc52d2685a8e39c64dc52e3d02390fdac2a12b155cb";
    const KNOWN_SPARSE: &str = "2ae84be28be59283109e534547a2862551e24297f6f6a0876f0fbf3278ca1681";

    #[test]
    fn position_size_and_content_all_count() {
        let mut one = vec![0; 4 * BLOCK_BYTES];
        one[BLOCK_BYTES] = 1;
        let mut moved = vec![0; 4 * BLOCK_BYTES];
        moved[2 * BLOCK_BYTES] = 1;
        let longer = [&one[..], &[0]].concat();
        let digests = [digest(&one), digest(&moved), digest(&longer), digest(&[])];
        for (i, a) in digests.iter().enumerate() {
            assert!(!digests[..i].contains(a));
        }
    }

    #[test]
    fn a_single_bit_anywhere_is_not_zero() {
        for length in [0, 1, 15, 16, 17, 1024, 1025, 5000] {
            let mut bytes = vec![0; length];
            assert!(is_zero(&bytes));
            for at in 0..length {
                bytes[at] = 0x80;
                assert!(!is_zero(&bytes), "{at} of {length}");
                bytes[at] = 0;
            }
        }
    }
}

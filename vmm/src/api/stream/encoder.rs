//! The writing end.

use super::{BLOCK_BYTES, DIGEST_BYTES, MAGIC, MAX_FRAME_BYTES, SparseDigest, is_zero};
use serde::Serialize;

/// Turns content, fed in order, into a block stream.
#[derive(Debug, Default)]
pub struct Encoder {
    digest: SparseDigest,
    /// Content before this offset has been encoded; the rest waits in `pending`.
    offset: u64,
    /// Less than a block.
    pending: Vec<u8>,
    data_bytes: u64,
}

impl Encoder {
    /// Begins a stream: the encoder, and the bytes to send first.
    pub fn new(header: &impl Serialize) -> (Self, Vec<u8>) {
        let json = serde_json::to_vec(header).unwrap_or_default();
        let mut out = MAGIC.to_vec();
        out.extend((json.len() as u32).to_le_bytes());
        out.extend(json);
        (Self::default(), out)
    }

    /// Bytes of content taken in.
    pub fn content_bytes(&self) -> u64 {
        self.offset + self.pending.len() as u64
    }

    /// Bytes of content that were not zero blocks.
    pub fn data_bytes(&self) -> u64 {
        self.data_bytes
    }

    /// Takes in the next bytes of content and appends what is to be sent to `out`.
    pub fn push(&mut self, mut content: &[u8], out: &mut Vec<u8>) {
        if !self.pending.is_empty() {
            let wanted = (BLOCK_BYTES - self.pending.len()).min(content.len());
            self.pending.extend_from_slice(&content[..wanted]);
            content = &content[wanted..];
            if self.pending.len() < BLOCK_BYTES {
                return;
            }
            let block = std::mem::take(&mut self.pending);
            self.encode(&block, out);
            self.pending = block;
            self.pending.clear();
        }
        let whole = content.len() - content.len() % BLOCK_BYTES;
        for run in content[..whole].chunks(MAX_FRAME_BYTES) {
            self.encode(run, out);
        }
        self.pending.extend_from_slice(&content[whole..]);
    }

    /// Skips `bytes` of content known to be zero, such as a hole; on a block boundary only.
    ///
    /// Returns false, having done nothing, if the encoder is not on a block boundary or `bytes` is not a
    /// whole number of blocks.
    pub fn skip(&mut self, bytes: u64) -> bool {
        let possible = self.pending.is_empty() && bytes.is_multiple_of(BLOCK_BYTES as u64);
        if possible {
            self.offset += bytes;
        }
        possible
    }

    /// Takes in `bytes` of content known to be zero, wherever they begin and end.
    pub fn hole(&mut self, mut bytes: u64, out: &mut Vec<u8>) {
        const BLOCK: u64 = BLOCK_BYTES as u64;
        let to_boundary = (BLOCK - self.pending.len() as u64) % BLOCK;
        let first = to_boundary.min(bytes);
        self.push(&vec![0; first as usize], out);
        bytes -= first;
        let whole = bytes - bytes % BLOCK;
        // On a boundary now, or there is nothing left.
        self.skip(whole);
        self.push(&vec![0; (bytes - whole) as usize], out);
    }

    /// Ends the stream: appends its last bytes and returns the digest.
    pub fn finish(mut self, out: &mut Vec<u8>) -> [u8; DIGEST_BYTES] {
        let last = std::mem::take(&mut self.pending);
        self.encode(&last, out);
        let digest = self.digest.finish(self.offset);
        out.extend(self.offset.to_le_bytes());
        out.extend(0_u32.to_le_bytes());
        out.extend(digest);
        digest
    }

    /// Encodes a run of blocks, leaving out those that are all zero.
    fn encode(&mut self, run: &[u8], out: &mut Vec<u8>) {
        let mut start = None;
        let mut flush = |start: &mut Option<usize>, end: usize| {
            if let Some(first) = start.take() {
                let bytes = &run[first * BLOCK_BYTES..run.len().min(end * BLOCK_BYTES)];
                out.extend((self.offset + (first * BLOCK_BYTES) as u64).to_le_bytes());
                out.extend((bytes.len() as u32).to_le_bytes());
                out.extend_from_slice(bytes);
            }
        };
        let mut end = 0;
        for (i, block) in run.chunks(BLOCK_BYTES).enumerate() {
            end = i + 1;
            if is_zero(block) {
                flush(&mut start, i);
            } else {
                self.digest
                    .block(self.offset / BLOCK_BYTES as u64 + i as u64, block);
                self.data_bytes += block.len() as u64;
                start.get_or_insert(i);
            }
        }
        flush(&mut start, end);
        self.offset += run.len() as u64;
    }
}

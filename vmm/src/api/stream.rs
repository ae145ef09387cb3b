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

use super::{ApiError, ImportHeader};
use serde::{Serialize, de::DeserializeOwned};
use std::marker::PhantomData;

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

/// What ends a stream that cannot be gone on with, after whole frames.
pub fn failure(error: &ApiError) -> Vec<u8> {
    let json = serde_json::to_vec(error).unwrap_or_default();
    let mut out = FAILURE.to_le_bytes().to_vec();
    out.extend((json.len() as u32).to_le_bytes());
    out.extend(json);
    out
}

/// One step of a decoded stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item<H = ImportHeader> {
    /// What the sender says before its blocks.
    Header(H),
    /// Content at an offset; what lies between two of these is zero.
    Data {
        /// Bytes from the start of the disk, a multiple of [`BLOCK_BYTES`].
        offset: u64,
        /// At most [`MAX_FRAME_BYTES`].
        bytes: Vec<u8>,
    },
    /// The end: the content's size and its digest, which has been checked.
    End {
        /// The size in bytes.
        content_bytes: u64,
        /// The digest of what arrived, equal to what was sent.
        digest: [u8; DIGEST_BYTES],
    },
}

#[derive(Debug, PartialEq, Eq)]
enum Expect {
    Magic,
    Header,
    Frame,
    Nothing,
}

/// Turns the bytes of a block stream, in pieces of any size, back into content.
#[derive(Debug)]
pub struct Decoder<H = ImportHeader> {
    buffer: Vec<u8>,
    expect: Expect,
    limit: u64,
    /// Where the next frame may begin.
    position: u64,
    /// A frame that was not a whole number of blocks has been seen: only the end may follow.
    ended_inside_block: bool,
    digest: SparseDigest,
    header: PhantomData<fn() -> H>,
}

impl<H> Default for Decoder<H> {
    fn default() -> Self {
        Self {
            buffer: Vec::new(),
            expect: Expect::Magic,
            limit: MAX_CONTENT_BYTES,
            position: 0,
            ended_inside_block: false,
            digest: SparseDigest::default(),
            header: PhantomData,
        }
    }
}

impl<H: DeserializeOwned> Decoder<H> {
    /// Refuses content beyond `bytes` from now on.
    pub fn limit(&mut self, bytes: u64) {
        self.limit = bytes.min(MAX_CONTENT_BYTES);
    }

    /// Takes in bytes as they arrive.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next item, if enough has arrived for one.
    ///
    /// # Errors
    /// When the stream breaks a rule of the format, the limit, or its own digest.
    pub fn next_item(&mut self) -> Result<Option<Item<H>>, StreamError> {
        match self.expect {
            Expect::Magic => {
                let Some(magic) = self.take(MAGIC.len()) else {
                    return Ok(None);
                };
                if magic != MAGIC {
                    return Err(StreamError::NotABlockStream);
                }
                self.expect = Expect::Header;
                self.next_item()
            }
            Expect::Header => self.header(),
            Expect::Frame => self.frame(),
            Expect::Nothing if self.buffer.is_empty() => Ok(None),
            Expect::Nothing => Err(StreamError::Trailing),
        }
    }

    /// To be called when no more bytes will come.
    ///
    /// # Errors
    /// When the end has not been seen.
    pub fn finish(&self) -> Result<(), StreamError> {
        match self.expect {
            Expect::Nothing => Ok(()),
            _ => Err(StreamError::CutOff(self.position)),
        }
    }

    fn take(&mut self, length: usize) -> Option<Vec<u8>> {
        (self.buffer.len() >= length).then(|| {
            let rest = self.buffer.split_off(length);
            std::mem::replace(&mut self.buffer, rest)
        })
    }

    fn header(&mut self) -> Result<Option<Item<H>>, StreamError> {
        let Some(length) = self.buffer.first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*length) as usize;
        if length > MAX_HEADER_BYTES {
            return Err(StreamError::BadHeader(format!("{length} bytes long")));
        }
        let Some(bytes) = self.take(4 + length) else {
            return Ok(None);
        };
        let header = serde_json::from_slice(&bytes[4..])
            .map_err(|error| StreamError::BadHeader(error.to_string()))?;
        self.expect = Expect::Frame;
        Ok(Some(Item::Header(header)))
    }

    fn frame(&mut self) -> Result<Option<Item<H>>, StreamError> {
        let Some(head) = self.buffer.first_chunk::<FRAME_HEAD_BYTES>() else {
            return Ok(None);
        };
        let [o0, o1, o2, o3, o4, o5, o6, o7, l0, l1, l2, l3] = *head;
        let offset = u64::from_le_bytes([o0, o1, o2, o3, o4, o5, o6, o7]);
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if length == 0 {
            return self.end(offset);
        }
        if offset == FAILURE && length <= MAX_FAILURE_BYTES {
            let bytes = self.take(FRAME_HEAD_BYTES + length);
            return match bytes.map(|bytes| serde_json::from_slice(&bytes[FRAME_HEAD_BYTES..])) {
                None => Ok(None),
                Some(Ok(error)) => Err(StreamError::Failed(Box::new(error))),
                Some(Err(_)) => Err(StreamError::BadFrame(offset)),
            };
        }
        let bad = length > MAX_FRAME_BYTES
            || !offset.is_multiple_of(BLOCK_BYTES as u64)
            || offset < self.position
            || self.ended_inside_block;
        if bad {
            return Err(StreamError::BadFrame(offset));
        }
        let end = offset
            .checked_add(length as u64)
            .ok_or(StreamError::BadFrame(offset))?;
        if end > self.limit {
            return Err(StreamError::TooLarge { limit: self.limit });
        }
        let Some(mut bytes) = self.take(FRAME_HEAD_BYTES + length) else {
            return Ok(None);
        };
        bytes.drain(..FRAME_HEAD_BYTES);
        self.digest.blocks(offset, &bytes);
        self.position = end;
        self.ended_inside_block = !length.is_multiple_of(BLOCK_BYTES);
        Ok(Some(Item::Data { offset, bytes }))
    }

    fn end(&mut self, content_bytes: u64) -> Result<Option<Item<H>>, StreamError> {
        if content_bytes > self.limit {
            return Err(StreamError::TooLarge { limit: self.limit });
        }
        let ends_where_its_last_block_does = if self.ended_inside_block {
            content_bytes == self.position
        } else {
            content_bytes >= self.position
        };
        if !ends_where_its_last_block_does {
            return Err(StreamError::BadFrame(content_bytes));
        }
        let Some(bytes) = self.take(FRAME_HEAD_BYTES + DIGEST_BYTES) else {
            return Ok(None);
        };
        let digest = std::mem::take(&mut self.digest).finish(content_bytes);
        if bytes[FRAME_HEAD_BYTES..] != digest {
            return Err(StreamError::WrongDigest);
        }
        self.expect = Expect::Nothing;
        Ok(Some(Item::End {
            content_bytes,
            digest,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(content: &[u8], piece: usize) -> Vec<u8> {
        let (mut encoder, mut out) = Encoder::new(&ImportHeader::default());
        for part in content.chunks(piece) {
            encoder.push(part, &mut out);
        }
        encoder.finish(&mut out);
        out
    }

    fn decode(stream: &[u8], piece: usize) -> Result<Vec<u8>, StreamError> {
        let mut decoder = Decoder::<ImportHeader>::default();
        let mut content = Vec::new();
        for part in stream.chunks(piece) {
            decoder.push(part);
            while let Some(item) = decoder.next_item()? {
                match item {
                    Item::Header(_) => {}
                    Item::Data { offset, bytes } => {
                        content.resize(offset as usize, 0);
                        content.extend(bytes);
                    }
                    Item::End { content_bytes, .. } => content.resize(content_bytes as usize, 0),
                }
            }
        }
        decoder.finish()?;
        Ok(content)
    }

    /// Data, a hole of many blocks, data, an odd end.
    fn sample() -> Vec<u8> {
        let mut content = vec![0; 40 * BLOCK_BYTES + 777];
        content[5] = 1;
        content[20 * BLOCK_BYTES - 1] = 2;
        content[20 * BLOCK_BYTES] = 3;
        content[40 * BLOCK_BYTES + 700] = 4;
        content
    }

    #[test]
    fn content_comes_back_whatever_the_pieces() {
        let content = sample();
        let reference = encode(&content, content.len());
        for piece in [
            1000,
            BLOCK_BYTES - 1,
            BLOCK_BYTES,
            BLOCK_BYTES * 3 + 1,
            content.len(),
        ] {
            let stream = encode(&content, piece);
            assert_eq!(decode(&stream, piece).unwrap(), content);
            assert_eq!(
                stream[stream.len() - 32..],
                reference[reference.len() - 32..]
            );
        }
    }

    #[test]
    fn zeros_are_not_sent() {
        let content = sample();
        let stream = encode(&content, content.len());
        assert!(
            stream.len() < 5 * BLOCK_BYTES,
            "{} bytes were sent",
            stream.len()
        );
        let empty = encode(&vec![0; 100 * BLOCK_BYTES], BLOCK_BYTES);
        assert!(
            empty.len() < 100,
            "{} bytes for nothing but zeros",
            empty.len()
        );
    }

    #[test]
    fn a_skipped_hole_is_the_same_as_zeros_read() {
        let mut content = vec![0; 8 * BLOCK_BYTES];
        content[7 * BLOCK_BYTES] = 9;
        let (mut encoder, mut out) = Encoder::new(&ImportHeader::default());
        assert!(encoder.skip(7 * BLOCK_BYTES as u64));
        encoder.push(&content[7 * BLOCK_BYTES..], &mut out);
        encoder.finish(&mut out);
        assert_eq!(out, encode(&content, 4096));
    }

    #[test]
    fn a_hole_may_begin_and_end_anywhere() {
        let mut content = vec![0; 8 * BLOCK_BYTES + 100];
        content[..1000].fill(1);
        content[5 * BLOCK_BYTES + 7..6 * BLOCK_BYTES + 9].fill(2);
        let (mut encoder, mut out) = Encoder::new(&ImportHeader::default());
        encoder.push(&content[..1000], &mut out);
        encoder.hole((5 * BLOCK_BYTES + 7 - 1000) as u64, &mut out);
        encoder.push(&content[5 * BLOCK_BYTES + 7..6 * BLOCK_BYTES + 9], &mut out);
        encoder.hole((2 * BLOCK_BYTES + 91) as u64, &mut out);
        encoder.finish(&mut out);
        assert_eq!(out, encode(&content, 4096));
    }

    #[test]
    fn a_sender_that_gives_up_says_why() {
        let error =
            ApiError::new(super::super::ErrorKind::Failed, "the disk broke").hint("see dmesg");
        let (mut encoder, mut out) = Encoder::new(&ImportHeader::default());
        encoder.push(&[7; 3 * BLOCK_BYTES], &mut out);
        out.extend(failure(&error));
        let told = StreamError::Failed(Box::new(error));
        assert_eq!(decode(&out, 4096), Err(told));
        // Cut off inside, it is no more than that.
        assert!(matches!(
            decode(&out[..out.len() - 1], 4096),
            Err(StreamError::CutOff(_))
        ));
    }

    #[test]
    fn a_cut_stream_is_never_taken_for_a_whole_one() {
        let stream = encode(&sample(), 4096);
        for length in (0..stream.len()).step_by(997).chain([stream.len() - 1]) {
            assert!(decode(&stream[..length], 4096).is_err(), "cut at {length}");
        }
    }

    #[test]
    fn a_flipped_bit_is_noticed() {
        let stream = encode(&sample(), 4096);
        for at in (0..stream.len()).step_by(1009) {
            let mut damaged = stream.clone();
            damaged[at] ^= 0x10;
            assert!(decode(&damaged, 65536).is_err(), "bit flipped at {at}");
        }
    }

    #[test]
    fn frames_out_of_order_or_beyond_the_limit_are_refused() {
        let (_, head) = Encoder::new(&ImportHeader::default());
        let frame = |offset: u64, length: u32| {
            let mut bytes = offset.to_le_bytes().to_vec();
            bytes.extend(length.to_le_bytes());
            bytes.extend(vec![7; length as usize]);
            bytes
        };
        let block = BLOCK_BYTES as u64;
        for frames in [
            vec![frame(block, 65536), frame(0, 65536)],
            vec![frame(0, 65536), frame(0, 65536)],
            vec![frame(5, 65536)],
            vec![frame(0, 100), frame(block, 65536)],
            vec![frame(0, MAX_FRAME_BYTES as u32 + 1)],
            vec![frame(u64::MAX - 65535, 65536)],
        ] {
            let stream = [head.clone(), frames.concat()].concat();
            let error = decode(&stream, 1 << 20).unwrap_err();
            assert!(!matches!(error, StreamError::CutOff(_)), "{error:?}");
        }
        let mut decoder = Decoder::<ImportHeader>::default();
        decoder.limit(block);
        decoder.push(&[head, frame(block, 65536)].concat());
        assert!(matches!(decoder.next_item(), Ok(Some(Item::Header(_)))));
        assert_eq!(
            decoder.next_item(),
            Err(StreamError::TooLarge { limit: block })
        );
    }
}

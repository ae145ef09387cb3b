//! The reading end, which trusts nothing.

use super::{
    BLOCK_BYTES, DIGEST_BYTES, FAILURE, FRAME_HEAD_BYTES, MAGIC, MAX_CONTENT_BYTES,
    MAX_FAILURE_BYTES, MAX_FRAME_BYTES, MAX_HEADER_BYTES, SparseDigest, StreamError,
};
use crate::api::ImportHeader;
use serde::de::DeserializeOwned;
use std::marker::PhantomData;

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

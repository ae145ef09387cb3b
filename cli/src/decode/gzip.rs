//! gzip (RFC 1952).

use super::{
    format::begins,
    unpack::{Fault, Step, Unpack},
};
use flate2::{Decompress, FlushDecompress, Status};

const MAGIC: &[u8] = b"\x1f\x8b";

/// Members one after the other, each with header, deflate data, CRC-32 and length (RFC 1952).
#[derive(Debug)]
pub(super) struct Gzip {
    state: State,
    inflate: Decompress,
    crc: flate2::Crc,
    /// Header or trailer bytes that have come so far.
    held: Vec<u8>,
    members: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Header,
    Data,
    Trailer,
    /// Between members, where zeros are padding.
    Between,
}

/// The longest header taken; the file's name and comment in it have no limit of their own.
const HEADER_LIMIT: usize = 128 * 1024;
/// How much of the input is looked at for a header at a time.
const HEADER_PIECE: usize = 4096;

impl Default for Gzip {
    fn default() -> Self {
        Self {
            state: State::Header,
            inflate: Decompress::new(false),
            crc: flate2::Crc::new(),
            held: Vec::new(),
            members: 0,
        }
    }
}

/// The length of a complete gzip header at the start of `bytes`, or nothing if more is needed.
fn header_length(bytes: &[u8]) -> Result<Option<usize>, Fault> {
    const FHCRC: u8 = 0x02;
    const FEXTRA: u8 = 0x04;
    const FNAME: u8 = 0x08;
    const FCOMMENT: u8 = 0x10;
    const RESERVED: u8 = 0xe0;
    let Some(fixed) = bytes.first_chunk::<10>() else {
        return Ok(None);
    };
    let [0x1f, 0x8b, method, flags, ..] = *fixed else {
        return Err(Fault::damaged("it has no gzip header"));
    };
    if method != 8 || flags & RESERVED != 0 {
        return Err(Fault::damaged("its gzip header asks for an unknown method"));
    }
    let mut at = fixed.len();
    if flags & FEXTRA != 0 {
        let Some(length) = bytes.get(at..at + 2) else {
            return Ok(None);
        };
        at += 2 + usize::from(u16::from_le_bytes([length[0], length[1]]));
    }
    for flag in [FNAME, FCOMMENT] {
        if flags & flag != 0 {
            let end = bytes
                .get(at..)
                .and_then(|rest| rest.iter().position(|&byte| byte == 0));
            let Some(end) = end else {
                return Ok(None);
            };
            at += end + 1;
        }
    }
    if flags & FHCRC != 0 {
        let (Some(header), Some(sum)) = (bytes.get(..at), bytes.get(at..at + 2)) else {
            return Ok(None);
        };
        let mut crc = flate2::Crc::new();
        crc.update(header);
        if crc.sum() as u16 != u16::from_le_bytes([sum[0], sum[1]]) {
            return Err(Fault::damaged(
                "the checksum of its gzip header does not match",
            ));
        }
        at += 2;
    }
    Ok((bytes.len() >= at).then_some(at))
}

impl Gzip {
    fn header(&mut self, input: &[u8]) -> Result<Step, Fault> {
        if self.held.is_empty() && self.members > 0 && !begins(input, MAGIC) {
            return Err(Fault::Trailing);
        }
        // A header is short; the rest of the input is not copied for each of many members.
        let input = &input[..input.len().min(HEADER_PIECE)];
        let before = self.held.len();
        self.held.extend_from_slice(input);
        let taken = match header_length(&self.held) {
            Ok(Some(length)) => {
                self.held.clear();
                self.inflate.reset(false);
                self.crc.reset();
                self.state = State::Data;
                length - before
            }
            Ok(None) if self.held.len() > HEADER_LIMIT => {
                return Err(Fault::damaged("its gzip header does not end"));
            }
            Ok(None) => input.len(),
            Err(fault) => return Err(fault),
        };
        Ok(Step {
            taken,
            made: 0,
            complete: false,
        })
    }

    fn data(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step, Fault> {
        let (in_before, out_before) = (self.inflate.total_in(), self.inflate.total_out());
        let status = self
            .inflate
            .decompress(input, output, FlushDecompress::None)
            .map_err(|error| Fault::Damaged(error.into()))?;
        let step = Step {
            taken: (self.inflate.total_in() - in_before) as usize,
            made: (self.inflate.total_out() - out_before) as usize,
            complete: false,
        };
        self.crc.update(&output[..step.made]);
        if status == Status::StreamEnd {
            self.state = State::Trailer;
        }
        Ok(step)
    }

    fn trailer(&mut self, input: &[u8]) -> Result<Step, Fault> {
        let taken = input.len().min(8 - self.held.len());
        self.held.extend_from_slice(&input[..taken]);
        let complete = match *self.held {
            [c0, c1, c2, c3, l0, l1, l2, l3] => {
                if self.crc.sum() != u32::from_le_bytes([c0, c1, c2, c3]) {
                    return Err(Fault::damaged("its checksum does not match"));
                }
                if self.crc.amount() != u32::from_le_bytes([l0, l1, l2, l3]) {
                    return Err(Fault::damaged("its length does not match"));
                }
                self.held.clear();
                self.members += 1;
                self.state = State::Between;
                true
            }
            _ => false,
        };
        Ok(Step {
            taken,
            made: 0,
            complete,
        })
    }

    /// Skips padding, as `gzip` itself does: tapes and block devices have it.
    fn between(&mut self, input: &[u8]) -> Result<Step, Fault> {
        let zeros = input.iter().take_while(|&&byte| byte == 0).count();
        if zeros == 0 && !input.is_empty() {
            self.state = State::Header;
            return self.header(input);
        }
        Ok(Step {
            taken: zeros,
            made: 0,
            complete: zeros == input.len(),
        })
    }
}

impl Unpack for Gzip {
    fn step(&mut self, input: &[u8], output: &mut [u8], _last: bool) -> Result<Step, Fault> {
        match self.state {
            State::Header => self.header(input),
            State::Data => self.data(input, output),
            State::Trailer => self.trailer(input),
            State::Between => self.between(input),
        }
    }
}

//! zstd and gzip in pieces that are compressed side by side, each of which can be unpacked by itself.
//!
//! zstd: frames, and after them a seek table in a skippable frame, as in the directory `contrib/seekable_format` of
//! zstd's source. Plain zstd unpacks frames one after the other and skips what is skippable.
//!
//! ```text
//! table  := 0x184D2A5E, u32 length of what follows, entry*, u32 number of entries, u8 0, 0x8F92EAB1
//! entry  := u32 length of a frame, u32 length of its content            (all little endian)
//! ```
//!
//! gzip: members, which every gzip unpacks one after the other.

use super::Encode;
use flate2::{Compression, write::GzEncoder};
use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Write},
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, channel, sync_channel},
    },
    thread,
};

/// The content of a frame.
const FRAME_BYTES: usize = 2 << 20;
/// The content of a frame of nothing but zeros, which is compressed once and written as often as needed.
const ZERO_FRAME_BYTES: usize = 16 << 20;
/// Each takes some 10 MiB.
const MAX_WORKERS: usize = 6;
/// Frames that are under way for each worker: one at work, one waiting.
const UNDER_WAY: usize = 2;

/// Skippable frames have magic numbers 0x184D2A50 to 0x184D2A5F (RFC 8878, 3.1.2); the seek table has this one.
const TABLE_MAGIC: u32 = 0x184D_2A5E;
/// The end of a seek table (`ZSTD_SEEKABLE_MAGICNUMBER`).
const FOOTER_MAGIC: u32 = 0x8F92_EAB1;

/// Compresses one piece of content into one frame.
type Compress = Box<dyn FnMut(&[u8]) -> io::Result<Vec<u8>> + Send>;

/// Content on its way through the workers.
pub(super) struct Frames {
    out: File,
    workers: Vec<Worker>,
    /// For frames of zeros.
    own: Compress,
    /// Frames under way, the oldest first.
    under_way: VecDeque<Frame>,
    /// Which worker is next.
    turn: usize,
    /// Content that does not fill a frame yet.
    buffer: Vec<u8>,
    zeros: Option<Arc<[u8]>>,
    /// Lengths of frames and of their content, if they are to be written.
    table: Option<Vec<(u32, u32)>>,
}

struct Worker {
    work: SyncSender<Vec<u8>>,
    done: Receiver<io::Result<Vec<u8>>>,
}

/// A frame whose turn to be written will come.
enum Frame {
    /// At this worker, with so much content.
    At(usize, u32),
    /// Made before, with so much content.
    Made(Arc<[u8]>, u32),
}

impl Frames {
    /// zstd, seekable.
    pub(super) fn zstd(out: File, level: u32) -> io::Result<Self> {
        let make = || -> io::Result<Compress> {
            let mut compressor = zstd::bulk::Compressor::new(level.cast_signed())?;
            compressor.include_checksum(true)?;
            Ok(Box::new(move |content| compressor.compress(content)))
        };
        Self::new(out, Some(Vec::new()), make)
    }

    /// gzip.
    pub(super) fn gzip(out: File, level: u32) -> io::Result<Self> {
        let make = || -> io::Result<Compress> {
            Ok(Box::new(move |content| {
                let mut member = GzEncoder::new(Vec::new(), Compression::new(level));
                member.write_all(content)?;
                member.finish()
            }))
        };
        Self::new(out, None, make)
    }

    fn new(
        out: File,
        table: Option<Vec<(u32, u32)>>,
        make: impl Fn() -> io::Result<Compress>,
    ) -> io::Result<Self> {
        let count = thread::available_parallelism().map_or(1, usize::from);
        let workers = (0..count.min(MAX_WORKERS))
            .map(|_| Worker::start(make()?))
            .collect::<io::Result<_>>()?;
        Ok(Self {
            out,
            workers,
            own: make()?,
            under_way: VecDeque::new(),
            turn: 0,
            buffer: Vec::with_capacity(FRAME_BYTES),
            zeros: None,
            table,
        })
    }

    /// Hands the buffer to the next worker.
    fn submit(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.make_room()?;
        let content = std::mem::replace(&mut self.buffer, Vec::with_capacity(FRAME_BYTES));
        let length = content.len() as u32;
        let sent = self.workers[self.turn].work.send(content);
        sent.map_err(|_| io::Error::other("a compressing thread has ended"))?;
        self.under_way.push_back(Frame::At(self.turn, length));
        self.turn = (self.turn + 1) % self.workers.len();
        Ok(())
    }

    fn zero_frame(&mut self) -> io::Result<()> {
        self.make_room()?;
        let frame = match &self.zeros {
            Some(frame) => Arc::clone(frame),
            None => {
                // Never written to, so the system gives it no memory.
                let frame: Arc<[u8]> = (self.own)(&vec![0; ZERO_FRAME_BYTES])?.into();
                self.zeros.insert(frame).clone()
            }
        };
        self.under_way
            .push_back(Frame::Made(frame, ZERO_FRAME_BYTES as u32));
        Ok(())
    }

    fn make_room(&mut self) -> io::Result<()> {
        while self.under_way.len() >= UNDER_WAY * self.workers.len() {
            self.write_oldest()?;
        }
        Ok(())
    }

    fn write_oldest(&mut self) -> io::Result<()> {
        let (frame, content) = match self.under_way.pop_front() {
            None => return Ok(()),
            Some(Frame::Made(frame, content)) => (frame, content),
            Some(Frame::At(worker, content)) => {
                let done = self.workers[worker].done.recv();
                let frame =
                    done.map_err(|_| io::Error::other("a compressing thread has ended"))??;
                (frame.into(), content)
            }
        };
        self.out.write_all(&frame)?;
        if let Some(table) = &mut self.table {
            table.push((frame.len() as u32, content));
        }
        Ok(())
    }

    fn fill_with_zeros(&mut self, bytes: u64) -> u64 {
        let filled = bytes.min((FRAME_BYTES - self.buffer.len()) as u64);
        self.buffer.resize(self.buffer.len() + filled as usize, 0);
        filled
    }
}

impl Worker {
    fn start(mut compress: Compress) -> io::Result<Self> {
        let (work, waiting) = sync_channel::<Vec<u8>>(1);
        let (finished, done) = channel();
        thread::Builder::new()
            .name("compress".into())
            .spawn(move || {
                for content in waiting {
                    if finished.send(compress(&content)).is_err() {
                        return;
                    }
                }
            })?;
        Ok(Self { work, done })
    }
}

impl Encode for Frames {
    fn data(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let fits = bytes.len().min(FRAME_BYTES - self.buffer.len());
            let (now, later) = bytes.split_at(fits);
            self.buffer.extend_from_slice(now);
            bytes = later;
            if self.buffer.len() == FRAME_BYTES {
                self.submit()?;
            }
        }
        Ok(())
    }

    fn zeros(&mut self, mut bytes: u64) -> io::Result<()> {
        if bytes >= ZERO_FRAME_BYTES as u64 {
            self.submit()?;
            while bytes >= ZERO_FRAME_BYTES as u64 {
                self.zero_frame()?;
                bytes -= ZERO_FRAME_BYTES as u64;
            }
        }
        while bytes > 0 {
            bytes -= self.fill_with_zeros(bytes);
            if self.buffer.len() == FRAME_BYTES {
                self.submit()?;
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.submit()?;
        while !self.under_way.is_empty() {
            self.write_oldest()?;
        }
        if let Some(table) = &self.table {
            self.out.write_all(&seek_table(table))?;
        }
        self.out.flush()
    }
}

fn seek_table(entries: &[(u32, u32)]) -> Vec<u8> {
    const ENTRY_BYTES: usize = 8;
    const FOOTER_BYTES: usize = 9;
    let length = entries.len() * ENTRY_BYTES + FOOTER_BYTES;
    let mut table = Vec::with_capacity(8 + length);
    table.extend(TABLE_MAGIC.to_le_bytes());
    table.extend((length as u32).to_le_bytes());
    for (frame, content) in entries {
        table.extend(frame.to_le_bytes());
        table.extend(content.to_le_bytes());
    }
    table.extend((entries.len() as u32).to_le_bytes());
    // No checksums in the table: each frame has its own.
    table.push(0);
    table.extend(FOOTER_MAGIC.to_le_bytes());
    table
}

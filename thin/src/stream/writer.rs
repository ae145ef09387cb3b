//! Writing an image into a fresh volume: whole chunks, large aligned writes, several at once.
//!
//! ```text
//! write(offset, bytes)          caller's thread: copies into the window that the bytes belong to
//!       │ a full window
//!       ▼
//!   bounded queue ──> threads: write the chunks that hold anything, give the buffer back
//! ```
//!
//! A chunk that is all zero is never written, so it takes no room in the pool; a chunk is never written in
//! parts, so the kernel never has to read or zero the rest of it. Both hold only because the volume is
//! fresh: what is not written reads as zero.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::error::{Error, Result};
use crate::kernel::block::Access;
use crate::units::Bytes;
use crate::volume::Volume;

use super::buffer::AlignedBuffer;
use super::window::{WINDOW_BYTES, Window, Written};

/// Writes under way at once.
const THREADS: usize = 4;
/// Buffers: those being written, as many ready to be, and the one being filled.
const BUFFERS: usize = 2 * THREADS + 1;

/// What the threads share.
#[derive(Debug)]
struct Shared {
    file: File,
    path: PathBuf,
    volume_size: u64,
    chunk: usize,
    /// The first error, and everything written.
    outcome: Mutex<(Option<Error>, Vec<Range<u64>>)>,
}

/// Writes content, in ascending order, into a fresh volume.
#[derive(Debug)]
pub struct BlockWriter {
    shared: Arc<Shared>,
    queue: Option<SyncSender<Window>>,
    free: Receiver<AlignedBuffer>,
    threads: Vec<JoinHandle<()>>,
    window: Option<Window>,
    /// Content before this has been handed over.
    position: u64,
}

impl BlockWriter {
    /// Begins to write a volume that holds nothing yet; `chunk` is its pool's.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be opened, or there are no threads to be had.
    pub fn new(volume: &Volume, chunk: Bytes) -> Result<Self> {
        let path = volume.path();
        let file = volume.open(Access::ReadWrite)?;
        Self::over(file, path, volume.size(), chunk)
    }

    fn over(file: File, path: PathBuf, volume_size: Bytes, chunk: Bytes) -> Result<Self> {
        let chunk = usize::try_from(chunk.0)
            .ok()
            .filter(|&chunk| chunk != 0 && WINDOW_BYTES.is_multiple_of(chunk))
            .ok_or_else(|| Error::Invalid {
                what: "a chunk size",
                value: chunk,
                rule: format!("does not divide {}", Bytes(WINDOW_BYTES as u64)),
            })?;
        let shared = Arc::new(Shared {
            file,
            path,
            volume_size: volume_size.0,
            chunk,
            outcome: Mutex::default(),
        });
        let (queue, windows) = sync_channel::<Window>(THREADS);
        let (give_back, free) = sync_channel(BUFFERS);
        for _ in 0..BUFFERS {
            // There is room for all of them.
            let _ = give_back.try_send(AlignedBuffer::new(WINDOW_BYTES));
        }
        let windows = Arc::new(Mutex::new(windows));
        let mut writer = Self {
            shared,
            queue: Some(queue),
            free,
            threads: Vec::new(),
            window: None,
            position: 0,
        };
        for _ in 0..THREADS {
            let (shared, windows) = (writer.shared.clone(), windows.clone());
            let give_back = give_back.clone();
            let thread = std::thread::Builder::new()
                .name("fvm-write".into())
                .spawn(move || shared.write_windows(&windows, &give_back))
                .map_err(Error::io("start a thread to write", &writer.shared.path))?;
            writer.threads.push(thread);
        }
        Ok(writer)
    }

    /// Takes in content at an offset. Offsets ascend; what lies between two calls is zero.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an offset before the end of the last call's content, or content beyond the
    /// volume's end. Otherwise what has failed so far; the rest is lost then.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        let invalid = |rule: String| Error::Invalid {
            what: "an offset",
            value: Bytes(offset),
            rule,
        };
        if offset < self.position {
            return Err(invalid(format!("is before {}", Bytes(self.position))));
        }
        let end = offset.checked_add(bytes.len() as u64);
        let Some(end) = end.filter(|&end| end <= self.shared.volume_size) else {
            let size = Bytes(self.shared.volume_size);
            return Err(invalid(format!("leaves no room in a volume of {size}")));
        };
        self.position = end;
        let (mut at, mut rest) = (offset, bytes);
        while !rest.is_empty() {
            let start = at - at % WINDOW_BYTES as u64;
            if self.window.as_ref().is_some_and(|w| w.offset != start) {
                self.hand_over()?;
            }
            let within = (at - start) as usize;
            let length = rest.len().min(WINDOW_BYTES - within);
            let chunk = self.shared.chunk;
            self.window(start)?.fill(within, &rest[..length], chunk);
            at += length as u64;
            rest = &rest[length..];
        }
        Ok(())
    }

    /// Waits for all writes, makes them durable and says what was written.
    ///
    /// # Errors
    /// The first error of any write.
    pub fn finish(mut self) -> Result<Written> {
        let handed_over = self.hand_over();
        self.join();
        handed_over?;
        let mut outcome = self.shared.outcome();
        if let Some(error) = outcome.0.take() {
            return Err(error);
        }
        let written = Written::of(std::mem::take(&mut outcome.1));
        drop(outcome);
        let shared = &self.shared;
        shared
            .file
            .sync_all()
            .map_err(Error::io("sync", &shared.path))?;
        Ok(written)
    }

    fn window(&mut self, offset: u64) -> Result<&mut Window> {
        let window = match self.window.take() {
            Some(window) => window,
            // Waits for a thread to give one back; fails when there are no threads any more.
            None => {
                let buffer = self.free.recv().map_err(|_| self.failed())?;
                Window::new(offset, buffer, self.shared.chunk)
            }
        };
        Ok(self.window.insert(window))
    }

    fn hand_over(&mut self) -> Result<()> {
        let Some(window) = self.window.take() else {
            return Ok(());
        };
        if self.shared.outcome().0.is_some() {
            return Err(self.failed());
        }
        let sent = self.queue.as_ref().map(|queue| queue.send(window));
        match sent {
            Some(Ok(())) => Ok(()),
            _ => Err(self.failed()),
        }
    }

    /// The first error of the threads.
    fn failed(&self) -> Error {
        let gone = || {
            let error = std::io::Error::other("the writing threads are gone");
            Error::io("write", &self.shared.path)(error)
        };
        self.shared.outcome().0.take().unwrap_or_else(gone)
    }

    fn join(&mut self) {
        self.queue = None;
        for thread in self.threads.drain(..) {
            // A thread that panicked has written less: its buffer is missing and its range is not noted.
            if thread.join().is_err() {
                let error = std::io::Error::other("a writing thread panicked");
                let error = Error::io("write", &self.shared.path)(error);
                self.shared.outcome().0.get_or_insert(error);
            }
        }
    }
}

impl Drop for BlockWriter {
    /// Waits for writes under way, so that nothing holds the volume open afterwards.
    fn drop(&mut self) {
        self.join();
    }
}

impl Shared {
    fn outcome(&self) -> std::sync::MutexGuard<'_, (Option<Error>, Vec<Range<u64>>)> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_windows(
        &self,
        windows: &Mutex<Receiver<Window>>,
        give_back: &SyncSender<AlignedBuffer>,
    ) {
        loop {
            let next = {
                let windows = windows.lock().unwrap_or_else(PoisonError::into_inner);
                windows.recv()
            };
            let Ok(window) = next else { return };
            if self.outcome().0.is_none() {
                self.write_window(&window);
            }
            // Nobody waits for it once the writer is gone.
            let _ = give_back.try_send(window.buffer);
        }
    }

    fn write_window(&self, window: &Window) {
        for run in window.runs(self.chunk) {
            let start = window.offset + run.start as u64;
            // The volume may end inside its last chunk.
            let end = (window.offset + run.end as u64).min(self.volume_size);
            let bytes = &window.buffer.bytes()[run.start..run.start + (end - start) as usize];
            match self.file.write_all_at(bytes, start) {
                Ok(()) => self.outcome().1.push(start..end),
                Err(error) => {
                    let error = Error::io("write", &self.path)(error);
                    self.outcome().0.get_or_insert(error);
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::is_zero;

    const CHUNK: Bytes = Bytes::kib(256);
    const SIZE: Bytes = Bytes(21 * (1 << 20) + 1536);

    fn writer(size: Bytes) -> (BlockWriter, File) {
        let file = tempfile::tempfile().unwrap();
        file.set_len(size.0).unwrap();
        let copy = file.try_clone().unwrap();
        let writer = BlockWriter::over(file, "test".into(), size, CHUNK).unwrap();
        (writer, copy)
    }

    fn content(file: &File) -> Vec<u8> {
        let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    #[test]
    fn content_arrives_and_zero_chunks_are_not_written() {
        let (mut writer, file) = writer(SIZE);
        let mut expected = vec![0; SIZE.0 as usize];
        // Blocks alone, across chunks and windows, many at once, an odd end.
        for (offset, length) in [
            (64 << 10, 64 << 10),
            (192 << 10, 128 << 10),
            ((4 << 20) - 65536, 131_072),
            (6 << 20, 11 << 20),
            ((21 << 20) + 512, 1000),
        ] {
            let range = offset..offset + length;
            for (i, byte) in expected[range.clone()].iter_mut().enumerate() {
                *byte = (i % 251) as u8 + 1;
            }
            writer.write(offset as u64, &expected[range]).unwrap();
        }
        let written = writer.finish().unwrap();
        assert_eq!(content(&file), expected);
        let mib = |n: u64| n << 20;
        assert_eq!(
            written.ranges,
            [
                0..512 << 10,
                mib(4) - (256 << 10)..mib(4) + (256 << 10),
                mib(6)..mib(17),
                mib(21)..SIZE.0,
            ]
        );
    }

    #[test]
    fn zeros_that_are_sent_are_not_written_either() {
        let (mut writer, _) = writer(SIZE);
        writer.write(0, &vec![0; 10 << 20]).unwrap();
        assert_eq!(writer.finish().unwrap(), Written::default());
    }

    #[test]
    fn a_buffer_used_again_holds_nothing_of_its_past() {
        let size = Bytes::mib(4 * 64);
        let (mut writer, file) = writer(size);
        // Every buffer is filled with ones, then used for a window that only gets a few bytes.
        for window in 0..32 {
            writer.write(window << 22, &vec![1; WINDOW_BYTES]).unwrap();
        }
        for window in 32..64_u64 {
            writer.write(window << 22, &[2; 512]).unwrap();
        }
        writer.finish().unwrap();
        let content = content(&file);
        for window in 32..64 {
            let chunk = &content[window << 22..][..CHUNK.0 as usize];
            assert!(chunk[..512].iter().all(|&byte| byte == 2));
            assert!(is_zero(&chunk[512..]));
        }
    }

    #[test]
    fn wrong_offsets_are_refused() {
        let (mut writer, _) = writer(SIZE);
        writer.write(65536, &[1; 65536]).unwrap();
        assert!(writer.write(65536, &[1; 512]).is_err());
        assert!(writer.write(SIZE.0 - 512, &[1; 513]).is_err());
        assert!(writer.write(u64::MAX, &[1]).is_err());
        writer.write(SIZE.0 - 512, &[1; 512]).unwrap();
        assert!(writer.finish().is_ok());
    }

    #[test]
    fn a_write_that_fails_is_reported_and_ends_the_work() {
        let path = tempfile::NamedTempFile::new().unwrap();
        let read_only = File::open(path.path()).unwrap();
        let size = Bytes::gib(1);
        let mut writer = BlockWriter::over(read_only, "test".into(), size, CHUNK).unwrap();
        let mut refused = None;
        for window in 0..256 {
            if let Err(error) = writer.write(window << 22, &vec![1; WINDOW_BYTES]) {
                refused = Some(error);
                break;
            }
        }
        let error = refused.or_else(|| writer.finish().err()).unwrap();
        assert_eq!(error.raw_os_error(), Some(libc::EBADF));
    }

    #[test]
    fn chunks_that_do_not_divide_a_window_are_refused() {
        for chunk in [0, 3 << 16, 8 << 20] {
            let file = tempfile::tempfile().unwrap();
            assert!(BlockWriter::over(file, "test".into(), SIZE, Bytes(chunk)).is_err());
        }
    }
}

//! What is seen of reading from outside: how far it has come, and what there is to say.

use super::DecodeError;
use crate::checksum::{Checksum, Summer};
use std::{
    io::{self, Read},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// How far reading has come; written by the reading thread, read by whoever shows progress.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    input: AtomicU64,
    done: AtomicBool,
    stage: Mutex<Option<Stage>>,
    notes: Mutex<Vec<String>>,
}

/// Something that is counted from zero again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stage {
    /// What is done now.
    pub(crate) what: &'static str,
    /// Bytes to come, if that is known.
    pub(crate) total: Option<u64>,
}

impl Meter {
    /// Bytes of the stage that have been read or skipped.
    pub(crate) fn input(&self) -> u64 {
        self.input.load(Ordering::Relaxed)
    }

    /// True when all of it has been handed on.
    pub(crate) fn is_done(&self) -> bool {
        self.done.load(Ordering::Relaxed)
    }

    /// The stage that has begun since this was asked before, if one has.
    pub(crate) fn take_stage(&self) -> Option<Stage> {
        self.stage
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// What the user should know, and has not been told.
    pub(crate) fn take_notes(&self) -> Vec<String> {
        std::mem::take(&mut *self.notes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts bytes.
    pub(crate) fn add_input(&self, bytes: u64) {
        self.input.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Begins a stage.
    pub(crate) fn begin(&self, what: &'static str, total: Option<u64>) {
        self.input.store(0, Ordering::Relaxed);
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner) = Some(Stage { what, total });
    }

    pub(super) fn note(&self, text: String) {
        self.notes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(text);
    }

    /// Notes that all of it has been handed on.
    pub(crate) fn finish(&self) {
        self.done.store(true, Ordering::Relaxed);
    }
}

/// Counts what is read, and sums it up if a checksum is expected.
pub(super) struct Metered<R> {
    inner: R,
    meter: Arc<Meter>,
    sum: Option<(Summer, Checksum)>,
}

impl<R> Metered<R> {
    pub(super) fn new(inner: R, meter: &Arc<Meter>, expected: Option<&Checksum>) -> Self {
        let sum = expected.map(|sum| (Summer::new(sum.algorithm()), sum.clone()));
        Self {
            inner,
            meter: Arc::clone(meter),
            sum,
        }
    }

    /// Requires that what was read, which must be all there is, has the expected checksum.
    pub(super) fn verify(self, name: &str) -> Result<(), DecodeError> {
        let Some((summer, expected)) = self.sum else {
            return Ok(());
        };
        let actual = summer.finish();
        if actual == expected {
            return Ok(());
        }
        Err(DecodeError::Checksum {
            name: name.to_owned(),
            algorithm: expected.algorithm(),
            actual,
            expected,
        })
    }
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.inner.read(buffer) {
                Ok(bytes) => {
                    self.meter.add_input(bytes as u64);
                    if let Some((summer, _)) = &mut self.sum {
                        summer.update(&buffer[..bytes]);
                    }
                    return Ok(bytes);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

//! Raw disks: files with holes, and streams without.

use super::Encode;
use std::{
    fs::File,
    io::{self, Write},
    os::unix::fs::FileExt,
};

/// Zeros that are written at a time where there can be no hole.
static ZEROS: [u8; 256 * 1024] = [0; 256 * 1024];

/// A fresh file: what is not written is a hole.
#[derive(Debug)]
pub(super) struct Sparse {
    out: File,
    position: u64,
}

impl Sparse {
    pub(super) fn new(out: File) -> Self {
        Self { out, position: 0 }
    }
}

impl Encode for Sparse {
    fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all_at(bytes, self.position)?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    fn zeros(&mut self, bytes: u64) -> io::Result<()> {
        self.position += bytes;
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.out.set_len(self.position)
    }
}

/// Content as it is, one byte after the other.
#[derive(Debug)]
pub(super) struct Plain<W> {
    out: W,
}

impl<W: Write> Plain<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out }
    }

    pub(super) fn inner(&mut self) -> &mut W {
        &mut self.out
    }
}

impl<W: Write> Encode for Plain<W> {
    fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)
    }

    fn zeros(&mut self, mut bytes: u64) -> io::Result<()> {
        while bytes > 0 {
            let piece = bytes.min(ZEROS.len() as u64);
            self.out.write_all(&ZEROS[..piece as usize])?;
            bytes -= piece;
        }
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

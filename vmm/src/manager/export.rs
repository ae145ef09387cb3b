//! Export: the disk of an image or a VM, as a block stream.
//!
//! It is read from a snapshot, so the image can be used and the VM goes on meanwhile; a running VM's disk is as a
//! power cut at that moment would leave it.

use super::{
    Manager,
    error::{Result, failed},
};
use crate::{
    api::{ExportHeader, ImageName, REPORT_VERSION, VmNumber, stream::Encoder},
    fault,
    manager::Caller,
};
use fvm_thin::{Extents, Volume, read_ranges};
use std::{fmt, ops::ControlFlow};

/// Blocks are handed on in pieces of about this size.
const PIECE_BYTES: usize = 1024 * 1024;

/// Whose disk is exported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExportSource {
    /// An image's.
    Image(ImageName),
    /// A VM's, running or not.
    Vm(VmNumber),
}

impl fmt::Display for ExportSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image(name) => write!(f, "image '{name}'"),
            Self::Vm(number) => write!(f, "VM {number}"),
        }
    }
}

impl Manager {
    /// Hands a disk's block stream on, piece by piece, to `send`, which returns false when nobody wants more. The
    /// first piece comes when all is prepared, the last one when nothing is left of the snapshot.
    ///
    /// # Errors
    /// When there is no such image or VM, it is being changed, or the pool fails. Pieces that were sent before are
    /// whole frames.
    pub fn export(
        &self,
        caller: Caller,
        source: &ExportSource,
        send: &mut dyn FnMut(Vec<u8>) -> bool,
    ) -> Result<()> {
        let host = self.host()?;
        let last = match source {
            ExportSource::Image(name) => {
                let lock = self.image_locks.lock(name.to_string());
                let row = self.image_row(name.as_str())?;
                super::base::refuse(&row)?;
                self.finish_shrink(&host, row.thin_id)?;
                let origin = self.volume_row(row.thin_id)?;
                self.with_snapshot(&host, &origin, lock, |volume, extents| {
                    stream(volume, extents, send)
                })?
            }
            ExportSource::Vm(number) => {
                let lock = self.vm_locks.lock(*number);
                let row = self.lasting_vm_row(*number)?;
                self.finish_shrink(&host, row.thin_id)?;
                let origin = self.volume_row(row.thin_id)?;
                self.with_snapshot(&host, &origin, lock, |volume, extents| {
                    stream(volume, extents, send)
                })?
            }
        };
        match last {
            Some(last) => {
                fault::point("export/sent");
                send(last);
                tracing::info!(%source, uid = caller.uid, "exported");
            }
            None => tracing::info!(%source, uid = caller.uid, "an export was broken off"),
        }
        Ok(())
    }
}

/// Sends all of a block stream but its last piece, which it returns; nothing if nobody wants more.
fn stream(
    volume: &Volume,
    extents: &Extents,
    send: &mut dyn FnMut(Vec<u8>) -> bool,
) -> Result<Option<Vec<u8>>> {
    let size_bytes = volume.size().0;
    let mapped = extents.ranges().iter();
    let header = ExportHeader {
        version: REPORT_VERSION,
        size_bytes,
        mapped_bytes: mapped
            .map(|range| range.end.min(size_bytes).saturating_sub(range.start))
            .sum(),
    };
    let (mut encoder, head) = Encoder::new(&header);
    if !send(head) {
        return Ok(None);
    }
    fault::point("export/sending");
    let mut out = Vec::new();
    let whole = read_ranges(volume, extents.ranges(), &mut |offset, bytes| {
        encoder.hole(offset - encoder.content_bytes(), &mut out);
        encoder.push(bytes, &mut out);
        if out.len() >= PIECE_BYTES && !send(std::mem::take(&mut out)) {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    })
    .map_err(|error| failed("reading the disk", &error))?;
    if !whole {
        return Ok(None);
    }
    encoder.hole(size_bytes - encoder.content_bytes(), &mut out);
    encoder.finish(&mut out);
    Ok(Some(out))
}

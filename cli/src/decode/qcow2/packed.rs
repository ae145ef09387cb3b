//! Compressed clusters: deflate without any header, or a zstd frame, each cluster by itself.

use super::header::Packing;
use flate2::{Decompress, FlushDecompress};
use std::io;
use zstd::stream::raw::{DParameter, Decoder, Operation};

/// A cluster has at most 2^21 bytes, so no sound frame has a larger window.
const ZSTD_WINDOW_LOG: u32 = 21;

/// The decoder of a file's compressed clusters.
pub(super) enum Unpacker {
    Deflate(Box<Decompress>),
    Zstd(Decoder<'static>),
}

impl Unpacker {
    pub(super) fn new(packing: Packing) -> io::Result<Self> {
        Ok(match packing {
            Packing::Deflate => Self::Deflate(Box::new(Decompress::new(false))),
            Packing::Zstd => {
                let mut decoder = Decoder::new()?;
                decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG))?;
                Self::Zstd(decoder)
            }
        })
    }

    /// Fills `cluster` with the content of `packed`, of which the end may be filling.
    pub(super) fn unpack(&mut self, packed: &[u8], cluster: &mut [u8]) -> io::Result<()> {
        let made = match self {
            Self::Deflate(inflate) => {
                inflate.reset(false);
                inflate.decompress(packed, cluster, FlushDecompress::Finish)?;
                inflate.total_out() as usize
            }
            Self::Zstd(decoder) => unpack_zstd(decoder, packed, cluster)?,
        };
        if made < cluster.len() {
            let text = "it ends before the cluster is full";
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(())
    }
}

fn unpack_zstd(
    decoder: &mut Decoder<'static>,
    packed: &[u8],
    cluster: &mut [u8],
) -> io::Result<usize> {
    decoder.reinit()?;
    let (mut taken, mut made) = (0, 0);
    while made < cluster.len() {
        let step = decoder.run_on_buffers(&packed[taken..], &mut cluster[made..])?;
        taken += step.bytes_read;
        made += step.bytes_written;
        if step.remaining == 0 || (step.bytes_read == 0 && step.bytes_written == 0) {
            break;
        }
    }
    Ok(made)
}

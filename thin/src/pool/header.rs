//! How a backing is laid out, and the header by which fvm knows its own. Pure.
//!
//! ```text
//! 0              1 MiB                                   the end less 1 MiB, or a little more
//! | fvm header   | content: the part itself              | tail, unused |
//! ```
//!
//! Blocks of guests lie in the content, and so never at the first or last sectors of the disk or loop
//! device, where the host would look for partition tables and RAID or LVM labels and find the guests'.
//! The header also keeps fvm from taking a disk that holds something, and from mixing up its own.

use uuid::Uuid;

use crate::names::Part;
use crate::units::Bytes;

/// Where the content begins.
pub(crate) const CONTENT_START: Bytes = Bytes::mib(1);
/// What is left free after it.
pub(crate) const TAIL: Bytes = Bytes::mib(1);
/// The most content: file offsets are signed.
pub(crate) const CONTENT_MAX: Bytes = Bytes((1 << 62) - (2 << 20));
/// Bytes of the header that are written and read: a whole page, for direct I/O.
pub(crate) const HEADER_BYTES: usize = 4096;

const MAGIC: &[u8; 16] = b"fvm thin backing";
const VERSION: u32 = 1;

/// How far the making of the pool has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Being made: nothing in it is worth anything yet.
    Forming,
    /// Complete.
    Ready,
}

/// What the header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) pool: Uuid,
    pub(crate) part: Part,
    pub(crate) stage: Stage,
    pub(crate) chunk: Bytes,
}

/// What lies at the beginning of a backing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing but zeros.
    Nothing,
    /// A header of fvm's.
    Fvm(Header),
    /// Something else, said in a few words.
    Other(String),
}

impl Header {
    /// Whether it marks a backing that may be this part. Metadata and spare change places after a repair, and
    /// the caller's store alone says which is which.
    pub(crate) fn serves_as(&self, part: Part) -> bool {
        let either = |part| matches!(part, Part::Metadata | Part::Spare);
        self.part == part || either(self.part) && either(part)
    }

    /// The header's bytes: magic, version, stage, part, chunk (u32, u32, 8 bytes, u64; little endian),
    /// the pool's uuid, and a digest of all that.
    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let stage: u32 = match self.stage {
            Stage::Forming => 0,
            Stage::Ready => 1,
        };
        let part = self.part.suffix().as_bytes();
        bytes[..16].copy_from_slice(MAGIC);
        bytes[16..20].copy_from_slice(&VERSION.to_le_bytes());
        bytes[20..24].copy_from_slice(&stage.to_le_bytes());
        bytes[24..24 + part.len()].copy_from_slice(part);
        bytes[32..40].copy_from_slice(&self.chunk.0.to_le_bytes());
        bytes[40..56].copy_from_slice(self.pool.as_bytes());
        let digest = blake3::hash(&bytes[..56]);
        bytes[56..88].copy_from_slice(digest.as_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        let number = |at: usize| {
            bytes
                .get(at..)
                .and_then(|rest| rest.first_chunk::<4>())
                .map(|chunk| u32::from_le_bytes(*chunk))
        };
        if number(16) != Some(VERSION) {
            return Err("an fvm header of another version".into());
        }
        let digest_is_right = bytes
            .get(56..88)
            .is_some_and(|digest| digest == blake3::hash(&bytes[..56]).as_bytes());
        if !digest_is_right {
            return Err("a damaged fvm header".into());
        }
        let suffix = bytes[24..32].split(|&byte| byte == 0).next();
        let part = [Part::Data, Part::Metadata, Part::Spare]
            .into_iter()
            .find(|part| Some(part.suffix().as_bytes()) == suffix);
        let chunk = bytes[32..40].first_chunk().copied().map(u64::from_le_bytes);
        let pool = bytes[40..56].first_chunk().copied().map(Uuid::from_bytes);
        let stage = match number(20) {
            Some(0) => Some(Stage::Forming),
            Some(1) => Some(Stage::Ready),
            _ => None,
        };
        match (part, chunk, pool, stage) {
            (Some(part), Some(chunk), Some(pool), Some(stage)) => Ok(Self {
                pool,
                part,
                stage,
                chunk: Bytes(chunk),
            }),
            _ => Err("an fvm header of an unknown kind".into()),
        }
    }
}

/// Says what the first megabyte of a backing (or as much as there is) holds.
pub(crate) fn examine(head: &[u8]) -> Found {
    if head.starts_with(MAGIC) {
        return match Header::decode(head) {
            Ok(header) => Found::Fvm(header),
            Err(what) => Found::Other(what),
        };
    }
    if head.iter().all(|&byte| byte == 0) {
        return Found::Nothing;
    }
    Found::Other(signature(head).unwrap_or("unknown data").to_owned())
}

/// The name of what is most often found on a disk: signature and offset as `blkid` knows them.
fn signature(head: &[u8]) -> Option<&'static str> {
    const KNOWN: &[(usize, &[u8], &str)] = &[
        (512, b"EFI PART", "a GPT partition table"),
        (0, b"LUKS\xba\xbe", "a LUKS volume"),
        (0, b"XFSB", "an XFS file system"),
        (0, b"QFI\xfb", "a qcow2 image"),
        (512, b"LABELONE", "an LVM physical volume"),
        (0x438, b"\x53\xef", "an ext2/3/4 file system"),
        (0x10040, b"_BHRfS_M", "a btrfs file system"),
        (4086, b"SWAPSPACE2", "swap space"),
        (4096, b"\xfc\x4e\x2b\xa9", "a RAID member"),
        (0x8001, b"CD001", "an ISO 9660 file system"),
        (54, b"FAT1", "a FAT file system"),
        (82, b"FAT32", "a FAT file system"),
        (510, b"\x55\xaa", "an MBR partition table"),
    ];
    KNOWN
        .iter()
        .find(|(at, bytes, _)| head.get(*at..).is_some_and(|rest| rest.starts_with(bytes)))
        .map(|(.., name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            pool: Uuid::from_u128(0x1234_5678),
            part: Part::Metadata,
            stage: Stage::Ready,
            chunk: Bytes::kib(256),
        }
    }

    #[test]
    fn a_header_reads_back() {
        for part in [Part::Data, Part::Metadata, Part::Spare] {
            for stage in [Stage::Forming, Stage::Ready] {
                let header = Header {
                    part,
                    stage,
                    ..header()
                };
                assert_eq!(examine(&header.encode()), Found::Fvm(header));
            }
        }
    }

    #[test]
    fn only_metadata_and_spare_change_places() {
        let serves = |is, part| {
            Header {
                part: is,
                ..header()
            }
            .serves_as(part)
        };
        for (is, part, expected) in [
            (Part::Data, Part::Data, true),
            (Part::Spare, Part::Metadata, true),
            (Part::Metadata, Part::Spare, true),
            (Part::Data, Part::Spare, false),
            (Part::Metadata, Part::Data, false),
        ] {
            assert_eq!(serves(is, part), expected, "{is:?} as {part:?}");
        }
    }

    #[test]
    fn a_damaged_or_cut_header_is_not_ours() {
        let good = header().encode();
        for at in 0..88 {
            let mut bad = good;
            bad[at] ^= 1;
            assert!(matches!(examine(&bad), Found::Other(_)), "byte {at}");
        }
        for length in 16..88 {
            assert!(matches!(examine(&good[..length]), Found::Other(_)));
        }
    }

    #[test]
    fn zeros_are_nothing_and_other_things_have_names() {
        assert_eq!(examine(&[]), Found::Nothing);
        assert_eq!(examine(&[0; 8192]), Found::Nothing);
        let with = |at: usize, bytes: &[u8]| {
            let mut head = vec![0; 128 * 1024];
            head[at..at + bytes.len()].copy_from_slice(bytes);
            examine(&head)
        };
        assert_eq!(
            with(512, b"EFI PART"),
            Found::Other("a GPT partition table".into())
        );
        assert_eq!(
            with(0x438, b"\x53\xef"),
            Found::Other("an ext2/3/4 file system".into())
        );
        assert_eq!(with(77777, b"?"), Found::Other("unknown data".into()));
    }
}

//! What a file is, told by its first bytes, never by its name.

use std::fmt;

/// Bytes at the start of a file that are enough to tell its format.
pub(super) const PROBE_BYTES: usize = 72;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Anything else: taken as the content of a disk.
    Raw,
    /// gzip, one or several members.
    Gzip,
    /// xz, one or several streams.
    Xz,
    /// zstd, one or several frames.
    Zstd,
    /// QEMU's own image format.
    Qcow2,
    /// A format that cannot be imported: its name.
    Other(&'static str),
}

impl Format {
    /// Tells the format by the first bytes, [`PROBE_BYTES`] if there are as many.
    pub(super) fn of(start: &[u8]) -> Self {
        const MAGICS: [(&[u8], Format); 14] = [
            (b"\x1f\x8b", Format::Gzip),
            (b"\xfd7zXZ\0", Format::Xz),
            (b"\x28\xb5\x2f\xfd", Format::Zstd),
            (b"QFI\xfb", Format::Qcow2),
            (b"BZh", Format::Other("a bzip2 file")),
            (b"LZIP", Format::Other("an lzip file")),
            (b"\x04\x22\x4d\x18", Format::Other("an lz4 file")),
            (b"PK\x03\x04", Format::Other("a zip archive")),
            (b"7z\xbc\xaf\x27\x1c", Format::Other("a 7z archive")),
            (b"KDMV", Format::Other("a VMDK image")),
            (b"# Disk DescriptorFile", Format::Other("a VMDK descriptor")),
            (b"vhdxfile", Format::Other("a VHDX image")),
            (b"conectix", Format::Other("a VHD image")),
            (b"FVMBLK1\n", Format::Other("a block stream")),
        ];
        let magic = MAGICS.iter().find(|(magic, _)| start.starts_with(magic));
        match magic {
            Some((_, format)) => *format,
            // A zstd file may begin with a skippable frame.
            None if is_skippable_zstd(start) => Self::Zstd,
            None if start.get(64..68) == Some(b"\x7f\x10\xda\xbe") => Self::Other("a VDI image"),
            None => Self::Raw,
        }
    }

    /// The compression that a file of this name should have, and the end of the name that says so.
    pub(super) fn promised_by(name: &str) -> Option<(&'static str, Self)> {
        [
            (".gz", Self::Gzip),
            (".xz", Self::Xz),
            (".zst", Self::Zstd),
            (".zstd", Self::Zstd),
        ]
        .into_iter()
        .find(|(extension, _)| name.ends_with(extension))
    }
}

/// True if `input`, which may end early, can be the start of something that begins with `magic`.
pub(super) fn begins(input: &[u8], magic: &[u8]) -> bool {
    let length = input.len().min(magic.len());
    input[..length] == magic[..length]
}

fn is_skippable_zstd(start: &[u8]) -> bool {
    matches!(start, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
}

impl fmt::Display for Format {
    /// With its article where it is a thing, so that it fits after "is", "holds" and "the".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Raw => "a raw image",
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
            Self::Qcow2 => "a qcow2 image",
            Self::Other(name) => name,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_by_their_first_bytes() {
        assert_eq!(Format::of(b"\x1f\x8b\x08"), Format::Gzip);
        assert_eq!(Format::of(b"\xfd7zXZ\0\0"), Format::Xz);
        assert_eq!(Format::of(b"\x28\xb5\x2f\xfd"), Format::Zstd);
        assert_eq!(Format::of(b"\x53\x2a\x4d\x18\x08"), Format::Zstd);
        assert_eq!(Format::of(b"QFI\xfb\0\0\0\x03"), Format::Qcow2);
        assert_eq!(Format::of(b"BZh9"), Format::Other("a bzip2 file"));
        let mut vdi = [0; PROBE_BYTES];
        vdi[64..68].copy_from_slice(b"\x7f\x10\xda\xbe");
        assert_eq!(Format::of(&vdi), Format::Other("a VDI image"));
    }

    #[test]
    fn all_else_is_the_content_of_a_disk() {
        for start in [
            &b""[..],
            b"\x1f",
            b"\xfd7zX",
            &[0; PROBE_BYTES],
            b"\xeb\x63\x90",
        ] {
            assert_eq!(Format::of(start), Format::Raw, "{start:?}");
        }
    }
}

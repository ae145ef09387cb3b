//! Which parts of a volume are mapped, read from the pool's metadata.
//!
//! `thin_dump` writes one element a line:
//!
//! ```text
//! <superblock …>
//!   <def name="1"> … </def>                    mappings that several volumes share, in some versions
//!   <device dev_id="7" mapped_blocks="302" …>
//!     <range_mapping origin_begin="0" data_begin="64" length="300" time="0"/>
//!     <single_mapping origin_block="400" data_block="9" time="1"/>
//!     <ref name="1"/>
//!   </device>
//! </superblock>
//! ```
//!
//! A device says itself how many blocks it has mapped; a dump that does not add up is not believed.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read};
use std::ops::Range;
use std::process::{Command, Stdio};

use crate::error::{Error, Result};
use crate::id::ThinId;
use crate::units::Bytes;

use super::MetadataSnapshot;

const THIN_DUMP: &str = "thin_dump";
/// More ranges than this are joined with their neighbours, so that a disk in pieces does not take memory without
/// end: 16 MiB.
const MAX_RANGES: usize = 1 << 20;
/// This much of what a failing `thin_dump` says is told.
const COMPLAINT_BYTES: u64 = 1024;

/// Ranges of bytes of a volume, ascending and apart, that hold all of its mapped chunks.
///
/// There may be a little more in them than that: what is not mapped reads as zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extents {
    ranges: Vec<Range<u64>>,
    /// What all ranges are multiples of.
    grain: u64,
    max_ranges: usize,
}

impl Extents {
    fn new(chunk: Bytes) -> Self {
        Self {
            ranges: Vec::new(),
            grain: chunk.0.max(1),
            max_ranges: MAX_RANGES,
        }
    }

    /// The ranges.
    pub fn ranges(&self) -> &[Range<u64>] {
        &self.ranges
    }

    /// Takes in a range that begins where the last one ended or behind it.
    fn push(&mut self, range: Range<u64>) {
        let range = range.start - range.start % self.grain..range.end.next_multiple_of(self.grain);
        match self.ranges.last_mut() {
            Some(last) if last.end >= range.start => last.end = last.end.max(range.end),
            _ => self.ranges.push(range),
        }
        while self.ranges.len() > self.max_ranges {
            self.grain *= 2;
            for range in std::mem::take(&mut self.ranges) {
                self.push(range);
            }
        }
    }
}

impl MetadataSnapshot<'_> {
    /// What of a volume is mapped.
    ///
    /// # Errors
    /// [`Error::Io`] if `thin_dump` is missing or fails, [`Error::Unreadable`] if its output is not whole or has no
    /// such volume.
    pub fn extents(&self, id: ThinId) -> Result<Extents> {
        let failed = Error::io("run", THIN_DUMP);
        let mut child = match Command::new(THIN_DUMP)
            .args(["--metadata-snap", "--dev-id", &id.to_string()])
            .arg(self.device())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
        {
            Ok(child) => child,
            Err(error) => return Err(failed(error)),
        };
        let complaint = child.stderr.take();
        let complaint = std::thread::spawn(move || {
            let mut text = String::new();
            if let Some(mut stderr) = complaint {
                // What cannot be read or kept is still taken, so that the child is not held up.
                let _ = stderr
                    .by_ref()
                    .take(COMPLAINT_BYTES)
                    .read_to_string(&mut text);
                let _ = io::copy(&mut stderr, &mut io::sink());
            }
            text
        });
        let read = match child.stdout.take() {
            Some(stdout) => read_dump(BufReader::new(stdout), id, self.pool().spec().chunk),
            None => Err(Fault::Cut),
        };
        // A dump that was given up half-way ends on its closed pipe.
        let status = child.wait().map_err(Error::io("wait for", THIN_DUMP))?;
        let complaint = complaint.join().unwrap_or_default();
        if !status.success() && !matches!(read, Err(Fault::Malformed(_))) {
            let said = match complaint.trim() {
                "" => format!("it ended with {status}"),
                said => said.to_owned(),
            };
            return Err(failed(io::Error::other(said)));
        }
        read.map_err(|fault| match fault {
            Fault::Read(error) => Error::io("read the output of", THIN_DUMP)(error),
            Fault::Cut | Fault::Malformed(_) => Error::Unreadable {
                what: "mappings",
                device: format!("volume {id}"),
                text: fault.to_string(),
            },
        })
    }
}

/// Why a dump is of no use.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("it cannot be read")]
    Read(#[source] io::Error),
    #[error("the dump has no end")]
    Cut,
    #[error("{0}")]
    Malformed(String),
}

fn malformed(line: &str) -> Fault {
    Fault::Malformed(line.chars().take(200).collect())
}

/// Reads the mappings of one volume.
fn read_dump(dump: impl BufRead, id: ThinId, chunk: Bytes) -> std::result::Result<Extents, Fault> {
    let mut shared: HashMap<String, Vec<Range<u64>>> = HashMap::new();
    // The definition, or the volume, that the lines are part of.
    let mut definition: Option<String> = None;
    let mut inside = false;
    let mut found: Option<(Extents, u64)> = None;
    let mut blocks = 0_u64;
    let mut whole = false;
    for line in dump.lines() {
        let line = line.map_err(Fault::Read)?;
        let line = line.trim();
        let number = |name| attribute(line, name).and_then(|text| text.parse::<u64>().ok());
        let mapping = match line.split([' ', '>', '/']).next() {
            Some("<def") => {
                let name = attribute(line, "name").ok_or_else(|| malformed(line))?;
                definition = Some(name.to_owned());
                None
            }
            Some("<device") => {
                inside = number("dev_id") == Some(u64::from(id));
                if inside {
                    let mapped = number("mapped_blocks").ok_or_else(|| malformed(line))?;
                    found = Some((Extents::new(chunk), mapped));
                }
                None
            }
            Some("<single_mapping") => Some((number("origin_block"), Some(1))),
            Some("<range_mapping") => Some((number("origin_begin"), number("length"))),
            Some("<ref") if inside => {
                let name = attribute(line, "name").ok_or_else(|| malformed(line))?;
                let ranges = shared.get(name).ok_or_else(|| malformed(line))?;
                if let Some((extents, _)) = &mut found {
                    for range in ranges {
                        blocks += (range.end - range.start) / chunk.0.max(1);
                        extents.push(range.clone());
                    }
                }
                None
            }
            // The beginnings of `</def>`, `</device>` and `</superblock>`.
            Some("<") => {
                match line {
                    "</def>" => definition = None,
                    "</device>" => inside = false,
                    "</superblock>" => whole = true,
                    _ => {}
                }
                None
            }
            _ => None,
        };
        let Some((begin, length)) = mapping else {
            continue;
        };
        let range = begin
            .zip(length)
            .and_then(|(begin, length)| bytes_of(begin, length, chunk))
            .ok_or_else(|| malformed(line))?;
        if let Some(name) = &definition {
            shared.entry(name.clone()).or_default().push(range);
        } else if inside && let Some((extents, _)) = &mut found {
            if extents
                .ranges
                .last()
                .is_some_and(|last| range.end <= last.start)
            {
                return Err(malformed(line));
            }
            blocks += (range.end - range.start) / chunk.0.max(1);
            extents.push(range);
        }
    }
    match found {
        _ if !whole => Err(Fault::Cut),
        None => Err(Fault::Malformed(format!("there is no volume {id} in it"))),
        Some((_, mapped)) if mapped != blocks => Err(Fault::Malformed(format!(
            "{mapped} blocks are said to be mapped, {blocks} are listed"
        ))),
        Some((extents, _)) => Ok(extents),
    }
}

fn bytes_of(begin: u64, length: u64, chunk: Bytes) -> Option<Range<u64>> {
    let start = begin.checked_mul(chunk.0)?;
    Some(start..begin.checked_add(length)?.checked_mul(chunk.0)?)
}

/// The value of an attribute, none of which has anything to be unescaped in it.
fn attribute<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = line;
    loop {
        let at = rest.find(name)?;
        let (before, after) = (&rest[..at], &rest[at + name.len()..]);
        if before.ends_with(' ')
            && let Some(value) = after.strip_prefix("=\"")
        {
            return value.split('"').next();
        }
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK: Bytes = Bytes::kib(64);

    fn id(number: u64) -> ThinId {
        ThinId::try_from(number).unwrap()
    }

    fn read(dump: &str, number: u64) -> std::result::Result<Vec<Range<u64>>, Fault> {
        let extents = read_dump(dump.as_bytes(), id(number), CHUNK)?;
        let unit = CHUNK.0;
        Ok(extents
            .ranges
            .iter()
            .map(|range| range.start / unit..range.end / unit)
            .collect())
    }

    /// As thin_dump 0.9 writes it.
    const PLAIN: &str = r#"<superblock uuid="" time="1" transaction="3" flags="0" version="2" data_block_size="128" nr_data_blocks="0">
  <device dev_id="1" mapped_blocks="304" transaction="0" creation_time="0" snap_time="1">
    <range_mapping origin_begin="0" data_begin="64" length="300" time="0"/>
    <single_mapping origin_block="300" data_block="9" time="1"/>
    <single_mapping origin_block="302" data_block="7" time="1"/>
    <range_mapping origin_begin="1000" data_begin="64" length="2" time="0"/>
  </device>
  <device dev_id="12" mapped_blocks="0" transaction="1" creation_time="1" snap_time="1">
  </device>
</superblock>
"#;

    /// As thin_dump 1.0 writes what volumes share.
    const SHARED: &str = r#"<superblock uuid="" time="1" transaction="3" version="2" data_block_size="128" nr_data_blocks="0">
  <def name="5">
    <range_mapping origin_begin="10" data_begin="0" length="5" time="0"/>
    <single_mapping origin_block="20" data_block="9" time="1"/>
  </def>
  <device dev_id="1" mapped_blocks="8" transaction="0" creation_time="0" snap_time="1">
    <single_mapping origin_block="9" data_block="9" time="1"/>
    <ref name="5"/>
    <single_mapping origin_block="30" data_block="9" time="1"/>
  </device>
  <device dev_id="2" mapped_blocks="6" transaction="0" creation_time="0" snap_time="1">
    <ref name="5"/>
  </device>
</superblock>
"#;

    #[test]
    fn neighbours_are_joined() {
        assert_eq!(read(PLAIN, 1).unwrap(), [0..301, 302..303, 1000..1002]);
        assert_eq!(read(PLAIN, 12).unwrap(), []);
    }

    #[test]
    fn what_volumes_share_counts_for_each() {
        assert_eq!(read(SHARED, 1).unwrap(), [9..15, 20..21, 30..31]);
        assert_eq!(read(SHARED, 2).unwrap(), [10..15, 20..21]);
    }

    #[test]
    fn a_dump_that_does_not_add_up_is_refused() {
        assert!(matches!(read(PLAIN, 2), Err(Fault::Malformed(_))));
        for (from, to) in [
            ("mapped_blocks=\"304\"", "mapped_blocks=\"305\""),
            ("length=\"300\"", "length=\"many\""),
            ("length=\"300\"", "length=\"18446744073709551615\""),
            ("origin_begin=\"1000\"", "origin_begin=\"100\""),
            ("</superblock>", ""),
        ] {
            let dump = PLAIN.replace(from, to);
            assert_ne!(dump, PLAIN);
            assert!(read(&dump, 1).is_err(), "{from} as {to:?} was accepted");
        }
        assert!(read(&SHARED.replace("ref name=\"5\"", "ref name=\"6\""), 1).is_err());
    }

    #[test]
    fn a_disk_in_pieces_takes_a_bounded_number_of_ranges() {
        let mut extents = Extents {
            max_ranges: 8,
            ..Extents::new(CHUNK)
        };
        let pieces: Vec<_> = (0..1000_u64).map(|n| n * 5 * CHUNK.0).collect();
        for &at in &pieces {
            extents.push(at..at + CHUNK.0);
        }
        assert!(extents.ranges().len() <= 8);
        for at in pieces {
            assert!(extents.ranges().iter().any(|range| range.contains(&at)));
        }
        assert!(extents.ranges().is_sorted_by(|a, b| a.end < b.start));
    }
}

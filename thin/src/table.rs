//! Table lines of the targets that a pool is made of, and reading them back. Pure.

use crate::id::ThinId;
use crate::kernel::DeviceNumber;
use crate::kernel::dm::TableLine;
use crate::units::Sectors;

/// `linear`: the content of a backing, without header and tail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Linear {
    pub(crate) length: Sectors,
    pub(crate) device: DeviceNumber,
    pub(crate) start: Sectors,
}

impl Linear {
    pub(crate) fn line(&self) -> TableLine {
        TableLine {
            sectors: self.length.0,
            target: "linear".into(),
            params: format!("{} {}", self.device, self.start.0),
        }
    }

    pub(crate) fn parse(line: &TableLine) -> Option<Self> {
        let params = (line.target == "linear").then_some(&line.params)?;
        let (device, start) = params.split_once(' ')?;
        Some(Self {
            length: Sectors(line.sectors),
            device: DeviceNumber::parse(device)?,
            start: Sectors(start.parse().ok()?),
        })
    }
}

/// `thin-pool`, as this crate sets it up: zeroing on, discards passed down, an error when full.
///
/// Zeroing must stay on: without it a volume's first write to a chunk shows the rest of what a deleted
/// volume left there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ThinPool {
    pub(crate) length: Sectors,
    pub(crate) metadata: DeviceNumber,
    pub(crate) data: DeviceNumber,
    pub(crate) chunk: Sectors,
    pub(crate) low_water_chunks: u64,
}

/// The only feature asked for.
const ERROR_IF_NO_SPACE: &str = "error_if_no_space";

impl ThinPool {
    pub(crate) fn line(&self) -> TableLine {
        TableLine {
            sectors: self.length.0,
            target: "thin-pool".into(),
            params: format!(
                "{} {} {} {} 1 {ERROR_IF_NO_SPACE}",
                self.metadata, self.data, self.chunk.0, self.low_water_chunks
            ),
        }
    }

    /// `None` also for a pool with other features.
    pub(crate) fn parse(line: &TableLine) -> Option<Self> {
        if line.target != "thin-pool" {
            return None;
        }
        let mut words = line.params.split_whitespace();
        let pool = Self {
            length: Sectors(line.sectors),
            metadata: DeviceNumber::parse(words.next()?)?,
            data: DeviceNumber::parse(words.next()?)?,
            chunk: Sectors(words.next()?.parse().ok()?),
            low_water_chunks: words.next()?.parse().ok()?,
        };
        words.eq(["1", ERROR_IF_NO_SPACE]).then_some(pool)
    }
}

/// `thin`: one volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Thin {
    pub(crate) length: Sectors,
    pub(crate) pool: DeviceNumber,
    pub(crate) id: ThinId,
}

impl Thin {
    pub(crate) fn line(&self) -> TableLine {
        TableLine {
            sectors: self.length.0,
            target: "thin".into(),
            params: format!("{} {}", self.pool, self.id),
        }
    }

    pub(crate) fn parse(line: &TableLine) -> Option<Self> {
        let params = (line.target == "thin").then_some(&line.params)?;
        let (pool, id) = params.split_once(' ')?;
        Some(Self {
            length: Sectors(line.sectors),
            pool: DeviceNumber::parse(pool)?,
            id: ThinId::try_from(id.parse::<u64>().ok()?).ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE: DeviceNumber = DeviceNumber { major: 7, minor: 1 };

    fn line(target: &str, params: &str) -> TableLine {
        TableLine {
            sectors: 4096,
            target: target.into(),
            params: params.into(),
        }
    }

    #[test]
    fn tables_read_back() {
        let linear = Linear {
            length: Sectors(4096),
            device: DEVICE,
            start: Sectors(2048),
        };
        assert_eq!(linear.line(), line("linear", "7:1 2048"));
        assert_eq!(Linear::parse(&linear.line()), Some(linear));
        let pool = ThinPool {
            length: Sectors(4096),
            metadata: DEVICE,
            data: DeviceNumber { major: 7, minor: 2 },
            chunk: Sectors(128),
            low_water_chunks: 16,
        };
        assert_eq!(
            pool.line(),
            line("thin-pool", "7:1 7:2 128 16 1 error_if_no_space")
        );
        assert_eq!(ThinPool::parse(&pool.line()), Some(pool));
        let thin = Thin {
            length: Sectors(4096),
            pool: DEVICE,
            id: ThinId::MAX,
        };
        assert_eq!(thin.line(), line("thin", "7:1 16777215"));
        assert_eq!(Thin::parse(&thin.line()), Some(thin));
    }

    #[test]
    fn other_peoples_tables_do_not() {
        assert_eq!(Linear::parse(&line("striped", "7:1 2048")), None);
        assert_eq!(Linear::parse(&line("linear", "7:1")), None);
        for params in [
            "7:1 7:2 128 16",
            "7:1 7:2 128 16 0",
            "7:1 7:2 128 16 2 skip_block_zeroing error_if_no_space",
            "7:1 7:2 128 16 1 skip_block_zeroing",
        ] {
            assert_eq!(ThinPool::parse(&line("thin-pool", params)), None);
        }
        assert_eq!(Thin::parse(&line("thin", "7:1 16777216")), None);
        assert_eq!(Thin::parse(&line("thin", "7:1 3 7:4")), None);
    }
}

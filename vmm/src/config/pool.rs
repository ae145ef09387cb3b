//! The table `[pool]`: when new VMs are refused, and when a pool in a file gets larger by itself.

use fvm_thin::Bytes;
use serde::Deserialize;

/// What the configuration says of the pool, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolConfig {
    /// New VMs and images are refused when data or metadata are fuller than this.
    pub watermark_percent: u8,
    /// A pool in a file is extended once it is this full.
    pub extend_at_percent: u8,
    /// By so much of its size.
    pub extend_by_percent: u16,
    /// Until it has this size; `None` if it is never extended by itself.
    pub extend_limit: Option<Bytes>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PoolTable {
    watermark_percent: u8,
    extend_at_percent: u8,
    extend_by_percent: u16,
    extend_limit_gib: u64,
}

impl Default for PoolTable {
    fn default() -> Self {
        Self {
            watermark_percent: 95,
            extend_at_percent: 80,
            extend_by_percent: 20,
            extend_limit_gib: 0,
        }
    }
}

impl PoolTable {
    /// The checked values, or the key that is wrong and why.
    pub(super) fn check(&self) -> Result<PoolConfig, (&'static str, String)> {
        for (key, percent) in [
            ("pool.watermark_percent", self.watermark_percent),
            ("pool.extend_at_percent", self.extend_at_percent),
        ] {
            if !(1..=100).contains(&percent) {
                return Err((key, format!("{percent} is not 1 to 100 percent")));
            }
        }
        if !(1..=1000).contains(&self.extend_by_percent) {
            let problem = format!("{} is not 1 to 1000 percent", self.extend_by_percent);
            return Err(("pool.extend_by_percent", problem));
        }
        // The largest is that of a file (`fvm_thin::PoolSpec::validate` has the last word).
        let limit = self.extend_limit_gib.checked_mul(1 << 30).map(Bytes);
        let Some(limit) = limit.filter(|limit| limit.0 < 1 << 62) else {
            let problem = format!(
                "{} GiB is more than any pool can have",
                self.extend_limit_gib
            );
            return Err(("pool.extend_limit_gib", problem));
        };
        Ok(PoolConfig {
            watermark_percent: self.watermark_percent,
            extend_at_percent: self.extend_at_percent,
            extend_by_percent: self.extend_by_percent,
            extend_limit: Some(limit).filter(|limit| *limit > Bytes(0)),
        })
    }
}

impl PoolConfig {
    /// The kernel tells once less than this is free of a pool of this size: the first moment at which
    /// anything is to be done or said.
    pub fn low_water(&self, size: Bytes) -> Bytes {
        let at = match self.extend_limit {
            Some(_) => self.extend_at_percent.min(self.watermark_percent),
            None => self.watermark_percent,
        };
        let free = u128::from(size.0) * u128::from(100 - at.min(100)) / 100;
        // Not more than `size`.
        Bytes(u64::try_from(free).unwrap_or(size.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_when_there_is_something_to_do() {
        let mut table = PoolTable::default();
        let never = table.check().unwrap();
        assert_eq!(never.extend_limit, None);
        assert_eq!(never.low_water(Bytes(1000)), Bytes(50));
        table.extend_limit_gib = 100;
        let limited = table.check().unwrap();
        assert_eq!(limited.extend_limit, Some(Bytes::gib(100)));
        assert_eq!(limited.low_water(Bytes(1000)), Bytes(200));
        assert_eq!(limited.low_water(Bytes(u64::MAX)), Bytes(u64::MAX / 5));
    }
}

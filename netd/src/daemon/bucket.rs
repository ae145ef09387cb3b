//! How many frames of one guest are read.

use std::time::{Duration, Instant};

/// So many frames a second and port, after a burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// Frames a second; zero means no limit.
    pub per_second: u32,
    /// Frames at once.
    pub burst: u32,
}

impl Default for RateLimit {
    /// A client at its busiest sends a few messages a second.
    fn default() -> Self {
        RateLimit {
            per_second: 100,
            burst: 200,
        }
    }
}

/// A token bucket: what is left of the burst, and when it was counted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bucket {
    limit: RateLimit,
    /// In thousandths of a frame.
    level: u64,
    counted: Instant,
}

/// An empty bucket is used again when this much has come back, so that a flood costs few wake-ups.
const REFILL: Duration = Duration::from_millis(100);

impl Bucket {
    pub(super) fn new(limit: RateLimit, now: Instant) -> Self {
        Bucket {
            limit,
            level: u64::from(limit.burst.max(1)) * 1000,
            counted: now,
        }
    }

    /// Whether one more frame may be read; if not, when to try again.
    pub(super) fn allows(&mut self, now: Instant) -> Result<(), Instant> {
        if self.limit.per_second == 0 {
            return Ok(());
        }
        let passed = now.saturating_duration_since(self.counted).as_millis();
        let back = u64::try_from(passed).unwrap_or(u64::MAX);
        let back = back.saturating_mul(u64::from(self.limit.per_second));
        let full = u64::from(self.limit.burst.max(1)) * 1000;
        if back > 0 {
            self.level = self.level.saturating_add(back).min(full);
            self.counted = now;
        }
        if self.level >= 1000 {
            return Ok(());
        }
        let one = Duration::from_millis(u64::from(1000_u32.div_ceil(self.limit.per_second)));
        Err(now + REFILL.max(one))
    }

    /// Counts a frame that was read.
    pub(super) fn spend(&mut self) {
        self.level = self.level.saturating_sub(1000);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(bucket: &mut Bucket, now: Instant) -> Result<(), Instant> {
        bucket.allows(now).inspect(|()| bucket.spend())
    }

    fn taken(bucket: &mut Bucket, now: Instant) -> usize {
        (0..1000).take_while(|_| take(bucket, now).is_ok()).count()
    }

    #[test]
    fn a_burst_then_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(
            RateLimit {
                per_second: 100,
                burst: 20,
            },
            start,
        );
        assert_eq!(taken(&mut bucket, start), 20);
        assert_eq!(taken(&mut bucket, start), 0);
        assert_eq!(taken(&mut bucket, start + Duration::from_millis(50)), 5);
        assert_eq!(
            taken(&mut bucket, start + Duration::from_secs(60)),
            20,
            "never more than a burst"
        );
    }

    #[test]
    fn time_in_small_steps_is_not_lost() {
        let start = Instant::now();
        let mut bucket = Bucket::new(
            RateLimit {
                per_second: 100,
                burst: 10,
            },
            start,
        );
        taken(&mut bucket, start);
        let steps = (1..=1000).map(|ms| start + Duration::from_millis(ms));
        assert_eq!(
            steps.filter(|now| take(&mut bucket, *now).is_ok()).count(),
            100
        );
    }

    #[test]
    fn an_empty_bucket_says_when_it_is_not() {
        let start = Instant::now();
        for per_second in [1, 3, 100, 5000] {
            let mut bucket = Bucket::new(
                RateLimit {
                    per_second,
                    burst: 2,
                },
                start,
            );
            taken(&mut bucket, start);
            let again = take(&mut bucket, start).unwrap_err();
            assert!(take(&mut bucket, again).is_ok(), "{per_second} a second");
        }
    }

    #[test]
    fn no_limit() {
        let start = Instant::now();
        let mut bucket = Bucket::new(
            RateLimit {
                per_second: 0,
                burst: 0,
            },
            start,
        );
        assert_eq!(taken(&mut bucket, start), 1000);
    }

    #[test]
    fn a_clock_that_stands_still_is_no_trouble() {
        let start = Instant::now() + Duration::from_secs(10);
        let mut bucket = Bucket::new(
            RateLimit {
                per_second: 10,
                burst: 1,
            },
            start,
        );
        assert!(take(&mut bucket, start - Duration::from_secs(5)).is_ok());
        assert!(take(&mut bucket, start - Duration::from_secs(5)).is_err());
    }
}

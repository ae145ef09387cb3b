//! Which clock lifetimes are meant by, and how far it was set.
//!
//! Lifetimes end at times of the host's clock, which somebody may set, or a time server. The kernel says when it
//! booted by the clock as it stands (`btime`): within one boot, that moves exactly when the clock is set, so it tells
//! by how much, also when the daemon did not run. Over a reboot nothing but the clock knows how long the host was
//! off, and it is believed.

use super::super::error::{Result, file};
use std::{fmt, fs, path::Path, str::FromStr};

/// A clock, as told from others by the boot and by when it says that boot was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Clock {
    boot_id: String,
    /// Seconds since 1970-01-01 UTC.
    booted_at_s: i64,
}

impl Clock {
    /// This host's, as it stands now.
    pub(super) fn now() -> Result<Self> {
        let read = |path: &str| {
            let path = Path::new(path);
            fs::read_to_string(path).map_err(|error| file("reading", path, &error))
        };
        let boot_id = read("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
        let stat = read("/proc/stat")?;
        // The kernel has had the line for as long as there is /proc/stat.
        let booted_at_s = stat
            .lines()
            .find_map(|line| line.strip_prefix("btime "))
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or_default();
        Ok(Self {
            boot_id,
            booted_at_s,
        })
    }

    /// How many seconds forward it has been set since it was `earlier`; negative for back.
    pub(super) fn set_since(&self, earlier: &Self) -> i64 {
        match self.boot_id == earlier.boot_id {
            true => self.booted_at_s.saturating_sub(earlier.booted_at_s),
            false => 0,
        }
    }
}

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.boot_id, self.booted_at_s)
    }
}

/// What was written down is no clock.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoClock;

impl FromStr for Clock {
    type Err = NoClock;

    fn from_str(text: &str) -> std::result::Result<Self, NoClock> {
        let (boot_id, booted_at_s) = text.split_once(' ').ok_or(NoClock)?;
        Ok(Self {
            boot_id: boot_id.to_owned(),
            booted_at_s: booted_at_s.parse().map_err(|_| NoClock)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_within_one_boot_is_it_known_that_a_clock_was_set() {
        let clock = |text: &str| text.parse::<Clock>().unwrap();
        let before = clock("a 1000");
        assert_eq!(before.to_string(), "a 1000");
        assert_eq!(clock("a 1000").set_since(&before), 0);
        assert_eq!(clock("a 4600").set_since(&before), 3600);
        assert_eq!(clock("a 400").set_since(&before), -600);
        assert_eq!(clock("b 4600").set_since(&before), 0);
        assert_eq!("a".parse::<Clock>(), Err(NoClock));
    }

    #[test]
    fn this_host_has_a_clock_that_stands() {
        let now = Clock::now().unwrap();
        assert!(now.booted_at_s > 0, "{now:?}");
        assert_eq!(now.to_string().parse(), Ok(now));
    }
}

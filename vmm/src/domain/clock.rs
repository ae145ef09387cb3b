//! The guest's clock and its timers.

use super::error::Result;
use super::node::{Node, words};
use super::origin::Origin;

words! {
    /// What the guest's real-time clock shows.
    pub enum ClockOffset {
        /// Universal time.
        Utc = "utc",
        /// The host's local time.
        LocalTime = "localtime",
    }
}

words! {
    /// A timer of the machine.
    pub enum TimerName {
        /// The real-time clock's periodic interrupt.
        Rtc = "rtc",
        /// The programmable interval timer.
        Pit = "pit",
        /// The high precision event timer.
        Hpet = "hpet",
        /// KVM's paravirtual clock.
        Kvmclock = "kvmclock",
        /// Hyper-V's reference clock.
        Hypervclock = "hypervclock",
        /// The time stamp counter.
        Tsc = "tsc",
    }
}

words! {
    /// What happens to ticks that the guest missed.
    pub enum TickPolicy {
        /// Delivered late, at the normal rate.
        Delay = "delay",
        /// Delivered at a higher rate until the guest has caught up.
        Catchup = "catchup",
        /// Thrown away.
        Discard = "discard",
    }
}

/// One `<timer>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timer {
    /// Where it stands in the template.
    pub origin: Origin,
    /// Which.
    pub name: TimerName,
    /// Whether the guest has it; `None` leaves it to QEMU.
    pub present: Option<bool>,
    /// What happens to missed ticks.
    pub tick_policy: Option<TickPolicy>,
    /// The frequency of the time stamp counter in Hz.
    pub frequency_hz: Option<u64>,
}

/// The `<clock>` element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clock {
    /// What the clock shows.
    pub offset: ClockOffset,
    /// The timers that the template speaks of.
    pub timers: Vec<Timer>,
}

impl Clock {
    /// The timer `name`, if the template speaks of it.
    pub fn timer(&self, name: TimerName) -> Option<&Timer> {
        self.timers.iter().find(|timer| timer.name == name)
    }
}

/// Reads `<clock>`.
pub(crate) fn read(domain: &Node<'_>) -> Result<Clock> {
    let clock = domain.child("clock", |node| {
        let offset = match node.attr("offset") {
            None => ClockOffset::Utc,
            Some(value) => value.choice(ClockOffset::WORDS)?,
        };
        let mut timers: Vec<Timer> = Vec::new();
        node.each("timer", |node| {
            let timer = timer(node)?;
            if timers.iter().any(|other| other.name == timer.name) {
                return Err(
                    node.refuse(format!("the timer {} is given twice", timer.name.as_str()))
                );
            }
            timers.push(timer);
            Ok(())
        })?;
        Ok(Clock { offset, timers })
    })?;
    Ok(clock.unwrap_or(Clock {
        offset: ClockOffset::Utc,
        timers: Vec::new(),
    }))
}

fn timer(node: &Node<'_>) -> Result<Timer> {
    let name = node.need("name")?.choice(TimerName::WORDS)?;
    let present = match name {
        TimerName::Hpet | TimerName::Kvmclock | TimerName::Hypervclock => node
            .attr("present")
            .map(|value| value.yes_no())
            .transpose()?,
        // The others cannot be taken away.
        TimerName::Rtc | TimerName::Pit | TimerName::Tsc => node
            .attr("present")
            .map(|value| value.choice(&[("yes", true)]))
            .transpose()?,
    };
    // What QEMU can do: the clock catches up or delays; the interval timer delays or discards.
    let policies: &[(&str, TickPolicy)] = match name {
        TimerName::Rtc => &[
            ("delay", TickPolicy::Delay),
            ("catchup", TickPolicy::Catchup),
        ],
        TimerName::Pit => &[
            ("delay", TickPolicy::Delay),
            ("discard", TickPolicy::Discard),
        ],
        _ => &[],
    };
    let tick_policy = match policies {
        [] => None,
        policies => node
            .attr("tickpolicy")
            .map(|value| value.choice(policies))
            .transpose()?,
    };
    let frequency_hz = match name {
        TimerName::Tsc => node
            .attr("frequency")
            .map(|value| value.number())
            .transpose()?,
        _ => None,
    };
    Ok(Timer {
        origin: node.origin(),
        name,
        present,
        tick_policy,
        frequency_hz,
    })
}

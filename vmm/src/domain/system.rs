//! Processors, what happens at power-off, reboot and crash, and power management.

use super::error::Result;
use super::node::{Node, words};
use super::tuning::{self, CpuSet};

/// How many virtual processors the guest has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vcpus {
    /// The most that can be there, for which the machine is built.
    pub max: u32,
    /// How many are there at the start.
    pub current: u32,
}

words! {
    /// What fvm does when the guest powers off, reboots or crashes.
    pub enum LifecycleAction {
        /// The VM ends.
        Destroy = "destroy",
        /// The VM starts again.
        Restart = "restart",
        /// The VM stays, paused, for someone to look at it.
        Preserve = "preserve",
    }
}

/// The actions at the three ends that a guest can come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifecycle {
    /// At power-off.
    pub on_poweroff: LifecycleAction,
    /// At reboot.
    pub on_reboot: LifecycleAction,
    /// At a crash that the guest reports.
    pub on_crash: LifecycleAction,
}

/// What the firmware offers for sleeping; `None` leaves it to QEMU.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Power {
    /// S3.
    pub suspend_to_mem: Option<bool>,
    /// S4.
    pub suspend_to_disk: Option<bool>,
}

const DEFAULT_ON_OFF: LifecycleAction = LifecycleAction::Destroy;

/// Reads the number of processors, and those of the host that they run on.
pub(crate) fn vcpus(domain: &Node<'_>) -> Result<(Vcpus, Option<CpuSet>)> {
    let vcpus = domain.child("vcpu", |node| {
        if let Some(placement) = node.attr("placement") {
            placement.choice(&[("static", ())])?;
        }
        let text = node.text();
        let max = if text.str().is_empty() {
            1
        } else {
            text.number()?
        };
        if !(1..=4096).contains(&max) {
            return Err(text.refuse("the number of processors must be from 1 to 4096"));
        }
        let current = match node.attr("current") {
            None => max,
            Some(value) => match value.number()? {
                current if (1..=max).contains(&current) => current,
                _ => return Err(value.refuse(format!("must be from 1 to {max}"))),
            },
        };
        let cpuset = node.attr("cpuset").map(|value| tuning::cpus(&value));
        Ok((Vcpus { max, current }, cpuset.transpose()?))
    })?;
    Ok(vcpus.unwrap_or((Vcpus { max: 1, current: 1 }, None)))
}

/// Reads `on_poweroff`, `on_reboot` and `on_crash`.
pub(crate) fn lifecycle(domain: &Node<'_>) -> Result<Lifecycle> {
    let action = |name: &str, default: LifecycleAction| match domain.child_text(name)? {
        None => Ok(default),
        Some(value) => value.choice(LifecycleAction::WORDS),
    };
    let lifecycle = Lifecycle {
        on_poweroff: action("on_poweroff", DEFAULT_ON_OFF)?,
        on_reboot: action("on_reboot", LifecycleAction::Restart)?,
        on_crash: action("on_crash", DEFAULT_ON_OFF)?,
    };
    if lifecycle.on_reboot == LifecycleAction::Preserve {
        return Err(domain.refuse(
            "on_reboot cannot be `preserve`: QEMU either resets the guest or shuts it down",
        ));
    }
    Ok(lifecycle)
}

/// Reads `<pm>`.
pub(crate) fn power(domain: &Node<'_>) -> Result<Power> {
    let power = domain.child("pm", |node| {
        let enabled = |name: &str| {
            let value = node.child(name, |state| state.need("enabled")?.yes_no())?;
            Ok(value)
        };
        Ok(Power {
            suspend_to_mem: enabled("suspend-to-mem")?,
            suspend_to_disk: enabled("suspend-to-disk")?,
        })
    })?;
    Ok(power.unwrap_or_default())
}

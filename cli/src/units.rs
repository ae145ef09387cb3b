//! fvm's systemd units: looked at and switched by `fvm init`, which runs as root.

use fvm_vmm::api::{Change, SOCKET_PATH};
use std::{
    io,
    path::Path,
    process::{Command, Output},
};

/// Units that must listen for `fvmd` to be reached.
const SOCKETS: [&str; 2] = ["fvmd.socket", "fvm-netd.socket"];
/// The unit that brings pool, network and VMs back at boot.
const DAEMON: &str = "fvmd.service";

/// Why a unit could not be switched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnitError {
    /// `systemctl` could not be run.
    #[error("cannot run systemctl")]
    Run(#[from] io::Error),
    /// It said no.
    #[error("`systemctl {command}` failed: {said}")]
    Failed {
        /// Its arguments.
        command: String,
        /// The last line it printed.
        said: String,
    },
}

/// How one unit stands.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Unit {
    name: &'static str,
    active: bool,
    enabled: bool,
    /// Must be active, not only enabled.
    listens: bool,
}

/// fvm's units on this host; none where they are not installed or another daemon is spoken to.
#[derive(Debug)]
pub(crate) struct Units {
    units: Vec<Unit>,
}

impl Units {
    /// Looks at the units that belong to `socket`.
    pub(crate) fn look(socket: &Path) -> Self {
        if socket != Path::new(SOCKET_PATH) {
            return Self { units: Vec::new() };
        }
        let sockets = SOCKETS.iter().filter_map(|name| unit(name, true));
        let units = sockets.chain(unit(DAEMON, false)).collect();
        Self { units }
    }

    /// True if `fvmd` cannot be reached yet.
    pub(crate) fn silent(&self) -> bool {
        self.units.iter().any(Unit::is_silent)
    }

    /// What [`Self::enable`] would change or has found in order.
    pub(crate) fn changes(&self) -> Vec<Change> {
        self.units.iter().map(Unit::change).collect()
    }

    /// Lets `fvmd` be reached, until the next boot. Returns what was started.
    pub(crate) fn start(&self) -> Result<Vec<&'static str>, UnitError> {
        let silent = self.units.iter().filter(|unit| unit.is_silent());
        let names: Vec<_> = silent.map(|unit| unit.name).collect();
        if !names.is_empty() {
            systemctl("start", &names)?;
        }
        Ok(names)
    }

    /// Takes [`Self::start`] back.
    pub(crate) fn stop(started: &[&'static str]) -> Result<(), UnitError> {
        match started {
            [] => Ok(()),
            names => systemctl("stop", names),
        }
    }

    /// Makes the units work now and at every boot.
    pub(crate) fn enable(&self) -> Result<(), UnitError> {
        let disabled = self.units.iter().filter(|unit| !unit.enabled);
        let names: Vec<_> = disabled.map(|unit| unit.name).collect();
        if !names.is_empty() {
            systemctl("enable", &names)?;
        }
        self.start().map(|_| ())
    }

    /// Keeps `fvmd` from being started at boot, where there is nothing left for it to bring back.
    pub(crate) fn disable_daemon(&self) -> Result<Option<Change>, UnitError> {
        let daemon = self.units.iter().find(|unit| unit.name == DAEMON);
        let Some(daemon) = daemon.filter(|unit| unit.enabled) else {
            return Ok(None);
        };
        systemctl("disable", &[daemon.name])?;
        Ok(Some(Change {
            what: format!("unit {}", daemon.name),
            state: "no longer started at boot".to_owned(),
            changed: true,
        }))
    }
}

impl Unit {
    fn is_silent(&self) -> bool {
        self.listens && !self.active
    }

    fn change(&self) -> Change {
        let state = if self.listens {
            "listens, also after a boot"
        } else {
            "started at boot"
        };
        Change {
            what: format!("unit {}", self.name),
            state: state.to_owned(),
            changed: !self.enabled || self.is_silent(),
        }
    }
}

/// How a unit stands; nothing if it is not installed or there is no systemd to ask.
fn unit(name: &'static str, listens: bool) -> Option<Unit> {
    let properties = "--property=LoadState,ActiveState,UnitFileState";
    let output = run("show", &[properties, name]).ok()?;
    parse(name, listens, &String::from_utf8_lossy(&output.stdout))
}

fn parse(name: &'static str, listens: bool, properties: &str) -> Option<Unit> {
    let property = |wanted: &str| {
        let mut pairs = properties.lines().filter_map(|line| line.split_once('='));
        pairs
            .find(|(key, _)| *key == wanted)
            .map(|(_, value)| value)
    };
    (property("LoadState")? == "loaded").then(|| Unit {
        name,
        active: matches!(
            property("ActiveState"),
            Some("active" | "activating" | "reloading")
        ),
        // A static or generated unit needs nobody to enable it.
        enabled: !matches!(property("UnitFileState"), Some("disabled" | "")),
        listens,
    })
}

fn systemctl(verb: &str, names: &[&str]) -> Result<(), UnitError> {
    let output = run(verb, names)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(UnitError::Failed {
        command: format!("{verb} {}", names.join(" ")),
        said: said.lines().last().unwrap_or("no reason given").to_owned(),
    })
}

fn run(verb: &str, arguments: &[&str]) -> io::Result<Output> {
    Command::new("systemctl").arg(verb).args(arguments).output()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_read_from_its_properties() {
        let text = "LoadState=loaded\nActiveState=inactive\nUnitFileState=disabled\n";
        let unit = parse("fvmd.socket", true, text).unwrap();
        assert!(unit.is_silent() && !unit.enabled && unit.change().changed);
        let text = "LoadState=loaded\nActiveState=active\nUnitFileState=enabled\n";
        let unit = parse("fvmd.socket", true, text).unwrap();
        assert!(!unit.is_silent() && unit.enabled && !unit.change().changed);
    }

    #[test]
    fn the_service_need_not_run() {
        let text = "LoadState=loaded\nActiveState=inactive\nUnitFileState=enabled\n";
        assert!(!parse(DAEMON, false, text).unwrap().change().changed);
    }

    #[test]
    fn what_is_not_installed_is_no_unit() {
        let text = "LoadState=not-found\nActiveState=inactive\nUnitFileState=\n";
        assert_eq!(parse("fvmd.socket", true, text), None);
        assert_eq!(parse("fvmd.socket", true, ""), None);
    }
}

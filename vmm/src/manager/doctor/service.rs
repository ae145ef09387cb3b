//! fvm's units, sockets and group.

use crate::{api::Finding, paths::Paths};
use nix::unistd::Group;
use std::{
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::Path,
    process::Command,
};

/// The units that are to be there; the services are started by their sockets.
const SOCKETS: [&str; 2] = ["fvmd.socket", "fvm-netd.socket"];
const SERVICES: [&str; 2] = ["fvmd.service", "fvm-netd.service"];
const GROUP: &str = "fvm";

pub(super) fn findings(paths: &Paths) -> Vec<Finding> {
    let mut findings = Vec::new();
    if Path::new("/run/systemd/system").exists() {
        findings.extend(SOCKETS.map(socket_unit));
        findings.extend(SERVICES.iter().filter_map(|unit| failed_service(unit)));
    } else {
        findings.push(Finding::warning(
            "systemd",
            "does not run here: nothing starts fvmd, and VMs have no cgroup of their own",
        ));
    }
    findings.push(socket_file(&paths.run_dir.join("fvm.sock")));
    findings
}

/// What systemd says of a unit.
#[derive(Debug, Default, PartialEq, Eq)]
struct Unit {
    load: String,
    active: String,
    file: String,
}

fn parse(text: &str) -> Unit {
    let mut unit = Unit::default();
    for line in text.lines() {
        match line.split_once('=') {
            Some(("LoadState", value)) => unit.load = value.into(),
            Some(("ActiveState", value)) => unit.active = value.into(),
            Some(("UnitFileState", value)) => unit.file = value.into(),
            _ => {}
        }
    }
    unit
}

fn ask(name: &str) -> Option<Unit> {
    let output = Command::new("systemctl")
        .args([
            "show",
            "--property=LoadState,ActiveState,UnitFileState",
            name,
        ])
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    Some(parse(&String::from_utf8_lossy(&output.stdout)))
}

fn socket_unit(name: &str) -> Finding {
    let what = format!("unit {name}");
    match ask(name) {
        None => Finding::warning(what, "systemctl did not answer"),
        Some(unit) => judge_socket(what, name, &unit),
    }
}

fn judge_socket(what: String, name: &str, unit: &Unit) -> Finding {
    match (unit.load.as_str(), unit.active.as_str(), unit.file.as_str()) {
        ("loaded", "active", "enabled") => Finding::ok(what, "active, enabled"),
        ("loaded", "active", _) => {
            Finding::warning(what, "active, but not after the next start of this host")
                .fix(format!("sudo systemctl enable {name}"))
        }
        ("loaded", state, _) => Finding::error(what, format!("is {state}"))
            .fix(format!("sudo systemctl enable --now {name}")),
        ("not-found", ..) => Finding::error(what, "is not installed")
            .fix("install the package, or `sudo make install`"),
        (load, ..) => {
            Finding::error(what, format!("is {load}")).fix(format!("systemctl status {name}"))
        }
    }
}

fn failed_service(name: &str) -> Option<Finding> {
    let unit = ask(name)?;
    (unit.active == "failed").then(|| {
        Finding::error(format!("unit {name}"), "has failed").fix(format!(
            "journalctl -u {name} -n 20; then sudo systemctl restart {name}"
        ))
    })
}

fn socket_file(path: &Path) -> Finding {
    let what = path.display().to_string();
    let start = "sudo systemctl restart fvmd.socket";
    let Ok(metadata) = fs::metadata(path) else {
        return Finding::error(what, "is not there").fix(start);
    };
    if !metadata.file_type().is_socket() {
        return Finding::error(what, "is not a socket").fix(start);
    }
    let Ok(Some(group)) = Group::from_name(GROUP) else {
        return Finding::warning(
            what,
            format!("there is no group {GROUP}: only root can use fvm"),
        )
        .fix(format!("sudo groupadd --system {GROUP} && {start}"));
    };
    let mode = metadata.mode() & 0o777;
    if metadata.gid() != group.gid.as_raw() || mode != 0o660 {
        return Finding::warning(
            what,
            format!(
                "has mode {mode:o} and group {}: it should be open to the group {GROUP}, and to nobody else",
                metadata.gid()
            ),
        )
        .fix(start);
    }
    Finding::ok(what, format!("open to the group {GROUP}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Level;

    #[test]
    fn a_unit_is_judged_by_what_systemd_says() {
        let judge = |text: &str| judge_socket("x".into(), "fvmd.socket", &parse(text));
        let good = "LoadState=loaded\nActiveState=active\nUnitFileState=enabled\n";
        assert_eq!(judge(good).level, Level::Ok);
        let once = judge("LoadState=loaded\nActiveState=active\nUnitFileState=disabled\n");
        assert_eq!(
            once.fix.as_deref(),
            Some("sudo systemctl enable fvmd.socket")
        );
        let off = judge("LoadState=loaded\nActiveState=inactive\nUnitFileState=enabled\n");
        assert_eq!(
            (off.level, off.state.as_str()),
            (Level::Error, "is inactive")
        );
        assert_eq!(judge("LoadState=not-found\n").state, "is not installed");
        assert_eq!(judge("LoadState=masked\n").state, "is masked");
    }

    #[test]
    fn a_file_in_the_sockets_place_is_not_taken_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fvm.sock");
        assert_eq!(socket_file(&path).state, "is not there");
        fs::write(&path, "").unwrap();
        assert_eq!(socket_file(&path).state, "is not a socket");
    }
}

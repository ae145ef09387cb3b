//! What the kernel must have: modules, device nodes, cgroups.

use crate::api::Finding;
use std::{fs, path::Path};

/// What mends a kernel that lacks something.
const FULL_KERNEL: &str = "boot a distribution's full kernel: those made for clouds and containers often leave modules out";

/// How a module stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Module {
    /// In the kernel, loaded or built in.
    There,
    /// A file that is not loaded.
    Loadable,
    /// Nowhere.
    Missing,
    /// There is no list of this kernel's modules to tell by.
    Unknown,
}

/// What fvm needs of the kernel.
struct Need {
    module: &'static str,
    /// A file that is there once it works, where there is one.
    sign: Option<&'static str>,
    purpose: &'static str,
    /// The kernel loads it by itself when it is used first.
    by_itself: bool,
}

const NEEDS: [Need; 6] = [
    Need {
        module: "dm_mod",
        sign: Some("dev/mapper/control"),
        purpose: "device-mapper, for disks",
        by_itself: false,
    },
    Need {
        module: "dm_thin_pool",
        sign: None,
        purpose: "thin pools, for snapshots of images",
        by_itself: true,
    },
    Need {
        module: "loop",
        sign: Some("dev/loop-control"),
        purpose: "a pool in a file",
        by_itself: false,
    },
    Need {
        module: "tun",
        sign: Some("dev/net/tun"),
        purpose: "network cards of VMs",
        by_itself: false,
    },
    Need {
        module: "bridge",
        sign: None,
        purpose: "the network fvm0",
        by_itself: true,
    },
    Need {
        module: "nf_tables",
        sign: None,
        purpose: "firewall rules",
        by_itself: true,
    },
];

pub(super) fn findings(root: &Path) -> Vec<Finding> {
    let release = fs::read_to_string(root.join("proc/sys/kernel/osrelease")).unwrap_or_default();
    let release = release.trim();
    let mut findings: Vec<Finding> = NEEDS
        .iter()
        .map(|need| finding(root, release, need))
        .collect();
    findings.push(cgroups(root));
    findings
}

fn finding(root: &Path, release: &str, need: &Need) -> Finding {
    let Need {
        module, purpose, ..
    } = *need;
    let what = format!("module {module}");
    let works = need.sign.is_some_and(|sign| root.join(sign).exists());
    match module_state(root, release, module) {
        _ if works => Finding::ok(what, purpose),
        Module::There if need.sign.is_none() => Finding::ok(what, purpose),
        Module::There => Finding::error(
            what,
            format!(
                "is in the kernel, but there is no /{} ({purpose})",
                need.sign.unwrap_or_default()
            ),
        )
        .fix("sudo systemctl restart systemd-tmpfiles-setup-dev systemd-udevd"),
        Module::Loadable if need.by_itself => {
            Finding::ok(what, format!("{purpose}; loaded when it is needed first"))
        }
        Module::Loadable => Finding::error(what, format!("is not loaded ({purpose})"))
            .fix(format!("sudo modprobe {module}")),
        Module::Missing => {
            Finding::error(what, format!("kernel {release} has none ({purpose})")).fix(FULL_KERNEL)
        }
        Module::Unknown => Finding::warning(
            what,
            format!(
                "there is no /lib/modules/{release} to tell whether the kernel has it ({purpose})"
            ),
        )
        .fix("if the kernel was upgraded since this host was started, reboot"),
    }
}

fn module_state(root: &Path, release: &str, name: &str) -> Module {
    if root.join("sys/module").join(name).exists() {
        return Module::There;
    }
    let dir = root.join("lib/modules").join(release);
    let list = |file: &str| fs::read_to_string(dir.join(file)).ok();
    let (built_in, loadable) = (list("modules.builtin"), list("modules.dep"));
    if built_in.as_deref().is_some_and(|list| names(list, name)) {
        Module::There
    } else if loadable.as_deref().is_some_and(|list| names(list, name)) {
        Module::Loadable
    } else if built_in.is_none() && loadable.is_none() {
        Module::Unknown
    } else {
        Module::Missing
    }
}

/// True if a list of module files, `kernel/drivers/md/dm-mod.ko.xz: …`, has the module of this name.
fn names(list: &str, name: &str) -> bool {
    list.lines().any(|line| {
        let path = line.split(':').next().unwrap_or_default();
        let file = path.rsplit('/').next().unwrap_or_default();
        let stem = file.split(".ko").next().unwrap_or_default();
        file.contains(".ko") && stem.replace('-', "_") == name
    })
}

fn cgroups(root: &Path) -> Finding {
    const WHAT: &str = "cgroup v2";
    match fs::read_to_string(root.join("sys/fs/cgroup/cgroup.controllers")) {
        Ok(text) if text.split_whitespace().any(|name| name == "memory") => {
            Finding::ok(WHAT, "VMs' memory can be limited")
        }
        Ok(_) => Finding::warning(WHAT, "has no memory controller: VMs' memory is not limited")
            .fix("boot without cgroup_disable=memory"),
        Err(_) => Finding::error(WHAT, "is not mounted on /sys/fs/cgroup")
            .fix("boot without systemd.unified_cgroup_hierarchy=0"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Level;

    /// A tree with these files.
    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    const RELEASE: (&str, &str) = ("proc/sys/kernel/osrelease", "6.1.0-9-amd64\n");

    #[test]
    fn a_module_is_found_wherever_the_kernel_keeps_it() {
        let root = tree(&[
            RELEASE,
            ("sys/module/tun/refcnt", "0"),
            (
                "lib/modules/6.1/modules.builtin",
                "kernel/drivers/block/loop.ko\n",
            ),
            (
                "lib/modules/6.1/modules.dep",
                "kernel/drivers/md/dm-thin-pool.ko.xz: kernel/drivers/md/dm-mod.ko.xz\n",
            ),
        ]);
        let state = |name| module_state(root.path(), "6.1", name);
        assert_eq!(state("tun"), Module::There);
        assert_eq!(state("loop"), Module::There);
        assert_eq!(state("dm_thin_pool"), Module::Loadable);
        // Named as what another needs, not by a line of its own.
        assert_eq!(state("dm_mod"), Module::Missing);
        assert_eq!(module_state(root.path(), "5.0", "loop"), Module::Unknown);
    }

    #[test]
    fn what_is_not_loaded_is_mended_by_modprobe_and_what_is_not_there_by_another_kernel() {
        let root = tree(&[
            RELEASE,
            (
                "lib/modules/6.1.0-9-amd64/modules.dep",
                "kernel/drivers/net/tun.ko:\nkernel/net/bridge/bridge.ko:\n",
            ),
            ("dev/loop-control", ""),
        ]);
        let findings = findings(root.path());
        let of = |what: &str| findings.iter().find(|f| f.what == what).unwrap();
        assert_eq!(of("module tun").fix.as_deref(), Some("sudo modprobe tun"));
        assert_eq!(of("module tun").level, Level::Error);
        assert_eq!(of("module loop").level, Level::Ok);
        // Making the bridge loads it.
        assert_eq!(of("module bridge").level, Level::Ok);
        assert_eq!(of("module nf_tables").level, Level::Error);
        assert_eq!(of("module nf_tables").fix.as_deref(), Some(FULL_KERNEL));
        assert_eq!(of("cgroup v2").level, Level::Error);
    }
}

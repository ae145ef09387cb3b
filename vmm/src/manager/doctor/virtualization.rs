//! What runs VMs: the processor, KVM, QEMU, and what makes them faster.

use super::{Looking, from_error, kvm_words};
use crate::{
    api::Finding,
    domain::Arch,
    kvm::{self, KvmHealth},
    qemu::probe::OLDEST,
};
use std::{fs, path::Path};

/// Programs that fvm runs, and Debian's packages of them.
const PROGRAMS: [(&str, &str, &str); 4] = [
    ("nft", "nftables", "firewall rules"),
    ("thin_check", "thin-provisioning-tools", "checking the pool"),
    ("modprobe", "kmod", "loading modules"),
    ("ssh", "openssh-client", "`fvm ssh`"),
];

pub(super) fn findings(looking: &Looking<'_>) -> Vec<Finding> {
    let mut findings = vec![kvm(looking)];
    findings.extend(nested(looking.kvm.health()));
    findings.push(iommu(looking.root));
    findings.extend(huge_pages(looking.root));
    findings.push(qemu(looking));
    findings.extend(
        PROGRAMS
            .iter()
            .filter_map(|program| missing(looking.root, program)),
    );
    findings
}

/// The module of the processor's kind of virtualisation, if it has one.
fn kvm_module(root: &Path) -> Option<&'static str> {
    let text = fs::read_to_string(root.join("proc/cpuinfo")).ok()?;
    let flags = text.lines().find(|line| line.starts_with("flags"))?;
    let has = |wanted| flags.split_whitespace().any(|flag| flag == wanted);
    if has("vmx") {
        Some("kvm_intel")
    } else if has("svm") {
        Some("kvm_amd")
    } else {
        None
    }
}

fn kvm(looking: &Looking<'_>) -> Finding {
    let health = looking.kvm.health();
    let words = kvm_words(&health);
    let slow = |reason| Finding::warning("KVM", format!("{reason}; VMs are emulated, slowly"));
    match (health, kvm_module(looking.root)) {
        (KvmHealth::Works, _) => Finding::ok("KVM", words),
        (_, None) => slow(format!("{words}: this processor shows no virtualisation")).fix(
            "turn on VT-x or AMD-V in the firmware; in a virtual machine, have nested virtualisation turned on outside",
        ),
        (KvmHealth::Missing, Some(module)) => slow(words).fix(format!("sudo modprobe {module}")),
        (KvmHealth::Fails(reason), Some(_)) if reason.contains("ermission denied") => {
            Finding::warning("KVM", "not tested: you may not open /dev/kvm").fix("sudo fvm doctor")
        }
        (KvmHealth::Fails(_), Some(_)) => slow(words).fix("see `dmesg | grep -i kvm`"),
    }
}

fn nested(health: KvmHealth) -> Option<Finding> {
    let nested = matches!(health, KvmHealth::Works).then(|| kvm::probe().ok()?.nested)??;
    Some(Finding::ok(
        "nested KVM",
        if nested {
            "guests may use KVM themselves"
        } else {
            "off: guests cannot use KVM themselves"
        },
    ))
}

fn iommu(root: &Path) -> Finding {
    let count = fs::read_dir(root.join("sys/class/iommu")).map_or(0, Iterator::count);
    Finding::ok(
        "IOMMU",
        match count {
            0 => "none; only passing devices through to VMs needs one".to_owned(),
            _ => format!("{count} in use"),
        },
    )
}

fn huge_pages(root: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    let path = root.join("sys/kernel/mm/transparent_hugepage/enabled");
    if let Ok(text) = fs::read_to_string(path) {
        const WHAT: &str = "transparent huge pages";
        let chosen = text
            .split_whitespace()
            .find_map(|word| word.strip_prefix('[')?.strip_suffix(']'))
            .unwrap_or("unknown");
        findings.push(match chosen {
            "never" => Finding::warning(WHAT, "never: VMs' memory is slower than it could be")
                .fix("echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled"),
            chosen => Finding::ok(WHAT, chosen),
        });
    }
    let meminfo = fs::read_to_string(root.join("proc/meminfo")).unwrap_or_default();
    let value = |name: &str| -> Option<u64> {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    if let (Some(total), Some(free), Some(kib)) = (
        value("HugePages_Total:"),
        value("HugePages_Free:"),
        value("Hugepagesize:"),
    ) {
        findings.push(Finding::ok(
            "huge pages",
            match total {
                0 => "none reserved; only templates that ask for them need some".to_owned(),
                _ => format!("{free} of {total} of {kib} KiB free"),
            },
        ));
    }
    findings
}

fn qemu(looking: &Looking<'_>) -> Finding {
    match looking.qemu.capabilities(Arch::X86_64) {
        Ok(found) if found.version < OLDEST => Finding::error(
            "QEMU",
            format!(
                "{} is older than {OLDEST}, the oldest that fvm knows",
                found.version
            ),
        )
        .fix("sudo apt install qemu-system-x86"),
        Ok(found) => Finding::ok(
            "QEMU",
            format!(
                "{}, {} machine types, {}",
                found.version,
                found.machines.len(),
                found.binary.display()
            ),
        ),
        Err(error) => from_error("QEMU", &error),
    }
}

fn missing(root: &Path, (program, package, purpose): &(&str, &str, &str)) -> Option<Finding> {
    let found = ["usr/sbin", "usr/bin", "sbin", "bin", "usr/local/bin"]
        .iter()
        .any(|dir| root.join(dir).join(program).is_file());
    (!found).then(|| {
        Finding::error(
            format!("program {program}"),
            format!("is not installed ({purpose})"),
        )
        .fix(format!("sudo apt install {package}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Level;

    #[test]
    fn the_processor_says_which_module_it_needs() {
        let root = tempfile::tempdir().unwrap();
        let say = |flags: &str| {
            fs::create_dir_all(root.path().join("proc")).unwrap();
            fs::write(root.path().join("proc/cpuinfo"), flags).unwrap();
            kvm_module(root.path())
        };
        assert_eq!(say("flags\t\t: fpu vmx sse\n"), Some("kvm_intel"));
        assert_eq!(say("flags\t\t: fpu svm sse\n"), Some("kvm_amd"));
        assert_eq!(say("flags\t\t: fpu svm_lock\n"), None);
    }

    #[test]
    fn huge_pages_that_are_off_are_told() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("sys/kernel/mm/transparent_hugepage");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("enabled"), "always madvise [never]\n").unwrap();
        let found = huge_pages(root.path());
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].level, Level::Warning);
        fs::write(dir.join("enabled"), "[always] madvise never\n").unwrap();
        assert_eq!(huge_pages(root.path())[0].state, "always");
    }

    #[test]
    fn a_program_that_is_not_there_names_its_package() {
        let root = tempfile::tempdir().unwrap();
        let found = missing(root.path(), &PROGRAMS[0]).unwrap();
        assert_eq!(found.fix.as_deref(), Some("sudo apt install nftables"));
        fs::create_dir_all(root.path().join("usr/sbin")).unwrap();
        fs::write(root.path().join("usr/sbin/nft"), "").unwrap();
        assert_eq!(missing(root.path(), &PROGRAMS[0]), None);
    }
}

//! Where the UEFI firmware of a distribution is.
//!
//! A template may name its files or leave them to fvm. Root copies the variables template for each
//! VM, so a path that a user wrote is used only below the directories where distributions put
//! firmware.

use crate::domain::{Arch, Firmware, Os};
use std::path::{Component, Path, PathBuf};
use thiserror::Error;

/// The directories of distributions' firmware.
const DIRECTORIES: [&str; 8] = [
    "/usr/share/OVMF",
    "/usr/share/AAVMF",
    "/usr/share/qemu-efi-aarch64",
    "/usr/share/edk2",
    "/usr/share/edk2-ovmf",
    "/usr/share/qemu",
    "/usr/share/ovmf",
    "/usr/share/fvm/firmware",
];

/// Code and variables that belong together: without secure boot, in the order of preference.
const PLAIN: [(&str, &str); 6] = [
    (
        "/usr/share/OVMF/OVMF_CODE_4M.fd",
        "/usr/share/OVMF/OVMF_VARS_4M.fd",
    ),
    (
        "/usr/share/OVMF/OVMF_CODE.fd",
        "/usr/share/OVMF/OVMF_VARS.fd",
    ),
    (
        "/usr/share/edk2/ovmf/OVMF_CODE.fd",
        "/usr/share/edk2/ovmf/OVMF_VARS.fd",
    ),
    (
        "/usr/share/edk2/x64/OVMF_CODE.4m.fd",
        "/usr/share/edk2/x64/OVMF_VARS.4m.fd",
    ),
    (
        "/usr/share/edk2-ovmf/x64/OVMF_CODE.fd",
        "/usr/share/edk2-ovmf/x64/OVMF_VARS.fd",
    ),
    (
        "/usr/share/qemu/ovmf-x86_64-code.bin",
        "/usr/share/qemu/ovmf-x86_64-vars.bin",
    ),
];

/// The same with secure boot enforced and Microsoft's keys enrolled.
const SECURE: [(&str, &str); 5] = [
    (
        "/usr/share/OVMF/OVMF_CODE_4M.ms.fd",
        "/usr/share/OVMF/OVMF_VARS_4M.ms.fd",
    ),
    (
        "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd",
        "/usr/share/OVMF/OVMF_VARS_4M.ms.fd",
    ),
    (
        "/usr/share/edk2/ovmf/OVMF_CODE.secboot.fd",
        "/usr/share/edk2/ovmf/OVMF_VARS.secboot.fd",
    ),
    (
        "/usr/share/edk2/x64/OVMF_CODE.secboot.4m.fd",
        "/usr/share/edk2/x64/OVMF_VARS.4m.fd",
    ),
    (
        "/usr/share/qemu/ovmf-x86_64-smm-ms-code.bin",
        "/usr/share/qemu/ovmf-x86_64-smm-ms-vars.bin",
    ),
];

/// Code and variables for ARM, without secure boot.
const ARM: [(&str, &str); 4] = [
    (
        "/usr/share/AAVMF/AAVMF_CODE.no-secboot.fd",
        "/usr/share/AAVMF/AAVMF_VARS.fd",
    ),
    (
        "/usr/share/AAVMF/AAVMF_CODE.fd",
        "/usr/share/AAVMF/AAVMF_VARS.fd",
    ),
    (
        "/usr/share/edk2/aarch64/QEMU_EFI-silent-pflash.raw",
        "/usr/share/edk2/aarch64/vars-template-pflash.raw",
    ),
    (
        "/usr/share/qemu/aavmf-aarch64-code.bin",
        "/usr/share/qemu/aavmf-aarch64-vars.bin",
    ),
];

/// The same with secure boot enforced and Microsoft's keys enrolled.
const ARM_SECURE: [(&str, &str); 2] = [
    (
        "/usr/share/AAVMF/AAVMF_CODE.ms.fd",
        "/usr/share/AAVMF/AAVMF_VARS.ms.fd",
    ),
    (
        "/usr/share/AAVMF/AAVMF_CODE.secboot.fd",
        "/usr/share/AAVMF/AAVMF_VARS.ms.fd",
    ),
];

/// The pairs for an architecture.
fn pairs(arch: Arch, secure: bool) -> &'static [(&'static str, &'static str)] {
    match (arch, secure) {
        (Arch::X86_64, false) => &PLAIN,
        (Arch::X86_64, true) => &SECURE,
        (Arch::Aarch64, false) => &ARM,
        (Arch::Aarch64, true) => &ARM_SECURE,
        // Its machine starts by a firmware of its own.
        (Arch::Ppc64le, _) => &[],
    }
}

/// The files that a UEFI machine is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirmwareFiles {
    /// The code, which all machines share.
    pub code: PathBuf,
    /// The variables as they are before the first boot; every VM gets a copy.
    pub vars_template: PathBuf,
}

/// Why there is no firmware for a template.
#[derive(Debug, Error)]
pub enum FirmwareError {
    /// None is installed.
    #[error("no UEFI firmware{} for {} is installed (on Debian: the package {})", kind(*secure), arch.as_str(), package(*arch))]
    Missing {
        /// For which guests.
        arch: Arch,
        /// Whether it had to enforce secure boot.
        secure: bool,
    },
    /// The template's file is not there.
    #[error("the firmware file {} of the template does not exist", path.display())]
    NoFile {
        /// The file.
        path: PathBuf,
    },
    /// The template's file is somewhere else than firmware is.
    #[error(
        "the firmware file {} of the template is not below {}",
        path.display(),
        DIRECTORIES.join(", ")
    )]
    Elsewhere {
        /// The file.
        path: PathBuf,
    },
    /// The template names code but no variables, and they do not follow from the code.
    #[error("the template names the firmware {} but no <nvram template=…>", path.display())]
    NoVariables {
        /// The code.
        path: PathBuf,
    },
}

fn kind(secure: bool) -> &'static str {
    if secure { " with secure boot" } else { "" }
}

fn package(arch: Arch) -> &'static str {
    match arch {
        Arch::Aarch64 => "qemu-efi-aarch64",
        Arch::X86_64 | Arch::Ppc64le => "ovmf",
    }
}

/// Finds the files for the firmware of `os`; `None` for a BIOS machine.
pub fn find(os: &Os) -> Result<Option<FirmwareFiles>, FirmwareError> {
    find_in(os.arch, &os.firmware, &|path| path.is_file())
}

/// The files of Debian for the firmware of `os`, for arguments that nobody will run here.
pub fn usual(os: &Os) -> Result<Option<FirmwareFiles>, FirmwareError> {
    find_in(os.arch, &os.firmware, &|_| true)
}

fn find_in(
    arch: Arch,
    firmware: &Firmware,
    exists: &dyn Fn(&Path) -> bool,
) -> Result<Option<FirmwareFiles>, FirmwareError> {
    if !firmware.is_uefi() {
        return Ok(None);
    }
    let secure = firmware.secure_boot == Some(true);
    let pairs = pairs(arch, secure);
    let vars = firmware.vars_template.as_deref();
    let vars = vars.map(|path| named(path, exists)).transpose()?;
    if let Some(loader) = &firmware.loader {
        let code = named(&loader.path, exists)?;
        let known = || {
            let mut all = [PLAIN.as_slice(), &SECURE, &ARM, &ARM_SECURE]
                .into_iter()
                .flatten();
            let (_, vars) = all.find(|(known, _)| code == Path::new(known))?;
            Some(PathBuf::from(vars))
        };
        let vars_template = vars
            .or_else(known)
            .ok_or_else(|| FirmwareError::NoVariables { path: code.clone() })?;
        return Ok(Some(FirmwareFiles {
            code,
            vars_template,
        }));
    }
    let found = pairs
        .iter()
        .find(|(code, vars)| exists(Path::new(code)) && exists(Path::new(vars)));
    let (code, known_vars) = found.ok_or(FirmwareError::Missing { arch, secure })?;
    Ok(Some(FirmwareFiles {
        code: PathBuf::from(code),
        vars_template: vars.unwrap_or_else(|| PathBuf::from(known_vars)),
    }))
}

/// Whether a path is below a directory where packages put firmware, and nowhere else by a detour.
pub fn is_packaged(path: &Path) -> bool {
    let plain = path
        .components()
        .all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
    plain
        && DIRECTORIES
            .iter()
            .any(|directory| path.starts_with(directory))
}

/// A file that the template names, if it is where firmware is.
///
/// Debian renamed its 2 MiB images away; the 4 MiB ones stand in for them.
fn named(path: &str, exists: &dyn Fn(&Path) -> bool) -> Result<PathBuf, FirmwareError> {
    let path = PathBuf::from(path);
    if !is_packaged(&path) {
        return Err(FirmwareError::Elsewhere { path });
    }
    if exists(&path) {
        return Ok(path);
    }
    let renamed = [
        (
            "/usr/share/OVMF/OVMF_CODE.fd",
            "/usr/share/OVMF/OVMF_CODE_4M.fd",
        ),
        (
            "/usr/share/OVMF/OVMF_VARS.fd",
            "/usr/share/OVMF/OVMF_VARS_4M.fd",
        ),
        (
            "/usr/share/OVMF/OVMF_CODE.secboot.fd",
            "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd",
        ),
        (
            "/usr/share/OVMF/OVMF_VARS.ms.fd",
            "/usr/share/OVMF/OVMF_VARS_4M.ms.fd",
        ),
    ];
    renamed
        .iter()
        .find(|(old, new)| path == Path::new(old) && exists(Path::new(new)))
        .map(|(_, new)| PathBuf::from(new))
        .ok_or(FirmwareError::NoFile { path })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Loader;

    fn debian(path: &Path) -> bool {
        let names = [
            "OVMF_CODE_4M.fd",
            "OVMF_VARS_4M.fd",
            "OVMF_CODE_4M.ms.fd",
            "OVMF_VARS_4M.ms.fd",
        ];
        names
            .iter()
            .any(|name| path == Path::new("/usr/share/OVMF").join(name))
    }

    fn named_loader(code: &str, vars: Option<&str>) -> Firmware {
        Firmware {
            loader: Some(Loader {
                path: code.to_owned(),
                pflash: true,
                readonly: true,
                secure: false,
            }),
            vars_template: vars.map(str::to_owned),
            ..Firmware::default()
        }
    }

    #[test]
    fn a_bios_machine_needs_none() {
        assert_eq!(
            find_in(Arch::X86_64, &Firmware::default(), &|_| false).expect("BIOS"),
            None
        );
    }

    #[test]
    fn the_distribution_s_own_files_are_found() {
        let mut firmware = Firmware {
            efi: true,
            ..Firmware::default()
        };
        let files = find_in(Arch::X86_64, &firmware, &debian)
            .expect("found")
            .expect("UEFI");
        assert_eq!(files.code, Path::new("/usr/share/OVMF/OVMF_CODE_4M.fd"));
        firmware.secure_boot = Some(true);
        let files = find_in(Arch::X86_64, &firmware, &debian)
            .expect("found")
            .expect("UEFI");
        assert_eq!(
            files.vars_template,
            Path::new("/usr/share/OVMF/OVMF_VARS_4M.ms.fd")
        );
        let none = find_in(Arch::X86_64, &firmware, &|_| false).expect_err("nothing installed");
        assert!(none.to_string().contains("ovmf"));
    }

    #[test]
    fn old_names_lead_to_the_files_that_replaced_them() {
        let code = "/usr/share/OVMF/OVMF_CODE.fd";
        let firmware = named_loader(code, Some("/usr/share/OVMF/OVMF_VARS.fd"));
        let files = find_in(Arch::X86_64, &firmware, &debian)
            .expect("found")
            .expect("UEFI");
        assert_eq!(files.code, Path::new("/usr/share/OVMF/OVMF_CODE_4M.fd"));
        assert_eq!(
            files.vars_template,
            Path::new("/usr/share/OVMF/OVMF_VARS_4M.fd")
        );
    }

    #[test]
    fn paths_outside_the_firmware_directories_are_refused() {
        for path in [
            "/etc/shadow",
            "/usr/share/OVMF/../../../etc/shadow",
            "OVMF_CODE.fd",
        ] {
            let error =
                find_in(Arch::X86_64, &named_loader(path, None), &|_| true).expect_err("refused");
            assert!(matches!(error, FirmwareError::Elsewhere { .. }), "{path}");
        }
        let vars = named_loader("/usr/share/OVMF/OVMF_CODE.fd", Some("/etc/shadow"));
        assert!(matches!(
            find_in(Arch::X86_64, &vars, &|_| true),
            Err(FirmwareError::Elsewhere { .. })
        ));
    }
}

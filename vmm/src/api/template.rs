//! Templates: what can be asked about one, what is said of it, and publishing one.

use super::VmNumber;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// A template to look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookAtTemplate {
    /// The name of a template, or the XML itself.
    pub template: String,
    /// The QEMU to look at it for; without it, the host's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qemu: Option<QemuVersion>,
}

/// A release of QEMU, `7.2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct QemuVersion {
    major: u32,
    minor: u32,
}

impl QemuVersion {
    /// The oldest whose options fvm writes.
    pub const OLDEST: Self = Self { major: 7, minor: 2 };
    /// Releases have come three a year since 2.12, numbered from 0; the bound is far ahead.
    const MAX_MAJOR: u32 = 99;
    const MAX_MINOR: u32 = 2;

    /// Major and minor.
    pub fn parts(self) -> (u32, u32) {
        (self.major, self.minor)
    }
}

/// Why a text is no version of QEMU that fvm knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{}' is not a release of QEMU from {} on, such as 7.2 or 10.0", text.escape_debug(), QemuVersion::OLDEST)]
pub struct InvalidQemuVersion {
    text: String,
}

impl FromStr for QemuVersion {
    type Err = InvalidQemuVersion;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let part = |part: &str| {
            let plain = part.len() <= 2 && part.bytes().all(|byte| byte.is_ascii_digit());
            part.parse().ok().filter(|_| plain)
        };
        let parse = || {
            let (major, minor) = text.split_once('.')?;
            let (major, minor) = (part(major)?, part(minor)?);
            let version = Self { major, minor };
            let known = major <= Self::MAX_MAJOR && minor <= Self::MAX_MINOR;
            (known && version >= Self::OLDEST).then_some(version)
        };
        parse().ok_or_else(|| InvalidQemuVersion {
            text: text.chars().take(32).collect(),
        })
    }
}

impl TryFrom<String> for QemuVersion {
    type Error = InvalidQemuVersion;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<QemuVersion> for String {
    fn from(version: QemuVersion) -> Self {
        version.to_string()
    }
}

impl fmt::Display for QemuVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// A template to put where everybody finds it by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishTemplate {
    /// The XML.
    pub xml: String,
}

/// What was published, or was and is not any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedTemplate {
    /// `REPORT_VERSION`.
    pub version: u32,
    /// Its name.
    pub name: String,
    /// Whether another one of this name was published before.
    pub replaced: bool,
    /// Whether it is published now.
    pub published: bool,
}

/// A template in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateSummary {
    /// Its name.
    pub name: String,
    /// Whether root published it; the others come with fvm.
    pub published: bool,
    /// What it is for, in a sentence: the first line of its head.
    pub summary: String,
}

/// The templates that everybody finds by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateList {
    /// `REPORT_VERSION`.
    pub version: u32,
    /// By name.
    pub templates: Vec<TemplateSummary>,
}

/// A template that everybody finds by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateText {
    /// `REPORT_VERSION`.
    pub version: u32,
    /// Its name.
    pub name: String,
    /// The XML, before macros.
    pub xml: String,
}

/// Something that fvm accepts in a template but acts on in its own way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateWarning {
    /// Where: `/domain/devices/disk[2]/driver`.
    pub path: String,
    /// The line, counted from one.
    pub line: u32,
    /// What fvm does instead.
    pub message: String,
}

/// A template that VMs can be made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateCheck {
    /// `REPORT_VERSION`.
    pub version: u32,
    /// The QEMU that it was checked for.
    pub qemu: String,
    /// The machine type that a VM made now would get and keep.
    pub machine: String,
    /// Whether the guest starts by UEFI.
    pub uefi: bool,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Virtual processors.
    pub cpus: u32,
    /// The disks and drives by their targets: `sda`.
    pub disks: Vec<String>,
    /// The number of network cards.
    pub nics: u32,
    /// What the user should know.
    pub warnings: Vec<TemplateWarning>,
}

/// The arguments that QEMU would get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateArguments {
    /// `REPORT_VERSION`.
    pub version: u32,
    /// The QEMU.
    pub qemu: String,
    /// The VM that they are for: the host's first number.
    pub vm: VmNumber,
    /// The arguments, without the program.
    pub arguments: Vec<String>,
    /// What the user should know.
    pub warnings: Vec<TemplateWarning>,
}

/// An option for QEMU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QemuOption {
    /// The option: `-device`.
    pub option: String,
    /// Its value, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// What became of one element of a template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ElementReport {
    /// Where: `/domain/devices/disk[2]/driver`.
    pub path: String,
    /// The line of its start tag, counted from one.
    pub line: u32,
    /// How many elements it is in.
    pub depth: u32,
    /// Its start tag with the text in it.
    pub text: String,
    /// The options that say it: positions in `TemplateExplanation::options`.
    pub options: Vec<usize>,
    /// Why no option does, or what fvm does instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remark: Option<String>,
}

/// What became of every element of a template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateExplanation {
    /// `REPORT_VERSION`.
    pub version: u32,
    /// The QEMU.
    pub qemu: String,
    /// All options, in their order.
    pub options: Vec<QemuOption>,
    /// The elements, in their order.
    pub elements: Vec<ElementReport>,
    /// The options that come from no element: every VM gets them.
    pub always: Vec<usize>,
}

/// A VM's domain XML with everything filled in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmXml {
    /// `REPORT_VERSION`.
    pub version: u32,
    /// The VM.
    pub vm: VmNumber,
    /// The XML.
    pub xml: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_read_as_it_is_written() {
        for text in ["7.2", "8.0", "10.1"] {
            let version: QemuVersion = text.parse().expect("a release");
            assert_eq!(version.to_string(), text);
        }
        for wrong in [
            "", "7", "7.1", "6.2", "7.2.1", "8.3", "+8.0", "100.0", "a.b", "8.0 ",
        ] {
            let error = wrong.parse::<QemuVersion>().expect_err(wrong);
            assert!(error.to_string().contains("7.2"));
            let json = serde_json::to_string(wrong).expect("text");
            assert!(
                serde_json::from_str::<QemuVersion>(&json).is_err(),
                "{wrong}"
            );
        }
    }
}

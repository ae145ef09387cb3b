//! Lab files: VMs that are wanted, as TOML. docs/lab-file.md has the schema.

use crate::quantity::{Mebibytes, time_to_live};
use fvm_vmm::api::{ApiError, ErrorKind, GroupName, ImageName, Note, VmNumber, VmSet};
use serde::{Deserialize, Deserializer, de::Error};
use std::{
    collections::BTreeSet,
    fmt::Display,
    fs::File,
    io::Read,
    ops::Range,
    path::{Path, PathBuf},
    str::FromStr,
};
use toml::Spanned;

/// More than any lab has.
const MAX_BYTES: u64 = 1024 * 1024;

/// A lab file, checked.
#[derive(Debug)]
pub(crate) struct Lab {
    /// The group that its VMs are made into.
    pub(crate) group: Option<GroupName>,
    /// What is wanted, in the order of the file; no VM twice.
    pub(crate) entries: Vec<Entry>,
}

/// VMs that are wanted, all of one kind.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Their numbers.
    pub(crate) vms: VmSet,
    /// What else is said of them.
    pub(crate) kind: Kind,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    group: Option<GroupName>,
    #[serde(default)]
    vm: Vec<Kind>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Numbers {
    One(u32),
    Several(String),
}

/// What is said of VMs.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kind {
    numbers: Spanned<Numbers>,
    /// The image or the profile.
    pub(crate) image: ImageName,
    /// A shipped template, or a file, relative to the lab file.
    pub(crate) template: Option<String>,
    /// Memory in MiB.
    #[serde(default, deserialize_with = "memory")]
    pub(crate) memory: Option<u64>,
    /// Virtual processors.
    pub(crate) cpus: Option<u32>,
    /// How long they are kept, in seconds.
    #[serde(default, deserialize_with = "ttl")]
    pub(crate) ttl: Option<u64>,
    /// A file for cloud-init, relative to the lab file.
    pub(crate) user_data: Option<PathBuf>,
    /// Files with public keys for cloud-init, relative to the lab file.
    #[serde(default)]
    pub(crate) ssh_keys: Vec<PathBuf>,
    /// Their note.
    pub(crate) note: Option<Note>,
    /// Whether they are to run.
    #[serde(default = "yes")]
    pub(crate) start: bool,
}

fn yes() -> bool {
    true
}

fn parsed<'de, D: Deserializer<'de>, T, E: Display>(
    from: D,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<Option<T>, D::Error> {
    let text = String::deserialize(from)?;
    parse(&text).map(Some).map_err(D::Error::custom)
}

fn memory<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    parsed(from, |text| {
        Mebibytes::from_str(text).map(|memory| memory.0)
    })
}

fn ttl<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    parsed(from, time_to_live)
}

impl Lab {
    /// Reads a lab file.
    pub(crate) fn read(path: &Path) -> Result<Self, ApiError> {
        let name = path.display();
        let mut content = Vec::new();
        let read =
            File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut content));
        let usage = |message: String| ApiError::new(ErrorKind::Usage, message);
        match read {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let message = format!("there is no lab file {name}");
                return Err(ApiError::new(ErrorKind::NotFound, message));
            }
            Err(error) => return Err(usage(format!("reading the lab file {name}: {error}"))),
            Ok(_) if content.len() as u64 > MAX_BYTES => {
                return Err(usage(format!("the lab file {name} is longer than 1 MiB")));
            }
            Ok(_) => {}
        }
        let text = String::from_utf8(content)
            .map_err(|_| usage(format!("the lab file {name} is not UTF-8 text")))?;
        let mut lab = Self::parse(&text).map_err(|(line, problem)| {
            usage(format!("{name}, line {line}: {problem}"))
                .hint("docs/lab-file.md says what a lab file may say")
        })?;
        let beside = path.parent().unwrap_or(Path::new(""));
        for entry in &mut lab.entries {
            entry.kind.place_files(beside);
        }
        Ok(lab)
    }

    /// Checks the text of a lab file; an error has its line.
    fn parse(text: &str) -> Result<Self, (usize, String)> {
        let line = |at: &Range<usize>| text[..at.start].matches('\n').count() + 1;
        let read: Text = toml::from_str(text).map_err(|error| {
            let at = error.span().unwrap_or_default();
            (line(&at), error.message().to_owned())
        })?;
        let mut taken: BTreeSet<VmNumber> = BTreeSet::new();
        let mut entries = Vec::new();
        for kind in read.vm {
            let at = kind.numbers.span();
            let wrong = |problem: String| (line(&at), problem);
            let vms = match kind.numbers.get_ref() {
                Numbers::One(number) => VmNumber::new(*number).into(),
                Numbers::Several(text) => text
                    .parse::<VmSet>()
                    .map_err(|error| wrong(error.to_string()))?,
            };
            if vms.numbers().contains(&VmNumber::BASE) {
                return Err(wrong("the base VM is not part of a lab".to_owned()));
            }
            for &number in vms.numbers() {
                if !taken.insert(number) {
                    return Err(wrong(format!("VM {number} is named twice")));
                }
            }
            entries.push(Entry { vms, kind });
        }
        if entries.is_empty() {
            return Err((
                1,
                "it names no VM: write [[vm]] with numbers and image".to_owned(),
            ));
        }
        Ok(Self {
            group: read.group,
            entries,
        })
    }
}

impl Kind {
    /// Files are named as seen from the lab file.
    fn place_files(&mut self, beside: &Path) {
        if let Some(template) = &mut self.template
            && (template.contains('/') || template.ends_with(".xml"))
        {
            let path = beside.join(&*template);
            // Only what a file is called by is a template's file.
            *template = match path.to_string_lossy() {
                text if text.contains('/') => text.into_owned(),
                text => format!("./{text}"),
            };
        }
        for path in self.user_data.iter_mut().chain(&mut self.ssh_keys) {
            *path = beside.join(&*path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lab_is_read() {
        let lab = Lab::parse(
            "group = 'web'
             [[vm]]
             numbers = 42
             image = 'debian'
             memory = '2G'
             cpus = 2
             ttl = '8h'
             note = 'the front'
             [[vm]]
             numbers = '50-52,60'
             image = 'web'
             start = false
             ssh_keys = ['id.pub']",
        )
        .unwrap();
        assert_eq!(lab.group.unwrap().as_str(), "web");
        let [front, others] = lab.entries.as_slice() else {
            panic!("not two");
        };
        assert_eq!(front.vms.to_string(), "42");
        assert_eq!(
            (front.kind.memory, front.kind.ttl, front.kind.start),
            (Some(2048), Some(28_800), true)
        );
        assert_eq!(others.vms.to_string(), "50-52,60");
        assert!(!others.kind.start);
    }

    #[test]
    fn a_mistake_is_told_with_its_line() {
        for (text, at, word) in [
            ("", 1, "names no VM"),
            ("grup = 'web'", 1, "grup"),
            ("[[vm]]\nnumbers = 42\n", 1, "image"),
            ("[[vm]]\nnumbers = 42\nimage = 'a b'", 3, "image"),
            ("\n[[vm]]\nimage = 'a'\nnumbers = '43-42'", 4, "backwards"),
            ("[[vm]]\nimage = 'a'\nnumbers = 'base'", 3, "base VM"),
            (
                "[[vm]]\nimage = 'a'\nnumbers = 42\n[[vm]]\nimage = 'a'\nnumbers = '40-50'",
                6,
                "42 is named twice",
            ),
            (
                "[[vm]]\nnumbers = 42\nimage = 'a'\nmemory = 'x'",
                4,
                "memory",
            ),
            (
                "[[vm]]\nnumbers = 42\nimage = 'a'\nttl = '8'",
                4,
                "time to live",
            ),
            ("[[vm]]\nnumbers = 42\nimage = 'a'\ncolour = 1", 4, "colour"),
            ("[[vm]\n", 1, ""),
        ] {
            let (line, problem) = Lab::parse(text).unwrap_err();
            assert!(problem.contains(word), "{text:?}: {problem}");
            assert_eq!(line, at, "{text:?}: {problem}");
        }
    }

    #[test]
    fn files_are_beside_the_lab_file() {
        let mut lab = Lab::parse(
            "[[vm]]\nnumbers = 42\nimage = 'a'\ntemplate = 'mine.xml'\nuser_data = 'setup.yaml'",
        )
        .unwrap();
        let kind = &mut lab.entries[0].kind;
        kind.place_files(Path::new("/labs"));
        assert_eq!(kind.template.as_deref(), Some("/labs/mine.xml"));
        assert_eq!(
            kind.user_data.as_deref(),
            Some(Path::new("/labs/setup.yaml"))
        );
        kind.template = Some("linux-uefi".to_owned());
        kind.place_files(Path::new("/labs"));
        assert_eq!(kind.template.as_deref(), Some("linux-uefi"));
    }
}

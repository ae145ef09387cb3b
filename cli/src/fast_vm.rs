//! fast-vm's spellings, put into fvm's before the command line is read.
//!
//! Those that mean nothing else are taken from everybody (`stop 42 graceful`). Where fvm gives the same words
//! another meaning (`ssh 42 SCRIPT`), they count only for who calls the program by fast-vm's names, to which the
//! package links it. docs/fast-vm.md has all of them.

use crate::vm_names::VmNames;
use std::{
    ffi::{OsStr, OsString},
    path::Path,
};

/// By which name the program was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Called {
    Fvm,
    FastVm,
    FastVmImage,
    /// By a hook, which thinks that it has libvirt.
    Virsh,
}

/// The command line as fvm reads it; the first word is the program.
pub(crate) fn translate(words: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut words = words.into_iter();
    let Some(program) = words.next() else {
        return Vec::new();
    };
    let name = Path::new(&program).file_name();
    let called = match name.and_then(OsStr::to_str) {
        Some("fast-vm") => Called::FastVm,
        Some("fast-vm-image") => Called::FastVmImage,
        Some("virsh") => Called::Virsh,
        _ => Called::Fvm,
    };
    let mut words: Vec<OsString> = words.collect();
    if called == Called::Virsh {
        let mut line = vec![program, "virsh-for-hooks".into()];
        line.append(&mut words);
        return line;
    }
    let command = command_at(&words);
    let rest = words.split_off(command);
    let mut line = vec![program];
    line.append(&mut words);
    line.extend(match called {
        Called::Fvm | Called::Virsh => common(rest),
        Called::FastVm => common(of_fast_vm(rest)),
        Called::FastVmImage => of_fast_vm_image(rest),
    });
    line
}

/// Where the command stands: behind the options that apply everywhere.
fn command_at(words: &[OsString]) -> usize {
    let mut at = 0;
    while let Some(word) = words.get(at).and_then(|word| word.to_str()) {
        match word {
            "--socket" => at += 2,
            _ if word.starts_with('-') => at += 1,
            _ => break,
        }
    }
    at.min(words.len())
}

fn is(word: &OsStr, text: &str) -> bool {
    word.to_str() == Some(text)
}

/// True for what names VMs.
fn names_vms(word: &OsStr) -> bool {
    word.to_str()
        .is_some_and(|text| text.parse::<VmNames>().is_ok())
}

/// What means nothing else.
fn common(mut words: Vec<OsString>) -> Vec<OsString> {
    let Some(command) = words.first().and_then(|word| word.to_str()) else {
        return words;
    };
    match command {
        // start NUM [console|keydist|ssh [SCRIPT]]
        "start" => {
            let then = (2..words.len()).find(|&at| {
                names_vms(&words[at - 1])
                    && ["console", "keydist", "ssh"]
                        .iter()
                        .any(|then| is(&words[at], then))
            });
            if let Some(at) = then {
                let script = is(&words[at], "ssh")
                    .then(|| words.get(at + 1).cloned())
                    .flatten()
                    .filter(|word| !word.to_string_lossy().starts_with('-'));
                words.insert(at, "--then".into());
                if script.is_some() {
                    words.insert(at + 2, "--script".into());
                }
            }
        }
        // stop NUM graceful
        "stop" => {
            let graceful = (2..words.len())
                .find(|&at| names_vms(&words[at - 1]) && is(&words[at], "graceful"));
            if let Some(at) = graceful {
                words[at] = "--graceful".into();
            }
        }
        // list [all|active|inactive [short]]
        "list" => {
            for at in 1..words.len() {
                if is(&words[at - 1], "--state") {
                    continue;
                }
                let word = &mut words[at];
                match word.to_str() {
                    Some(which @ ("all" | "active" | "inactive")) => {
                        *word = format!("--state={which}").into();
                    }
                    Some("short") => *word = "--short".into(),
                    _ => {}
                }
            }
        }
        // disk_usage [all|NUM]
        "disk_usage" | "disk-usage" => words.retain(|word| !is(word, "all")),
        _ => {}
    }
    words
}

/// Positional words with what they mean as options; nothing if there are options among them already, or too many.
fn options(words: &[OsString], fixed: usize, names: &[&str]) -> Option<Vec<OsString>> {
    let plain = words
        .iter()
        .all(|word| !word.to_string_lossy().starts_with('-'));
    if !plain || words.len() < fixed || words.len() > fixed + names.len() {
        return None;
    }
    let (fixed, more) = words.split_at(fixed);
    let mut line = fixed.to_vec();
    for (name, value) in names.iter().zip(more) {
        line.extend([OsString::from(name), value.clone()]);
    }
    Some(line)
}

/// A number of GiB, as fast-vm takes sizes, with its unit.
fn gib(words: &mut [OsString], at: usize) {
    if let Some(word) = words.get_mut(at)
        && word
            .to_str()
            .is_some_and(|text| text.parse::<u32>().is_ok())
    {
        word.push("G");
    }
}

fn of_fast_vm(mut words: Vec<OsString>) -> Vec<OsString> {
    let Some(command) = words.first().and_then(|word| word.to_str()) else {
        return words;
    };
    match command {
        "create" => options(&words, 3, &["--template", "--hook"]).unwrap_or(words),
        "delete" => options(&words, 2, &["--hook"]).unwrap_or(words),
        "ssh" => options(&words, 2, &["--script"]).unwrap_or(words),
        // It shrinks without asking.
        "resize" => {
            gib(&mut words, 2);
            words.extend(["--shrink".into(), "--yes".into()]);
            words
        }
        _ => words,
    }
}

fn of_fast_vm_image(mut words: Vec<OsString>) -> Vec<OsString> {
    let Some(command) = words.first().and_then(|word| word.to_str()) else {
        return vec!["image".into()];
    };
    const FILES: [&str; 3] = ["--template", "--create-hook", "--delete-hook"];
    let (group, name) = match command {
        "import" => {
            words = options(&words, 3, &FILES).unwrap_or(words);
            ("image", "import")
        }
        // import_custom GiB NAME FILE …
        "import_custom" if words.len() > 3 => {
            let mut size = words.remove(1);
            if size
                .to_str()
                .is_some_and(|text| text.parse::<u32>().is_ok())
            {
                size.push("G");
            }
            words = options(&words, 3, &FILES).unwrap_or(words);
            words.extend(["--size".into(), size]);
            ("image", "import")
        }
        // export NAME [zst|xz|gz]
        "export" => {
            words = options(&words, 2, &["--format"]).unwrap_or(words);
            ("image", "export")
        }
        "resize" => {
            gib(&mut words, 2);
            words.extend(["--shrink".into(), "--yes".into()]);
            ("image", "resize")
        }
        "gen_checksums" => ("image", "checksum"),
        "import_profile" => {
            words = options(&words, 3, &FILES).unwrap_or(words);
            ("profile", "create")
        }
        "remove_profile" => ("profile", "delete"),
        "list_profiles" => ("profile", "list"),
        other => {
            let other = other.to_owned();
            let mut line: Vec<OsString> = vec!["image".into(), other.into()];
            line.extend(words.drain(1..).map(short));
            return line;
        }
    };
    let mut line: Vec<OsString> = vec![group.into(), name.into()];
    line.extend(words.drain(1..).map(|word| match name {
        "list" => short(word),
        _ => word,
    }));
    line
}

/// `list short`
fn short(word: OsString) -> OsString {
    if is(&word, "short") {
        "--short".into()
    } else {
        word
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words between `|`, so that a number list may have blanks.
    fn translated(line: &str) -> String {
        let words = translate(line.split('|').map(OsString::from));
        let words: Vec<_> = words.iter().filter_map(|word| word.to_str()).collect();
        words.join("|")
    }

    fn same(line: &str) {
        assert_eq!(translated(line), line);
    }

    #[test]
    fn what_means_nothing_else_is_taken_from_everybody() {
        for (theirs, ours) in [
            ("fvm|start|42|ssh", "fvm|start|42|--then|ssh"),
            (
                "fvm|start|41 42|ssh|./x.sh",
                "fvm|start|41 42|--then|ssh|--script|./x.sh",
            ),
            ("fvm|start|42|keydist", "fvm|start|42|--then|keydist"),
            ("fvm|start|42|console", "fvm|start|42|--then|console"),
            ("fvm|stop|42|graceful", "fvm|stop|42|--graceful"),
            ("fvm|list|active|short", "fvm|list|--state=active|--short"),
            ("fvm|list|all", "fvm|list|--state=all"),
            ("fvm|disk_usage|all", "fvm|disk_usage"),
            (
                "fvm|--json|--socket|/x|list|inactive",
                "fvm|--json|--socket|/x|list|--state=inactive",
            ),
        ] {
            assert_eq!(translated(theirs), ours);
            assert_eq!(
                translated(&theirs.replacen("fvm", "fast-vm", 1)),
                ours.replacen("fvm", "fast-vm", 1)
            );
        }
    }

    #[test]
    fn what_is_fvms_own_stays() {
        for line in [
            "fvm",
            "fvm|start|42|--wait|ssh",
            "fvm|start|42|-w|ssh|--timeout|5m",
            "fvm|ssh|42|uname",
            "fvm|resize|42|10G",
            "fvm|create|debian|42|43",
            "fvm|delete|42|43",
            "fvm|list|--state|active|--short",
            "fvm|note|42|stop|graceful",
            "fvm|--socket",
        ] {
            same(line);
        }
    }

    #[test]
    fn fast_vms_names_have_fast_vms_meanings() {
        for (theirs, ours) in [
            (
                "/usr/bin/fast-vm|create|debian|42",
                "/usr/bin/fast-vm|create|debian|42",
            ),
            (
                "fast-vm|create|debian|42|a.xml|h.sh",
                "fast-vm|create|debian|42|--template|a.xml|--hook|h.sh",
            ),
            ("fast-vm|delete|42|h.sh", "fast-vm|delete|42|--hook|h.sh"),
            ("fast-vm|ssh|42|./x.sh", "fast-vm|ssh|42|--script|./x.sh"),
            ("fast-vm|ssh|42", "fast-vm|ssh|42"),
            (
                "/tmp/x/virsh|--connect|qemu:///system|list",
                "/tmp/x/virsh|virsh-for-hooks|--connect|qemu:///system|list",
            ),
            (
                "fast-vm|resize|42|10",
                "fast-vm|resize|42|10G|--shrink|--yes",
            ),
            (
                "fast-vm-image|import|a|f.gz|x.xml|h.sh|d.sh",
                "fast-vm-image|image|import|a|f.gz|--template|x.xml|--create-hook|h.sh|--delete-hook|d.sh",
            ),
            (
                "fast-vm-image|import_custom|6|a|empty|x.xml",
                "fast-vm-image|image|import|a|empty|--template|x.xml|--size|6G",
            ),
            (
                "fast-vm-image|export|a|xz",
                "fast-vm-image|image|export|a|--format|xz",
            ),
            ("fast-vm-image|remove|a", "fast-vm-image|image|remove|a"),
            (
                "fast-vm-image|resize|a|10",
                "fast-vm-image|image|resize|a|10G|--shrink|--yes",
            ),
            (
                "fast-vm-image|list|short",
                "fast-vm-image|image|list|--short",
            ),
            (
                "fast-vm-image|import_profile|p|a|x.xml|h.sh",
                "fast-vm-image|profile|create|p|a|--template|x.xml|--create-hook|h.sh",
            ),
            (
                "fast-vm-image|remove_profile|p",
                "fast-vm-image|profile|delete|p",
            ),
            (
                "fast-vm-image|list_profiles|short",
                "fast-vm-image|profile|list|--short",
            ),
            (
                "fast-vm-image|verify|a|/srv",
                "fast-vm-image|image|verify|a|/srv",
            ),
            ("fast-vm-image|compact|a", "fast-vm-image|image|compact|a"),
            (
                "fast-vm-image|gen_checksums|a",
                "fast-vm-image|image|checksum|a",
            ),
            ("fast-vm-image", "fast-vm-image|image"),
        ] {
            assert_eq!(translated(theirs), ours);
        }
    }
}

//! Templates: by name from the shipped ones, or as XML that the user sent.

use super::error::{Result, file};
use crate::{
    api::{ApiError, ErrorKind},
    domain::{
        self, Disk, DiskSource, Domain, ErrorPolicy, Macros, Permitted, TemplateError, Warning,
    },
    manager::Caller,
    paths::Paths,
    qemu::firmware,
};
use std::{collections::BTreeSet, io, path::PathBuf};

/// The template of an image that was imported without one.
pub(super) const DEFAULT: &str = "linux";

/// The volume group that templates and hooks see: disks are `/dev/fvm/<VM name>`.
pub(super) const VOLUME_GROUP: &str = "fvm";

/// The XML that `wanted` is or names.
pub(super) fn resolve(paths: &Paths, wanted: &str) -> Result<String> {
    if wanted.contains('<') {
        return Ok(wanted.to_owned());
    }
    named(paths, wanted)
}

/// Refuses what an ordinary user's own template may not name. Root's templates, and those that root has put where
/// they are found by name, are not looked at.
pub(super) fn permit(
    caller: Caller,
    wanted: &str,
    vm_name: &str,
    macros: &Macros,
    network: &str,
) -> Result<()> {
    if caller.is_root() || !wanted.contains('<') {
        return Ok(());
    }
    let permitted = Permitted {
        disk: &disk_path(vm_name),
        network,
        is_firmware: &|path| firmware::is_packaged(path.as_ref()),
    };
    domain::check_policy(wanted, macros, &permitted)
        .map_err(|error| refusal(&error))?
        .map_err(|error| {
            let hint = error.hint.as_deref().unwrap_or_default();
            ApiError::new(
                ErrorKind::Refused,
                format!("the template is not for you to use: {error}"),
            )
            .hint(format!(
                "{hint}; or ask root, who may use this template, and may publish it for everybody: \
                 `fvm template publish`"
            ))
        })
}

/// The template that everybody finds by this name.
pub(super) fn named(paths: &Paths, wanted: &str) -> Result<String> {
    let unknown = || {
        let names = names(paths).join(", ");
        ApiError::new(
            ErrorKind::NotFound,
            format!(
                "there is no template '{}'",
                wanted.escape_debug().take(64).collect::<String>()
            ),
        )
        .hint(format!(
            "there are: {names}; or give the path of an XML file"
        ))
    };
    if !is_name(wanted) {
        return Err(unknown());
    }
    for path in [shipped(paths, wanted), published(paths, wanted)] {
        match std::fs::read_to_string(&path) {
            Ok(text) => return Ok(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(file("reading the template", &path, &error)),
        }
    }
    Err(unknown())
}

/// Whether a template may have this name.
pub(super) fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    text.len() <= 64
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(plain)
}

/// Where a template of this name is that comes with fvm.
pub(super) fn shipped(paths: &Paths, name: &str) -> PathBuf {
    paths.template_dir.join(format!("{name}.xml"))
}

/// Where a template of this name is that root has published.
pub(super) fn published(paths: &Paths, name: &str) -> PathBuf {
    paths.published_templates().join(format!("{name}.xml"))
}

/// The names of the templates that everybody finds, sorted.
pub(super) fn names(paths: &Paths) -> Vec<String> {
    let directories = [paths.template_dir.clone(), paths.published_templates()];
    let entries = directories.iter().flat_map(std::fs::read_dir).flatten();
    let names = entries.flatten().filter_map(|entry| {
        let name = entry.file_name();
        let name = name.to_str()?.strip_suffix(".xml")?;
        is_name(name).then(|| name.to_owned())
    });
    let names: BTreeSet<String> = names.collect();
    names.into_iter().collect()
}

/// What a VM of this number and name makes of a template.
pub(super) fn load(
    template: &str,
    number: u32,
    vm_name: &str,
    image: &str,
    network: &str,
) -> Result<(Domain, Vec<Warning>)> {
    domain::load(template, &macros(vm_name, number, image, network))
        .map_err(|error| refusal(&error))
}

/// What the macros of a VM's template stand for.
pub(super) fn macros(vm_name: &str, number: u32, image: &str, network: &str) -> Macros {
    Macros::new(vm_name, VOLUME_GROUP, network, number, image)
}

/// What a shipped template is for: the first line of the comment at its head, after the name.
pub(super) fn summary(xml: &str) -> String {
    let head = xml.split_once("<!--").map_or("", |(_, after)| after);
    let mut lines = head.lines().map(str::trim);
    let first = lines.find(|line| !line.is_empty()).unwrap_or_default();
    let summary = first.split_once(": ").map_or(first, |(_, text)| text);
    summary.trim_end_matches('.').to_owned()
}

/// How a refused template is told.
pub(super) fn refusal(error: &TemplateError) -> ApiError {
    let api = ApiError::new(
        ErrorKind::Usage,
        format!("the template is refused: {error}"),
    );
    match &error.hint {
        Some(hint) => api.hint(hint),
        None => api,
    }
}

/// Has QEMU pause the guest when its own disk cannot be written, unless the template says otherwise: a write
/// that was never done is done when there is space again, and the guest need not know.
pub(super) fn hold_on_write_errors(domain: &mut Domain, vm_name: &str) {
    for disk in &mut domain.devices.disks {
        if is_own(disk, vm_name) && disk.error_policy.is_none() {
            disk.error_policy = Some(ErrorPolicy::Stop);
            // Nothing is gained by holding a guest that cannot read.
            disk.read_error_policy.get_or_insert(ErrorPolicy::Report);
        }
    }
}

/// Whether a disk is one that fvm made for the VM.
fn is_own(disk: &Disk, vm_name: &str) -> bool {
    let DiskSource::Block(source) = &disk.source else {
        return false;
    };
    let rest = source.strip_prefix(&disk_path(vm_name));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
}

/// Where the link of this name is: that of a VM's own disk has the VM's name.
pub(super) fn disk_path(link: &str) -> String {
    format!("/dev/{VOLUME_GROUP}/{link}")
}

/// The disk of a domain that is what the link of this name leads to.
pub(super) fn disk_of<'a>(domain: &'a Domain, link: &str) -> Result<&'a Disk> {
    domain.disk_at(&disk_path(link)).ok_or_else(|| {
        ApiError::new(
            ErrorKind::Usage,
            "the template has no disk that is the VM's own",
        )
        .hint("its source is written <source dev='/dev/THINPOOL_VG/VM_NAME'/>")
    })
}

/// Refuses a template without a disk that is the VM's own, or with anything beside it but empty drives.
pub(super) fn check_disks(domain: &Domain, vm_name: &str) -> Result<()> {
    let main = disk_of(domain, vm_name)?;
    let other = domain
        .devices
        .disks
        .iter()
        .find(|disk| disk.target != main.target && disk.source != DiskSource::Empty);
    match other {
        Some(disk) => Err(ApiError::new(
            ErrorKind::Usage,
            format!("the template's disk {} is not the VM's own", disk.target),
        )
        .hint(
            "a template has one disk, /dev/THINPOOL_VG/VM_NAME, and any number of empty drives; `fvm disk add` gives a VM more",
        )),
        None => Ok(()),
    }
}

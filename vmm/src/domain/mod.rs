//! Domain XML: libvirt-style text to a typed, completed model.
//!
//! [`load`] reads a template in four steps, each in its own file: hostile text to a tree
//! (`xml`), macros in text and attributes (`macros`), strict reading into types (`node` and a file
//! for each part of the format), and completion (`complete`): implied controllers, drive addresses,
//! aliases and the boot order, as libvirt would add them. Nothing here touches the system, and
//! nothing knows QEMU's command line; that is `qemu`.

mod additions;
mod address;
mod clock;
mod complete;
mod cpu;
mod device;
mod error;
mod features;
mod macros;
mod memory;
mod model;
mod node;
mod origin;
mod os;
mod policy;
mod smbios;
mod system;
mod tuning;
pub(crate) mod write;
pub(crate) mod xml;

pub use additions::{Additions, FurtherDisk, FurtherPlace};
pub use address::{DriveAddress, PciAddress, PciPlace, UsbAddress, VirtioSerialAddress};
pub use clock::{Clock, ClockOffset, TickPolicy, Timer, TimerName};
pub(crate) use complete::virtio_alias;
pub use cpu::{Cpu, CpuCache, CpuFeature, CpuMode, FeaturePolicy, Topology};
pub(crate) use device::target_name;
pub use device::*;
pub use error::{TemplateError, Warning};
pub use features::{Features, GicVersion, HypervFeatures};
pub use macros::Macros;
pub use memory::{Memory, MemoryNode};
pub use model::{Devices, Domain, GenerationId};
pub use origin::{ElementId, Origin, SAID_ELSEWHERE, TemplateElement, elements};
pub use os::{Arch, BootDevice, DirectKernel, Firmware, Loader, MachineKind, Os};
pub use policy::Permitted;
pub use smbios::{FirmwareEntry, SmbiosTable};
pub use system::{Lifecycle, LifecycleAction, Power, Vcpus};
pub use tuning::{CpuSet, Quota, Tuning};
pub use xml::{MAX_ATTRIBUTES, MAX_BYTES, MAX_DEPTH, MAX_ELEMENTS};

/// Reads a template: expands its macros, refuses what fvm does not support, completes the rest.
///
/// The warnings are about what fvm accepts and acts on in its own way.
pub fn load(template: &str, macros: &Macros) -> Result<(Domain, Vec<Warning>), TemplateError> {
    load_with(template, macros, &Additions::default())
}

/// The same for a VM that was given more than its template says.
pub fn load_with(
    template: &str,
    macros: &Macros,
    additions: &Additions,
) -> Result<(Domain, Vec<Warning>), TemplateError> {
    let root = tree_with(template, macros, additions)?;
    let notes = node::Notes::default();
    let (mut domain, draft) = node::visit_root(&root, "domain", &notes, model::read)?;
    domain.ignored = notes.ignored.into_inner();
    complete::complete(&mut domain, draft, &root)?;
    Ok((domain, notes.warnings.into_inner()))
}

/// Refuses what a template from an ordinary user may not name.
///
/// The outer error is of a template that cannot be read at all, the inner one of what is not permitted.
pub fn check_policy(
    template: &str,
    macros: &Macros,
    permitted: &Permitted<'_>,
) -> Result<Result<(), TemplateError>, TemplateError> {
    Ok(policy::check(&tree(template, macros)?, permitted))
}

/// The elements of a template with all macros replaced.
pub(crate) fn tree(template: &str, macros: &Macros) -> Result<xml::Element, TemplateError> {
    let mut root = xml::parse(template)?;
    expand(&mut root, macros);
    Ok(root)
}

/// The same with what a VM was given beside them.
pub(crate) fn tree_with(
    template: &str,
    macros: &Macros,
    additions: &Additions,
) -> Result<xml::Element, TemplateError> {
    let mut root = tree(template, macros)?;
    additions.put_into(&mut root);
    Ok(root)
}

fn expand(element: &mut xml::Element, macros: &Macros) {
    element.text = macros.expand(&element.text);
    for (_, value) in &mut element.attributes {
        *value = macros.expand(value);
    }
    for child in &mut element.children {
        expand(child, macros);
    }
}

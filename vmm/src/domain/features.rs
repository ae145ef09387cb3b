//! The `<features>` element: what the machine offers beyond its devices.

use super::error::Result;
use super::node::{Node, words};

words! {
    /// The version of ARM's interrupt controller.
    pub enum GicVersion {
        /// GICv2, for up to eight processors.
        V2 = "2",
        /// GICv3.
        V3 = "3",
        /// The host's.
        Host = "host",
    }
}

/// What is switched on or off; `None` leaves it to QEMU.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Features {
    /// ACPI tables; off unless the template asks for them.
    pub acpi: bool,
    /// The VMware backdoor port.
    pub vmport: Option<bool>,
    /// System management mode.
    pub smm: Option<bool>,
    /// The performance monitoring unit.
    pub pmu: Option<bool>,
    /// Hides from the guest that it runs under KVM.
    pub kvm_hidden: Option<bool>,
    /// The end-of-interrupt of a paravirtual APIC.
    pub apic_eoi: Option<bool>,
    /// Whether the IOAPIC is QEMU's, not the kernel's: interrupt remapping needs it.
    pub split_irqchip: Option<bool>,
    /// The version of ARM's interrupt controller; `None` leaves it to fvm.
    pub gic: Option<GicVersion>,
    /// A device for crash dumps' notes.
    pub vmcoreinfo: bool,
    /// Enlightenments for Windows.
    pub hyperv: HypervFeatures,
}

/// Hyper-V enlightenments: the names of QEMU's CPU flags that are on, and what has a value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HypervFeatures {
    /// Flags to switch on or off, as QEMU names them (`hv-relaxed`).
    pub flags: Vec<(String, bool)>,
    /// The number of spinlock retries.
    pub spinlock_retries: Option<u32>,
    /// The vendor id that the guest sees, at most twelve characters.
    pub vendor_id: Option<String>,
    /// All that the host can offer.
    pub passthrough: bool,
}

/// The names of libvirt's simple enlightenments, which are those of QEMU's flags without `hv-`.
const HYPERV_FLAGS: [&str; 12] = [
    "relaxed",
    "vapic",
    "vpindex",
    "runtime",
    "synic",
    "stimer",
    "reset",
    "frequencies",
    "reenlightenment",
    "tlbflush",
    "ipi",
    "evmcs",
];

/// Reads `<features>`.
pub(crate) fn read(domain: &Node<'_>) -> Result<Features> {
    let features = domain.child("features", |node| {
        // PAE is always there on a 64-bit processor.
        node.ignore_children("pae");
        let apic_eoi = node.child("apic", |apic| {
            apic.attr("eoi").map(|value| value.on_off()).transpose()
        })?;
        let kvm_hidden = node.child("kvm", |kvm| {
            kvm.child("hidden", |hidden| hidden.need("state")?.on_off())
        })?;
        let vmcoreinfo = node.child("vmcoreinfo", |vmcoreinfo| {
            vmcoreinfo
                .attr("state")
                .map_or(Ok(true), |value| value.on_off())
        })?;
        let split_irqchip = node.child("ioapic", |ioapic| {
            ioapic
                .need("driver")?
                .choice(&[("qemu", true), ("kvm", false)])
        })?;
        let gic = node.child("gic", |gic| {
            gic.attr("version")
                .map(|v| v.choice(GicVersion::WORDS))
                .transpose()
        })?;
        Ok(Features {
            gic: gic.flatten(),
            acpi: node.flag("acpi")?,
            vmport: state(node, "vmport")?,
            smm: state(node, "smm")?,
            pmu: state(node, "pmu")?,
            kvm_hidden: kvm_hidden.flatten(),
            apic_eoi: apic_eoi.flatten(),
            split_irqchip,
            vmcoreinfo: vmcoreinfo.unwrap_or(false),
            hyperv: node.child("hyperv", hyperv)?.unwrap_or_default(),
        })
    })?;
    Ok(features.unwrap_or_default())
}

/// A feature that is on when its `state` does not say otherwise.
fn state(features: &Node<'_>, name: &str) -> Result<Option<bool>> {
    features.child(name, |node| {
        node.attr("state").map_or(Ok(true), |value| value.on_off())
    })
}

fn hyperv(node: &Node<'_>) -> Result<HypervFeatures> {
    let passthrough = match node.attr("mode") {
        None => false,
        Some(mode) => mode.choice(&[("custom", false), ("passthrough", true)])?,
    };
    let mut flags = Vec::new();
    for name in HYPERV_FLAGS {
        let Some((on, direct)) = node.child(name, |flag| {
            let on = flag.need("state")?.on_off()?;
            let direct = match name {
                "stimer" => flag.child("direct", |direct| direct.need("state")?.on_off())?,
                _ => None,
            };
            Ok((on, direct))
        })?
        else {
            continue;
        };
        flags.push((format!("hv-{name}"), on));
        if let Some(direct) = direct {
            flags.push(("hv-stimer-direct".to_owned(), direct));
        }
    }
    let spinlock_retries = node.child("spinlocks", |spinlocks| {
        let on = spinlocks.need("state")?.on_off()?;
        let retries = spinlocks
            .attr("retries")
            .map(|value| value.number())
            .transpose()?;
        Ok(on.then(|| retries.unwrap_or(4095)))
    })?;
    let vendor_id = node.child("vendor_id", |vendor| {
        let on = vendor.need("state")?.on_off()?;
        let value = vendor.attr("value").map(|value| {
            let text = value.non_empty()?;
            if text.len() > 12 || text.contains(',') {
                return Err(value.refuse("a vendor id has at most 12 characters and no comma"));
            }
            Ok(text)
        });
        let value = value.transpose()?;
        Ok(if on { value } else { None })
    })?;
    Ok(HypervFeatures {
        flags,
        spinlock_retries: spinlock_retries.flatten(),
        vendor_id: vendor_id.flatten(),
        passthrough,
    })
}

//! The processor: its model, features and topology.

use super::error::Result;
use super::memory::{self, MemoryNode};
use super::node::{Node, words};

/// How the processor's model is chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CpuMode {
    /// QEMU's default model.
    Default,
    /// A named model.
    Custom(String),
    /// The host's model and features that QEMU can give, without what it cannot migrate.
    HostModel,
    /// The host's processor as it is.
    HostPassthrough {
        /// Whether features that cannot be migrated stay hidden.
        migratable: bool,
    },
    /// All that the accelerator can give.
    Maximum {
        /// Whether features that cannot be migrated stay hidden; `None` leaves it to QEMU.
        migratable: Option<bool>,
    },
}

words! {
    /// What is done with a feature.
    pub enum FeaturePolicy {
        /// On, whatever the host has.
        Force = "force",
        /// On, or the VM does not start.
        Require = "require",
        /// On if the host has it.
        Optional = "optional",
        /// Off.
        Disable = "disable",
        /// Off.
        Forbid = "forbid",
    }
}

/// A feature of the processor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpuFeature {
    /// Its name, as the template spells it.
    pub name: String,
    /// What is done with it.
    pub policy: FeaturePolicy,
}

words! {
    /// What the guest sees of the processor's caches.
    pub enum CpuCache {
        /// The host's sizes.
        Passthrough = "passthrough",
        /// A third level as QEMU has it.
        Emulate = "emulate",
        /// No third level.
        Disable = "disable",
    }
}

/// How the processors are arranged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Topology {
    /// Sockets.
    pub sockets: u32,
    /// Dies in a socket.
    pub dies: u32,
    /// Cores in a die.
    pub cores: u32,
    /// Threads in a core.
    pub threads: u32,
}

/// The `<cpu>` element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cpu {
    /// How the model is chosen.
    pub mode: CpuMode,
    /// The vendor that the guest sees, for a named model.
    pub vendor_id: Option<String>,
    /// Features beyond the model.
    pub features: Vec<CpuFeature>,
    /// The arrangement, if the template gives one.
    pub topology: Option<Topology>,
    /// What the guest sees of the caches; `None` leaves it to QEMU.
    pub cache: Option<CpuCache>,
}

impl Default for Cpu {
    fn default() -> Self {
        Self {
            mode: CpuMode::Default,
            vendor_id: None,
            features: Vec::new(),
            topology: None,
            cache: None,
        }
    }
}

/// Reads `<cpu>` with the nodes in it; `vcpus` must be what the topology makes.
pub(crate) fn read(domain: &Node<'_>, vcpus: u32) -> Result<(Cpu, Vec<MemoryNode>)> {
    let cpu = domain.child("cpu", |node| {
        node.ignore_attr("check");
        if let Some(matching) = node.attr("match") {
            matching.expect("exact")?;
        }
        let model = node.child("model", |model| {
            model.ignore_attr("fallback");
            let vendor_id = model
                .attr("vendor_id")
                .map(|value| plain(&value))
                .transpose()?;
            Ok((plain_or_empty(&model.text())?, vendor_id))
        })?;
        let (model, vendor_id) = model.unwrap_or_default();
        if let Some(vendor) = node.child_text("vendor")? {
            return Err(vendor.refuse_with(
                "fvm does not compare the host's vendor",
                "use mode='host-passthrough', or name a model",
            ));
        }
        let mode = match node.attr("mode") {
            None => custom(model),
            Some(mode) => match mode.str() {
                "custom" => custom(model),
                "host-model" => CpuMode::HostModel,
                "host-passthrough" => CpuMode::HostPassthrough {
                    migratable: node
                        .attr("migratable")
                        .map_or(Ok(true), |value| value.on_off())?,
                },
                "maximum" => CpuMode::Maximum {
                    migratable: node.attr("migratable").map(|v| v.on_off()).transpose()?,
                },
                _ => {
                    return Err(mode.refuse_with(
                        format!("fvm does not know the mode {:?}", mode.str()),
                        "supported values here: custom, host-model, host-passthrough, maximum",
                    ));
                }
            },
        };
        let cache = node.child("cache", |cache| {
            let mode = cache.need("mode")?;
            let value = mode.choice(CpuCache::WORDS)?;
            match cache.attr("level") {
                Some(level) if value == CpuCache::Emulate => level.expect("3")?,
                None if value == CpuCache::Emulate => {
                    return Err(mode.refuse("only the cache of level='3' can be emulated"));
                }
                _ => {}
            }
            Ok(value)
        })?;
        let nodes = memory::nodes(node, vcpus)?;
        let cpu = Cpu {
            mode,
            vendor_id,
            features: node.each("feature", feature)?,
            topology: node.child("topology", |topology| read_topology(topology, vcpus))?,
            cache,
        };
        Ok((cpu, nodes))
    })?;
    Ok(cpu.unwrap_or_default())
}

fn custom(model: String) -> CpuMode {
    if model.is_empty() {
        CpuMode::Default
    } else {
        CpuMode::Custom(model)
    }
}

fn feature(node: &Node<'_>) -> Result<CpuFeature> {
    let policy = match node.attr("policy") {
        None => FeaturePolicy::Require,
        Some(value) => value.choice(FeaturePolicy::WORDS)?,
    };
    Ok(CpuFeature {
        name: plain(&node.need("name")?)?,
        policy,
    })
}

fn read_topology(node: &Node<'_>, vcpus: u32) -> Result<Topology> {
    let part = |name: &str| -> Result<u32> {
        let value = node.need(name)?;
        match value.number()? {
            0 => Err(value.refuse("must be at least 1")),
            number => Ok(number),
        }
    };
    let dies = match node.attr("dies") {
        None => 1,
        Some(_) => part("dies")?,
    };
    if let Some(clusters) = node.attr("clusters") {
        clusters.expect("1")?;
    }
    let topology = Topology {
        sockets: part("sockets")?,
        dies,
        cores: part("cores")?,
        threads: part("threads")?,
    };
    let product = [topology.sockets, dies, topology.cores, topology.threads]
        .into_iter()
        .try_fold(1u32, u32::checked_mul);
    if product != Some(vcpus) {
        return Err(node.refuse(format!(
            "the topology does not make the {vcpus} processors that <vcpu> says"
        )));
    }
    Ok(topology)
}

/// A name that can stand in QEMU's `-cpu` list.
fn plain(value: &super::node::Value<'_>) -> Result<String> {
    value.non_empty()?;
    plain_or_empty(value)
}

fn plain_or_empty(value: &super::node::Value<'_>) -> Result<String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ' ');
    if value.str().chars().all(allowed) {
        Ok(value.str().to_owned())
    } else {
        Err(value.refuse("only letters, digits, `-`, `_` and `.` can stand here"))
    }
}

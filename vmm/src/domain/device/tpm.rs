//! The trusted platform module.

use crate::domain::error::Result;
use crate::domain::node::{Node, words};
use crate::domain::origin::Origin;

words! {
    /// How the guest talks to it.
    pub enum TpmModel {
        /// By memory-mapped registers, as chips on the LPC bus do.
        Tis = "tpm-tis",
        /// By command and response buffers.
        Crb = "tpm-crb",
    }
}

words! {
    /// The version of its commands.
    pub enum TpmVersion {
        /// TPM 1.2.
        V1 = "1.2",
        /// TPM 2.0.
        V2 = "2.0",
    }
}

/// A TPM that swtpm emulates; what it holds is the VM's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tpm {
    /// The device's id in QEMU.
    pub alias: String,
    /// Where it stands in the template.
    pub origin: Origin,
    /// How the guest talks to it.
    pub model: TpmModel,
    /// The version of its commands.
    pub version: TpmVersion,
}

/// Reads `<tpm>`.
pub(crate) fn tpm(node: &Node<'_>) -> Result<Tpm> {
    node.ignore_children("alias");
    let model_value = node.attr("model");
    let model = match &model_value {
        None => TpmModel::Tis,
        Some(value) => value.choice(TpmModel::WORDS)?,
    };
    let version = node.need_child("backend", |backend| {
        backend.need("type")?.expect("emulator")?;
        // It is the VM's as long as the VM is there, as its disk is.
        if let Some(persistent) = backend.attr("persistent_state") {
            persistent.yes_no()?;
        }
        backend
            .attr("version")
            .map_or(Ok(TpmVersion::V2), |value| value.choice(TpmVersion::WORDS))
    })?;
    if let (Some(value), TpmModel::Crb, TpmVersion::V1) = (&model_value, model, version) {
        return Err(value.refuse_with("a TPM 1.2 has no such interface", "use model='tpm-tis'"));
    }
    Ok(Tpm {
        alias: String::new(),
        origin: node.origin(),
        model,
        version,
    })
}

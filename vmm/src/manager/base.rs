//! The base VM: one that edits an image itself, and has it for itself meanwhile.
//!
//! Its disk is the image's own volume, so it is made and deleted without a change of thin metadata: its row comes
//! and goes in one transaction of the store. While the row is there, nothing else is done with the image, and what
//! is known of its content does not count; when it goes, the content is read anew.

use super::{
    Manager, Progress,
    content::content_of,
    delete::remove_tree,
    error::{Failures, Result},
    host::Host,
    now_s,
};
use crate::{
    api::{ApiError, ErrorKind, VmNumber, VmSet},
    fault,
    store::{ImageRow, VmRow},
};

/// Refuses what cannot be done with an image while a base VM has it.
pub(super) fn refuse(image: &ImageRow) -> Result<()> {
    if image.has_base_vm {
        let message = format!("image '{}' is being edited by its base VM", image.name);
        return Err(ApiError::new(ErrorKind::Refused, message)
            .hint("`fvm delete base` ends that; the image stays"));
    }
    Ok(())
}

impl Manager {
    /// Refuses a second base VM, and one together with others.
    pub(super) fn check_base(&self, wanted: &VmSet) -> Result<()> {
        let base = VmNumber::BASE;
        if wanted.numbers() != [base] {
            let message = "the base VM is made by itself, not together with others";
            return Err(ApiError::new(ErrorKind::Usage, message));
        }
        match self.store.vm(base)? {
            None => Ok(()),
            Some(row) => Err(ApiError::new(
                ErrorKind::Refused,
                format!(
                    "there is a base VM already, which edits image '{}'",
                    row.image
                ),
            )
            .hint("there is one at a time: `fvm delete base` ends it, and its image stays")),
        }
    }

    /// Ends the base VM; its image stays as it is now. Can be repeated after a crash at any point.
    pub(super) fn delete_base(&self, host: &Host, row: &VmRow, progress: &Progress) -> Result<()> {
        self.release(host, row)?;
        fault::point("base/released");
        progress.step(Some(row.number), "reading what the image holds now");
        let spec = host.volume_spec(&self.volume_row(row.thin_id)?)?;
        let content = match self.with_content(host, &spec, content_of) {
            Ok(content) => Some(content),
            Err(error) => {
                let text = format!(
                    "the digest of image '{}' is not known until `fvm image verify` can read it: {}",
                    row.image, error.message
                );
                progress.warn(Some(row.number), text);
                None
            }
        };
        let files = self.paths.vm(row.number);
        let mut failures = Failures::default();
        failures.keep(remove_tree(&files.state));
        failures.keep(remove_tree(&files.run));
        failures.into_result()?;
        fault::point("base/digested");
        Ok(self
            .store
            .delete_base_vm(row.thin_id, content.as_ref(), now_s())?)
    }
}

//! Images once they are there: listed, verified, resized, renamed, removed.

use super::{
    Manager, Progress, base, checksum, content::content_of, error::Result, journal::thin_id, now_s,
    resize::Resize,
};
use crate::{
    api::{
        ApiError, ErrorKind, ImageList, ImageName, ImageReport, InvalidName, REPORT_VERSION,
        RenameImage, ResizeImage, VerifyImage, VerifyReport,
    },
    manager::Caller,
    store::ImageRow,
};
use fvm_thin::Bytes;

impl Manager {
    /// Every image.
    ///
    /// # Errors
    /// When the host is not set up or the store fails.
    pub fn image_list(&self) -> Result<ImageList> {
        self.host()?;
        let images = self
            .store
            .images()?
            .iter()
            .map(report)
            .collect::<Result<_>>()?;
        Ok(ImageList {
            version: REPORT_VERSION,
            images,
        })
    }

    /// One image.
    ///
    /// # Errors
    /// When there is none, the host is not set up, or the store fails.
    pub fn image(&self, name: &ImageName) -> Result<ImageReport> {
        self.host()?;
        report(&self.image_row(name.as_str())?)
    }

    /// The image's row, or that there is none.
    pub(super) fn image_row(&self, name: &str) -> Result<ImageRow> {
        if let Some(row) = self.store.image(name)? {
            return Ok(row);
        }
        let names: Vec<String> = self
            .store
            .images()?
            .into_iter()
            .map(|image| image.name)
            .collect();
        let hint = if names.is_empty() {
            format!("there are no images yet: `fvm image import {name} FILE`")
        } else {
            format!("there are: {}", names.join(", "))
        };
        Err(ApiError::new(ErrorKind::NotFound, format!("there is no image '{name}'")).hint(hint))
    }

    /// Refuses a name for a new image that an image or a profile has; the name's lock is held.
    pub(super) fn check_image_name(&self, name: &ImageName) -> Result<()> {
        let refused = |message: String| ApiError::new(ErrorKind::Refused, message);
        if self.store.image(name.as_str())?.is_some() {
            return Err(
                refused(format!("there is an image '{name}' already")).hint(format!(
                    "choose another name, or `fvm image remove {name}` first"
                )),
            );
        }
        if self.store.profile(name.as_str())?.is_some() {
            return Err(refused(format!("there is a profile '{name}'"))
                .hint("images and profiles are both named in `fvm create`: choose another name"));
        }
        Ok(())
    }

    /// Reads an image as a whole and says what it holds; where nothing is known of it, that is noted.
    ///
    /// # Errors
    /// When there is no such image, a base VM edits it, or it cannot be read. That it holds something else than it
    /// did is no error here.
    pub fn verify_image(
        &self,
        caller: Caller,
        name: &ImageName,
        request: &VerifyImage,
        progress: &Progress,
    ) -> Result<VerifyReport> {
        let host = self.host()?;
        let lock = self.image_locks.lock(name.to_string());
        let row = self.image_row(name.as_str())?;
        base::refuse(&row)?;
        self.finish_shrink(&host, row.thin_id)?;
        let row = self.image_row(name.as_str())?;
        let origin = self.volume_row(row.thin_id)?;
        let (content, parts) = self.with_snapshot(&host, &origin, lock, |volume, extents| {
            progress.step(None, "reading the image");
            let content = content_of(volume, extents)?;
            let mut parts = Vec::new();
            if request.checksums {
                progress.step(None, "computing the checksums of its parts");
                parts = checksum::of_parts(volume, extents)?;
            }
            Ok((content, parts))
        })?;
        if !row.digest_is_current {
            self.store
                .set_image_content(row.thin_id, &content, now_s())?;
        }
        tracing::info!(image = %name, uid = caller.uid, digest = content.digest, "verified");
        Ok(VerifyReport {
            version: REPORT_VERSION,
            name: name.clone(),
            size_bytes: row.size_bytes,
            expected: row.digest_is_current.then_some(row.digest),
            found: content.digest,
            parts,
        })
    }

    /// Gives an image's disk another size; VMs made of it before keep theirs.
    ///
    /// # Errors
    /// When there is none, the size is not possible or smaller without leave, a base VM edits it, or the pool fails.
    pub fn resize_image(
        &self,
        caller: Caller,
        name: &ImageName,
        request: &ResizeImage,
        progress: &Progress,
    ) -> Result<ImageReport> {
        let host = self.host()?;
        let _alone = self.image_locks.lock(name.to_string());
        let row = self.image_row(name.as_str())?;
        base::refuse(&row)?;
        let thin = row.thin_id;
        self.finish_shrink(&host, thin)?;
        let now = Bytes(self.volume_row(thin)?.size_bytes);
        let plan = Resize::plan(
            &format!("image '{name}'"),
            now,
            request.size,
            request.shrink,
        )?;
        self.store.doubt_image_content(thin)?;
        self.resize_volume(&host, thin, plan)?;
        progress.step(None, "reading what the image holds now");
        let spec = host.volume_spec(&self.volume_row(thin)?)?;
        let content = self.with_content(&host, &spec, content_of)?;
        self.store.set_image_content(thin, &content, now_s())?;
        tracing::info!(image = %name, bytes = spec.size.0, uid = caller.uid, "resized");
        report(&self.image_row(name.as_str())?)
    }

    /// Gives an image another name.
    ///
    /// # Errors
    /// When there is none, the new name is taken, or a base VM edits it.
    pub fn rename_image(
        &self,
        caller: Caller,
        name: &ImageName,
        request: &RenameImage,
        _progress: &Progress,
    ) -> Result<ImageReport> {
        self.host()?;
        let new_name = &request.name;
        let _alone = self
            .image_locks
            .lock_all(&[name.to_string(), new_name.to_string()]);
        let row = self.image_row(name.as_str())?;
        base::refuse(&row)?;
        if new_name != name {
            self.check_image_name(new_name)?;
            self.store.rename_image(name.as_str(), new_name.as_str())?;
            tracing::info!(image = %name, %new_name, uid = caller.uid, "renamed");
        }
        report(&self.image_row(new_name.as_str())?)
    }

    /// Removes an image; VMs made of it live on.
    ///
    /// # Errors
    /// When there is none, a base VM edits it, or the pool fails.
    pub fn remove_image(&self, caller: Caller, name: &ImageName) -> Result<ImageReport> {
        let host = self.host()?;
        let _alone = self.image_locks.lock(name.to_string());
        let row = self.image_row(name.as_str())?;
        base::refuse(&row)?;
        self.drop_volume(&host, thin_id(row.thin_id)?)?;
        tracing::info!(image = %name, uid = caller.uid, "removed");
        report(&row)
    }
}

/// What is said of an image.
pub(super) fn report(row: &ImageRow) -> Result<ImageReport> {
    Ok(ImageReport {
        version: REPORT_VERSION,
        name: row
            .name
            .parse()
            .map_err(|error: InvalidName| ApiError::new(ErrorKind::Internal, error.to_string()))?,
        size_bytes: row.size_bytes,
        data_bytes: row.data_bytes,
        digest: row.digest_is_current.then(|| row.digest.clone()),
        owner_uid: row.owner_uid,
        imported_at_s: row.imported_at_s,
        changed_at_s: row.changed_at_s,
        vms: row.vms,
        has_base_vm: row.has_base_vm,
    })
}

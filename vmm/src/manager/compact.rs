//! `compact`: disks give back what they hold without need.
//!
//! While a VM runs, only its guest knows what its file systems do not use: it is asked to discard that, by its
//! agent. While it does not, `virt-sparsify` does so, if it is installed (`sparsify.rs`). Then the disk is read, and
//! chunks that are all zero are discarded; nothing here looks into a guest's file systems, which could have been made to
//! harm whoever does.

use super::{
    Manager, Progress,
    batch::{report_of, side_by_side},
    content::content_of,
    error::{Result, failed},
    host::Host,
    kept,
    machine::Machine,
    now_s,
    sparsify::{self, Sparsified},
    templates,
};
use crate::{
    api::{
        Action, ApiError, BatchReport, CompactImage, CompactMethod, CompactVms, Compacted,
        ErrorKind, ImageCompacted, ImageName, REPORT_VERSION, VmNumber,
    },
    fault,
    manager::Caller,
    store::VmRow,
};
use fvm_thin::Access;
use std::time::Duration;

/// How long a guest may take to go through its file systems.
const TRIM_TIMEOUT: Duration = Duration::from_secs(600);

impl Manager {
    /// Has VMs' disks give back what they do not need; each has an outcome of its own.
    ///
    /// # Errors
    /// When the host is not set up.
    pub fn compact(
        &self,
        caller: Caller,
        request: &CompactVms,
        progress: &Progress,
    ) -> Result<BatchReport<Compacted>> {
        self.host()?;
        let results = side_by_side(request.vms.numbers(), |number| {
            let _alone = self.vm_locks.lock(number);
            let report = self.compact_one(number, request.zeros_only, progress)?;
            let freed_bytes = report.freed_bytes();
            tracing::info!(vm = %number, freed_bytes, uid = caller.uid, "compacted");
            Ok(report)
        });
        Ok(report_of(Action::Compact, results))
    }

    fn compact_one(
        &self,
        number: VmNumber,
        zeros_only: bool,
        progress: &Progress,
    ) -> Result<Compacted> {
        let host = self.host()?;
        let row = self.disk_owner_row(number)?;
        match self.machines.up(number) {
            Some(machine) => {
                progress.step(Some(number), "its guest discards what it does not use");
                self.trim(&host, &machine, &row, progress)
            }
            None => {
                let compact =
                    |thin| self.compact_volume(&host, thin, zeros_only, Some(number), progress);
                let mut all = compact(row.thin_id)?;
                for disk in &row.disks {
                    let one = compact(disk.thin_id)?;
                    all.before_bytes += one.before_bytes;
                    all.after_bytes += one.after_bytes;
                }
                Ok(all)
            }
        }
    }

    /// Has the guest of a running VM discard what its file systems do not use.
    fn trim(
        &self,
        host: &Host,
        machine: &Machine,
        row: &VmRow,
        progress: &Progress,
    ) -> Result<Compacted> {
        let number = row.number;
        let domain = kept::domain(host, row)?;
        let refused = |message: String| {
            ApiError::new(ErrorKind::Refused, message).hint(format!(
                "`fvm stop {number} --graceful && fvm compact {number}` gives back what is all zero on its disk"
            ))
        };
        if templates::disk_of(&domain, &row.name)?.discard != Some(true) {
            return Err(refused(format!(
                "VM {number} is running, and its template keeps discards from its disk (discard='unmap' passes them on)"
            )));
        }
        let mut agent = self.agent(host, machine, row).map_err(|why| {
            refused(format!(
                "VM {number} is running, and its guest cannot be asked to discard: {why}"
            ))
        })?;
        let mapped = || -> Result<u64> {
            let mut bytes = 0;
            for (thin, link) in row.volumes() {
                let spec = host.volume_spec(&self.volume_row(thin)?)?;
                let mapped = host.pool.mapped(spec.id, spec.uuid);
                bytes += mapped
                    .map_err(|error| failed(format!("looking at the disk {link}"), &error))?
                    .bytes
                    .0;
            }
            Ok(bytes)
        };
        let before = mapped()?;
        let trimmed = agent
            .trim(TRIM_TIMEOUT)
            .map_err(|error| failed(format!("having VM {number}'s guest discard"), &error))?;
        drop(agent);
        for one in &trimmed {
            if let Err(why) = &one.result {
                progress.warn(
                    Some(number),
                    format!("{} is left as it is: {why}", one.path),
                );
            }
        }
        Ok(Compacted {
            method: CompactMethod::Trim,
            before_bytes: before,
            after_bytes: mapped()?,
        })
    }

    /// Gives back what is needless in a volume that nobody uses, and that nobody else begins to use.
    fn compact_volume(
        &self,
        host: &Host,
        thin: u32,
        zeros_only: bool,
        vm: Option<VmNumber>,
        progress: &Progress,
    ) -> Result<Compacted> {
        self.finish_shrink(host, thin)?;
        let sparsified = match !zeros_only && sparsify::is_installed() {
            true => Some(self.sparsify(host, thin, vm, progress)?),
            false => None,
        };
        progress.step(vm, "looking for what is all zero");
        let spec = host.whole_chunks(&self.volume_row(thin)?)?;
        let failed = |error: fvm_thin::Error| failed("compacting a disk", &error);
        let volume = host
            .pool
            .activate_volume(&spec, Access::ReadWrite)
            .map_err(failed)?;
        let compact = || {
            let before = host.pool.mapped(spec.id, spec.uuid)?;
            host.pool.discard_zeros(&spec, &volume)?;
            let after = host.pool.mapped(spec.id, spec.uuid)?;
            Ok((before.bytes.0, after.bytes.0))
        };
        let compacted = compact();
        fault::point("compact/scanned");
        let gone = host.pool.deactivate_volume(spec.id, spec.uuid);
        let (before_bytes, after_bytes) = compacted.map_err(failed)?;
        gone.map_err(failed)?;
        Ok(Compacted {
            method: match sparsified {
                Some(Sparsified { done: true, .. }) => CompactMethod::Sparsify,
                _ => CompactMethod::Scan,
            },
            before_bytes: sparsified.map_or(before_bytes, |sparsified| sparsified.before_bytes),
            after_bytes,
        })
    }

    /// Has an image's disk give back what it does not need. If `virt-sparsify` has looked at it, what no file system uses
    /// is zero then, and the digest is another.
    ///
    /// # Errors
    /// When there is none, its disk is in use, or the pool fails.
    pub fn compact_image(
        &self,
        caller: Caller,
        name: &ImageName,
        request: &CompactImage,
        progress: &Progress,
    ) -> Result<ImageCompacted> {
        let host = self.host()?;
        let _alone = self.image_locks.lock(name.to_string());
        let row = self.image_row(name.as_str())?;
        super::base::refuse(&row)?;
        let thin = row.thin_id;
        let changes = !request.zeros_only && sparsify::is_installed();
        if changes {
            self.store.doubt_image_content(thin)?;
        }
        let disk = self.compact_volume(&host, thin, !changes, None, progress)?;
        if changes {
            progress.step(None, "reading what the image holds now");
            let spec = host.volume_spec(&self.volume_row(thin)?)?;
            let content = self.with_content(&host, &spec, content_of)?;
            self.store.set_image_content(thin, &content, now_s())?;
        }
        tracing::info!(image = %name, freed_bytes = disk.freed_bytes(), uid = caller.uid, "compacted");
        Ok(ImageCompacted {
            version: REPORT_VERSION,
            name: name.clone(),
            disk,
        })
    }
}

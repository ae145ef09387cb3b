//! Import: an image, as a block stream, becomes a volume of its own.
//!
//! It goes: an empty volume in one transaction, `importing`; its device, private to the import;
//! the blocks, written past the page cache and made durable; all of them read back and compared with
//! the digest of what was sent; the row, `ready`. If any of that fails, or the sender goes away, the
//! volume is deleted again; if the daemon dies, the next one deletes it.

use super::{
    Manager, Progress,
    content::digest_ranges,
    error::{Result, failed},
    host::Host,
    image::report,
    templates,
};
use crate::{
    api::{
        ApiError, ErrorKind, ImageName, ImageReport, ImportHeader,
        stream::{Decoder, Item, SparseDigest, StreamError, digest_text},
    },
    fault,
    manager::Caller,
    store::ImageRow,
};
use fvm_thin::{Access, BlockWriter, Bytes, VolumeSpec};
use std::time::Duration;

/// The largest image whose size is not known before its end: a thin device that long costs nothing.
const MAX_IMAGE: Bytes = Bytes::gib(64 * 1024);
/// The smallest disk.
const MIN_IMAGE: Bytes = Bytes::mib(1);
const SECTOR: Bytes = Bytes(512);
/// How long to wait for an import of the same name that is being cleaned up after.
const NAME_TIMEOUT: Duration = Duration::from_secs(10);

/// What was written of an image.
struct Content {
    bytes: u64,
    data_bytes: u64,
    digest: SparseDigest,
}

impl Manager {
    /// Takes in an image; `next_piece` gives the pieces of its block stream until there are no more.
    ///
    /// # Errors
    /// When the name is taken, the template is refused, the stream is not whole and sound, or the pool
    /// fails; then nothing is left of it.
    pub fn import<B: AsRef<[u8]>>(
        &self,
        caller: Caller,
        name: &ImageName,
        next_piece: &mut dyn FnMut() -> Result<Option<B>>,
        progress: &Progress,
    ) -> Result<ImageReport> {
        let host = self.host()?;
        let _alone = self
            .image_locks
            .lock_within(name.to_string(), NAME_TIMEOUT)
            .ok_or_else(|| {
                ApiError::new(
                    ErrorKind::Refused,
                    format!("image '{name}' is being worked on by another command"),
                )
            })?;
        self.check_image_name(name)?;
        let mut stream = Stream {
            decoder: Decoder::default(),
            next_piece,
        };
        let header = stream.header()?;
        let wanted = header.template.as_deref().unwrap_or(templates::DEFAULT);
        let template = templates::resolve(&self.paths, wanted)?;
        // A template that no VM could be made of is refused now rather than then.
        let vm_name = format!("fvm-{name}-{}", host.config.first_number);
        let number = host.config.first_number;
        let network = &host.network.bridge;
        let macros = templates::macros(&vm_name, number, name.as_str(), network);
        templates::permit(caller, wanted, &vm_name, &macros, network)?;
        let (domain, _) = templates::load(&template, number, &vm_name, name.as_str(), network)?;
        templates::check_disks(&domain, &vm_name)?;
        let limit = match header.size {
            Some(size) => checked_size(size)?,
            None => MAX_IMAGE,
        };
        self.check_pool_takes_more(&host)?;

        let private = self.private.enter();
        let uuid = private.uuid;
        let id =
            self.journal
                .create_importing(&self.store, &host.pool, &uuid.to_string(), limit.0)?;
        let spec = VolumeSpec {
            id,
            uuid,
            size: limit,
        };
        let outcome = self
            .write_image(&host, &spec, &mut stream, progress)
            .and_then(|content| {
                let size = match header.size {
                    Some(size) => Bytes(size),
                    None => Bytes(content.bytes)
                        .round_up(SECTOR)
                        .unwrap_or(limit)
                        .max(MIN_IMAGE),
                };
                self.store.finish_import(&ImageRow {
                    name: name.to_string(),
                    thin_id: id.get(),
                    owner_uid: caller.uid,
                    template,
                    data_bytes: content.data_bytes,
                    // Of the whole disk, which may be longer: it says the same of what is exported.
                    digest: digest_text(&content.digest.finish(size.0)),
                    digest_is_current: true,
                    imported_at_s: super::now_s(),
                    changed_at_s: None,
                    size_bytes: size.0,
                    vms: 0,
                    has_base_vm: false,
                })?;
                Ok(())
            });
        if let Err(mut error) = outcome {
            if let Err(left) = self.drop_volume(&host, id) {
                error.details.push(format!("left behind: {}", left.message));
                error.details.extend(left.details);
            }
            return Err(error);
        }
        tracing::info!(image = %name, uid = caller.uid, "imported");
        report(&self.image_row(name.as_str())?)
    }

    /// Writes and verifies an image's blocks; its device is gone afterwards, whatever happens.
    fn write_image<B: AsRef<[u8]>>(
        &self,
        host: &Host,
        spec: &VolumeSpec,
        stream: &mut Stream<'_, B>,
        progress: &Progress,
    ) -> Result<Content> {
        let volume = host
            .pool
            .activate_volume(spec, Access::ReadWrite)
            .map_err(|error| failed("activating the image's volume", &error))?;
        let writing = |error: fvm_thin::Error| failed("writing the image", &error);
        let mut write = || -> Result<Content> {
            let mut writer = BlockWriter::new(&volume, host.pool.spec().chunk).map_err(writing)?;
            stream.decoder.limit(spec.size.0);
            let (bytes, digest) = loop {
                match stream.next()? {
                    Item::Data { offset, bytes } => {
                        writer.write(offset, &bytes).map_err(writing)?;
                    }
                    Item::End {
                        content_bytes,
                        digest,
                    } => break (content_bytes, digest),
                    Item::Header(_) => {
                        return Err(ApiError::new(ErrorKind::Internal, "a second header"));
                    }
                }
            };
            if bytes == 0 {
                return Err(ApiError::new(
                    ErrorKind::Usage,
                    "the image is empty: it has no bytes at all",
                ));
            }
            let written = writer.finish().map_err(writing)?;
            fault::point("import/written");
            progress.step(None, "verifying");
            let (read, data_bytes) = digest_ranges(&volume, &written.ranges)?;
            if read.clone().finish(bytes) != digest {
                return Err(ApiError::new(
                    ErrorKind::Failed,
                    "what was read back from the pool is not what was written to it",
                )
                .hint("check the disk below the pool: `dmesg` may have more"));
            }
            fault::point("import/verified");
            Ok(Content {
                bytes,
                data_bytes,
                digest: read,
            })
        };
        let content = write();
        let gone = host
            .pool
            .deactivate_volume(spec.id, spec.uuid)
            .map_err(|error| failed("deactivating the image's volume", &error));
        let content = content?;
        gone?;
        Ok(content)
    }
}

/// The decoder with what feeds it.
struct Stream<'a, B> {
    decoder: Decoder,
    next_piece: &'a mut dyn FnMut() -> Result<Option<B>>,
}

impl<B: AsRef<[u8]>> Stream<'_, B> {
    /// The next item; a stream that has no more before its end was cut off.
    fn next(&mut self) -> Result<Item> {
        loop {
            if let Some(item) = self.decoder.next_item().map_err(|error| refusal(&error))? {
                return Ok(item);
            }
            match (self.next_piece)()? {
                Some(piece) => self.decoder.push(piece.as_ref()),
                None => {
                    self.decoder.finish().map_err(|error| refusal(&error))?;
                    return Err(ApiError::new(ErrorKind::Usage, "the block stream is over"));
                }
            }
        }
    }

    fn header(&mut self) -> Result<ImportHeader> {
        match self.next()? {
            Item::Header(header) => Ok(header),
            Item::Data { .. } | Item::End { .. } => Err(ApiError::new(
                ErrorKind::Usage,
                "the block stream has no header",
            )),
        }
    }
}

fn refusal(error: &StreamError) -> ApiError {
    match error {
        StreamError::TooLarge { limit } => ApiError::new(
            ErrorKind::Usage,
            format!(
                "the image does not fit: its content is larger than the disk of {}",
                Bytes(*limit)
            ),
        )
        .hint("give a larger --size, or none to have the disk as large as the image"),
        StreamError::CutOff(_) | StreamError::WrongDigest => {
            ApiError::from_error(ErrorKind::Failed, error)
        }
        _ => ApiError::from_error(ErrorKind::Usage, error),
    }
}

/// A size that a disk may have, or why it may not.
pub(super) fn checked_size(size: u64) -> Result<Bytes> {
    let size = Bytes(size);
    if !(MIN_IMAGE..=MAX_IMAGE).contains(&size) || !size.is_multiple_of(SECTOR) {
        return Err(ApiError::new(
            ErrorKind::Usage,
            format!(
                "a disk of {size} is not possible: {MIN_IMAGE} to {MAX_IMAGE}, in whole sectors of 512 bytes"
            ),
        ));
    }
    Ok(size)
}

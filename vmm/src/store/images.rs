//! Images.

use super::{Durability, For, Result, Store, column, column_u32, signed};
use rusqlite::{OptionalExtension, Row, params};

/// An image and its disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRow {
    /// Its name.
    pub name: String,
    /// Its thin device.
    pub thin_id: u32,
    /// The user who imported it.
    pub owner_uid: u32,
    /// The template of VMs made of it: XML.
    pub template: String,
    /// Bytes that are not in all-zero blocks.
    pub data_bytes: u64,
    /// The digest of its content.
    pub digest: String,
    /// Seconds since 1970-01-01 UTC.
    pub imported_at_s: u64,
    /// The disk's size; not a column, but its volume's.
    pub size_bytes: u64,
    /// How many VMs were made of it and are still there; not a column, but counted.
    pub vms: u32,
}

const SELECT: &str = "SELECT image.*, volume.size_bytes,
        (SELECT count(*) FROM vm WHERE vm.image = image.name) AS vms
    FROM image JOIN volume USING (thin_id) WHERE volume.state = 'ready'";

fn image(row: &Row<'_>) -> rusqlite::Result<ImageRow> {
    Ok(ImageRow {
        name: row.get("name")?,
        thin_id: column_u32(row, "thin_id")?,
        owner_uid: column_u32(row, "owner_uid")?,
        template: row.get("template")?,
        data_bytes: column(row, "data_bytes")?,
        digest: row.get("digest")?,
        imported_at_s: column(row, "imported_at_s")?,
        size_bytes: column(row, "size_bytes")?,
        vms: column_u32(row, "vms")?,
    })
}

impl Store {
    /// One image that is ready.
    ///
    /// # Errors
    /// When the database fails.
    pub fn image(&self, name: &str) -> Result<Option<ImageRow>> {
        self.lock()
            .query_row(&format!("{SELECT} AND image.name = ?1"), [name], image)
            .optional()
            .to("read an image")
    }

    /// Every image that is ready, by name.
    ///
    /// # Errors
    /// When the database fails.
    pub fn images(&self) -> Result<Vec<ImageRow>> {
        self.lock()
            .prepare_cached(&format!("{SELECT} ORDER BY image.name"))
            .and_then(|mut statement| statement.query_map([], image)?.collect())
            .to("read the images")
    }

    /// The end of an import: its volume is ready and has a name.
    ///
    /// # Errors
    /// When the database fails or the name is taken.
    pub fn finish_import(&self, image: &ImageRow) -> Result<()> {
        self.write("finish an import", Durability::Full, |tx| {
            tx.execute(
                "UPDATE volume SET state = 'ready', size_bytes = ?2 WHERE thin_id = ?1",
                params![image.thin_id, signed(image.size_bytes)],
            )
            .to("finish an import")?;
            tx.execute(
                "INSERT INTO image VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![
                    image.name,
                    image.thin_id,
                    image.owner_uid,
                    image.template,
                    signed(image.data_bytes),
                    image.digest,
                    signed(image.imported_at_s),
                ],
            )
            .to("finish an import")?;
            Ok(())
        })
    }
}

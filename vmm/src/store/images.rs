//! Images.

use super::{Durability, For, NewVm, Result, Store, column, column_u32, signed, vms};
use rusqlite::{OptionalExtension, Row, Transaction, params};

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
    /// The digest of the whole disk, as it was when that was last computed.
    pub digest: String,
    /// False while, or since, the disk could be changed.
    pub digest_is_current: bool,
    /// Seconds since 1970-01-01 UTC.
    pub imported_at_s: u64,
    /// When its content was changed since.
    pub changed_at_s: Option<u64>,
    /// The disk's size; not a column, but its volume's.
    pub size_bytes: u64,
    /// How many VMs were made of it and are still there; not a column, but counted.
    pub vms: u32,
    /// Whether there is a base VM, which has its disk; not a column.
    pub has_base_vm: bool,
}

/// What an image's disk holds, once it has been read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageContent {
    /// The digest of the whole disk.
    pub digest: String,
    /// Bytes that are not in all-zero blocks.
    pub data_bytes: u64,
}

const SELECT: &str = "SELECT image.*, volume.size_bytes,
        (SELECT count(*) FROM vm WHERE vm.image = image.name AND vm.number <> 0) AS vms,
        EXISTS (SELECT 1 FROM vm WHERE vm.thin_id = image.thin_id) AS has_base_vm
    FROM image JOIN volume USING (thin_id) WHERE volume.state = 'ready'";

fn image(row: &Row<'_>) -> rusqlite::Result<ImageRow> {
    Ok(ImageRow {
        name: row.get("name")?,
        thin_id: column_u32(row, "thin_id")?,
        owner_uid: column_u32(row, "owner_uid")?,
        template: row.get("template")?,
        data_bytes: column(row, "data_bytes")?,
        digest: row.get("digest")?,
        digest_is_current: row.get("digest_is_current")?,
        imported_at_s: column(row, "imported_at_s")?,
        changed_at_s: row
            .get::<_, Option<i64>>("changed_at_s")?
            .map(super::unsigned),
        size_bytes: column(row, "size_bytes")?,
        vms: column_u32(row, "vms")?,
        has_base_vm: row.get("has_base_vm")?,
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
                "INSERT INTO image VALUES (?1, ?2, ?3, ?4, ?5, ?6, 1, ?7, NULL)",
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

    /// Gives an image another name; VMs made of it are then made of that, and profiles that name it name that.
    ///
    /// # Errors
    /// When the database fails or the name is taken.
    pub fn rename_image(&self, name: &str, new_name: &str) -> Result<()> {
        self.write("rename an image", Durability::Full, |tx| {
            for statement in [
                "UPDATE image SET name = ?2 WHERE name = ?1",
                "UPDATE vm SET image = ?2 WHERE image = ?1",
                "UPDATE profile SET image = ?2 WHERE image = ?1",
            ] {
                tx.execute(statement, [name, new_name])
                    .to("rename an image")?;
            }
            Ok(())
        })
    }

    /// Makes the base VM of an image, on the image's own volume; what is known of the content no longer holds.
    ///
    /// # Errors
    /// When the database fails or there is a base VM.
    pub fn insert_base_vm(&self, vm: &NewVm, thin_id: u32) -> Result<()> {
        const ACTION: &str = "record the base VM";
        self.write(ACTION, Durability::Full, |tx| {
            vms::insert(tx, vm, thin_id)?;
            tx.execute(
                "UPDATE image SET digest_is_current = 0 WHERE thin_id = ?1",
                [thin_id],
            )
            .to(ACTION)?;
            Ok(())
        })
    }

    /// The end of an image's base VM: its row goes, and what the image holds now, if that could be read, is known.
    ///
    /// # Errors
    /// When the database fails.
    pub fn delete_base_vm(
        &self,
        thin_id: u32,
        content: Option<&ImageContent>,
        now_s: u64,
    ) -> Result<()> {
        const ACTION: &str = "forget the base VM";
        self.write(ACTION, Durability::Full, |tx| {
            tx.execute("DELETE FROM vm WHERE thin_id = ?1", [thin_id])
                .to(ACTION)?;
            match content {
                Some(content) => set_content(tx, thin_id, content, now_s),
                None => Ok(()),
            }
        })
    }

    /// Notes that an image is about to be changed: what is known of its content no longer holds.
    ///
    /// # Errors
    /// When the database fails.
    pub fn doubt_image_content(&self, thin_id: u32) -> Result<()> {
        const ACTION: &str = "note that an image changes";
        self.write(ACTION, Durability::Full, |tx| {
            tx.execute(
                "UPDATE image SET digest_is_current = 0 WHERE thin_id = ?1",
                [thin_id],
            )
            .to(ACTION)?;
            Ok(())
        })
    }

    /// Notes what an image was found to hold, unless it has a base VM by now.
    ///
    /// # Errors
    /// When the database fails.
    pub fn set_image_content(
        &self,
        thin_id: u32,
        content: &ImageContent,
        now_s: u64,
    ) -> Result<()> {
        self.write("note an image's content", Durability::Full, |tx| {
            set_content(tx, thin_id, content, now_s)
        })
    }
}

fn set_content(
    tx: &Transaction<'_>,
    thin_id: u32,
    content: &ImageContent,
    now_s: u64,
) -> Result<()> {
    tx.execute(
        "UPDATE image SET
             changed_at_s = CASE digest WHEN ?2 THEN changed_at_s ELSE ?4 END,
             digest = ?2, data_bytes = ?3, digest_is_current = 1
         WHERE thin_id = ?1 AND NOT EXISTS (SELECT 1 FROM vm WHERE vm.thin_id = ?1)",
        params![
            thin_id,
            content.digest,
            signed(content.data_bytes),
            signed(now_s)
        ],
    )
    .to("note an image's content")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{pool::tests::store as store_with_pool, vms::tests::new_vm};

    fn import(store: &Store, name: &str) -> u32 {
        let thin_id = store.begin_import(name, 1 << 20).unwrap();
        store.settle().unwrap();
        let row = ImageRow {
            name: name.into(),
            thin_id,
            owner_uid: 0,
            template: "<domain/>".into(),
            data_bytes: 5,
            digest: "one".into(),
            digest_is_current: true,
            imported_at_s: 10,
            changed_at_s: None,
            size_bytes: 1 << 20,
            vms: 0,
            has_base_vm: false,
        };
        store.finish_import(&row).unwrap();
        assert_eq!(store.image(name).unwrap(), Some(row));
        thin_id
    }

    fn content(digest: &str) -> ImageContent {
        ImageContent {
            digest: digest.into(),
            data_bytes: 7,
        }
    }

    #[test]
    fn a_base_vm_makes_the_digest_doubtful_until_it_goes() {
        let (_dir, store) = store_with_pool();
        let thin_id = import(&store, "debian");
        store.insert_base_vm(&new_vm(0), thin_id).unwrap();
        let image = store.image("debian").unwrap().unwrap();
        assert!(image.has_base_vm && !image.digest_is_current);
        assert_eq!(image.vms, 0);
        // Somebody who has read it before must not say what it holds now.
        store
            .set_image_content(thin_id, &content("two"), 20)
            .unwrap();
        assert!(!store.image("debian").unwrap().unwrap().digest_is_current);
        assert!(store.insert_base_vm(&new_vm(0), thin_id).is_err());

        store
            .delete_base_vm(thin_id, Some(&content("three")), 30)
            .unwrap();
        let image = store.image("debian").unwrap().unwrap();
        assert!(!image.has_base_vm && image.digest_is_current);
        assert_eq!(
            (image.digest.as_str(), image.data_bytes, image.changed_at_s),
            ("three", 7, Some(30))
        );
        assert!(store.vm(crate::api::VmNumber::BASE).unwrap().is_none());
    }

    #[test]
    fn a_base_vm_that_changed_nothing_leaves_the_image_unchanged() {
        let (_dir, store) = store_with_pool();
        let thin_id = import(&store, "debian");
        store.insert_base_vm(&new_vm(0), thin_id).unwrap();
        store
            .delete_base_vm(thin_id, Some(&content("one")), 30)
            .unwrap();
        let image = store.image("debian").unwrap().unwrap();
        assert_eq!((image.digest_is_current, image.changed_at_s), (true, None));
        // Unread, it stays in doubt.
        store.insert_base_vm(&new_vm(0), thin_id).unwrap();
        store.delete_base_vm(thin_id, None, 30).unwrap();
        assert!(!store.image("debian").unwrap().unwrap().digest_is_current);
    }

    #[test]
    fn a_new_name_goes_to_all_that_knew_the_old_one() {
        let (_dir, store) = store_with_pool();
        import(&store, "debian");
        import(&store, "suse");
        store.begin_create(&[new_vm(42)], 1 << 20).unwrap();
        store.settle().unwrap();
        assert!(store.rename_image("debian", "suse").is_err());
        store.rename_image("debian", "debian-13").unwrap();
        assert!(store.image("debian").unwrap().is_none());
        assert_eq!(store.image("debian-13").unwrap().unwrap().vms, 1);
        assert_eq!(store.vm(42.into()).unwrap().unwrap().image, "debian-13");
    }
}
